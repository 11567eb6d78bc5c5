"""The trainings of a study: which there are, where each lies, and what of it is done."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hierseg.atomic import write_json
from hierseg.engine.config import TrainConfig
from hierseg.engine.runfolder import read_status
from hierseg.errors import ConfigError
from hierseg.study.config import RowSpec, Study, slug

RECORD = ".study.json"
"""In a run folder: what the run was made from, and how long it took."""
LOG = "study.log"
_NOT_COMPARED = ("seed", "num_workers", "cache_folder")


@dataclass(frozen=True)
class Run:
    """One training: a row, a number of subjects with subclass labels, a seed, and perhaps a class that is hidden from it."""

    row: RowSpec
    fine: int | str
    seed: int
    hidden: str | None = None

    @property
    def name(self) -> str:
        """Of its folder."""
        without = "" if self.hidden is None else f"_without-{slug(self.hidden)}"
        return f"{slug(self.row.name)}_fine{self.fine}_seed{self.seed}{without}"

    def settings(self) -> dict[str, Any]:
        """As ``hierseg train`` takes them."""
        hidden = {} if self.hidden is None else {"hold_out": [self.hidden]}
        return {**self.row.settings, "seed": self.seed, **hidden}


def runs_of(study: Study, rows: tuple[RowSpec, ...], classes: Sequence[str] = ()) -> Iterator[Run]:
    """All trainings, one seed after the other, so that a study that is stopped early has whole tables.

    Args:
        study: what was asked for.
        rows: those to work on.
        classes: that are hidden in turn, where the study asks for it.
    """
    for seed in study.seeds:
        for row in rows:
            for fine in row.fine:
                yield Run(row, fine, seed)
    if study.hold_out_each is None:
        return
    for seed in study.hold_out_each.seeds:
        for row in rows:
            if row.name in study.hold_out_each.rows:
                for fine in row.fine:
                    for hidden in classes:
                        yield Run(row, fine, seed, hidden)


def is_trained(folder: Path) -> bool:
    """Whether the training ended by itself and left its model."""
    status = read_status(folder)
    return status is not None and status.get("state") == "finished" and (folder / "bundle" / "manifest.json").exists()


def scores_folder(folder: Path, split: str) -> Path:
    """Where a run's scores on a split are."""
    return folder / f"scores_{split}"


def is_scored(folder: Path, split: str, sha256: str) -> bool:
    """Whether the run was measured on a split whose data have this hash."""
    try:
        return bool(
            json.loads((scores_folder(folder, split) / "data.json").read_text(encoding="utf-8"))["sha256"] == sha256
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


def read_record(folder: Path) -> dict[str, Any]:
    """What a run was made from; empty if it was not begun."""
    try:
        content = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def write_record(folder: Path, run: Run, data: Mapping[str, str], threads: int) -> None:
    """Remember what a run is made from; what it took so far is kept.

    Args:
        folder: of the run.
        run: which one.
        data: hashes of training and validation data.
        threads: of the process.
    """
    before = read_record(folder)
    took = {clock: before.get(clock, {}) for clock in ("seconds", "processor_seconds")}
    write_json(
        folder / RECORD,
        {
            "row": run.row.name, "fine": run.fine, "seed": run.seed, "only_fine": run.row.only_fine, "labels": run.row.labels,
            "settings": run.settings(), "data": dict(data), "threads": threads, **took,
        },
    )  # fmt: skip


def changes(folder: Path, run: Run, data: Mapping[str, str]) -> list[str]:
    """In what a run that was begun differs from the one that is wanted now, as texts; empty if it may be gone on with."""
    before = read_record(folder)
    if not before:
        return []
    defaults = TrainConfig.from_dict({"method": run.row.method}).to_dict()
    now, then = _flat(run.settings()), _flat({**defaults, **before.get("settings", {})})
    # A setting that the program learned since then had its default.
    found = [
        f"{key} was {then.get(key)!r}, is {now.get(key)!r}"
        for key in sorted({*now, *then})
        if key.split(".")[0] not in _NOT_COMPARED and then.get(key, _flat(defaults).get(key)) != now.get(key)
    ]
    found += [
        f"{key} was {before.get(key)!r}, is {value!r}"
        for key, value in (("only_fine", run.row.only_fine), ("labels", run.row.labels))
        if before.get(key) != value
    ]
    found += [
        f"the {part} data are others" for part, value in data.items() if before.get("data", {}).get(part) != value
    ]
    return found


def refuse_changed(folder: Path, run: Run, data: Mapping[str, str]) -> None:
    """Never mix two settings in one run.

    Raises:
        ConfigError: the run in the folder was begun with other settings or data.
    """
    found = changes(folder, run, data)
    if found:
        raise ConfigError(
            f"{folder}: this run was begun with other settings ({'; '.join(found[:3])}{'; ...' if len(found) > 3 else ''}); "
            "give --redo to train it anew, or another folder with --out."
        )


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping) and key not in ("normalization", "trunk_arguments"):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
