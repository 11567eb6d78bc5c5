"""What a painting session does besides strokes: edits of the tree, marks, what is seen.

Names, nodes and segments live in segments and tags, so that undo takes their edits back; marks (lock, complete slices)
live in the node's state, so that it does not.
"""

from __future__ import annotations

import slicer

from hierseg.labeltree import LabelTree, Node
from HierSubclassSegLib.scene import marks, tags, tree_edits, tree_store
from HierSubclassSegLib.scene.refine import RefineView
from HierSubclassSegLib.scene.strokes import Strokes
from HierSubclassSegLib.scene.undo import UndoSteps


class HierarchyEdits:
    """The part of :class:`HierSubclassSegLib.scene.painting.RefineSession` that paints nothing."""

    segmentation_node: slicer.vtkMRMLSegmentationNode
    _steps: UndoSteps
    _strokes: Strokes
    _view: RefineView | None

    @property
    def tree(self) -> LabelTree:
        """The annotation's label tree, as it is now."""
        return tree_of(self.segmentation_node)

    def refresh(self) -> None:
        """Look at the segments anew."""
        raise NotImplementedError

    # -- the tree: names and nodes, in segments and tags, so that undo takes them back ------------------------------

    def rename(self, node: Node | str, name: str) -> None:
        """Rename a node, its segment and the paths below it, as one undo step."""
        edited = tree_edits.renamed(self.tree, node, name)
        with self._steps.step(), self._strokes.write():
            tree_edits.write_renamed(self.segmentation_node, self.tree, edited, node, name)
        self.refresh()

    def add_subclass(
        self, parent: Node | str | None, name: str, color: tuple[int, int, int] | None = None, value: int | None = None
    ) -> Node:
        """Add a node below ``parent`` (None: at the top level) with an empty segment, as one undo step."""
        edited = tree_edits.extended(self.tree, parent, name, color, value)
        with self._steps.step(), self._strokes.write():
            tree_store.write_tree(self.segmentation_node, edited)
            self._strokes.need_segment(edited, edited.node(name))
        self.refresh()
        return edited.node(name)

    def delete_segments(self, node: Node | str) -> None:
        """Delete a node's segment and those of its descendants, as one undo step; the tree keeps the nodes.

        Raises:
            SceneError: the node, an ancestor or a descendant is locked.
        """
        tree = self.tree
        doomed = [tree.node(node), *tree.descendants(node)]
        locked = marks.untouchable(self.segmentation_node, tree)
        kept = next((other.name for other in doomed if other.name in locked), None)
        if kept is not None:
            raise tags.SceneError(f"'{kept}' is locked; unlock it before deleting '{doomed[0].name}'.")
        ids = self._strokes.ids(tree)
        with self._steps.step(), self._strokes.write():
            for other in doomed:
                if other.name in ids:
                    self.segmentation_node.GetSegmentation().RemoveSegment(ids[other.name])
            # The tree's home may have been among them.
            tree_store.write_tree(self.segmentation_node, tree)
        self.refresh()

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
        segment_id = self._strokes.ids(self.tree).get(self.tree.node(node).name)
        return segment_id is not None and bool(self._seen_display().GetSegmentVisibility(segment_id))

    def set_seen(self, node: Node | str, visible: bool) -> None:
        """Show or hide a node's segment; no matter for painting."""
        segment_id = self._strokes.ids(self.tree).get(self.tree.node(node).name)
        if segment_id is not None:
            self._seen_display().SetSegmentVisibility(segment_id, visible)

    def _seen_display(self) -> slicer.vtkMRMLSegmentationDisplayNode:
        return self._view.seen if self._view is not None else self.segmentation_node.GetDisplayNode()


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
