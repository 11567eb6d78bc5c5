"""Slicer's Save dialog: it saves the scene without an event beforehand, so its opening is noticed here.

The dialog is modal and takes the focus; that is what is seen of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import slicer

_NAME = "qSlicerSaveDataDialog"


class SaveDialogWatch:
    """Calls before and after the Save dialog is open.

    Args:
        opens: called when it has opened and nothing is saved yet.
        closed: called when it is closed, whether or not something was saved.
    """

    def __init__(self, opens: Callable[[], Any], closed: Callable[[], Any]) -> None:
        self._opens = opens
        self._closed = closed
        self._watching = False
        self._open = False

    def start(self) -> None:
        """Begin to watch."""
        if not self._watching:
            slicer.app.focusChanged.connect(self._focus_changed)
            self._watching = True

    def stop(self) -> None:
        """Stop watching."""
        if self._watching:
            slicer.app.focusChanged.disconnect(self._focus_changed)
            self._watching = False

    def _focus_changed(self, *_arguments: object) -> None:
        dialog = slicer.app.activeModalWidget()
        if self._open or dialog is None or dialog.objectName != _NAME:
            return
        self._open = True
        dialog.finished.connect(self._dialog_closed)
        self._opens()

    def _dialog_closed(self, *_arguments: object) -> None:
        if self._open:
            self._open = False
            self._closed()
