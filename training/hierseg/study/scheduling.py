"""Runs side by side: one process each, dealt out to the devices; what fails is remembered and does not stop the others."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hierseg.study.runs import LOG

_LOOK = 0.1
"""Seconds between two looks at the processes."""
_END = 60.0
"""Seconds that an interrupted process gets to save its checkpoint."""
INTERRUPTED = 130
CHILD = (sys.executable, "-m", "hierseg.study.child")
"""What does a job."""


@dataclass(frozen=True)
class Job:
    """A run to be done.

    Attributes:
        folder: of the run.
        content: what :mod:`hierseg.study.child` is told, but for the device.
    """

    folder: Path
    content: Mapping[str, Any]


@dataclass(frozen=True)
class Ended:
    """How a job ended: exit code, and the last line that it wrote to standard error (empty where all went well)."""

    job: Job
    code: int
    said: str
    seconds: float


@dataclass
class _Going:
    job: Job
    process: subprocess.Popen[bytes]
    began: float


def run_jobs(
    jobs: Sequence[Job],
    devices: Sequence[str],
    side_by_side: int,
    on_end: Callable[[Ended], None] = lambda _ended: None,
    threads: int = 1,
) -> None:
    """Do all jobs, in order, as many at a time as wished.

    Args:
        jobs: what to do.
        devices: dealt out in turn.
        side_by_side: processes at a time.
        on_end: called when a job has ended, however it did.
        threads: of each process.

    Raises:
        KeyboardInterrupt: Ctrl-C or SIGTERM; the processes have saved their checkpoints and ended.
    """
    waiting = list(jobs)
    places: list[_Going | None] = [None] * side_by_side
    try:
        while waiting or any(places):
            for number, going in enumerate(places):
                if going is not None and going.process.poll() is not None:
                    places[number] = None
                    on_end(_ended(going))
                if places[number] is None and waiting:
                    places[number] = _start(waiting.pop(0), devices[number % len(devices)], threads)
            time.sleep(_LOOK)
    finally:
        _end_all([going for going in places if going is not None])


def _start(job: Job, device: str, threads: int) -> _Going:
    count = str(threads)
    surroundings = {
        **os.environ, "OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count, "OPENBLAS_NUM_THREADS": count,
        "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": count,
    }  # fmt: skip
    job.folder.mkdir(parents=True, exist_ok=True)
    with open(job.folder / LOG, "ab") as log:
        process = subprocess.Popen(
            CHILD, stdin=subprocess.PIPE, stdout=log, stderr=log, env=surroundings,
            # Ctrl-C reaches all processes of a terminal; here the study decides when they end.
            start_new_session=True,
        )  # fmt: skip
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # a process that died at once is seen by its exit code
        process.stdin.write(json.dumps({**job.content, "device": device, "threads": threads}).encode() + b"\n")
        process.stdin.flush()
    return _Going(job, process, time.monotonic())


def _ended(going: _Going) -> Ended:
    if going.process.stdin is not None:
        with contextlib.suppress(OSError):
            going.process.stdin.close()
    code = going.process.returncode
    return Ended(going.job, code, last_line(going.job.folder / LOG) if code else "", time.monotonic() - going.began)


def _end_all(going: Sequence[_Going]) -> None:
    """End what is still going on: the end of its input tells it to save, and to end."""
    for one in going:
        if one.process.stdin is not None:
            with contextlib.suppress(OSError):
                one.process.stdin.close()
    deadline = time.monotonic() + _END
    for one in going:
        with _killed_at_last(one.process):
            one.process.wait(timeout=max(0.0, deadline - time.monotonic()))


@contextlib.contextmanager
def _killed_at_last(process: subprocess.Popen[bytes]) -> Iterator[None]:
    try:
        yield
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def last_line(log: Path) -> str:
    """The last line of a log that is not empty."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
