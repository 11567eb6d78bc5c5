"""What is set up while an annotation is edited: the embedded editor, and the painting session that settles its strokes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import slicer

from hierseg.errors import HiersegError
from HierSubclassSegLib.gui.refine_editor import RefineEditor
from HierSubclassSegLib.gui.save_dialog import SaveDialogWatch
from HierSubclassSegLib.scene import prediction, tags
from HierSubclassSegLib.scene.painting import RefineSession


class Workbench:
    """One annotation at a time; the editor is made when the first is opened.

    Args:
        show: called with the editor's widget when it has been made.
        segments_changed: called when segments come, go or change their tags, or another one is selected.

    Attributes:
        editor: the embedded editor, which owns the undo history; None before the first annotation.
        session: the painting session; None while no annotation is open.
    """

    def __init__(self, show: Callable[[Any], Any], segments_changed: Callable[..., None]) -> None:
        self.editor: RefineEditor | None = None
        self.session: RefineSession | None = None
        self._show = show
        self._segments_changed = segments_changed
        self._observed: list[tuple[Any, int]] = []
        self._save_dialog = SaveDialogWatch(self._save_starts, self._save_ends)

    def prepare(self) -> RefineEditor:
        """Make the editor, if there is none yet."""
        if self.editor is None:
            self.editor = RefineEditor(self._stroke_ended)
            self.editor.quiet = lambda: self.session is not None and self.session.writing
            self._show(self.editor.widget)
            self.editor.widget.currentSegmentIDChanged.connect(self._segments_changed)
        return self.editor

    def open(self, annotation: Any) -> None:
        """Set everything up; the one before must have been closed.

        Raises:
            SceneError: the annotation's volume is gone, or it has no label tree.
        """
        volumes = prediction.volumes_of(annotation)
        if not volumes:
            raise tags.SceneError(
                f"the volume of '{annotation.GetName()}' is not in the scene; load it, or choose another annotation."
            )
        editor = self.prepare()
        editor.attach(annotation, volumes[0])
        try:
            self.session = RefineSession(annotation, volumes[0], save_state=editor.save_state, editor_node=editor.node)
        except HiersegError:
            editor.detach()
            raise
        kind = slicer.vtkSegmentation
        segmentation = annotation.GetSegmentation()
        for event in (kind.SegmentAdded, kind.SegmentRemoved, kind.SegmentModified):
            self._observed.append((segmentation, segmentation.AddObserver(event, self._segments_changed)))
        self._save_dialog.start()

    def close(self) -> None:
        """Take everything down; the undo history goes with it."""
        for source, tag in self._observed:
            source.RemoveObserver(tag)
        self._observed = []
        self._save_dialog.stop()
        if self.session is not None:
            self.session.close()
            self.session = None
        if self.editor is not None:
            self.editor.detach()

    def _stroke_ended(self) -> None:
        if self.session is not None and self.session.refining:
            self.session.after_stroke()

    def _save_starts(self) -> None:
        if self.session is not None:
            self.session.suspend()

    def _save_ends(self) -> None:
        if self.session is not None:
            self.session.resume()
