"""One bar for a whole prediction: the worker reports each stage from 0 to 1, a user wants one number that only grows."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from HierSubclassSegLib.compute.jobs import Progress

#: share of the bar where each stage ends; the network takes most of the time on any machine
_ENDS = {"start": 0.03, "send": 0.06, "load model": 0.12, "preprocess": 0.2, "network": 0.92, "restore": 1.0}
_ORDER = list(_ENDS)


@dataclass(frozen=True)
class Overall:
    """How far the whole is.

    Attributes:
        stage: the worker's word for what it does.
        fraction: 0 to 1 of the whole; never smaller than before.
        seconds_left: None while unknown.
    """

    stage: str
    fraction: float
    seconds_left: float | None


class OverallProgress:
    """Joins the stages of one prediction.

    Args:
        clock: seconds; for tests.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()
        self._fraction = 0.0

    def update(self, progress: Progress) -> Overall:
        """Take a stage's progress; unknown stages leave the bar where it is."""
        if progress.stage in _ENDS:
            index = _ORDER.index(progress.stage)
            low = _ENDS[_ORDER[index - 1]] if index else 0.0
            here = low + (_ENDS[progress.stage] - low) * min(1.0, max(0.0, progress.fraction))
            self._fraction = max(self._fraction, here)
        return Overall(progress.stage, self._fraction, self._left(progress))

    def _left(self, progress: Progress) -> float | None:
        if progress.stage != "network" or progress.seconds_left is None:
            # Before the network nothing is known; after it, it is nearly over.
            return None
        # What comes after the network, at the pace of the bar so far.
        elapsed = self._clock() - self._began
        rest = elapsed * (1.0 - _ENDS["network"]) / max(self._fraction, 0.1)
        return progress.seconds_left + rest
