"""The parts of ``make test-slicer``: which script, how long at most, and what it provokes on purpose."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    """One run of Slicer.

    Attributes:
        script: in this folder; writes ``<part>.json``.
        seconds: at most.
        arguments: to the script.
        allowed: parts of messages in Slicer's log that belong to what is tried.
        exit_code: that Slicer is to end with.
    """

    script: str
    seconds: float = 300
    arguments: tuple[str, ...] = ()
    allowed: tuple[str, ...] = ()
    exit_code: int = 0


PARTS: dict[str, Part] = {
    "selftest": Part("own_test.py"),
    "segment": Part("tour_segment.py"),
}
