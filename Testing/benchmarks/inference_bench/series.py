"""Runs the rows of a case in turns, keeps what was measured, and gathers medians, ratios and agreement."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hierseg.atomic import write_json
from hierseg.inference.benchmark import spread

from . import measure
from .cases import Case, files
from .rows import PEERS, available

_START = Path(__file__).resolve().parents[1] / "bench_inference.py"
REFERENCE = "exhaustive"
"""Ratios are taken against this row."""
REFERENCE_BY_LEAF = "exhaustive by leaf"
"""Name of the label map that peers' maps are compared with: the same rule of decision as theirs."""


@dataclass(frozen=True)
class Settings:
    """What all measurements of a call share.

    Attributes:
        folder: for images, networks, label maps and the results of single processes.
        rounds: how often the rows take turns.
        seed: of images and networks.
        device: where networks run.
        threads: of torch.
        limit: bytes of memory that a process may take; None: no limit.
        again: measure anew what is kept from an earlier call.
        gather: measure nothing; what is not kept is left out.
    """

    folder: Path
    rounds: int
    seed: int
    device: str
    threads: int
    limit: int | None
    again: bool
    gather: bool = False


def say(text: str) -> None:
    """To the person who waits."""
    print(text, file=sys.stderr, flush=True)


def measured(case: Case, settings: Settings, only: Sequence[str] = (), *, compare: bool = True) -> dict[str, Any]:
    """All rows of a case.

    The rows take turns, each time in a new process, so that a slow minute of the machine falls on all of them, and a
    ratio is taken between neighbors in time.

    Args:
        case: what is predicted.
        settings: how.
        only: these rows; all if empty.
        compare: label maps are kept and compared.
    """
    wanted = [row for row in available() if row not in case.without and (not only or row in only)]
    runs: dict[str, list[dict[str, Any]]] = {row: [] for row in wanted}
    prepared = False
    for number in range(settings.rounds):
        for row in wanted:
            if runs[row] and "ended" in runs[row][-1]:
                continue
            kept = settings.folder / "rows" / case.name / f"{row}-{number}.json"
            found = None if settings.again else _kept(kept, case, settings)
            if found is None and settings.gather:
                continue
            if found is None:
                if not prepared:
                    _child({"do": "prepare"}, case, settings)
                    prepared = True
                say(f"{case.name}: {row}, round {number + 1} of {settings.rounds}")
                keep = compare and number == 0
                # Peers come first: where none survives, there is no label map of theirs to compare with.
                by_leaf = keep and any(runs.get(peer) and "ended" not in runs[peer][0] for peer in PEERS)
                found = _child({"do": "row", "row": row, "keep": keep, "by_leaf": by_leaf}, case, settings)
                say(f"  {_short(found)}")
                write_json(kept, {"key": _key(case, settings), **found})
            runs[row].append(found)
    return {**described(case), "rows": {row: summary(runs, row, case, settings) for row in wanted if runs[row]}}


def described(case: Case) -> dict[str, Any]:
    """What a table says of a case."""
    return {
        "title": case.title,
        "shape": list(case.shape),
        "spacing_mm": list(case.spacing),
        "network_grid": list(case.network_grid()),
        "network_spacing_mm": list(case.grid),
        "patch": list(case.patch),
        "channels": case.channels,
        "leaves": case.leaves,
        "tiles": case.tiles(),
        "repeats": case.repeats,
    }


def total(stages: dict[str, float]) -> float:
    """Seconds without reading files."""
    return sum(seconds for stage, seconds in stages.items() if stage != "load")


def summary(runs: dict[str, list[dict[str, Any]]], row: str, case: Case, settings: Settings) -> dict[str, Any]:
    """Medians and spreads of one row; what ended it, if something did."""
    done = [run for run in runs[row] if "ended" not in run]
    if not done:
        return {key: value for key, value in runs[row][-1].items() if key != "key"}
    stages = [one for run in done for one in run["stages_s"]]
    result: dict[str, Any] = {
        "total_s": spread([total(one) for one in stages]),
        "stages_s": {name: spread([one[name] for one in stages]) for name in stages[0]},
        "runs": len(stages),
    }
    for key in ("peak_mb", "peak_gpu_mb"):
        if key in done[0]:
            result[key] = spread([run[key] for run in done])
    for key, gathered in (("load", max), ("limit_mb", min)):
        if key in done[0]:
            result[key] = gathered(run[key] for run in done)
    if "work" in done[0]:
        result["work"] = done[0]["work"]
        if "forward_s" in result["work"]:
            # Both of one run, which a machine that is faster in one minute than in the next does not change.
            result["over_forward"] = spread([_last(run) / run["work"]["forward_s"] for run in done])
    reference = [run for run in runs.get(REFERENCE, []) if "ended" not in run]
    pairs = list(zip(done, reference, strict=False))
    if row != REFERENCE and pairs:
        result["time_ratio"] = spread([_typical(one) / _typical(other) for one, other in pairs])
        result["memory_ratio"] = spread([one["peak_mb"] / max(1, other["peak_mb"]) for one, other in pairs])
        result.update(agreement(case, row, settings))
    return result


