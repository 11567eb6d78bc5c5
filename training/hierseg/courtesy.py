"""Good manners of long work on a computer that somebody sits at.

A training that goes on in the background and a prediction that its user waits for would together take every core.  So the
worker holds a lock while it predicts, and a training that was started as background work waits between two iterations
while somebody holds one; both leave one core free by themselves.  The operating system releases a dead process's lock.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from hierseg import transaction
from hierseg.errors import DatasetError
from hierseg.resources import home

_NICENESS = 10
_WINDOWS_BELOW_NORMAL = 0x4000


def usable_cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _folder() -> Path:
    return home() / "predicting"


@contextlib.contextmanager
def predicting() -> Iterator[None]:
    """Tell background work on this computer to wait; where that cannot be told, the prediction is made all the same."""
    place = _folder() / str(os.getpid())
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError, DatasetError):
            place.mkdir(parents=True, exist_ok=True)
            stack.enter_context(transaction.locked(place, seconds=1.0))
            stack.callback(shutil.rmtree, place, ignore_errors=True)
        yield


def somebody_predicts() -> bool:
    """Whether a prediction is being made on this computer by a worker of this user."""
    try:
        places = list(_folder().iterdir())
    except OSError:
        return False
    busy = False
    for place in places:
        try:
            with transaction.locked(place, seconds=0.0):
                pass
        except DatasetError:
            busy = True
        except OSError:
            continue
        else:
            if place.name != str(os.getpid()):
                # Its worker is idle or gone; it makes the folder again when it needs it.
                shutil.rmtree(place, ignore_errors=True)
    return busy


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM be Ctrl-C: what is half done is undone, and said."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def lower_priority() -> None:
    """Let everything else on this computer go first."""
    if sys.platform == "win32":
        import ctypes

        kernel = ctypes.windll.kernel32  # type: ignore[attr-defined,unused-ignore]
        kernel.SetPriorityClass(kernel.GetCurrentProcess(), _WINDOWS_BELOW_NORMAL)
    else:
        with contextlib.suppress(OSError):
            os.nice(_NICENESS)
