"""Ending a process with all that it started, where it has no process group of its own.

``QProcess`` starts its child in the application's own group (and Slicer's Python is a launcher with the interpreter as
its child), so the group cannot be ended without ending the application.  The tree of parents is followed instead.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path


def descendants(pid: int) -> list[int]:
    """The numbers of all processes below ``pid``, parents before children; empty on Windows (see :func:`kill_tree`)."""
    children: dict[int, list[int]] = {}
    for child, parent in _parents().items():
        children.setdefault(parent, []).append(child)
    found = [pid]
    for number in found:
        found += children.get(number, [])
    return found[1:]


def kill_tree(pid: int) -> None:
    """End a process and everything below it, now; returns at once."""
    if pid <= 0:
        return
    if sys.platform == "win32":
        subprocess.Popen(
            ["taskkill", "/T", "/F", "/PID", str(pid)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            creationflags=subprocess.CREATE_NO_WINDOW,
        )
        return
    # Listed first: once the parent is gone, its children belong to the system's first process.
    for number in [pid, *descendants(pid)]:
        with contextlib.suppress(OSError):
            os.kill(number, signal.SIGKILL)


def _parents() -> dict[int, int]:
    """The parent of every process."""
    parents: dict[int, int] = {}
    if sys.platform.startswith("linux"):
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError, IndexError, ValueError):
                    # The name before these fields may hold spaces and parentheses.
                    parents[int(entry.name)] = int(
                        (entry / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[1]
                    )
    elif os.name == "posix":
        listed = subprocess.run(
            ["ps", "-A", "-o", "pid=,ppid="], capture_output=True, encoding="utf-8", check=False
        ).stdout
        for line in listed.splitlines():
            words = line.split()
            if len(words) == 2:
                parents[int(words[0])] = int(words[1])
    return parents
