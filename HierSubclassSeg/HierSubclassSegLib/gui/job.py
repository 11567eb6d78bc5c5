"""Work in ticks on a timer: one job at a time, and nothing waits."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import qt
from slicer.i18n import tr as _

from hierseg.errors import DatasetBusyError, DatasetError, HiersegError
from HierSubclassSegLib.ticks import Steps, Ticks

STEP_SECONDS = 0.015
PAUSE_MS = 3
RETRY_MS = 500


class Job:
    """Runs steps a few milliseconds at a time.

    Args:
        advanced: called after each tick with how far the work is, 0..1, and with None when it has ended.
    """

    def __init__(self, advanced: Callable[[float | None], None] = lambda _fraction: None) -> None:
        self._advanced = advanced
        self._ticks: Ticks[Any] | None = None
        self._make: Callable[[], Steps[Any]] | None = None
        self._wanted: Callable[[], bool] = lambda: True
        self._done: Callable[[Any], None] = lambda _result: None
        self._gone: Callable[[], None] = lambda: None
        self._failed: Callable[[HiersegError], None] = lambda _error: None
        self._retries = 0
        self._timer = qt.QTimer()
        self._timer.timeout.connect(self._tick)

    @property
    def busy(self) -> bool:
        """Whether something is being done."""
        return self._ticks is not None

    def start(
        self,
        make: Callable[[], Steps[Any]],
        done: Callable[[Any], None],
        failed: Callable[[HiersegError], None],
        *,
        wanted: Callable[[], bool] = lambda: True,
        gone: Callable[[], None] = lambda: None,
        retries: int = 0,
    ) -> None:
        """Begin; what was being done is canceled.

        Args:
            make: makes the steps; called again if another program was writing into the dataset.
            done: called with the result.
            failed: called with a user error.
            wanted: whether what the work is for is still there.
            gone: called instead of ``done`` and ``failed`` if it is not.
            retries: how often to try again while another program writes, every half second.
        """
        self.cancel()
        self._make, self._wanted, self._retries = make, wanted, retries
        self._done, self._failed, self._gone = done, failed, gone
        self._ticks = Ticks(make(), wanted)
        self._timer.start(PAUSE_MS)

    def cancel(self) -> None:
        """End what is being done, which puts back what it has begun; nothing is called."""
        ticks, self._ticks = self._ticks, None
        self._timer.stop()
        if ticks is not None:
            ticks.cancel()
            self._advanced(None)

    def _tick(self) -> None:
        ticks = self._ticks
        if ticks is None:
            return
        try:
            more = ticks.step(STEP_SECONDS)
        except DatasetBusyError as error:
            if self._retries > 0 and self._make is not None:
                self._retries -= 1
                self._ticks = Ticks(self._make(), self._wanted)
                self._timer.setInterval(RETRY_MS)
                return
            self._end(partial(self._failed, error))
        except HiersegError as error:
            self._end(partial(self._failed, error))
        except OSError as error:
            sentence = _("{file} cannot be used ({reason}); check that it is there and that you may change it.").format(
                file=error.filename or _("A file"), reason=error.strerror or error
            )
            self._end(partial(self._failed, DatasetError(sentence)))
        except BaseException:
            # A mistake of ours: it is reported by Slicer, and the next job can begin.
            self._end(lambda: None)
            raise
        else:
            self._timer.setInterval(PAUSE_MS)
            if more:
                self._advanced(ticks.fraction)
            else:
                self._end(self._gone if ticks.cancelled else (lambda: self._done(ticks.result)))

    def _end(self, then: Callable[[], None]) -> None:
        # Ended before anything is called: what is called may begin the next job.
        self._ticks = None
        self._timer.stop()
        self._advanced(None)
        then()
