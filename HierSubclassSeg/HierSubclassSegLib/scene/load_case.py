"""A case of a dataset folder into the scene: its volumes and its annotation, as they were exported.

Scene → dataset folder → scene → dataset folder gives the same images, label map, complete slices and segment tags.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import vtk

from hierseg.dataset import Case, Dataset
from hierseg.errors import ImageError, LabelTreeError
from hierseg.labeltree import LabelTree
from HierSubclassSegLib.scene import (
    annotation,
    export,
    geometry,
    labelmaps,
    lattice,
    marks,
    nifti,
    prediction,
    reading,
    tags,
)
from HierSubclassSegLib.ticks import Steps, finish


@dataclass(frozen=True)
class LoadedCase:
    """What was loaded, so that exactly this can be removed again.

    Attributes:
        case: the case as the dataset describes it.
        volumes: one a channel.
        annotation: the label map as an annotation; empty if the case has none.
        transform: the recorded parent transform, or None.
        labels: the label map as it lies in the file; None if the case has none.
    """

    case: Case
    volumes: tuple[slicer.vtkMRMLVolumeNode, ...]
    annotation: slicer.vtkMRMLSegmentationNode
    transform: slicer.vtkMRMLTransformNode | None
    labels: np.ndarray | None = field(default=None, repr=False, compare=False)

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
    return finish(load_steps(dataset, case_id, scene, restore_transform=restore_transform))


def load_steps(
    dataset: Dataset | str | Path, case_id: str, scene: slicer.vtkMRMLScene, *, restore_transform: bool = True
) -> Steps[LoadedCase]:
    """:func:`load_case` in small steps; arguments and errors as there.

    All is read before the scene is touched: a damaged file leaves no half case behind, nor does ending early.
    """
    dataset = dataset if isinstance(dataset, Dataset) else Dataset.open(dataset)
    case, tree = dataset.case(case_id), dataset.tree
    # The lock is held while packed bytes are read, not while they are unpacked.
    with dataset.reading():
        paths = dataset.image_paths(case)
        label_path = dataset.label_path(case)
        packed = [_bytes(path) for path in (*paths, *([label_path] if label_path else []))]
    images = []
    for path, channel in zip(paths, packed, strict=False):
        voxels, affine = yield from nifti.read_steps(path, channel)
        images.append(((yield from _image_steps(voxels)), affine))
    affine, shape = images[0][1], images[0][0].GetDimensions()
    labels, layers = None, {}
    known = [path for path in case.provenance.get("sources") or {} if path in tree and tree.node(path).path == path]
    if label_path is not None:
        labels, where = yield from nifti.read_steps(label_path, packed[-1])
        if labels.shape != shape or not geometry.same_place(where, affine, shape):
            raise tags.SceneError(
                f"{label_path}: the label map does not lie on the first channel's grid; save the case again from its source."
            )
        try:
            painted = yield from _without_implied(tree, case, labels)
            also = [tree.node(path).name for path in known]
            layers = yield from labelmaps.layer_steps(tree, painted, affine, also=also)
        except LabelTreeError as error:
            raise error.about("the label map", label_path) from error
    added: list[slicer.vtkMRMLNode] = []
    try:
        transform = _transform(scene, case) if restore_transform else None
        if transform is not None:
            added.append(transform)
        for channel_name, (image, place) in zip(dataset.channels, images, strict=True):
            name = _free_name(scene, f"{case.id} {channel_name}")
            added.append(geometry.add_volume(scene, image, place, name))
            if transform is not None:
                added[-1].SetAndObserveTransformNodeID(transform.GetID())
            yield 0.95
        volumes = tuple(added[-len(images) :])
        node = annotation.create_annotation(volumes, tree, name=f"{case.id} annotation")
        added.append(node)
        node.SetName(_free_name(scene, f"{case.id} annotation", node))
        _dress(node, tree, case, layers)
    except BaseException:
        # Ended early (GeneratorExit) or failed: nothing half-made stays behind.
        for begun in added:
            if begun.GetScene() is not None:
                begun.GetScene().RemoveNode(begun)
        raise
    return LoadedCase(case, volumes, node, transform, labels)


def _dress(node: slicer.vtkMRMLSegmentationNode, tree: LabelTree, case: Case, layers: labelmaps.Layers) -> None:
    """Give a new annotation what the case says: marks, segments, sources."""
    node.SetAttribute(export.CASE, case.id)
    node.SetAttribute(export.GROUP, case.group)
    by_path = {entry.path: entry for entry in tree.nodes}
    for entry in case.slices_complete:
        within = by_path.get(entry["node"]) if entry.get("node") else None
        if within is not None or not entry.get("node"):
            for index in entry["indices"]:
                marks.set_slice_complete(node, entry["axis"], index, within)
    sources: dict[str, Any] = dict(case.provenance.get("sources") or {})
    matrix = geometry.to_vtk(annotation.reference_grid(node).affine)
    for image in {id(image): image for image, _value in layers.values()}.values():
        # The same to rounding: all label maps lie on one lattice.
        image.SetImageToWorldMatrix(matrix)
    if layers:
        labelmaps.add_layers(node, tree, layers, lambda found: str(sources.get(found.path, tags.MANUAL)))
    for path, name in dict(case.provenance.get("algorithms") or {}).items():
        for segment_id in reading.ids_of(node, [tree.node(path)] if path in tree else []):
            tags.set_tag(node.GetSegmentation().GetSegment(segment_id), tags.ALGORITHM_NAME, str(name))
    prediction.style(node, tree)
    background = tree.background
    if background is not None:
        for segment_id in reading.ids_of(node, [background]):
            node.GetDisplayNode().SetSegmentVisibility(segment_id, False)


def _without_implied(tree: LabelTree, case: Case, labels: np.ndarray) -> Steps[np.ndarray]:
    """The label map without the background that complete marks imply: a segment would only cover the image."""
    background = tree.background
    implied: dict[int, set[int]] = {}
    for entry in case.slices_complete:
        if not entry.get("node"):
            implied.setdefault(entry["axis"], set()).update(entry["indices"])
    if background is None or not implied:
        return labels
    inside = [np.isin(np.arange(size), sorted(implied.get(axis, ()))) for axis, size in enumerate(labels.shape)]
    painted = labels.copy(order="F")
    for k in range(labels.shape[2]):
        plane = painted[:, :, k]
        complete = np.ones(plane.shape, bool) if inside[2][k] else inside[0][:, None] | inside[1][None, :]
        plane[complete & (plane == background.value)] = tree.unlabelled
        yield 0.7
    return painted


def _image_steps(voxels: np.ndarray) -> Steps[vtk.vtkImageData]:
    """A copy of the array as an image."""
    dtype = geometry.vtk_scalars_dtype(voxels.dtype)
    image = geometry.image_like(dtype, voxels.shape, zeros=False)
    array = geometry.array_of(image)
    for tile in lattice.tiles(voxels):
        array[tile] = voxels[tile]
        yield 0.5
    return image


def _free_name(scene: slicer.vtkMRMLScene, name: str, own: slicer.vtkMRMLNode | None = None) -> str:
    """The name itself if no other node has it: the scene's own unique names never come back, and a case does."""
    found = scene.GetFirstNodeByName(name)
    return str(scene.GenerateUniqueName(name)) if found is not None and found is not own else name


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path}: this file cannot be read ({error.strerror or error}); put it back.") from error


def _transform(scene: slicer.vtkMRMLScene, case: Case) -> slicer.vtkMRMLTransformNode | None:
    recorded = case.provenance.get("parent_transform")
    if recorded is None:
        return None
    matrix = np.asarray(recorded, dtype=np.float64)
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
        raise tags.SceneError(
            f"case '{case.id}': its recorded parent_transform is no 4 × 4 matrix of numbers; correct dataset.json."
        )
    node = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", _free_name(scene, f"{case.id} transform"))
    node.SetMatrixTransformToParent(geometry.to_vtk(matrix))
    return node
