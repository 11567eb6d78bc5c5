"""What a save would write, kept up to date while somebody paints, without slowing strokes down."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
import slicer

from hierseg.errors import HiersegError
from HierSubclassSegLib.gui.job import Job
from HierSubclassSegLib.scene import case_state
from HierSubclassSegLib.scene.export_summary import ExportSummary, summary_steps

LOOK_MS = 700
"""A change is summed up when nothing more has changed for this long: between strokes, not during them."""


class SavePreview:
    """Follows one annotation.

    Args:
        ready: called with the summary, or with the sentence that says why there is none.
    """

    def __init__(self, ready: Callable[[ExportSummary | str], None]) -> None:
        self._ready = ready
        self._node: Any = None
        self._seen: Any = None
        self._shown: Any = None
        self._job = Job()
        self._timer = qt.QTimer()
        self._timer.setInterval(LOOK_MS)
        self._timer.timeout.connect(self._look)

    def set_node(self, node: Any) -> None:
        """Follow another annotation, or none."""
        self._job.cancel()
        self._node, self._seen, self._shown = node, None, None

    def start(self) -> None:
        """Go on following."""
        self._look()
        self._timer.start()

    def stop(self) -> None:
        """Follow nothing for now."""
        self._timer.stop()
        self._job.cancel()

    def _look(self) -> None:
        node = self._node
        if node is None or node.GetScene() is not slicer.mrmlScene:
            return
        mark = case_state.mark_of(node)
        seen, self._seen = self._seen, mark
        if mark != seen:
            # It has just changed: wait until it stays.
            self._job.cancel()
            if self._shown is not None:
                return
        if mark == self._shown or self._job.busy:
            return
        self._job.start(
            lambda: summary_steps(node),
            lambda summary: self._told(mark, summary),
            lambda error: self._told(mark, error),
            wanted=lambda: self._node is node and node.GetScene() is slicer.mrmlScene,
        )

    def _told(self, mark: Any, told: ExportSummary | HiersegError) -> None:
        self._shown = mark
        self._ready(told.sentence if isinstance(told, HiersegError) else told)
