"""The phantoms that studies are frozen on, and the trainings that they were checked with."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hierseg.phantoms.writing import Request


@dataclass(frozen=True)
class Spec:
    """A phantom, and how it is checked.

    Attributes:
        kind, cases, seed, size, difficulty: see :class:`hierseg.phantoms.writing.Request`.
        fine: training subjects with subclass labels in the rows with few of them.
        validation: subjects of each validation seed.
        validation_seeds: of the validation subjects.
        closes: how much of the gap two heads may close.
        settings: of the trainings, the same for all.
    """

    kind: str
    cases: int
    fine: int
    size: int
    difficulty: float
    closes: float
    settings: Mapping[str, Any] = field(default_factory=dict)
    validation: int = 10
    seed: int = 1
    validation_seeds: tuple[int, ...] = (2, 4)

    def request(self, **changes: Any) -> Request:
        """The training subjects, or those with another seed and number."""
        known = Request(self.kind, self.cases, seed=self.seed, size=self.size, difficulty=self.difficulty)
        return dataclasses.replace(known, **changes)


ROWS = {"lower": ("unet", True), "two_head": ("two_head", True), "upper": ("unet", False)}
"""Method of each row, and whether only a few subjects carry subclass labels."""

PLAIN = {
    "augmentation": {"flip_axes": [], "affine_probability": 0, "intensity_probability": 0},
    "prior_concatenation": False,
    "separate_normalization": False,
    "validation": {"interval": 0},
    "checkpoint_interval": 1000,
    "amp": False,
}

SPECS = {
    "acdc": Spec(
        "acdc", cases=70, fine=3, size=64, difficulty=0.5, closes=0.8,
        settings={**PLAIN, "iterations": 900, "batch_size": 8, "width": 8, "patch_size": [64, 64], "learning_rate": 0.05},
    ),
    "brats": Spec(
        "brats", cases=100, fine=10, size=32, difficulty=0.5, closes=0.5, validation_seeds=(2,),
        settings={**PLAIN, "iterations": 1000, "batch_size": 2, "width": 8, "patch_size": [32, 32, 32], "learning_rate": 0.05},
    ),
}  # fmt: skip

TEST_SEED, TEST_SUBJECTS = 3, 40

FROZEN = {
    **{name: spec.request() for name, spec in SPECS.items()},
    "hyperspectral": Request("hyperspectral", cases=40, seed=1, size=64, difficulty=0.5),
}
"""Training draws of the studies; validation and test subjects come from other seeds."""
