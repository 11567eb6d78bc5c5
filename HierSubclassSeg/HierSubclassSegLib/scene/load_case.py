"""A case of a dataset folder into the scene: its volumes and its annotation, as they were exported.

Scene → dataset folder → scene → dataset folder gives the same images, label map, complete slices and segment tags.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import slicer

from hierseg.dataset import Case, Dataset
from hierseg.labeltree import LabelTree
from HierSubclassSegLib.scene import annotation, export, geometry, labelmaps, marks, nifti, prediction, reading, tags


@dataclass(frozen=True)
class LoadedCase:
    """What was loaded, so that exactly this can be removed again.

    Attributes:
        case: the case as the dataset describes it.
        volumes: one a channel.
        annotation: the label map as an annotation; empty if the case has none.
        transform: the recorded parent transform, or None.
    """

    case: Case
    volumes: tuple[slicer.vtkMRMLVolumeNode, ...]
    annotation: slicer.vtkMRMLSegmentationNode
    transform: slicer.vtkMRMLTransformNode | None

    def remove(self) -> None:
        """Take these nodes, and no others, out of the scene."""
        scene = self.annotation.GetScene()
        for node in (self.annotation, *self.volumes, self.transform):
            if node is not None and scene is not None:
                scene.RemoveNode(node)


def load_case(
    dataset: Dataset | str | Path, case_id: str, scene: slicer.vtkMRMLScene, *, restore_transform: bool = True
) -> LoadedCase:
    """Load a case.

    Args:
        dataset: the folder or an open dataset.
        case_id: the case's id.
        scene: gets the nodes.
        restore_transform: put the nodes under the parent transform that was recorded at export, so that everything
            lies where it was annotated.

    Raises:
        DatasetError: there is no such case, or a file is missing.
        ImageError: a file is damaged.
        LabelTreeError: the label map carries a value that is not in the tree.
        SceneError: a label map or channel lies on another grid than the first channel.
    """
    dataset = dataset if isinstance(dataset, Dataset) else Dataset.open(dataset)
    case = dataset.case(case_id)
    # All is read before the scene is touched: a damaged file leaves no half case behind.
    with dataset.reading():
        images = [nifti.read_nifti(path) for path in dataset.image_paths(case)]
        label_path = dataset.label_path(case)
        label = None if label_path is None else nifti.read_nifti(label_path)
    array, affine = images[0]
    tree = dataset.tree
    if label is not None:
        if label[0].shape != array.shape or not geometry.same_place(label[1], affine, array.shape):
            raise tags.SceneError(
                f"{label_path}: the label map does not lie on the first channel's grid; save the case again from its source."
            )
        tree.check_values(label[0], str(label_path))
    transform = _transform(scene, case) if restore_transform else None
    volumes = []
    for channel, (voxels, where) in zip(dataset.channels, images, strict=True):
        volume = geometry.make_volume(scene, voxels, where, scene.GenerateUniqueName(f"{case.id} {channel}"))
        if transform is not None:
            volume.SetAndObserveTransformNodeID(transform.GetID())
        volumes.append(volume)
    node = annotation.create_annotation(volumes, tree, name=f"{case.id} annotation")
    node.SetAttribute(export.CASE, case.id)
    node.SetAttribute(export.GROUP, case.group)
    by_path = {entry.path: entry for entry in tree.nodes}
    for entry in case.slices_complete:
        within = by_path.get(entry["node"]) if entry.get("node") else None
        if within is not None or not entry.get("node"):
            for index in entry["indices"]:
                marks.set_slice_complete(node, entry["axis"], index, within)
    if label is not None:
        _fill(node, tree, case, label[0].astype(tree.dtype))
    prediction.style(node, tree)
    return LoadedCase(case, tuple(volumes), node, transform)


def _fill(node: slicer.vtkMRMLSegmentationNode, tree: LabelTree, case: Case, labels: np.ndarray) -> None:
    sources: dict[str, Any] = dict(case.provenance.get("sources") or {})
    background = labelmaps.background_of(tree)
    grid = annotation.reference_grid(node)
    if background is not None:
        # There the complete marks say it: a segment would only cover the image.
        implied = annotation.complete_mask(node, tree, grid.shape) & (labels == background.value)
        labels = np.where(implied, tree.dtype.type(tree.unlabelled), labels)
    known = {path for path in sources if path in tree and tree.node(path).path == path}
    labelmaps.fill(
        node,
        tree,
        labels,
        grid.affine,
        lambda found: str(sources.get(found.path, tags.MANUAL)),
        also=[tree.node(path).name for path in known],
    )
    for path, name in dict(case.provenance.get("algorithms") or {}).items():
        for segment_id in reading.ids_of(node, [tree.node(path)] if path in tree else []):
            tags.set_tag(node.GetSegmentation().GetSegment(segment_id), tags.ALGORITHM_NAME, str(name))
    if background is not None:
        for segment_id in reading.ids_of(node, [background]):
            node.GetDisplayNode().SetSegmentVisibility(segment_id, False)


def _transform(scene: slicer.vtkMRMLScene, case: Case) -> slicer.vtkMRMLTransformNode | None:
    recorded = case.provenance.get("parent_transform")
    if recorded is None:
        return None
    matrix = np.asarray(recorded, dtype=np.float64)
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
        raise tags.SceneError(
            f"case '{case.id}': its recorded parent_transform is no 4 × 4 matrix of numbers; correct dataset.json."
        )
    node = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", scene.GenerateUniqueName(f"{case.id} transform"))
    node.SetMatrixTransformToParent(geometry.to_vtk(matrix))
    return node
