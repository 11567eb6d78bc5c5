"""The prediction worker of this application: which Python runs it, and a client on Qt's event loop."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable

import qt
import slicer

from HierSubclassSegLib.compute.client import WorkerClient
from HierSubclassSegLib.compute.launch import environment, worker_command
from HierSubclassSegLib.gui.qprocess_transport import QProcessTransport

PYTHON_SETTING = "HierSubclassSeg/Python"
"""In Slicer's settings: another Python, with hierseg's requirements installed; empty for Slicer's own."""


def python() -> str:
    """The Python that runs workers: the user's choice, else Slicer's own as a program of its own."""
    chosen = qt.QSettings().value(PYTHON_SETTING) or ""
    # As slicer.util.launchConsoleProcess's callers find it: Slicer puts it on the PATH.
    return str(chosen) or shutil.which("PythonSlicer") or sys.executable


def connect(on_log: Callable[[str], None] | None = None) -> WorkerClient:
    """Start a worker.

    Raises:
        WorkerError: the Python cannot be run.
    """
    # Slicer's own libraries must not be found by another Python; PythonSlicer sets its environment up by itself.
    env = environment(slicer.util.startupEnvironment())
    return WorkerClient(QProcessTransport(worker_command(python()), env), on_log=on_log)
