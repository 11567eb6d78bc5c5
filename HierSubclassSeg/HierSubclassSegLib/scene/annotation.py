"""Annotations: what people say about voxels, as segmentation nodes beside the predictions that helped them.

An annotation starts empty, from any segmentation, from a prediction's superclasses or from a whole prediction.  It
refers to its volumes and its prediction by node references.  Later, ``takeover`` can copy
more of the prediction into it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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
    tree = tree_of(prediction_node)
    node = create_annotation(prediction.volumes_of(prediction_node), tree, name=name, prediction_node=prediction_node)
    labels = reading.read(prediction_node, tree, reference_grid(node))
    if superclasses_only:
        labels = labelmaps.level_map(tree, labels, 1)
    labelmaps.fill(node, tree, labels, reference_grid(node).affine, source_of(prediction_node))
    prediction.style(node, tree)
    return node


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
    nodes = (
        match_segments(segmentation_node, tree)
        if mapping is None
        else {key: tree.node(value) for key, value in mapping.items()}
    )
    annotation = create_annotation(volume_nodes, tree, name=name)
    grid = reference_grid(annotation)
    labels = reading.read(segmentation_node, tree, grid, nodes)
    said = {
        nodes[segment_id].name: foreign_source(segment)
        for segment_id, segment in tree_store.segments(segmentation_node)
        if segment_id in nodes
    }
    labelmaps.fill(annotation, tree, labels, grid.affine, lambda node: said.get(node.name, tags.MANUAL))
    prediction.style(annotation, tree)
    return annotation, [
        segment.GetName() for segment_id, segment in tree_store.segments(segmentation_node) if segment_id not in nodes
    ]


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
