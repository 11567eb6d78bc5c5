"""Waiting in tests: for a condition while a client is looked after, and for a process to be gone."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from HierSubclassSegLib.compute.client import WorkerClient

END_LIMIT = 30.0
"""Seconds within which tests want a worker gone, whose contract is 3 s on a machine that is not overloaded.

What these tests start would go on for ten minutes, so that the difference is seen on any machine.
"""


def is_running(pid: int) -> bool:
    """Whether a process lives; one that has ended and is not reaped yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def run_until(client: WorkerClient, condition: Callable[[], bool], seconds: float = 200.0) -> None:
    """Poll the client, as a timer of an application would, until the condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s; stderr: {client.stderr_tail}"
        time.sleep(0.01)
        client.poll()
