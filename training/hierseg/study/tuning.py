"""Choosing a few settings for each row by itself: the same candidates and one training each, measured on validation cases.

A study that gives one method its best learning rate and the others that of somebody else measures the learning rate.
``hierseg study --tune`` is a study of its own, in the folder ``tuning``: every row with every candidate.  What it chooses is
pasted into the study file before the test data are opened, as the hashes of the data are.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any

from hierseg.errors import ConfigError
from hierseg.study.config import RowSpec, Study, Tuning, with_settings

FOLDER = "tuning"


def tuning_study(study: Study) -> Study:
    """A study of every row with every candidate, by the seed for tuning, with the first of the row's numbers of subjects.

    Raises:
        ConfigError: the study has no ``tuning``, or a candidate fits no training.
    """
    if study.tuning is None:
        raise ConfigError(
            f"{study.path}: the study has no 'tuning', so that there is nothing to choose; add it (docs/studies.md)."
        )
    rows = tuple(_row_with(row, candidate) for row in study.rows for candidate in candidates(study.tuning))
    return dataclasses.replace(
        study, title=f"{study.title}: tuning", seeds=(study.tuning.seed,), rows=rows, lower=None, upper=None, default=(), metrics=("dice",),
        hold_out_each=None,
    )  # fmt: skip


def candidates(tuning: Tuning) -> list[dict[str, Any]]:
    """All combinations of the candidates."""
    return [dict(zip(tuning.grid, values, strict=True)) for values in itertools.product(*tuning.grid.values())]


def name_with(row: str, candidate: Mapping[str, Any]) -> str:
    """A row's name with a candidate's values."""
    return f"{row}, {', '.join(f'{key} {value}' for key, value in candidate.items())}"


def chosen(study: Study, content: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The best candidate of each row by mean Dice; of equal ones the first.  Rows that are not done are left out.

    Args:
        study: whose rows were tuned.
        content: of the tuning study's ``study.json``.
    """
    assert study.tuning is not None
    scores: dict[str, float] = {
        row["row"]: row["mean"]["dice"]["mean"] for row in content["rows"] if row["mean"].get("dice") is not None
    }
    found = {}
    for row in study.rows:
        known = {name_with(row.name, candidate): candidate for candidate in candidates(study.tuning)}
        if all(name in scores for name in known):
            found[row.name] = known[max(known, key=lambda name: scores[name])]
    return found


def _row_with(row: RowSpec, candidate: Mapping[str, Any]) -> RowSpec:
    name = name_with(row.name, candidate)
    try:
        settings = with_settings(row.settings, candidate)
    except ConfigError as error:
        raise ConfigError(f"row '{row.name}', 'tuning.grid': {error.sentence}") from error
    return dataclasses.replace(row, name=name, fine=row.fine[:1], settings=settings)
