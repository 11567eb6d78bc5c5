"""Taking over: copying predicted voxels into an annotation, where no human has said anything finer.

What a human painted is never overwritten: a voxel is copied only where the annotation carries nothing, the node being
refined, or one of its ancestors.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import slicer
import vtk

from hierseg.labeltree import LabelTree, Node
from HierSubclassSegLib.scene import (
    geometry,
    labelmaps,
    lattice,
    marks,
    new_segments,
    prediction,
    reading,
    tags,
    tree_store,
)
from HierSubclassSegLib.scene.annotation import complete_mask, prediction_of, reference_grid, source_of, tree_of


def take_over(
    annotation_node: slicer.vtkMRMLSegmentationNode,
    node: Node | str,
    where: np.ndarray | None = None,
    *,
    min_confidence: float | None = None,
    prediction_node: slicer.vtkMRMLSegmentationNode | None = None,
    save_state: Callable[[], Any] | None = None,
) -> int:
    """Copy what was predicted at and below a node into the annotation.

    A voxel is copied where the prediction says ``node`` or one of its descendants, and the annotation carries nothing,
    ``node`` itself or one of its ancestors.  Voxels that a complete slice has declared to be background, and locked
    nodes, are left alone.

    Args:
        annotation_node: gets the voxels.
        node: the node being refined; a superclass or any other.
        where: bool ``(x, y, z)`` on :func:`reference_grid`, for example :func:`slice_mask` or :func:`component_mask`;
            None: everywhere.
        min_confidence: only where the prediction's confidence volume says at least this, 0..1.
        prediction_node: default: the annotation's own prediction.
        save_state: saves the state for undo; called once, before the first change, and not at all without one.

    Returns:
        The number of voxels copied.

    Raises:
        SceneError: there is no prediction or, with ``min_confidence``, no confidence volume; or siblings overlap.
    """
    predicted_by = prediction_node or prediction_of(annotation_node)
    if predicted_by is None:
        raise tags.SceneError(
            f"the annotation '{annotation_node.GetName()}' has no prediction to take over from; run a model on its volume first."
        )
    tree = tree_of(annotation_node)
    node = tree.node(node)
    grid = reference_grid(annotation_node)
    if min_confidence is not None and prediction.confidence_of(predicted_by) is None:
        confidence_on(predicted_by, grid)
    # A superclass fills a small part of most volumes: all that follows happens in a box around it.
    box = _box_of(predicted_by, tree, node, grid)
    if box is not None and where is not None:
        box = _common(box, lattice.bounds(where))
    if box is None:
        return 0
    part, inside = grid.part(box), lattice.slices(box)
    predicted = predicted_labels(predicted_by, tree, part)
    current = reading.read(annotation_node, tree, part)
    chosen = tree.lookup({other.value: 1 for other in (node, *tree.descendants(node))}, 0).astype(bool)[predicted]
    coarse = {tree.unlabelled, node.value, *(other.value for other in tree.ancestors(node))}
    chosen &= tree.lookup(dict.fromkeys(coarse, 1), 0).astype(bool)[current]
    chosen &= predicted != current
    if marks.slices_complete(annotation_node, tree):
        chosen &= ~(complete_mask(annotation_node, tree, grid.shape)[inside] & (current == tree.unlabelled))
    locked = [tree.node(name).value for name in marks.untouchable(annotation_node, tree)]
    if locked:
        blocked = tree.lookup(dict.fromkeys(locked, 1), 0).astype(bool)
        chosen &= ~blocked[predicted] & ~blocked[current]
    if where is not None:
        chosen &= where[inside]
    if min_confidence is not None:
        chosen &= confidence_on(predicted_by, part) >= min_confidence
    count = int(np.count_nonzero(chosen))
    if count:
        if save_state is not None:
            save_state()
        _write(annotation_node, tree, predicted, chosen, box, source_of(predicted_by))
    return count


def predicted_labels(
    prediction_node: slicer.vtkMRMLSegmentationNode, tree: LabelTree, grid: geometry.Grid
) -> np.ndarray:
    """A prediction's label map in the values of another tree: its nodes are found by path, or their nearest ancestor."""
    own = tree_of(prediction_node)
    labels = reading.read(prediction_node, own, grid)
    if own == tree:
        return labels
    mapping = {
        predicted.value: known.value for predicted in own.nodes if (known := _known(tree, own, predicted)) is not None
    }
    return own.lookup(mapping, tree.unlabelled).astype(tree.dtype)[labels]


def confidence_on(prediction_node: slicer.vtkMRMLSegmentationNode, grid: geometry.Grid) -> np.ndarray:
    """The prediction's confidence, 0..1, float32 ``(x, y, z)`` on a grid.

    Raises:
        SceneError: the prediction has no confidence volume.
    """
    volume = prediction.confidence_of(prediction_node)
    if volume is None:
        raise tags.SceneError(
            f"the prediction '{prediction_node.GetName()}' has no confidence volume; take over without a threshold, or predict again."
        )
    source = geometry.volume_grid(volume)
    image = geometry.resample(volume.GetImageData(), source.world, grid, linear=False, fill=0)
    return geometry.array_of(image).astype(np.float32) / np.float32(255)


def slice_mask(grid: geometry.Grid, axis: int, index: int) -> np.ndarray:
    """One slice of the grid, as bool ``(x, y, z)``."""
    mask = np.zeros(grid.shape, dtype=bool, order="F")
    mask[(slice(None),) * axis + (index,)] = True
    return mask


