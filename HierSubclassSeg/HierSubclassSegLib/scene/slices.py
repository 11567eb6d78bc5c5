"""Slices of an annotation: which one a view shows, which are unfinished.

A slice is one of the stored array of the first channel: an axis (0, 1 or 2) and an index along it.  A view shows one
only if it is aligned with the array; an oblique view cuts through many.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer

from hierseg.labeltree import LabelTree, Node
from HierSubclassSegLib.scene import brush, lattice, layers, marks, tree_store

#: cosine between a view's normal and an axis of the array above which they are aligned: within a quarter of a degree
_ALIGNED = 1 - 1e-5


def shown_slice(segmentation_node: slicer.vtkMRMLSegmentationNode, slice_node: Any) -> tuple[int, int] | None:
    """The slice that a slice view shows; None if the view is not aligned, or shows a place outside of the array.

    Args:
        segmentation_node: its grid is the first channel's.
        slice_node: the view's ``vtkMRMLSliceNode``.
    """
    axis = shown_axis(segmentation_node, slice_node)
    if axis is None:
        return None
    grid = lattice.Grid.of(segmentation_node)
    to_index = np.linalg.inv(brush.world_matrix(segmentation_node) @ grid.to_ras)
    index = round(float((to_index @ _matrix(slice_node)[:, 3])[axis]))
    return (axis, index) if 0 <= index < grid.shape[axis] else None


def shown_axis(segmentation_node: slicer.vtkMRMLSegmentationNode, slice_node: Any) -> int | None:
    """The axis of the stored array along which a view's slices lie; None if the view is not aligned with the array."""
    to_world = brush.world_matrix(segmentation_node) @ lattice.Grid.of(segmentation_node).to_ras
    # A slice of the array is where one index is constant: its normal is that index's gradient.
    gradients = np.linalg.inv(to_world[:3, :3])
    normals = gradients / np.linalg.norm(gradients, axis=1, keepdims=True)
    view = _matrix(slice_node)[:3, 2]
    cosines = np.abs(normals @ (view / np.linalg.norm(view)))
    axis = int(np.argmax(cosines))
    return axis if cosines[axis] > _ALIGNED else None


def center(segmentation_node: slicer.vtkMRMLSegmentationNode, axis: int, index: int) -> tuple[float, float, float]:
    """The middle of a slice, RAS mm of the world."""
    grid = lattice.Grid.of(segmentation_node)
    place = [(size - 1) / 2 for size in grid.shape]
    place[axis] = float(index)
    right, anterior, superior, _ = brush.world_matrix(segmentation_node) @ grid.to_ras @ [*place, 1.0]
    return float(right), float(anterior), float(superior)


def complete(
    segmentation_node: slicer.vtkMRMLSegmentationNode, tree: LabelTree, axis: int, node: Node | None
) -> tuple[frozenset[int], frozenset[int]]:
    """The slices that are marked complete for a node itself, and those that are through a mark above the node.

    Above a node are its ancestors and the mark for everything; above everything (``node`` is None) is nothing.
    """
    own = None if node is None else node.path
    above = set() if node is None else {None, *(other.path for other in tree.ancestors(node))}
    found: tuple[set[int], set[int]] = (set(), set())
    for mark in marks.slices_complete(segmentation_node, tree):
        if mark["axis"] == axis and mark["node"] == own:
            found[0].update(mark["indices"])
        elif mark["axis"] == axis and mark["node"] in above:
            found[1].update(mark["indices"])
    return frozenset(found[0]), frozenset(found[1])


def unfinished(
    segmentation_node: slicer.vtkMRMLSegmentationNode, tree: LabelTree, axis: int, node: Node | None
) -> list[int]:
    """The slices along an axis that still want painting, in ascending order.

    Args:
        segmentation_node: the annotation.
        tree: its tree.
        axis: of the stored array.
        node: the node that is refined: slices in which it has voxels that belong to none of its children, and that are
            not marked complete.  None: all slices that are not marked complete.
    """
    grid = lattice.Grid.of(segmentation_node)
    if node is None:
        found = list(range(grid.shape[axis]))
    else:
        ids = {
            tree.node(path).name: segment
            for path, segment in tree_store.segments_by_path(segmentation_node, tree).items()
        }
        own = [ids[node.name]] if node.name in ids else []
        box = layers.common_box(segmentation_node, own)
        if box is None:
            return []
        coarse = layers.read_union(segmentation_node, own, box)
        below = [ids[child.name] for child in tree.descendants(node) if child.name in ids]
        if below:
            coarse &= ~layers.read_union(segmentation_node, below, box)
        others = tuple(other for other in range(3) if other != axis)
        found = [int(i) + box[0][axis] - grid.origin[axis] for i in np.flatnonzero(coarse.any(axis=others))]
    done = frozenset.union(*complete(segmentation_node, tree, axis, node))
    return [index for index in found if index not in done]


def _matrix(slice_node: Any) -> np.ndarray:
    matrix = slice_node.GetSliceToRAS()
    return np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])
