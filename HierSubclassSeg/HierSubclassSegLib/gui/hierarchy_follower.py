"""Hears of what happens to a segmentation, and tells once for many events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
import slicer
import vtk

_EVENTS = ("SegmentAdded", "SegmentRemoved", "SegmentModified", "RepresentationModified")


class Follower:
    """Observes one segmentation at a time.

    Args:
        tell: called when the event loop comes round after anything happened.
    """

    def __init__(self, tell: Callable[[], Any]) -> None:
        self._observed: list[tuple[Any, int]] = []
        self._painted: list[str] = []
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(0)
        self._timer.timeout.connect(tell)

    def follow(self, node: Any) -> None:
        """Observe a segmentation, and no other any more; None: nothing."""
        self.settle()
        for source, tag in self._observed:
            source.RemoveObserver(tag)
        self._observed = []
        self._painted = []
        if node is None:
            return
        segmentation = node.GetSegmentation()
        for name in _EVENTS:
            self._observe(segmentation, getattr(slicer.vtkSegmentation, name), self._changed)
        # Only of this event it is known that its data is a text.
        self._on_painted.__func__.CallDataType = vtk.VTK_STRING  # type: ignore[attr-defined]
        self._observe(segmentation, slicer.vtkSegmentation.SourceRepresentationModified, self._on_painted)
        self._observe(node, slicer.vtkMRMLDisplayableNode.DisplayModifiedEvent, self._changed)
        # Locks are in an attribute; the node's name is in sentences.
        self._observe(node, vtk.vtkCommand.ModifiedEvent, self._changed)

    def again(self) -> None:
        """Tell when the event loop comes round, though nothing has happened to the segmentation."""
        self._timer.start()

    def settle(self) -> None:
        """What has happened is known: it need not be told."""
        self._timer.stop()

    def painted(self) -> list[str]:
        """The IDs of the segments that were painted since the last call, the first one first."""
        found, self._painted = self._painted, []
        return found

    def _observe(self, source: Any, event: Any, called: Callable[..., None]) -> None:
        self._observed.append((source, source.AddObserver(event, called)))

    def _changed(self, *_event: object) -> None:
        self.again()

    def _on_painted(self, _segmentation: Any, _event: str, segment_id: str = "") -> None:
        if segment_id and segment_id not in self._painted:
            self._painted.append(segment_id)
        self.again()
