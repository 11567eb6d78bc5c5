"""Held-out-class cross-validation as a part of a study: rows trained once more for each class, hidden from them.

What a method without a background makes of what nobody ever annotated is seen best with classes whose voxels are known: each
in turn is hidden from training and validation, and on the cases of the split its voxels are the unknown ones
(:mod:`hierseg.evaluation.out_of_distribution`; OOD-SEG, arXiv 2411.09553).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

NUMBERS = ("auroc", "fpr95", "known_accepted", "unknown_accepted")


@dataclass(frozen=True)
class HeldOut:
    """How well a hidden class was told from the others, mean over the seeds.

    Attributes:
        name: of the class.
        auroc: area under the curve of the largest leaf probability, of the voxels of all cases.
        fpr95: share of the class's voxels that pass where 95 % of the others do.
        known_accepted: share of the others' voxels that the model's thresholds let pass, mean over cases.
        unknown_accepted: the same of the class's.
    """

    name: str
    auroc: float | None
    fpr95: float | None
    known_accepted: float | None
    unknown_accepted: float | None


def held_out(name: str, contents: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> HeldOut:
    """Put a class's runs together.

    Args:
        name: of the class.
        contents: for each seed what the scores of the leaf argmax say, and those of the level-by-level decoding.
    """
    found: dict[str, list[float]] = {number: [] for number in NUMBERS}
    for leaf, consistent in contents:
        together = leaf["out_of_distribution"]["together"]
        accepted = consistent["out_of_distribution"]
        values = {number: together.get(number) for number in NUMBERS[:2]}
        values |= {number: (accepted.get(number) or {}).get("mean") for number in NUMBERS[2:]}
        for number, value in values.items():
            if value is not None:
                found[number].append(float(value))
    return HeldOut(name, *(float(np.mean(values)) if values else None for values in found.values()))


def over_classes(classes: Sequence[HeldOut], number: str) -> tuple[float, float | None] | None:
    """Mean and standard deviation over the classes that have the number; None if none has."""
    values = [value for one in classes if (value := getattr(one, number)) is not None]
    if not values:
        return None
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None
