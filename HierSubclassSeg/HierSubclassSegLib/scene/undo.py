"""Undo: one history, which belongs to somebody else.

Slicer's Segment Editor owns the undo history (``vtkSegmentationHistory``): it saves a deep copy of all segments, tags
included, *before* a change, and drops what could be redone as soon as a segment is changed after an undo.  Two rules
follow for everything of ours:

* a change of ours saves the state first, once a *step*, however many segments it touches (:class:`UndoSteps`);
* nothing of ours changes a segment in answer to undo or redo.

What changes no voxel and no tag (another layout of the label maps) is made :func:`unseen_by_undo`: the saved states
stay valid, so there is no reason to lose them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import slicer

#: the events on which ``vtkSegmentationHistory`` drops what could be redone (its ``SetSegmentation``)
_HISTORY_EVENTS = ("SegmentAdded", "SegmentRemoved", "SegmentModified", "SourceRepresentationModified")
_BEFORE_ALL_OTHERS = 1e6


class UndoSteps:
    """Saves the state for undo once a step.

    Args:
        save_state: saves the state of the segmentation: the embedded Segment Editor's ``saveStateForUndo`` in Slicer,
            ``vtkSlicerSegmentEditorLogic.SaveStateForUndo`` without the application.
    """

    def __init__(self, save_state: Callable[[], Any]) -> None:
        self._save_state = save_state
        self._depth = 0

    @contextmanager
    def step(self) -> Iterator[None]:
        """Everything done inside is one undo step; steps inside a step belong to it."""
        self.save()
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1

    def save(self) -> None:
        """For a writer that saves the state itself: saves it, unless a step is open, which has done so."""
        if self._depth == 0:
            self._save_state()

    @contextmanager
    def joined(self) -> Iterator[None]:
        """Everything done inside belongs to the undo step that somebody else has begun: no state is saved."""
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1


@contextmanager
def unseen_by_undo(segmentation: slicer.vtkSegmentation) -> Iterator[None]:
    """Change the layout of label maps without the history (or any other observer) being told.

    Only for changes that leave every voxel as it is.  ``vtkSegmentation`` offers no public switch for these events,
    so an observer that comes before all others ends their delivery.  Views are told afterwards, by an event
    that the history does not listen to.
    """
    observations: list[int] = []

    def stop(caller: Any, event: str, tag_of: dict[str, int]) -> None:
        caller.GetCommand(tag_of["tag"]).AbortFlagOn()

    for name in _HISTORY_EVENTS:
        tag_of: dict[str, int] = {}

        def callback(caller: Any, event: str, tag_of: dict[str, int] = tag_of) -> None:
            stop(caller, event, tag_of)

        tag_of["tag"] = segmentation.AddObserver(getattr(slicer.vtkSegmentation, name), callback, _BEFORE_ALL_OTHERS)
        observations.append(tag_of["tag"])
    try:
        yield
    finally:
        for observation in observations:
            segmentation.RemoveObserver(observation)
        segmentation.InvokeEvent(slicer.vtkSegmentation.RepresentationModified)
