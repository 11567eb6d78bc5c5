"""Work on files that takes longer than the event loop may wait: in a thread that touches no node and no widget."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any

import qt

from hierseg.errors import HiersegError

POLL_MS = 30


class Background:
    """Does one thing in a thread at a time and tells in the event loop what came of it."""

    def __init__(self) -> None:
        self._done: Callable[[Any, BaseException | None], None] | None = None
        self._ended: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
        self._timer = qt.QTimer()
        self._timer.setInterval(POLL_MS)
        self._timer.timeout.connect(self._poll)

    @property
    def busy(self) -> bool:
        """Whether something is being done."""
        return self._done is not None

    def start(self, work: Callable[[], Any], done: Callable[[Any, BaseException | None], None]) -> None:
        """Begin; nothing may be going on.

        Args:
            work: called in a thread; may use files, no node and no widget.
            done: called in the event loop with the result, or with None and the exception.
        """
        self._done = done
        ended = self._ended

        def run() -> None:
            # Stays where the work fails in a way that nobody has thought of; the application's log has it then.
            outcome: tuple[Any, BaseException | None] = (None, HiersegError("it failed; Slicer's log says why."))
            try:
                outcome = (work(), None)
            except (HiersegError, OSError, MemoryError, ValueError) as error:
                outcome = (None, error)
            finally:
                ended.put(outcome)

        threading.Thread(target=run, name="hierseg-files", daemon=True).start()
        self._timer.start()

    def forget(self) -> None:
        """Tell nobody any more; what was begun on files comes to its own end."""
        self._done = None
        self._timer.stop()
        self._ended = queue.SimpleQueue()

    def _poll(self) -> None:
        try:
            result, error = self._ended.get_nowait()
        except queue.Empty:
            return
        self._timer.stop()
        done, self._done = self._done, None
        if done is not None:
            done(result, error)
