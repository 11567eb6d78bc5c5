"""Edits of an annotation that paint nothing: names, nodes, colors, codes, marks, what is seen.

Names, nodes, colors and segments live in segments and tags, so that undo takes their edits back; marks (lock, complete
slices) live in the node's state, so that it does not.

A painting session is one :class:`HierarchyEdits`; :class:`PlainEdits` does the same while nothing is painted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import slicer

from hierseg.labeltree import LabelTree, Node
from HierSubclassSegLib.scene import colors, grouping, labelmaps, marks, new_segments, tags, tree_edits, tree_store
from HierSubclassSegLib.scene import status as node_status
from HierSubclassSegLib.scene.refine import seen_display

Color = tuple[float, float, float]
"""Red, green, blue in 0..1."""


class HierarchyEdits:
    """The part of :class:`HierSubclassSegLib.scene.painting.RefineSession` that paints nothing."""

    segmentation_node: slicer.vtkMRMLSegmentationNode

    @property
    def tree(self) -> LabelTree:
        """The annotation's label tree, as it is now."""
        return tree_of(self.segmentation_node)

    def refresh(self) -> None:
        """Look at the segments anew."""
        raise NotImplementedError

    def _edit(self) -> Any:
        """A context: what is done inside is one undo step and a write of ours."""
        raise NotImplementedError

    def _need_segment(self, tree: LabelTree, node: Node) -> None:
        """Give a node a segment if it has none."""
        raise NotImplementedError

    # -- the tree: names and nodes, in segments and tags, so that undo takes them back ------------------------------

    def rename(self, node: Node | str, name: str) -> None:
        """Rename a node, its segment and the paths below it, as one undo step."""
        self._write(tree_edits.renamed(self.tree, node, name))

    def add_subclass(
        self, parent: Node | str | None, name: str, color: tuple[int, int, int] | None = None, value: int | None = None
    ) -> Node:
        """Add a node below ``parent`` (None: at the top level) with an empty segment, as one undo step."""
        edited = tree_edits.extended(self.tree, parent, name, color, value)
        with self._edit():
            tree_store.write_tree(self.segmentation_node, edited)
            self._need_segment(edited, edited.node(name))
        self.refresh()
        return edited.node(name)

    def recolor(self, node: Node | str, color: Color | None = None, *, below: bool = False) -> None:
        """Give a node a color, in the tree and on its segment, as one undo step.

        Args:
            node: which one.
            color: red, green, blue in 0..1; None: the one that its segment has now.
            below: what is below it gets shades of the color.
        """
        tree = self.tree
        node = tree.node(node)
        color = color or self.color(node)
        edited = tree_edits.recolored(tree, colors.shades(tree, node, color) if below else {node.name: color})
        with self._edit():
            tree_edits.write_edited(self.segmentation_node, tree, edited)
            # A segment may have been recolored elsewhere while the tree has the wanted color already.
            for path, segment_id in tree_store.segments_by_path(self.segmentation_node, edited).items():
                changed = edited.node(path)
                if changed.name == node.name or (below and node.name in {a.name for a in edited.ancestors(changed)}):
                    segment = self.segmentation_node.GetSegmentation().GetSegment(segment_id)
                    segment.SetColor(*colors.node_color(edited, changed))
        self.refresh()

    def color(self, node: Node | str) -> Color:
        """The color that is seen: the segment's, or the tree's where there is none."""
        tree = self.tree
        node = tree.node(node)
        segment_id = tree_store.segment_id_of(self.segmentation_node, node)
        if segment_id is None:
            return colors.node_color(tree, node)
        red, green, blue = self.segmentation_node.GetSegmentation().GetSegment(segment_id).GetColor()
        return red, green, blue

    def set_codes(self, node: Node | str, codes: Mapping[str, tuple[str, str, str]]) -> None:
        """Give a node terminology codes (keys of a label tree's ``terminology``), as one undo step."""
        self._write(tree_edits.coded(self.tree, node, codes))

    def set_status(self, node: Node | str, value: node_status.Status) -> None:
        """Set the status of a node's segment, as one undo step; a node without a segment gets an empty one."""
        tree = self.tree
        node = tree.node(node)
        if node_status.status(self.segmentation_node, tree, node) is value:
            return
        with self._edit():
            self._need_segment(tree, node)
            node_status.set_status(self.segmentation_node, tree, node, value)
        self.refresh()

    def delete_segments(self, node: Node | str) -> None:
        """Delete a node's segment and those of its descendants, as one undo step; the tree keeps the nodes.

        Raises:
            SceneError: the node, an ancestor or a descendant is locked.
        """
        tree = self.tree
        doomed = self._unlocked(tree, node)
        with self._edit():
            self._remove(tree, doomed)
            # The tree's home may have been among them.
            tree_store.write_tree(self.segmentation_node, tree)
        self.refresh()

    def remove_node(self, node: Node | str) -> None:
        """Take a node and what is below it out of the tree, with their segments, as one undo step.

        Raises:
            SceneError: one of them or an ancestor is locked, or the tree would be empty.
        """
        tree = self.tree
        doomed = self._unlocked(tree, node)
        edited = tree_edits.without(tree, node)
        with self._edit():
            self._remove(tree, doomed)
            tree_store.write_tree(self.segmentation_node, edited)
        self.refresh()

    def regroup(self, plan: grouping.Plan) -> None:
        """Group the segments by another tree (see :mod:`grouping`), as one undo step; without segments: only take it."""
        with self._edit():
            if self.segmentation_node.GetSegmentation().GetNumberOfSegments():
                grouping.apply_plan(self.segmentation_node, plan)
            else:
                tree_store.write_tree(self.segmentation_node, plan.tree)
        self.refresh()

    def _write(self, edited: LabelTree) -> None:
        with self._edit():
            tree_edits.write_edited(self.segmentation_node, self.tree, edited)
        self.refresh()

    def _unlocked(self, tree: LabelTree, node: Node | str) -> list[Node]:
        doomed = [tree.node(node), *tree.descendants(node)]
        locked = marks.untouchable(self.segmentation_node, tree)
        kept = next((other.name for other in doomed if other.name in locked), None)
        if kept is not None:
            raise tags.SceneError(f"'{kept}' is locked; unlock it before deleting '{doomed[0].name}'.")
        return doomed

    def _remove(self, tree: LabelTree, doomed: list[Node]) -> None:
        ids = tree_store.segments_by_path(self.segmentation_node, tree)
        for other in doomed:
            if other.path in ids:
                self.segmentation_node.GetSegmentation().RemoveSegment(ids[other.path])

    # -- marks: undo does not take these back ------------------------------------------------------------------------

    def set_locked(self, node: Node | str, locked: bool = True) -> None:
        """Lock or unlock a node: it and its descendants neither gain nor lose voxels."""
        marks.set_locked(self.segmentation_node, self.tree.node(node), locked)

    def mark_slice_complete(self, axis: int, index: int, node: Node | str | None = None, complete: bool = True) -> None:
        """Mark a slice of the stored array as completely annotated, within a node or altogether."""
        target = None if node is None else self.tree.node(node)
        marks.set_slice_complete(self.segmentation_node, axis, index, target, complete)

    def is_seen(self, node: Node | str) -> bool:
        """Whether the user sees the node's segment."""
        segment_id = tree_store.segment_id_of(self.segmentation_node, self.tree.node(node))
        return segment_id is not None and bool(seen_display(self.segmentation_node).GetSegmentVisibility(segment_id))

    def set_seen(self, node: Node | str, visible: bool) -> None:
        """Show or hide a node's segment; no matter for painting."""
        segment_id = tree_store.segment_id_of(self.segmentation_node, self.tree.node(node))
        if segment_id is not None:
            seen_display(self.segmentation_node).SetSegmentVisibility(segment_id, visible)


