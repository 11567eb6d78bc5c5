"""How much two networks' agreement counts, over a training: the ramp of the semi-supervised methods."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hierseg.engine.config import TrainConfig

_STEPS = 200


def consistency_weight(config: TrainConfig, iteration: int) -> float:
    """W = ``weight`` · exp(−5 (1 − t)²), t rising from 0 to 1 in 200 steps during the ramp (Laine and Aila, 2017).

    With 40000 iterations and a ramp of 0.75 a step lasts 150 iterations, as in the published code of paper A.
    """
    ramp = config.consistency.ramp_up * config.iterations
    steps = _STEPS if ramp <= 0 else min(_STEPS, math.floor(_STEPS * iteration / ramp + 1e-9))
    return config.consistency.weight * ramp_up(steps / _STEPS)


def ramp_up(progress: float) -> float:
    """exp(−5 (1 − t)²) for t from 0 to 1; later 1."""
    return math.exp(-5.0 * (1.0 - min(max(progress, 0.0), 1.0)) ** 2)
