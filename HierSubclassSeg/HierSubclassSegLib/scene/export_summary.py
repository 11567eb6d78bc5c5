"""What an export will write: fine, coarse and unlabelled, in milliliters and slices, told before it is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer

from HierSubclassSegLib.scene import annotation, export, geometry
from HierSubclassSegLib.ticks import Steps, finish


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
        background_ml: the part of ``fine_ml`` that is background.
        structure_slices: slices with a fine voxel that is not background.
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
    background_ml: float = 0.0
    structure_slices: int = 0


def summarize_export(
    annotation_node: slicer.vtkMRMLSegmentationNode,
    *,
    volume_nodes: Sequence[slicer.vtkMRMLVolumeNode] | None = None,
    axis: int | None = None,
) -> ExportSummary:
    """What :func:`~HierSubclassSegLib.scene.export.export_case` would write: fine, coarse and unlabelled, in milliliters and slices.

    Args:
        annotation_node: an annotation.
        volume_nodes: the channels; default: those that the annotation refers to.
        axis: count slices along this axis of the stored array; default: that of the complete marks, else 2.
    """
    return finish(summary_steps(annotation_node, volume_nodes=volume_nodes, axis=axis))


def summary_steps(
    annotation_node: slicer.vtkMRMLSegmentationNode,
    *,
    volume_nodes: Sequence[slicer.vtkMRMLVolumeNode] | None = None,
    axis: int | None = None,
) -> Steps[ExportSummary]:
    """:func:`summarize_export` in small steps; arguments and errors as there."""
    volumes = export.volumes_for(annotation_node, volume_nodes)
    labels, complete, notes = yield from export.collect_steps(annotation_node, volumes)
    tree = annotation.tree_of(annotation_node)
    grid = geometry.volume_grid(volumes[0])
    if axis is None:
        axis = int(complete[0]["axis"]) if complete else 2
    # Voxels of each value in each slice: all numbers of the summary are sums of these.
    size = 256 if tree.dtype == np.uint8 else 65536
    slabs = np.moveaxis(labels, axis, 0)
    rows = []
    for slab in slabs:
        rows.append(np.bincount(slab.ravel(order="K"), minlength=size))
        yield 1.0
    counts = np.stack(rows)
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
    background = tree.background
    known = counts[:, background.value] if background is not None else np.zeros(len(counts), dtype=np.int64)
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
        background_ml=float(known.sum()) * grid.voxel_ml,
        structure_slices=int((leaves > known).sum()),
    )