class PlainEdits(HierarchyEdits):
    """Edits of any segmentation with a label tree, outside a painting session.

    Args:
        segmentation_node: carries a label tree.
        save_state: saves the state for undo (the embedded Segment Editor's ``saveStateForUndo``); None: no undo.
    """

    def __init__(
        self, segmentation_node: slicer.vtkMRMLSegmentationNode, save_state: Callable[[], Any] | None = None
    ) -> None:
        self.segmentation_node = segmentation_node
        self._save_state = save_state

    def refresh(self) -> None:
        """Nothing is kept that could be out of date."""

    @contextmanager
    def _edit(self) -> Iterator[None]:
        if self._save_state is not None:
            self._save_state()
        with labelmaps.modifying(self.segmentation_node):
            yield

    def _need_segment(self, tree: LabelTree, node: Node) -> None:
        new_segments.need_segment(self.segmentation_node, tree, node)


def tree_of(segmentation_node: slicer.vtkMRMLSegmentationNode) -> LabelTree:
    """The label tree of a segmentation.

    Raises:
        SceneError: it has none.
    """
    tree = tree_store.read_tree(segmentation_node)
    if tree is None:
        raise tags.SceneError(
            f"segmentation '{segmentation_node.GetName()}' has no label tree; group it by a label tree first."
        )
    return tree
