"""A segment for a tree node that has none: a leaf's is empty, an inner node's is the union of its descendants."""

from __future__ import annotations

import slicer

from hierseg.labeltree import LabelTree, Node
from HierSubclassSegLib.scene import layers, tags, tree_store


def need_segment(segmentation_node: slicer.vtkMRMLSegmentationNode, tree: LabelTree, node: Node) -> bool:
    """Give a node a segment if it has none; whoever calls this has saved the state for undo.

    Returns:
        Whether a segment was added.
    """
    ids = tree_store.segments_by_path(segmentation_node, tree)
    if node.path in ids:
        return False
    below = [ids[other.path] for other in tree.descendants(node) if other.path in ids]
    segmentation = segmentation_node.GetSegmentation()
    sources = {tags.get_tag(segmentation.GetSegment(i), tags.SOURCE) or tags.MANUAL for i in below}
    source = sources.pop() if len(sources) == 1 else tags.MIXED if sources else tags.MANUAL
    segment_id = tree_store.add_segment(segmentation_node, tree, node, source)
    box = layers.common_box(segmentation_node, below) if below else None
    if box is not None:
        layers.ensure_layout(segmentation_node, tree)
        union = layers.read_union(segmentation_node, below, box)
        layers.set_masks(segmentation_node, [(segment_id, union)], box)
    return True
