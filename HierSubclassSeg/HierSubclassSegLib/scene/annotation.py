"""Annotations: what people say about voxels, as segmentation nodes beside the predictions that helped them.

An annotation starts empty, from any segmentation, from a prediction's superclasses or from a whole prediction.  It
refers to its volumes and its prediction by node references.  Later, ``takeover`` can copy
more of the prediction into it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeVar

import numpy as np
import slicer

from hierseg.labeltree import LabelTree, Node
from HierSubclassSegLib.scene import (
    geometry,
    labelmaps,
    lattice,
    marks,
    matching,
    prediction,
    reading,
    tags,
    tree_store,
)
from HierSubclassSegLib.ticks import Steps, finish

T = TypeVar("T")


def create_annotation(
    volume_nodes: Sequence[slicer.vtkMRMLVolumeNode],
    tree: LabelTree,
    *,
    name: str | None = None,
    prediction_node: slicer.vtkMRMLSegmentationNode | None = None,
) -> slicer.vtkMRMLSegmentationNode:
    """A new annotation without any segment, on the first volume's grid and beside it.

    Raises:
        SceneError: no volume was given, or the first has no voxels.
    """
    if not volume_nodes:
        raise tags.SceneError("an annotation needs the volume that it is drawn on; none was given.")
    volume = volume_nodes[0]
    geometry.volume_grid(volume)
    node = prediction.new_segmentation(volume.GetScene(), name or f"{volume.GetName()} annotation", volume_nodes)
    node.SetAttribute(tree_store.ROLE, "annotation")
    if prediction_node is not None:
        node.SetNodeReferenceID(prediction.PREDICTION, prediction_node.GetID())
    tree_store.write_tree(node, tree)
    return node


def annotation_from_prediction(
    prediction_node: slicer.vtkMRMLSegmentationNode, *, superclasses_only: bool = True, name: str | None = None
) -> slicer.vtkMRMLSegmentationNode:
    """A new annotation that starts as a copy of a prediction: of its top level alone, or of all of it.

    Raises:
        SceneError: the prediction has no label tree or its volumes are gone.
    """
    return finish(from_prediction_steps(prediction_node, superclasses_only=superclasses_only, name=name))


def from_prediction_steps(
    prediction_node: slicer.vtkMRMLSegmentationNode, *, superclasses_only: bool = True, name: str | None = None
) -> Steps[slicer.vtkMRMLSegmentationNode]:
    """:func:`annotation_from_prediction` in small steps; arguments, result and errors as there."""
    tree = tree_of(prediction_node)
    node = create_annotation(prediction.volumes_of(prediction_node), tree, name=name, prediction_node=prediction_node)
    leave_out = {other.name for other in tree.nodes if other.depth > 1} if superclasses_only else ()
    return (yield from _copy_steps(node, prediction_node, tree, None, source_of(prediction_node), leave_out))


def annotation_from_segmentation(
    segmentation_node: slicer.vtkMRMLSegmentationNode,
    tree: LabelTree,
    volume_nodes: Sequence[slicer.vtkMRMLVolumeNode],
    mapping: Mapping[str, str] | None = None,
    *,
    name: str | None = None,
) -> tuple[slicer.vtkMRMLSegmentationNode, list[str]]:
    """A new annotation that starts as a copy of any segmentation, which stays as it is.

    Args:
        segmentation_node: whatever was segmented, by whatever tool.
        tree: what its segments are to mean.
        volume_nodes: the volumes that the annotation belongs to.
        mapping: node name by segment ID; default: :func:`match_segments`.
        name: of the new node.

    Returns:
        The annotation, and the names of the segments that match no node and were left out.
    """
    return finish(from_segmentation_steps(segmentation_node, tree, volume_nodes, mapping, name=name))


def from_segmentation_steps(
    segmentation_node: slicer.vtkMRMLSegmentationNode,
    tree: LabelTree,
    volume_nodes: Sequence[slicer.vtkMRMLVolumeNode],
    mapping: Mapping[str, str] | None = None,
    *,
    name: str | None = None,
) -> Steps[tuple[slicer.vtkMRMLSegmentationNode, list[str]]]:
    """:func:`annotation_from_segmentation` in small steps; arguments, result and errors as there."""
    nodes = (
        match_segments(segmentation_node, tree)
        if mapping is None
        else {key: tree.node(value) for key, value in mapping.items()}
    )
    annotation = create_annotation(volume_nodes, tree, name=name)
    said = {
        nodes[segment_id].name: foreign_source(segment)
        for segment_id, segment in tree_store.segments(segmentation_node)
        if segment_id in nodes
    }

    def source(node: Node) -> str:
        return said.get(node.name, tags.MANUAL)

    yield from _copy_steps(annotation, segmentation_node, tree, nodes, source, ())
    return annotation, [
        segment.GetName() for segment_id, segment in tree_store.segments(segmentation_node) if segment_id not in nodes
    ]


def _copy_steps(
    annotation_node: slicer.vtkMRMLSegmentationNode,
    from_node: slicer.vtkMRMLSegmentationNode,
    tree: LabelTree,
    nodes_of: Mapping[str, Node] | None,
    source: str | Callable[[Node], str],
    leave_out: Collection[str],
) -> Steps[slicer.vtkMRMLSegmentationNode]:
    """Fill a new annotation with what a segmentation says; without an end the annotation goes again."""
    grid = reference_grid(annotation_node)
    try:
        reading_steps = reading.read_steps(from_node, tree, grid, nodes_of)
        labels = yield from _scaled(reading_steps, 0.0, 0.5)
        layers = yield from _scaled(labelmaps.layer_steps(tree, labels, grid.affine, leave_out=leave_out), 0.5, 1.0)
        labelmaps.add_layers(annotation_node, tree, layers, source)
        prediction.style(annotation_node, tree)
    except BaseException:
        # Canceled, or it cannot be: nothing half done stays in the scene.
        if annotation_node.GetScene() is not None and not annotation_node.GetScene().IsClosing():
            annotation_node.GetScene().RemoveNode(annotation_node)
        raise
    return annotation_node


def _scaled(steps: Steps[T], begin: float, end: float) -> Steps[T]:
    """The same steps, with a progress between two values."""
    while True:
        try:
            yield begin + (end - begin) * next(steps)
        except StopIteration as done:
            result: T = done.value
            return result


def match_segments(segmentation_node: slicer.vtkMRMLSegmentationNode, tree: LabelTree) -> dict[str, Node]:
    """The tree node of each segment, as ``matching`` finds it.

    Segments that match none, or fit several, are missing; two segments may match one node.
    """
    finder = matching.Finder(tree)
    found = {}
    for segment_id, segment in tree_store.segments(segmentation_node):
        _, nodes = finder.find(segment)
        if len(nodes) == 1:
            found[segment_id] = nodes[0]
    return found


def prediction_of(annotation_node: slicer.vtkMRMLSegmentationNode) -> slicer.vtkMRMLSegmentationNode | None:
    """The prediction that the annotation refers to, or None."""
    return annotation_node.GetNodeReference(prediction.PREDICTION)


def source_of(prediction_node: slicer.vtkMRMLSegmentationNode) -> str:
    """The source tag of what the prediction's model said."""
    return tags.model_source(prediction_node.GetAttribute(prediction.MODEL) or "unknown")


