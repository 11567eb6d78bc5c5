"""Masking: what Slicer's Segment Editor lets a stroke do while a node is selected.

* the editable area is the node's parent (its segment; everywhere at the top level);
* "overwrite visible" erases exactly the segments that the first display node shows (see ``refine``);
* the intensity mask is off: an own write would stop at it, unseen.

A parent without a segment cannot be named as a mask: the area is then everywhere, and the stroke is clipped at the
union of the parent's descendants once it is released.
"""

from __future__ import annotations

from dataclasses import dataclass

import slicer

from hierseg.labeltree import LabelTree, Node
from HierSubclassSegLib.scene import rules


@dataclass(frozen=True)
class Masking:
    """The masking settings of a segment editor node."""

    mask_mode: int
    mask_segment: str
    overwrite_mode: int
    intensity_mask: bool

    @classmethod
    def of(cls, editor_node: slicer.vtkMRMLSegmentEditorNode) -> Masking:
        """The node's present settings."""
        return cls(
            editor_node.GetMaskMode(),
            editor_node.GetMaskSegmentID() or "",
            editor_node.GetOverwriteMode(),
            bool(editor_node.GetSourceVolumeIntensityMask()),
        )

    @classmethod
    def for_node(cls, tree: LabelTree, node: Node, segments: dict[str, str]) -> Masking:
        """The settings for strokes with a tree node; ``segments`` gives segment IDs by node path."""
        parent = tree.parent(node)
        parent_id = None if parent is None else segments.get(parent.path)
        kind = slicer.vtkMRMLSegmentationNode
        mode = kind.EditAllowedEverywhere if parent_id is None else kind.EditAllowedInsideSingleSegment
        return cls(mode, parent_id or "", slicer.vtkMRMLSegmentEditorNode.OverwriteVisibleSegments, False)

    def apply(self, editor_node: slicer.vtkMRMLSegmentEditorNode) -> None:
        """Set the node, as one change; no change if it is so already."""
        if Masking.of(editor_node) == self:
            return
        blocked = editor_node.StartModify()
        editor_node.SetMaskMode(self.mask_mode)
        editor_node.SetMaskSegmentID(self.mask_segment)
        editor_node.SetOverwriteMode(self.overwrite_mode)
        editor_node.SetSourceVolumeIntensityMask(self.intensity_mask)
        editor_node.EndModify(blocked)


def erasable_segments(tree: LabelTree, node: Node, segments: dict[str, str]) -> frozenset[str]:
    """IDs of the segments that a stroke with the node may erase."""
    return frozenset(segments[other.path] for other in rules.erasable(tree, node) if other.path in segments)
