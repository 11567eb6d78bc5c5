"""One measurement in a process of its own, which is ended alone if it takes too much memory.

The parent looks at the child's resident memory twenty times a second and ends it above the limit; the child offers
itself to the system as the first to be ended, should it come to that.  Both need Linux; elsewhere there is no limit.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_LOOK_EVERY_S = 0.05
_SHARE = 0.7
"""Of the machine's memory a row may take so much."""


def memory_limit() -> int | None:
    """Bytes that a row may take: 70 % of the machine's memory, and nine tenths of what is free now; None: unknown."""
    total, free = _meminfo("MemTotal"), _meminfo("MemAvailable")
    return None if total is None or free is None else int(min(_SHARE * total, 0.9 * free))


def _meminfo(key: str) -> int | None:
    return _kilobytes(Path("/proc/meminfo"), key)


def _kilobytes(path: Path, key: str) -> int | None:
    try:
        for line in path.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith(f"{key}:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        return None
    return None


def resident(pid: int | str = "self") -> int:
    """Bytes of a process that lie in memory now; 0 where the system does not say."""
    return _kilobytes(Path(f"/proc/{pid}/status"), "VmRSS") or 0


def highest() -> int:
    """The most that :func:`resident` was since :func:`forget_highest`."""
    found = _kilobytes(Path("/proc/self/status"), "VmHWM")
    if found is not None:
        return found
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def forget_highest() -> None:
    """Start :func:`highest` anew, where the system can."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return


def offer_to_be_ended() -> None:
    """Tell the system to end this process before any other if memory runs out."""
    try:
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    except OSError:
        return


def end_with_parent() -> None:
    """End this process when the one that started it is gone: a benchmark that was broken off leaves nothing running."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def run(command: Sequence[str], limit: int | None, **variables: str) -> dict[str, Any]:
    """Run a command that prints one JSON object.

    Args:
        command: the program and its arguments.
        limit: bytes of memory above which it is ended; None: no limit.
        variables: of its environment, beside this process's own.

    Returns:
        What it printed, or ``{"ended": reason, "peak_mb": ..., "after_s": ...}``; reasons are ``memory`` and ``error``.
    """
    began = time.perf_counter()
    child = subprocess.Popen(
        list(command), stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8", env={**os.environ, **variables}
    )
    watch = _Watch(child, limit)
    watch.start()
    try:
        out, err = child.communicate()
    finally:
        if child.poll() is None:
            child.kill()
        watch.join()
    if child.returncode == 0:
        result: dict[str, Any] = json.loads(out.strip().splitlines()[-1])
        return result
    ended = {"peak_mb": round(watch.peak / 1e6), "after_s": round(time.perf_counter() - began, 1)}
    if limit is not None:
        ended["limit_mb"] = round(limit / 1e6)
    # The kernel ends with SIGKILL as well.
    if watch.over or child.returncode == -9 or _OUT_OF_MEMORY.intersection(err.lower().split()):
        return {"ended": "memory", **ended}
    print(err[-4000:], file=sys.stderr)
    return {"ended": "error", "message": (err.strip().splitlines() or ["no message"])[-1][:300], **ended}


_OUT_OF_MEMORY = {"memoryerror", "memoryerror:", "defaultcpuallocator:", "torch.outofmemoryerror:"}


class _Watch(threading.Thread):
    """Ends a child above its limit; ``peak`` is the most that was seen, ``over`` whether it was ended."""

    def __init__(self, child: subprocess.Popen[str], limit: int | None) -> None:
        super().__init__(daemon=True)
        self.child, self.limit, self.peak, self.over = child, limit, 0, False

    def run(self) -> None:
        while self.child.poll() is None:
            self.peak = max(self.peak, resident(self.child.pid))
            if self.limit is not None and self.peak > self.limit:
                self.over = True
                self.child.kill()
                return
            time.sleep(_LOOK_EVERY_S)