def _typical(run: dict[str, Any]) -> float:
    return statistics.median(total(one) for one in run["stages_s"])


def _last(run: dict[str, Any]) -> float:
    """Seconds of the run that ``work`` is of."""
    return total(run["stages_s"][-1])


def agreement(case: Case, row: str, settings: Settings) -> dict[str, Any]:
    """Mean Dice over the leaves between a row's label map and the reference's, and the share of equal voxels."""
    other = REFERENCE_BY_LEAF if row in PEERS else REFERENCE
    paths = [map_file(settings.folder, case, name) for name in (row, other)]
    if not all(path.exists() for path in paths):
        return {}
    one, other = (np.load(path, mmap_mode="r") for path in paths)
    counts = np.zeros((3, case.leaves), np.int64)
    for index in range(one.shape[0]):
        a, b = np.asarray(one[index]).ravel(), np.asarray(other[index]).ravel()
        for number, values in enumerate((a, b, a[a == b])):
            counts[number] += np.bincount(values, minlength=case.leaves)[: case.leaves]
    present = counts[0] + counts[1] > 0
    dice = 2 * counts[2, present] / (counts[0, present] + counts[1, present])
    return {
        "dice": round(float(dice.mean()), 4),
        "dice_least": round(float(dice.min()), 4),
        "equal_voxels": round(float(counts[2].sum() / counts[0].sum()), 5),
    }


def large_files(case: Case, settings: Settings) -> list[Path]:
    """A point's image and label maps, which are not needed once it is measured."""
    maps = [map_file(settings.folder, case, name) for name in (REFERENCE, REFERENCE_BY_LEAF)]
    return [*files(case, settings.folder / "images"), *maps]


def map_file(folder: Path, case: Case, name: str) -> Path:
    """Where a row's label map lies."""
    return folder / "maps" / f"{case.name}-{name.replace(' ', '-')}.npy"


def once(do: str, case: Case, settings: Settings) -> dict[str, Any]:
    """What is measured in one process: ``floor`` (arithmetic, rates, profile of a case) or ``resident`` (a warm worker)."""
    kept = settings.folder / "once" / f"{do}.json"
    found = None if settings.again else _kept(kept, case, settings)
    if found is None and settings.gather:
        return {"ended": "not measured"}
    if found is None:
        say(f"{do} ...")
        _child({"do": "prepare"}, case, settings)
        found = _child({"do": do}, case, settings)
        write_json(kept, {"key": _key(case, settings), **found})
    return {key: value for key, value in found.items() if key != "key"}


def _child(task: dict[str, Any], case: Case, settings: Settings) -> dict[str, Any]:
    task = {
        **task,
        "case": case.to_json(),
        "seed": settings.seed,
        "folder": str(settings.folder),
        "device": settings.device,
        "threads": settings.threads,
    }
    # What the engine remembers of this machine from other images would make a first run look like a later one.
    home = settings.folder / "home"
    command = [sys.executable, str(_START), "--child", json.dumps(task)]
    result = measure.run(command, settings.limit, HIERSEG_HOME=str(home))
    # Above 1 means that others ran beside this benchmark, which uses one core.
    if hasattr(os, "getloadavg"):
        result["load"] = round(os.getloadavg()[0], 1)
    if settings.limit is not None:
        result["limit_mb"] = round(settings.limit / 1e6)
    return result


def _key(case: Case, settings: Settings) -> str:
    """What a kept result must have been measured with."""
    told = ("name", "title", "default", "without")
    shown = {name: value for name, value in case.to_json().items() if name not in told}
    what = [shown, settings.seed, settings.device, settings.threads, platform.node()]
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:16]


def _kept(path: Path, case: Case, settings: Settings) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    # A package may have been installed since.
    return found if found.get("key") == _key(case, settings) and found.get("ended") != "not installed" else None


def _short(found: dict[str, Any]) -> str:
    if "ended" in found:
        return ", ".join(f"{name} {value}" for name, value in found.items())
    return f"{_typical(found):.2f} s, {found['peak_mb']} MB"
