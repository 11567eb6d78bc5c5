"""What a run leaves in its folder, and how it can be watched and stopped from outside.

::

    status.json      where the run is now, rewritten at least every two seconds while the process lives
    events.jsonl     what happened, one JSON object a line
    config.yaml      the settings as used
    dataset.json     which cases were used, and a fingerprint of their files
    label_tree.json  the tree that is learned
    last.pt best.pt  checkpoints
    tensorboard/     curves
    bundle/          the model, at the end
    stop             put this file there to end the run after the current iteration

``status.json``: ``state`` (starting, running, stopping, finished, stopped, failed), ``stage``, ``iteration``,
``iterations``, ``seconds_left``, ``best``, ``message``, ``pid``, ``started``, ``updated`` (seconds since 1970).  A
reader tells a run that was killed from a slow one by ``updated``.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from hierseg.atomic import write_json, write_text
from hierseg.errors import TrainingError
from hierseg.labeltree import LabelTree

HEARTBEAT_SECONDS = 1.0
LIVE_SECONDS = 10.0
"""A run whose status is older is not alive any more."""
_WRITTEN = ("status.json", "config.yaml", "dataset.json", "label_tree.json", "last.pt", "best.pt", "start.pt")
_OURS = (
    "status.json", "events.jsonl", "config.yaml", "dataset.json", "label_tree.json", "start.pt", "tensorboard", "cache", "stop",
)  # fmt: skip


class RunFolder:
    """A run's folder; as a context manager it keeps ``status.json`` fresh from a thread.

    Args:
        folder: made if missing.
        resume: whether a run in the folder is to be continued.
        on_status: called with the status whenever it changes.

    Raises:
        TrainingError: the folder is not empty and ``resume`` is False, or a run is alive in it.
    """

    def __init__(
        self, folder: str | Path, *, resume: bool = False, on_status: Callable[[dict[str, Any]], None] | None = None
    ) -> None:
        self.folder = Path(folder)
        if self.folder.exists() and not self.folder.is_dir():
            raise TrainingError(f"{self.folder}: this is a file; give a folder for the run.")
        if self.folder.is_dir():
            self._refuse(resume)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._forget_old_stop()
        for unfinished in self.folder.glob(".tmp-*"):
            # A process that is killed while it writes leaves the temporary file behind.
            if unfinished.name.endswith(tuple(f"-{name}" for name in _WRITTEN)):
                unfinished.unlink(missing_ok=True)
            elif unfinished.name.startswith(".tmp-bundle-"):
                shutil.rmtree(unfinished, ignore_errors=True)
        self._on_status = on_status
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        now = time.time()
        self._status: dict[str, Any] = {
            "state": "starting", "stage": "starting", "iteration": 0, "iterations": 0, "seconds_left": None, "best": None,
            "message": "", "pid": os.getpid(), "started": now, "updated": now,
        }  # fmt: skip

    def _refuse(self, resume: bool) -> None:
        status = read_status(self.folder)
        if status is not None and status.get("pid") != os.getpid() and _is_alive(status):
            raise TrainingError(
                f"{self.folder}: a training (process {status['pid']}) is running in this folder; stop it first, or choose another folder."
            )
        # A launcher may have put its log or the stop file there, and a run that failed before its first checkpoint
        # leaves nothing worth going on with.
        if not resume and any((self.folder / name).exists() for name in ("last.pt", "best.pt", "bundle")):
            raise TrainingError(
                f"{self.folder}: there is a run in this folder already; go on with it by --resume, or choose another folder."
            )
        foreign = [
            entry.name
            for entry in self.folder.iterdir()
            if entry.suffix not in (".log", ".txt") and entry.name not in _OURS and not entry.name.startswith(".")
        ]
        if not resume and foreign:
            raise TrainingError(
                f"{self.folder}: the folder is not empty (it holds '{foreign[0]}'); choose an empty or new folder for the run."
            )
        if not resume:
            (self.folder / "events.jsonl").unlink(missing_ok=True)

    def _forget_old_stop(self) -> None:
        """Remove a stop file that an earlier run was given; one that came since is meant for this run."""
        status = read_status(self.folder)
        with contextlib.suppress(FileNotFoundError):
            if status is not None and self.stop_file.stat().st_mtime <= float(status.get("updated", 0)):
                self.stop_file.unlink()

    @property
    def stop_file(self) -> Path:
        """Its presence asks the run to end."""
        return self.folder / "stop"

    @property
    def last(self) -> Path:
        """The checkpoint to resume from."""
        return self.folder / "last.pt"

    @property
    def best(self) -> Path:
        """The checkpoint with the best validation."""
        return self.folder / "best.pt"

    @property
    def bundle(self) -> Path:
        """The model at the end."""
        return self.folder / "bundle"

    def __enter__(self) -> Self:
        self._write()
        self._thread = threading.Thread(target=self._beat, name="hierseg-heartbeat", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        with contextlib.suppress(OSError):
            self._write()

    def _beat(self) -> None:
        while not self._ended.wait(HEARTBEAT_SECONDS):
            # A full disk ends the training where it saves; the thread must not hide that by dying first.
            with contextlib.suppress(OSError):
                self._write()

    def _write(self) -> None:
        with self._lock:
            write_json(self.folder / "status.json", {**self._status, "updated": time.time()})

    def update(self, *, write: bool = False, **changes: Any) -> None:
        """Change the status; the thread writes it within a second, ``write`` at once."""
        with self._lock:
            self._status = {**self._status, **changes}
            status = dict(self._status)
        if write:
            self._write()
        if self._on_status is not None:
            self._on_status(status)

    @property
    def status(self) -> dict[str, Any]:
        """The status as it is now."""
        with self._lock:
            return dict(self._status)

    def event(self, kind: str, **content: Any) -> None:
        """Append a line to ``events.jsonl``, in one write so that readers see whole lines."""
        line = json.dumps({"time": round(time.time(), 3), "event": kind, **content}, ensure_ascii=False) + "\n"
        with open(self.folder / "events.jsonl", "ab", buffering=0) as file:
            file.write(line.encode("utf-8"))

    def save_settings(self, config: Mapping[str, Any], dataset: Mapping[str, Any], tree: LabelTree) -> None:
        """Write ``config.yaml``, ``dataset.json`` and ``label_tree.json``."""
        tree.save(self.folder / "label_tree.json")
        write_text(self.folder / "config.yaml", yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True))
        write_json(self.folder / "dataset.json", dict(dataset))


def read_status(folder: Path) -> dict[str, Any] | None:
    """The content of ``status.json``; None if there is none or it cannot be read."""
    try:
        content = json.loads((folder / "status.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _is_alive(status: Mapping[str, Any]) -> bool:
    if status.get("state") not in ("starting", "running", "stopping"):
        return False
    updated = status.get("updated")
    return isinstance(updated, int | float) and time.time() - updated < LIVE_SECONDS and _exists(status.get("pid"))


def _exists(pid: object) -> bool:
    if not isinstance(pid, int) or os.name == "nt":
        return isinstance(pid, int)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