def component_mask(mask: np.ndarray, seed: tuple[int, int, int]) -> np.ndarray:
    """The voxels of ``mask`` that are connected with the seed through faces; none if the seed is outside."""
    if not mask[seed]:
        return np.zeros_like(mask)
    image = geometry.image_like(np.uint8, mask.shape)
    geometry.array_of(image)[...] = mask
    points = vtk.vtkPoints()
    points.InsertNextPoint(*seed)
    connectivity = vtk.vtkImageThresholdConnectivity()
    connectivity.SetInputData(image)
    connectivity.SetSeedPoints(points)
    connectivity.ThresholdByUpper(1)
    connectivity.SetInValue(1)
    connectivity.SetOutValue(0)
    connectivity.ReplaceInOn()
    connectivity.ReplaceOutOn()
    connectivity.Update()
    return geometry.array_of(connectivity.GetOutput()) > 0


def _box_of(
    prediction_node: slicer.vtkMRMLSegmentationNode, tree: LabelTree, node: Node, grid: geometry.Grid
) -> lattice.Box | None:
    """A box of the grid that holds all that was predicted at and below a node; None if nothing was."""
    own = tree_of(prediction_node)
    meant = [other for other in own.nodes if _known(tree, own, other) in (node, *tree.descendants(node))]
    nodes_of = {
        segment_id: own.node(path)
        for path, segment_id in tree_store.segments_by_path(prediction_node, own).items()
        if own.node(path) in meant
    }
    return reading.extent(prediction_node, nodes_of, grid)


def _known(tree: LabelTree, own: LabelTree, predicted: Node) -> Node | None:
    """The node of ``tree`` that a predicted node means: the one of its path, or of its nearest ancestor's."""
    known = next((other for other in (predicted, *own.ancestors(predicted)) if other.path in tree), None)
    return None if known is None else tree.node(known.path)


def _common(one: lattice.Box, other: lattice.Box | None) -> lattice.Box | None:
    if other is None:
        return None
    low = [max(a, b) for a, b in zip(one[0], other[0], strict=True)]
    high = [min(a, b) for a, b in zip(one[1], other[1], strict=True)]
    if any(a >= b for a, b in zip(low, high, strict=True)):
        return None
    return (low[0], low[1], low[2]), (high[0], high[1], high[2])


def _write(
    annotation_node: slicer.vtkMRMLSegmentationNode,
    tree: LabelTree,
    labels: np.ndarray,
    chosen: np.ndarray,
    box: lattice.Box,
    source: str,
) -> None:
    """Write ``labels``, which lie in the box, into the annotation where ``chosen``: nodes and all that is above them."""
    gained = {
        other.name
        for value in np.flatnonzero(np.bincount(labels[chosen]))
        for other in (tree.by_value(int(value)), *tree.ancestors(tree.by_value(int(value))))
    }
    with labelmaps.modifying(annotation_node):
        for name in gained:
            if not tree.is_leaf(name):
                # Without a segment it counted as the union of its descendants: it must not become less than that.
                new_segments.need_segment(annotation_node, tree, tree.node(name))
        for parent in (None, *(node for node in tree.nodes if not tree.is_leaf(node))):
            if any(node.name in gained for node in tree.children(parent)):
                _write_children(annotation_node, tree, parent, gained, labels, chosen, box, source)


def _write_children(
    annotation_node: slicer.vtkMRMLSegmentationNode,
    tree: LabelTree,
    parent: Node | None,
    gained: Collection[str],
    labels: np.ndarray,
    chosen: np.ndarray,
    box: lattice.Box,
    source: str,
) -> None:
    """Write one parent's layer anew, if anything in it changes."""
    paths = tree_store.segments_by_path(annotation_node, tree)
    members = [node for node in tree.children(parent) if node.path in paths or node.name in gained]
    new = labelmaps.child_table(tree, members)[labels[chosen]]
    grid = reference_grid(annotation_node)
    index = reading.group_index(annotation_node, members, paths, grid.part(box))
    old = index[chosen]
    new = np.where(new > 0, new, old)
    changed = {members[int(number) - 1].name for number in np.flatnonzero(np.bincount(new[new != old])) if number}
    if all(node.path in paths for node in members) and not changed:
        return
    there = reading.extent(annotation_node, {paths[n.path]: n for n in members if n.path in paths}, grid)
    canvas = lattice.union_box([box] if there is None else [box, there]) or box
    index = reading.group_index(annotation_node, members, paths, grid.part(canvas))
    place = tuple(slice(low - first, high - first) for low, high, first in zip(*box, canvas[0], strict=True))
    index[place][chosen] = new
    bounds = lattice.bounds(index > 0) or ((0, 0, 0), (1, 1, 1))
    lower = [a + b + c for a, b, c in zip(bounds[0], canvas[0], lattice.Grid.of(annotation_node).origin, strict=True)]
    image = lattice.Grid.of(annotation_node).new_image(index[lattice.slices(bounds)], (lower[0], lower[1], lower[2]))
    for value, member in enumerate(members, 1):
        _set_layer(annotation_node, tree, member, image, value, source if member.name in changed else None)


def _set_layer(
    annotation_node: slicer.vtkMRMLSegmentationNode,
    tree: LabelTree,
    member: Node,
    image: slicer.vtkOrientedImageData,
    value: int,
    source: str | None,
) -> None:
    segment_id = tree_store.segment_id_of(annotation_node, member)
    if segment_id is None:
        tree_store.add_segment(annotation_node, tree, member, source or tags.MANUAL, image, value)
        return
    segment = annotation_node.GetSegmentation().GetSegment(segment_id)
    segment.SetLabelValue(value)
    segment.AddRepresentation(slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName(), image)
    if source is not None and tags.get_tag(segment, tags.SOURCE) != source:
        tags.set_source(segment, tags.MIXED)
