"""Held-out-class cross-validation: one training for each class, hidden from it, and a table of what was noticed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hierseg.atomic import write_json
from hierseg.dataset import Dataset
from hierseg.engine.trainer import Progress, train
from hierseg.errors import ConfigError
from hierseg.labeltree import LabelTree


def hold_out_each(
    dataset: Dataset,
    out: str | Path,
    settings: Mapping[str, Any],
    kind: str,
    *,
    device: str = "auto",
    threads: int | None = None,
    progress: Progress | None = None,
    say: Callable[[str], None] = lambda _text: None,
) -> dict[str, Any]:
    """Train once for each class.  What was finished before is not done again, what was begun goes on.

    Args:
        dataset: the folder.
        out: one run folder a class goes in here, and ``hold_out_each.json``.
        settings: of the trainings, those that differ from the defaults.
        kind: ``leaf`` or ``top``: each leaf, or each top-level node with all that is below it.
        device: ``auto``, ``cpu``, ``cuda``, ...
        threads: as for a training.
        progress: as for a training.
        say: told which class is hidden.

    Returns:
        By class: area under the curve, share of false positives, numbers of voxels; and their means over the classes
        that the validation cases show.

    Raises:
        ConfigError: there are fewer than two classes, or the settings hide classes already.
        HiersegError: a training cannot be done.
    """
    names = class_names(dataset.tree, kind)
    if settings.get("hold_out"):
        raise ConfigError("'hold_out' is set, and every class is to be hidden in turn; leave the setting out.")
    rows: dict[str, Any] = {}
    for name in names:
        folder = Path(out) / (re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-") or "class")
        result = folder / "hold_out.json"
        if not result.exists():
            say(f"Hidden: {name}.")
            done = train(
                dataset, folder, {**settings, "hold_out": [name]}, resume=folder.exists(), device=device, threads=threads, progress=progress,
            )  # fmt: skip
            found = done.out_of_distribution
            if done.state != "finished":
                raise ConfigError(f"{folder}: the training was stopped; give the same command again to go on.")
            write_json(result, {"hidden": name, **({} if found is None else found.to_dict())})
        rows[name] = json.loads(result.read_text(encoding="utf-8"))
    scored = [row for row in rows.values() if row.get("auroc") is not None]
    table = {
        "kind": kind,
        "classes": rows,
        "mean": {key: sum(row[key] for row in scored) / len(scored) if scored else None for key in ("auroc", "fpr95")},
    }
    write_json(Path(out) / "hold_out_each.json", table)
    return table


def class_names(tree: LabelTree, kind: str) -> list[str]:
    """The classes that are hidden in turn; a background is none.

    Raises:
        ConfigError: there are fewer than two.
    """
    nodes = tree.leaves if kind == "leaf" else tree.top_level
    names = [node.name for node in nodes if node != tree.background]
    if len(names) < 2:
        raise ConfigError(
            f"the label tree '{tree.name}' has {len(names)} class{'' if len(names) == 1 else 'es'} to hide; it needs two or more."
        )
    return names
