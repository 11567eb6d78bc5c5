"""The prediction worker of this application: which Python or computer runs it, and a client on Qt's event loop."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import qt
import slicer

from hierseg.errors import HiersegError
from HierSubclassSegLib.compute.client import WorkerClient
from HierSubclassSegLib.compute.launch import environment, worker_command
from HierSubclassSegLib.compute.setup_worker import parse_worker
from HierSubclassSegLib.gui.qprocess_transport import QProcessTransport

PYTHON_SETTING = "HierSubclassSeg/Python"
"""In Slicer's settings: another Python, a virtual environment's folder, or the command line of a worker elsewhere;
empty for Slicer's own Python."""


def chosen() -> str:
    """What the user has chosen; empty for Slicer's own Python."""
    return str(qt.QSettings().value(PYTHON_SETTING) or "")


def choose(text: str) -> None:
    """Use another Python or computer from now on; an empty text goes back to Slicer's own Python."""
    qt.QSettings().setValue(PYTHON_SETTING, text.strip())


def own_python() -> str:
    """Slicer's Python as a program of its own."""
    # As slicer.util.launchConsoleProcess's callers find it: Slicer puts it on the PATH.
    found = shutil.which("PythonSlicer")
    # Inside an application sys.executable may be the application: never start that.
    return found or (sys.executable if "python" in Path(sys.executable).name.lower() else "PythonSlicer")


def python() -> str:
    """The Python that runs workers and training on this computer: the user's choice, else Slicer's own."""
    try:
        command = parse_worker(chosen()) if chosen() else []
    except HiersegError:
        command = []
    # A worker on another computer has no Python here.
    return command[0] if command[1:3] == ["-m", "hierseg"] and Path(command[0]).is_file() else own_python()


def command(text: str | None = None) -> list[str]:
    """The command line of a worker.

    Args:
        text: what a user typed; default: what was chosen.

    Raises:
        ConfigError: it is neither a Python nor a command.
    """
    text = chosen() if text is None else text
    return parse_worker(text) if text.strip() else worker_command(own_python())


def startup_environment() -> dict[str, str]:
    """The environment of processes that are not Slicer's: its libraries must not be found by another Python."""
    return environment(slicer.util.startupEnvironment())


def connect(on_log: Callable[[str], None] | None = None) -> WorkerClient:
    """Start a worker.

    Raises:
        ConfigError: what was chosen is neither a Python nor a command.
        WorkerError: the Python cannot be run.
    """
    return WorkerClient(QProcessTransport(command(), startup_environment()), on_log=on_log)