def reference_grid(segmentation_node: slicer.vtkMRMLSegmentationNode) -> geometry.Grid:
    """The grid that the segmentation's label maps lie on, voxel (0, 0, 0) at its corner.

    It is the first volume's grid, but keeps its voxel order when Slicer flips a left-handed volume on loading a scene.
    """
    grid = lattice.Grid.of(segmentation_node)
    return geometry.Grid(grid.shape, grid.to_ras, geometry.parent_to_world(segmentation_node) @ grid.to_ras)


def complete_mask(
    annotation_node: slicer.vtkMRMLSegmentationNode, tree: LabelTree, shape: tuple[int, ...]
) -> np.ndarray:
    """The voxels of the slices in which everything is annotated (marks of single nodes do not count)."""
    mask = np.zeros(shape, dtype=bool, order="F")
    for entry in marks.slices_complete(annotation_node, tree):
        if entry["node"] is None:
            mask[(slice(None),) * entry["axis"] + ([i for i in entry["indices"] if i < shape[entry["axis"]]],)] = True
    return mask


def tree_of(segmentation_node: slicer.vtkMRMLSegmentationNode) -> LabelTree:
    """The node's label tree.

    Raises:
        SceneError: it has none.
    """
    tree = tree_store.read_tree(segmentation_node)
    if tree is None:
        raise tags.SceneError(
            f"the segmentation '{segmentation_node.GetName()}' has no label tree; group it by a label tree first."
        )
    return tree


def foreign_source(segment: slicer.vtkSegment) -> str:
    """The source of a segment that any tool may have made: our tag, else what DICOM's algorithm type says."""
    own = tags.get_tag(segment, tags.SOURCE)
    if own is not None:
        return own
    return tags.MIXED if tags.get_tag(segment, tags.ALGORITHM_TYPE, "MANUAL") != "MANUAL" else tags.MANUAL
