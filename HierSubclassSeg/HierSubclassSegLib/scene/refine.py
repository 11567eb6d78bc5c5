"""Display while refining: one display node steers what a stroke may erase, another is what is seen.

Slicer erases the segments that are *visible on the first display node* ("overwrite visible").  While refining, that
node therefore shows exactly what a stroke may erase and draws nothing (opacity 0); a second display node, the
*view*, draws what the user wants to see.  A click on an eye in one of Slicer's own modules changes the first node: it
is carried over to the view, and the first is set back.  Outside Refine there is one display node, an ordinary one.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Collection, Iterator
from contextlib import contextmanager

import slicer

from HierSubclassSegLib.scene import tree_store

#: attribute of the view: the ID of the segment whose fill is to be shown again, or "-".  Found on a display node that no
#: session uses, it says that a refinement was never left.
VIEW = "HierSubclassSeg.RefineView"
_IN_USE: weakref.WeakSet[RefineView] = weakref.WeakSet()
_OPACITIES = ("Opacity2DFill", "Opacity2DOutline", "Opacity3D")


class RefineView:
    """Splits the display of a segmentation in two while it exists; :meth:`close` puts it together again.

    Args:
        segmentation_node: in a scene.
        outlined: ID of the segment that is seen as an outline (the node that is refined), or None.
    """

    def __init__(self, segmentation_node: slicer.vtkMRMLSegmentationNode, outlined: str | None = None) -> None:
        self._node = segmentation_node
        recover(segmentation_node)
        self.steering = _first_display(segmentation_node)
        scene = segmentation_node.GetScene()
        # Made ready before the views see it: they would follow each change.
        self.seen = scene.CreateNodeByClass("vtkMRMLSegmentationDisplayNode")
        self.seen.UnRegister(None)  # Python holds a reference of its own.
        self.seen.CopyContent(self.steering)
        filled = outlined is not None and self.seen.GetSegmentVisibility2DFill(outlined)
        self.seen.SetAttribute(VIEW, outlined if filled else "-")
        if outlined is not None:
            self.seen.SetSegmentVisibility2DFill(outlined, False)
        scene.AddNode(self.seen)
        segmentation_node.AddAndObserveDisplayNodeID(self.seen.GetID())
        self._erasable: frozenset[str] = frozenset()
        self._busy = False
        self._observation: int | None = None
        blocked = self.steering.StartModify()
        for name in _OPACITIES:
            getattr(self.steering, f"Set{name}")(0.0)
        self.steering.EndModify(blocked)
        self._observation = self.steering.AddObserver("ModifiedEvent", self._on_steering_modified)
        _IN_USE.add(self)

    def steer(self, erasable: Collection[str]) -> None:
        """Let strokes erase exactly the segments with these IDs."""
        self._erasable = frozenset(erasable)
        self.restore()

    def restore(self) -> None:
        """Set the steering node back, for example after segments came or went."""
        with self._quietly():
            set_visible(self.steering, self._node, self._erasable)

    def shows(self, segmentation_node: slicer.vtkMRMLSegmentationNode) -> bool:
        """Whether this is the view of that segmentation."""
        return self._node is segmentation_node

    def is_seen(self, segment_id: str) -> bool:
        """Whether the user sees the segment."""
        return bool(self.seen.GetSegmentVisibility(segment_id))

    def set_seen(self, segment_id: str, visible: bool) -> None:
        """Show or hide a segment."""
        self.seen.SetSegmentVisibility(segment_id, visible)

    def close(self) -> None:
        """What is seen moves back to the first display node; the second goes."""
        self.abandon()
        _merge(self._node, self.steering, self.seen)

    def abandon(self) -> None:
        """Only stop observing: the scene is being closed, its nodes go anyway."""
        _IN_USE.discard(self)
        if self._observation is not None:
            self.steering.RemoveObserver(self._observation)
            self._observation = None

    @contextmanager
    def _quietly(self) -> Iterator[None]:
        was = self._busy
        self._busy = True
        try:
            yield
        finally:
            self._busy = was

    def _on_steering_modified(self, caller: object, event: str) -> None:
        if self._busy:
            return
        clicked = [
            segment_id
            for segment_id, _ in tree_store.segments(self._node)
            if bool(self.steering.GetSegmentVisibility(segment_id)) != (segment_id in self._erasable)
        ]
        for segment_id in clicked:
            visible = segment_id not in self._erasable
            if len(clicked) == 1 and self.is_seen(segment_id) == visible:
                # The eye that was clicked shows the steering node, not what is seen: the click means "change it".
                visible = not visible
            self.set_seen(segment_id, visible)
        for name in _OPACITIES:
            opacity = getattr(self.steering, f"Get{name}")()
            if opacity > 0:
                getattr(self.seen, f"Set{name}")(opacity)
                with self._quietly():
                    getattr(self.steering, f"Set{name}")(0.0)
        if clicked:
            self.restore()


def seen_display(
    segmentation_node: slicer.vtkMRMLSegmentationNode,
) -> slicer.vtkMRMLSegmentationDisplayNode:
    """The display node that draws what the user sees: the view while the segmentation is refined, else the first.

    What is to be shown or hidden for the user's eyes is set here, and then never changes what a stroke may erase.
    """
    for view in _IN_USE:
        if view.seen.GetScene() is not None and view.shows(segmentation_node):
            return view.seen
    return _first_display(segmentation_node)


def set_visible(
    display_node: slicer.vtkMRMLSegmentationDisplayNode,
    segmentation_node: slicer.vtkMRMLSegmentationNode,
    visible: Collection[str],
) -> None:
    """Make exactly the segments with these IDs visible, as one change, and no change if they are already."""
    blocked = display_node.StartModify()
    for segment_id, _ in tree_store.segments(segmentation_node):
        if bool(display_node.GetSegmentVisibility(segment_id)) != (segment_id in visible):
            display_node.SetSegmentVisibility(segment_id, segment_id in visible)
    display_node.EndModify(blocked)


def recover(segmentation_node: slicer.vtkMRMLSegmentationNode) -> bool:
    """Make an ordinary segmentation of one whose refinement was never left (a scene saved past us, or a crash).

    Views that a session uses are left alone.

    Returns:
        Whether there was anything to do.
    """
    found = False
    for index in reversed(range(1, segmentation_node.GetNumberOfDisplayNodes())):
        display_node = segmentation_node.GetNthDisplayNode(index)
        used = any(view.seen is display_node for view in _IN_USE)
        if display_node is not None and display_node.GetAttribute(VIEW) and not used:
            _merge(segmentation_node, _first_display(segmentation_node), display_node)
            found = True
    return found


def _first_display(segmentation_node: slicer.vtkMRMLSegmentationNode) -> slicer.vtkMRMLSegmentationDisplayNode:
    if segmentation_node.GetDisplayNode() is None:
        segmentation_node.CreateDefaultDisplayNodes()
    return segmentation_node.GetDisplayNode()


def _merge(
    segmentation_node: slicer.vtkMRMLSegmentationNode,
    first: slicer.vtkMRMLSegmentationDisplayNode,
    seen: slicer.vtkMRMLSegmentationDisplayNode,
) -> None:
    # The views need not follow what goes anyway.
    blocked = seen.StartModify()
    filled = seen.GetAttribute(VIEW)
    if filled and segmentation_node.GetSegmentation().GetSegment(filled):
        seen.SetSegmentVisibility2DFill(filled, True)
    seen.RemoveAttribute(VIEW)
    scene = seen.GetScene()
    segmentation_node.RemoveNthDisplayNodeID(_index_of(segmentation_node, seen))
    first.CopyContent(seen)
    if scene is not None:
        _keep_alive(segmentation_node, seen)
        scene.RemoveNode(seen)
    seen.EndModify(blocked)


def _keep_alive(
    segmentation_node: slicer.vtkMRMLSegmentationNode, removed: slicer.vtkMRMLSegmentationDisplayNode
) -> None:
    """Let a display node live, outside of the scene, as long as its segmentation.

    Slicer's views remember bare pointers to all display nodes that a segmentation has had and follow them at its next
    change (``vtkMRMLSegmentationsDisplayableManager3D::vtkInternal::UpdateAllDisplayNodesForSegment``): without this,
    Slicer crashes there.
    """
    # A partial holds it: a lambda's default argument is gone when Python, ending, breaks the circle, and the call fails.
    segmentation_node.AddObserver("DeleteEvent", functools.partial(_no_more, removed))


def _no_more(_kept: slicer.vtkMRMLSegmentationDisplayNode, _caller: slicer.vtkMRMLNode, _event: str) -> None:
    """What is kept alive goes with its segmentation."""


def _index_of(
    segmentation_node: slicer.vtkMRMLSegmentationNode, display_node: slicer.vtkMRMLSegmentationDisplayNode
) -> int:
    return next(
        i
        for i in range(segmentation_node.GetNumberOfDisplayNodes())
        if segmentation_node.GetNthDisplayNode(i) is display_node
    )
