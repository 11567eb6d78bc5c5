"""The training runs that a user may want to see again: a folder of runs, and those that lie elsewhere.

Each run is a folder of its own in ``runs`` beside the user's models, named by when it was started, so that a panel that is
opened tomorrow finds all of them without having written anything down.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hierseg.errors import TrainingError
from hierseg.resources import home
from HierSubclassSegLib.compute.training import LAUNCHES, STATUS, TrainingRun


def runs_folder() -> Path:
    """Where runs are made that the module starts; it need not exist yet."""
    return home() / "runs"


def new_run_folder(name: str, now: float | None = None) -> Path:
    """A folder for a new run; nothing is made yet.

    Args:
        name: what the run is about, usually the dataset's name.
        now: seconds since 1970; for tests.
    """
    stem = time.strftime("%Y-%m-%d_%H-%M-%S", time.localtime(now))
    slug = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")[:40]
    folder = runs_folder() / (f"{stem}_{slug}" if slug else stem)
    number = 1
    while folder.exists():
        number += 1
        folder = folder.with_name(f"{folder.name.split('~')[0]}~{number}")
    return folder


@dataclass(frozen=True)
class KnownRun:
    """A run in a list.

    Attributes:
        folder: of the run.
        dataset: what was trained on; the folder's name where the module did not start it.
        preset: of the panel; empty where the module did not start it.
        start: id of the bundle that it began from; empty if unknown.
        began: seconds since 1970.
    """

    folder: Path
    dataset: str
    preset: str
    start: str
    began: float


def find_runs(elsewhere: Iterable[str | Path] = ()) -> list[KnownRun]:
    """The runs in the runs folder and the given ones, newest first; folders that hold no run are left out."""
    folders = [Path(folder) for folder in elsewhere]
    if runs_folder().is_dir():
        folders += [entry for entry in runs_folder().iterdir() if entry.is_dir()]
    found = {folder.resolve(): run for folder in folders if (run := _look(folder)) is not None}
    return sorted(found.values(), key=lambda run: run.began, reverse=True)


def delete_run(folder: Path) -> None:
    """Delete a run that has ended.

    Raises:
        TrainingError: it lives, it lies outside the runs folder, or it cannot be removed.
    """
    if folder.resolve().parent != runs_folder().resolve():
        raise TrainingError(f"{folder}: this run lies outside the module's folder of runs; delete it yourself.")
    if not TrainingRun(folder).status().ended:
        raise TrainingError(f"{folder}: the training is running; stop it first.")
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise TrainingError(f"{folder}: cannot be deleted ({error.strerror or error}); close what uses it.") from error


def _started(folder: Path) -> Any:
    with contextlib.suppress(OSError, ValueError):
        status = json.loads((folder / STATUS).read_text(encoding="utf-8"))
        return status.get("started") if isinstance(status, dict) else None
    return None


def _look(folder: Path) -> KnownRun | None:
    try:
        files = [folder / name for name in (LAUNCHES, STATUS)]
        times = [file.stat().st_mtime for file in files if file.is_file()]
    except OSError:
        return None
    if not times:
        return None
    launch = TrainingRun(folder).launch
    given = launch.get("info")
    info = given if isinstance(given, dict) else {}
    # A run from a terminal says in its status when it began; a folder without either, by its oldest file.
    began = launch.get("time") or _started(folder)
    return KnownRun(
        folder,
        str(info.get("dataset") or folder.name),
        str(info.get("preset") or ""),
        str(info.get("start") or ""),
        float(began) if isinstance(began, int | float) else min(times),
    )
