"""Annotations into a dataset folder.

The label map lies on the first channel's own grid, without its parent transform (which is recorded).  Each voxel gets
the deepest annotated node there; elsewhere it is ``unlabelled``, except in complete slices, where it is background (and
stays ``unlabelled`` in a tree without background).  What is left of a parent stays coarse.  Where siblings overlap, the
latest segment wins.  Hidden segments are exported like visible ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import slicer

import hierseg
from hierseg.dataset import Case, Dataset
from hierseg.labeltree import LabelTree
from HierSubclassSegLib.scene import (
    annotation,
    geometry,
    labelmaps,
    marks,
    nifti,
    prediction,
    reading,
    tags,
    tree_store,
)

#: attributes of the annotation: where it was exported to or loaded from
CASE = "HierSubclassSeg.Case"
GROUP = "HierSubclassSeg.Group"


@dataclass(frozen=True)
class NodeShare:
    """What an export holds of one node: voxels that carry exactly this node.

    Attributes:
        path: the node.
        fine: a leaf; else the voxels are coarse: superclass known, subclass not.
        voxels: their number.
        ml: their volume in milliliters.
        slices: in how many slices along the summary's axis they lie.
    """

    path: str
    fine: bool
    voxels: int
    ml: float
    slices: int


@dataclass(frozen=True)
class ExportSummary:
    """What an export will write, to be shown before it does.

    Attributes:
        nodes: one entry a node that at least one voxel carries, in the tree's order.
        fine_ml, coarse_ml, unlabelled_ml: volumes; background counts as fine.
        fine_slices, coarse_slices, unlabelled_slices: slices that hold at least one such voxel.
        total_slices: slices along :attr:`axis`.
        axis: the axis of the stored array along which slices are counted.
        slices_complete: as they will be written.
        notes: sentences on what a user should know: resampled channels, segments that are left out.
    """

    nodes: tuple[NodeShare, ...]
    fine_ml: float
    coarse_ml: float
    unlabelled_ml: float
    fine_slices: int
    coarse_slices: int
    unlabelled_slices: int
    total_slices: int
    axis: int
    slices_complete: tuple[Mapping[str, Any], ...]
    notes: tuple[str, ...]


def export_case(
    annotation_node: slicer.vtkMRMLSegmentationNode,
    dataset: Dataset | str | Path,
    *,
    volume_nodes: Sequence[slicer.vtkMRMLVolumeNode] | None = None,
    case_id: str | None = None,
    group: str | None = None,
    user: str | None = None,
    update_tree: bool = False,
) -> Case:
    """Write an annotation and its images as a case of a dataset folder; the same annotation again replaces the case.

    Args:
        annotation_node: an annotation; never a prediction.
        dataset: the folder or an open dataset.
        volume_nodes: the channels, in the dataset's order; default: those that the annotation refers to.
        case_id: default: the id that the annotation was exported to or loaded from, else a generated one.
        group: cases of one group (one patient) never lie on both sides of a split; default: as before.
        user: who annotated; recorded only if given.
        update_tree: give the dataset the annotation's tree if it has another one that its label maps still fit.

    Returns:
        The saved case.

    Raises:
        SceneError: a prediction, no label tree, no volume, another tree than the dataset's, a wrong number of
            channels, a volume of colors, or a non-linear transform.
        DatasetError: the folder cannot be written.
    """
    dataset = dataset if isinstance(dataset, Dataset) else Dataset.open(dataset)
    volumes = _volumes(annotation_node, volume_nodes)
    labels, complete, notes = collect(annotation_node, volumes)
    tree = annotation.tree_of(annotation_node)
    if len(volumes) != len(dataset.channels):
        raise tags.SceneError(
            f"the annotation '{annotation_node.GetName()}' has {len(volumes)} volumes, the dataset has {len(dataset.channels)} channels "
            f"({', '.join(dataset.channels)}); choose one volume for each."
        )
    if dataset.tree != tree:
        if not update_tree:
            raise tags.SceneError(
                f"the annotation '{annotation_node.GetName()}' uses the label tree '{tree.fingerprint}', the dataset {dataset.folder} "
                f"'{dataset.tree.fingerprint}'; update the dataset's tree, or choose a dataset of this tree."
            )
        dataset.set_tree(tree)
    case_id = case_id or annotation_node.GetAttribute(CASE)
    old = next((case for case in dataset.cases() if case.id == case_id), None)
    grid = geometry.volume_grid(volumes[0])
    group = group or annotation_node.GetAttribute(GROUP) or (old.group if old else None)
    case = dataset.save_case(
        case_id,
        [partial(_write_channel, volume, grid) for volume in volumes],
        lambda path: nifti.write_nifti(path, labels, grid.affine),
        split=old.split if old else "training",
        group=group,
        provenance={**_kept_model(old), **_provenance(annotation_node, volumes[0], tree, user, notes)},
        slices_complete=complete,
    )
    annotation_node.SetAttribute(CASE, case.id)
    annotation_node.SetAttribute(GROUP, group)
    return case


def summarize_export(
    annotation_node: slicer.vtkMRMLSegmentationNode,
    *,
    volume_nodes: Sequence[slicer.vtkMRMLVolumeNode] | None = None,
    axis: int | None = None,
) -> ExportSummary:
    """What :func:`export_case` would write: fine, coarse and unlabelled, in milliliters and slices.

    Args:
        annotation_node: an annotation.
        volume_nodes: the channels; default: those that the annotation refers to.
        axis: count slices along this axis of the stored array; default: that of the complete marks, else 2.
    """
    volumes = _volumes(annotation_node, volume_nodes)
    labels, complete, notes = collect(annotation_node, volumes)
    tree = annotation.tree_of(annotation_node)
    grid = geometry.volume_grid(volumes[0])
    if axis is None:
        axis = int(complete[0]["axis"]) if complete else 2
    # Voxels of each value in each slice: all numbers of the summary are sums of these.
    size = 256 if tree.dtype == np.uint8 else 65536
    slabs = np.moveaxis(labels, axis, 0)
    counts = np.stack([np.bincount(slab.ravel(order="K"), minlength=size) for slab in slabs])
    shares = []
    for node in tree.nodes:
        voxels = int(counts[:, node.value].sum())
        if voxels:
            shares.append(
                NodeShare(
                    node.path,
                    tree.is_leaf(node),
                    voxels,
                    voxels * grid.voxel_ml,
                    int((counts[:, node.value] > 0).sum()),
                )
            )
    leaves = counts[:, tree.leaf_values].sum(axis=1)
    inner = counts[:, [node.value for node in tree.nodes if not tree.is_leaf(node)]].sum(axis=1)
    nothing = counts[:, tree.unlabelled]
    if not int(leaves.sum() + inner.sum()):
        notes = [*notes, "Nothing is annotated yet: a case without any labelled voxel cannot be trained on."]
    return ExportSummary(
        nodes=tuple(shares),
        fine_ml=float(leaves.sum()) * grid.voxel_ml,
        coarse_ml=float(inner.sum()) * grid.voxel_ml,
        unlabelled_ml=float(nothing.sum()) * grid.voxel_ml,
        fine_slices=int((leaves > 0).sum()),
        coarse_slices=int((inner > 0).sum()),
        unlabelled_slices=int((nothing > 0).sum()),
        total_slices=grid.shape[axis],
        axis=axis,
        slices_complete=tuple(complete),
        notes=tuple(notes),
    )


def collect(
    annotation_node: slicer.vtkMRMLSegmentationNode, volumes: Sequence[slicer.vtkMRMLVolumeNode]
) -> tuple[np.ndarray, list[dict[str, Any]], list[str]]:
    """The label map on the first volume's grid, the complete slices along its stored axes, and sentences to show.

    Raises:
        SceneError: as :func:`export_case`.
    """
    if annotation_node.GetAttribute(tree_store.ROLE) == "prediction":
        raise tags.SceneError(
            f"'{annotation_node.GetName()}' is a prediction, which is never exported; make an annotation from it and check that first."
        )
    tree = annotation.tree_of(annotation_node)
    grid = geometry.volume_grid(volumes[0])
    for volume in volumes:
        geometry.parent_to_world(volume)
        if volume.GetImageData() is not None and volume.GetImageData().GetNumberOfScalarComponents() != 1:
            raise tags.SceneError(
                f"the volume '{volume.GetName()}' has several numbers a voxel (colors?); choose a volume with one."
            )
    labels = reading.read(annotation_node, tree, grid)
    complete = _complete_on(annotation_node, tree, grid)
    background = labelmaps.background_of(tree)
    if background is not None:
        for entry in complete:
            if entry["node"] is None:
                place = (slice(None),) * entry["axis"] + (entry["indices"],)
                part = labels[place]
                labels[place] = np.where(part == tree.unlabelled, tree.dtype.type(background.value), part)
    notes = []
    known = set(tree_store.segments_by_path(annotation_node, tree).values())
    foreign = [
        segment.GetName() for segment_id, segment in tree_store.segments(annotation_node) if segment_id not in known
    ]
    if foreign:
        notes.append(f"Left out, because they belong to no node of the label tree: {', '.join(foreign)}.")
    notes += [
        f"'{volume.GetName()}' lies on another grid and is resampled."
        for volume in volumes[1:]
        if not _on_grid(volume, grid)
    ]
    return labels, complete, notes


def level_map_nodes(segmentation_node: slicer.vtkMRMLSegmentationNode) -> list[slicer.vtkMRMLLabelMapVolumeNode]:
    """One label map volume a level of the tree, on the first volume's grid: level 1 holds superclasses, and so on.

    Voxels without any node are 0 if the tree has no other node of that value, else ``unlabelled``.
    """
    tree = annotation.tree_of(segmentation_node)
    volume = _volumes(segmentation_node, None)[0]
    grid = geometry.volume_grid(volume)
    labels = reading.read(segmentation_node, tree, grid)
    background = labelmaps.background_of(tree)
    empty = 0 if 0 not in tree.values or (background is not None and background.value == 0) else tree.unlabelled
    nodes = []
    for depth in range(1, max(node.depth for node in tree.nodes) + 1):
        level = labelmaps.level_map(tree, labels, depth)
        level[level == tree.unlabelled] = empty
        name = volume.GetScene().GenerateUniqueName(f"{segmentation_node.GetName()} level {depth}")
        node = geometry.make_volume(volume.GetScene(), level, grid.affine, name, "vtkMRMLLabelMapVolumeNode")
        geometry.place_beside(node, volume)
        nodes.append(node)
    return nodes


def _volumes(
    annotation_node: slicer.vtkMRMLSegmentationNode, volume_nodes: Sequence[slicer.vtkMRMLVolumeNode] | None
) -> list[slicer.vtkMRMLVolumeNode]:
    volumes = list(volume_nodes or prediction.volumes_of(annotation_node))
    if not volumes:
        raise tags.SceneError(
            f"'{annotation_node.GetName()}' does not say which volume it belongs to; choose its volume."
        )
    return volumes


def _on_grid(volume: slicer.vtkMRMLVolumeNode, grid: geometry.Grid) -> bool:
    own = geometry.volume_grid(volume)
    return own.shape == grid.shape and geometry.same_place(own.world, grid.world, grid.shape)


def _write_channel(volume: slicer.vtkMRMLVolumeNode, grid: geometry.Grid, path: Path) -> None:
    image = volume.GetImageData()
    if not _on_grid(volume, grid):
        own = geometry.volume_grid(volume)
        image = geometry.resample(image, own.world, grid, linear=True, fill=image.GetScalarRange()[0])
    nifti.write_nifti(path, geometry.array_of(image), grid.affine)


def _complete_on(
    annotation_node: slicer.vtkMRMLSegmentationNode, tree: LabelTree, grid: geometry.Grid
) -> list[dict[str, Any]]:
    """The complete slices, counted along the volume's stored axes.

    They are marked along the axes of the annotation's reference grid.  Slicer may have flipped the volume's voxel
    order since (it does so with left-handed volumes when it loads a scene): the indices follow.

    Raises:
        SceneError: the two grids do not share their planes.
    """
    complete = marks.slices_complete(annotation_node, tree)
    if not complete:
        return []
    reference = annotation.reference_grid(annotation_node)
    between = np.linalg.inv(grid.world) @ reference.world
    turn = np.rint(between[:3, :3])
    if not np.allclose(between[:3, :3], turn, atol=1e-3) or not (np.abs(turn).sum(axis=0) == 1).all():
        raise tags.SceneError(
            f"'{annotation_node.GetName()}' has slices marked complete, but the volume that it is exported on lies on another grid; "
            "export on the volume that was annotated."
        )
    found = []
    for entry in complete:
        axis = int(np.flatnonzero(turn[:, entry["axis"]])[0])
        step, start = turn[axis, entry["axis"]], np.rint(between[axis, 3])
        indices = sorted(int(start + step * index) for index in entry["indices"])
        found.append(
            {
                "axis": axis,
                "indices": [index for index in indices if 0 <= index < grid.shape[axis]],
                "node": entry["node"],
            }
        )
    return [entry for entry in found if entry["indices"]]


def _kept_model(old: Case | None) -> dict[str, Any]:
    """The model that a case's annotation came from: a loaded annotation no longer refers to its prediction."""
    return {"model": old.provenance["model"]} if old is not None and "model" in old.provenance else {}


