"""Command lines and environments of the processes that this half starts.

A worker is any command line that ends in ``hierseg worker``: an own Python, another virtual environment, or
``["ssh", "host", "hierseg", "worker"]``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import hierseg


def worker_command(python: str | Path | None = None) -> list[str]:
    """The command line of a worker on this machine; ``python`` is the interpreter, by default the current one."""
    return [str(python or sys.executable), "-m", "hierseg", "worker"]


def train_command(python: str | Path | None = None) -> list[str]:
    """The beginning of a training's command line on this machine."""
    return [str(python or sys.executable), "-m", "hierseg", "train"]


def environment(base: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment for :func:`worker_command` and :func:`train_command`.

    The folder that holds the ``hierseg`` in use (``training/`` in a checkout, the module's own folder in an installed
    extension) comes first on PYTHONPATH, so that both sides run the same release.

    Args:
        base: what to start from, by default this process's environment; Slicer's ``startupEnvironment()`` there.
    """
    result = dict(os.environ if base is None else base)
    folder = str(Path(hierseg.__file__).resolve().parents[1])
    others = [entry for entry in result.get("PYTHONPATH", "").split(os.pathsep) if entry and entry != folder]
    result["PYTHONPATH"] = os.pathsep.join([folder, *others])
    # What a process writes to stderr is to be seen when it happens, not when a buffer is full.
    result["PYTHONUNBUFFERED"] = "1"
    return result
