"""Long work in ticks: small steps that a timer of the GUI can call, so that nothing ever waits.

Work is written once, as a generator that gives its progress (0..1) after each small piece and returns its result.
:func:`finish` runs it at a stretch (scripts, the demo, tests); :class:`Ticks` a few milliseconds a call:

>>> def count(to):
...     for number in range(to):
...         yield number / to
...     return to
>>> finish(count(3))
3
>>> ticks = Ticks(count(3))
>>> while ticks.step(0.01): pass
>>> ticks.result
3

A generator puts back what it has begun when it is closed early (``try: ... except GeneratorExit``), which
:meth:`Ticks.cancel` does, and :meth:`Ticks.step` when what the work is for has gone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from typing import Generic, TypeVar

T = TypeVar("T")
#: work that gives its progress, 0..1, and returns a result
Steps = Generator[float, None, T]


def finish(steps: Steps[T]) -> T:
    """Do all the steps and give the result."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result


class Ticks(Generic[T]):
    """Work done a little at each call of :meth:`step`.

    Args:
        steps: the work.
        wanted: asked before each piece: whether what the work is for is still there; False ends it cleanly.

    Attributes:
        fraction: how far it is, 0..1.
        done: it has ended: finished, cancelled or failed.
        cancelled: it has ended without a result.
        result: what it returned; None before the end, and if it was cancelled.
    """

    def __init__(self, steps: Steps[T], wanted: Callable[[], bool] = lambda: True) -> None:
        self._steps = steps
        self._wanted = wanted
        self.fraction = 0.0
        self.done = False
        self.cancelled = False
        self.result: T | None = None

    def step(self, seconds: float = 0.02) -> bool:
        """Go on for about that long.

        Returns:
            Whether there is more to do.

        Raises:
            HiersegError: the work has failed; it has put back what it had begun.
        """
        until = time.perf_counter() + seconds
        while not self.done:
            if not self._wanted():
                self.cancel()
                break
            try:
                self.fraction = max(self.fraction, next(self._steps))
            except StopIteration as end:
                self.fraction, self.done, self.result = 1.0, True, end.value
            except Exception:
                self.done = self.cancelled = True
                raise
            if time.perf_counter() >= until:
                break
        return not self.done

    def cancel(self) -> None:
        """End the work, which puts back what it has begun; no effect if it has ended."""
        if not self.done:
            self.done = self.cancelled = True
            self._steps.close()
