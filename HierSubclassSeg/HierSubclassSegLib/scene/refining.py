"""The node that is refined: what is seen of it, and masking that follows the selected segment, however it was selected."""

from __future__ import annotations

import slicer

from hierseg.labeltree import LabelTree, Node
from HierSubclassSegLib.scene import tree_store
from HierSubclassSegLib.scene.masking import Masking, erasable_segments
from HierSubclassSegLib.scene.refine import RefineView


class Refining:
    """What :meth:`open` changes of the display and the Segment Editor's masking, :meth:`close` puts back.

    Args:
        segmentation_node: the annotation.
        editor_node: the Segment Editor's, whose masking as it is now comes back.

    Attributes:
        node: the node that is refined; None also for the top level.
    """

    def __init__(
        self, segmentation_node: slicer.vtkMRMLSegmentationNode, editor_node: slicer.vtkMRMLSegmentEditorNode
    ) -> None:
        self._segmentation, self._editor = segmentation_node, editor_node
        self._before = Masking.of(editor_node)
        self._view: RefineView | None = None
        self.node: Node | None = None

    @property
    def active(self) -> bool:
        """Whether a node, or the top level, is refined."""
        return self._view is not None

    def selected(self, tree: LabelTree) -> Node | None:
        """The tree node of the selected segment."""
        segment_id = self._editor.GetSelectedSegmentID()
        return tree_store.node_of(self._segmentation, segment_id, tree) if segment_id else None

    def open(self, node: Node | None, tree: LabelTree) -> None:
        """Refine a node, which is seen as an outline; None: the top-level nodes, everywhere."""
        segments = tree_store.segments_by_path(self._segmentation, tree)
        # Slicer's views follow each change of a display node: one is enough.
        display = self._segmentation.GetDisplayNode()
        blocked = display.StartModify()
        self._view = RefineView(self._segmentation, None if node is None else segments.get(node.path))
        self.node = node
        self.follow(tree)
        display.EndModify(blocked)

    def follow(self, tree: LabelTree) -> None:
        """Masking for the selected node; nothing can be painted or erased while none is selected."""
        if self._view is None:
            return
        node = self.selected(tree)
        if node is None:
            self._view.steer(())
            self._editor.SetSourceVolumeIntensityMask(False)
            return
        segments = tree_store.segments_by_path(self._segmentation, tree)
        Masking.for_node(tree, node, segments).apply(self._editor)
        self._view.steer(erasable_segments(tree, node, segments) | {segments[node.path]})

    def close(self) -> None:
        """What is seen moves back to the first display node; masking is as it was before."""
        if self._view is None:
            return
        scene = self._segmentation.GetScene()
        if scene is None or scene.IsClosing():
            # The nodes go anyway, and some of what watches them has gone before.
            self._view.abandon()
        else:
            self._view.close()
        self._view, self.node = None, None
        self._before.apply(self._editor)

    def abandon(self) -> None:
        """The annotation has left the scene: leave what was changed of it as it is."""
        if self._view is not None:
            self._view.abandon()
            self._view, self.node = None, None