def _provenance(
    annotation_node: slicer.vtkMRMLSegmentationNode,
    volume: slicer.vtkMRMLVolumeNode,
    tree: LabelTree,
    user: str | None,
    notes: Sequence[str],
) -> dict[str, Any]:
    predicted_by = annotation.prediction_of(annotation_node)
    content: dict[str, Any] = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "tool": tags.TOOL,
        "version": hierseg.__version__,
        "slicer": slicer_version(),
        "sources": {},
    }
    algorithms = {}
    for path, segment_id in tree_store.segments_by_path(annotation_node, tree).items():
        segment = annotation_node.GetSegmentation().GetSegment(segment_id)
        content["sources"][path] = tags.get_tag(segment, tags.SOURCE, tags.MANUAL)
        if content["sources"][path] == tags.MIXED:
            algorithms[path] = tags.get_tag(segment, tags.ALGORITHM_NAME, tags.TOOL)
    if algorithms:
        content["algorithms"] = algorithms
    if predicted_by is not None and predicted_by.GetAttribute(prediction.MODEL):
        content["model"] = predicted_by.GetAttribute(prediction.MODEL)
    if user:
        content["user"] = user
    parent = geometry.parent_to_world(volume)
    if not np.array_equal(parent, np.eye(4)):
        content["parent_transform"] = parent.tolist()
    if notes:
        content["notes"] = list(notes)
    return content


def slicer_version() -> str:
    """The application's version, or that of the ``slicer-core`` wheel."""
    application = getattr(slicer, "app", None)
    if application is not None:
        return str(application.applicationVersion)
    try:
        return f"slicer-core {metadata.version('slicer-core')}"
    except metadata.PackageNotFoundError:
        return "unknown"
