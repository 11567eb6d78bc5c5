"""How far a network understands images at half their resolution: what a bundle may allow of a coarse pass, measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from hierseg.inference.coarse import OVERLAP, Coarse, find_presence, halved
from hierseg.inference.sliding import predict_prepared, slabs
from hierseg.labeltree import LabelTree

FACTOR = (2, 2, 2)
THRESHOLDS = (0.5, 0.3, 0.1, 0.03)
BRANCH_THRESHOLDS = (0.1, 0.03, 0.01)
MOST_LOST = 1e-4
"""Of the voxels that the full run gives to a top-level node, so many may lie where the coarse pass sees none of it."""


def allowed(
    model: nn.Module,
    arrays: Iterable[np.ndarray],
    config: Mapping[str, Any],
    tree: LabelTree,
    cancelled: Callable[[], bool] | None = None,
) -> dict[str, Any] | None:
    """The content of ``coarse_pass`` for a bundle's configuration; None: every tile has to be computed.

    Of the thresholds at which next to nothing is lost on these images, the second largest is taken: there is one in hand.

    Args:
        model: the network, on its device.
        arrays: prepared images, ``(C, X, Y, Z)`` each, that the network was not trained on.
        config: as for :func:`~hierseg.inference.sliding.slabs`.
        tree: the network's label tree.
        cancelled: ends the work.

    Raises:
        Cancelled: ``cancelled`` returned True.
    """
    if tree.background is None or int(config.get("spatial_dims", 3)) != 3:
        return None
    background = tree.top_level.index(tree.background)
    lost = np.zeros((len(THRESHOLDS), 2), np.int64)
    branches_lost = np.zeros((len(BRANCH_THRESHOLDS), len(tree.top_level), 2), np.int64)
    for array in arrays:
        image = torch.as_tensor(array, dtype=torch.float32)
        full = predict_prepared(model, image, config, tree=tree, cancelled=cancelled).superclass.argmax(dim=0).cpu()
        low = halved(image, FACTOR)
        (slab,) = slabs(model, low, {**config, "overlap": OVERLAP}, tree=tree, cancelled=cancelled, whole=True)
        for index, threshold in enumerate(THRESHOLDS):
            seen = find_presence([slab], low.shape[1:], Coarse(FACTOR, threshold), background).spread(full.shape)
            lost[index] += _lost(full != background, seen[background])
        for index, threshold in enumerate(BRANCH_THRESHOLDS):
            coarse = Coarse(FACTOR, THRESHOLDS[0], threshold)
            seen = find_presence([slab], low.shape[1:], coarse, background).spread(full.shape)
            for row in range(len(tree.top_level)):
                if row != background:
                    branches_lost[index, row] += _lost(full == row, seen[row])
    fine = [bool(part[1] > 0 and part[0] <= MOST_LOST * part[1]) for part in lost]
    chosen = _second(THRESHOLDS, fine)
    if chosen is None:
        return None
    # A top-level node that no image shows is one of which nothing is known.
    rows = [row for row in range(len(tree.top_level)) if row != background]
    shown = all(branches_lost[0, row, 1] > 0 for row in rows)
    well = [shown and all(part[row, 0] <= MOST_LOST * part[row, 1] for row in rows) for part in branches_lost]
    return {
        "factor": list(FACTOR),
        "threshold": chosen,
        "branch_threshold": _second(BRANCH_THRESHOLDS, well),
    }


def _lost(there: torch.Tensor, seen: torch.Tensor) -> tuple[int, int]:
    """Voxels that are there and not seen, and those that are there."""
    return int((there & ~seen).sum()), int(there.sum())


def _second(thresholds: tuple[float, ...], fine: list[bool]) -> float | None:
    """The second largest threshold that is fine, with all below it; None where there are not two."""
    count = next((index for index, good in enumerate(reversed(fine)) if not good), len(fine))
    return thresholds[len(thresholds) - count + 1] if count > 1 else None
