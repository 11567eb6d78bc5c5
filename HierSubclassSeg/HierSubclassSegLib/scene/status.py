"""Status of a node's segment: Slicer's own, shown and filtered in its segments table, kept in files by a segment tag.

Slicer sets it to "in progress" at the first stroke of its Segment Editor.  A node without a segment is not started.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any

import slicer

from hierseg.labeltree import LabelTree, Node
from HierSubclassSegLib.scene import tags, tree_store

#: the tag in which Slicer keeps it (``vtkSlicerSegmentationsModuleLogic::GetStatusTagName``)
TAG = "Segmentation.Status"


class Status(Enum):
    """Slicer's four (``vtkSlicerSegmentationsModuleLogic::SegmentStatus``), in its order."""

    NOT_STARTED = 0
    IN_PROGRESS = 1
    COMPLETED = 2
    FLAGGED = 3


def status(segmentation_node: slicer.vtkMRMLSegmentationNode, tree: LabelTree, node: Node | str) -> Status:
    """The status of a node's segment."""
    segment_id = tree_store.segments_by_path(segmentation_node, tree).get(tree.node(node).path)
    return Status.NOT_STARTED if segment_id is None else _of(segmentation_node.GetSegmentation().GetSegment(segment_id))


def statuses(segmentation_node: slicer.vtkMRMLSegmentationNode, tree: LabelTree) -> dict[str, Status]:
    """The status of every node, by name."""
    ids = tree_store.segments_by_path(segmentation_node, tree)
    segmentation = segmentation_node.GetSegmentation()
    return {
        node.name: _of(segmentation.GetSegment(ids[node.path])) if node.path in ids else Status.NOT_STARTED
        for node in tree.nodes
    }


def set_status(
    segmentation_node: slicer.vtkMRMLSegmentationNode,
    tree: LabelTree,
    node: Node | str,
    value: Status,
    *,
    save_state: Callable[[], Any] | None = None,
) -> None:
    """Set the status of a node's segment; nothing happens if it is so already.

    Args:
        segmentation_node: carries the tree.
        tree: its tree.
        node: has a segment.
        value: the new status.
        save_state: saves the state for undo (the embedded Segment Editor's ``saveStateForUndo``): the status is a tag,
            which undo takes back.

    Raises:
        SceneError: the node has no segment, so there is nothing whose status could be kept.
    """
    node = tree.node(node)
    segment_id = tree_store.segments_by_path(segmentation_node, tree).get(node.path)
    if segment_id is None:
        raise tags.SceneError(
            f"'{node.name}' has no segment in '{segmentation_node.GetName()}' yet; paint it before you set its status."
        )
    segment = segmentation_node.GetSegmentation().GetSegment(segment_id)
    if _of(segment) == value:
        return
    if save_state is not None:
        save_state()
    slicer.vtkSlicerSegmentationsModuleLogic.SetSegmentStatus(segment, value.value)


def _of(segment: slicer.vtkSegment) -> Status:
    if not tags.get_tag(segment, TAG):
        return Status.NOT_STARTED
    found = slicer.vtkSlicerSegmentationsModuleLogic.GetSegmentStatus(segment)
    # Slicer gives -1 for a word that it does not know.
    return Status(found) if found in {known.value for known in Status} else Status.NOT_STARTED
