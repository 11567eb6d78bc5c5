"""How well a score tells what was never annotated from what was: area under the curve, and errors at a fixed rate.

Held-out-class cross-validation (OOD-SEG, arXiv 2411.09553): a class is hidden from the training, and its voxels stand
for what a model without a background has to recognize as none of its classes.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

_TPR = 0.95


@dataclass(frozen=True)
class Separation:
    """Scores that are high for known classes.

    Attributes:
        auroc: the chance that a known voxel scores higher than an unknown one, ties counting half; None without both.
        fpr95: share of the unknown voxels that pass where 95 % of the known ones do; None without both.
        known: number of voxels.
        unknown: number of voxels.
    """

    auroc: float | None
    fpr95: float | None
    known: int
    unknown: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def separation(known: np.ndarray, unknown: np.ndarray) -> Separation:
    """Compare the scores of known and unknown voxels.

    Args:
        known: scores of voxels that carry a class of the training, ``(n,)``.
        unknown: scores of voxels of the hidden classes, ``(m,)``.
    """
    if len(known) == 0 or len(unknown) == 0:
        return Separation(None, None, len(known), len(unknown))
    order = np.sort(unknown)
    below, up_to = np.searchsorted(order, known, side="left"), np.searchsorted(order, known, side="right")
    auroc = float((below + up_to).mean() / 2 / len(order))
    # The largest threshold that 95 % of the known voxels reach.
    threshold = np.sort(known)[::-1][max(0, int(np.ceil(_TPR * len(known) - 1e-9)) - 1)]
    return Separation(auroc, float((unknown >= threshold).mean()), len(known), len(unknown))
