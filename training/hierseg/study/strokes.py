"""Dense label maps as somebody with little time would have drawn them: a few short strokes in every structure."""

from __future__ import annotations

import numpy as np

from hierseg.labeltree import LabelTree

SLICES = 4
"""Slices of a volume in which a structure is drawn."""
LENGTH = 12
"""Voxels that a stroke takes, at most."""


def drawn(labels: np.ndarray, tree: LabelTree, rng: np.random.Generator) -> np.ndarray:
    """A map that is unlabelled but for strokes one voxel wide, in slices along the last axis.

    Args:
        labels: node values ``(x, y, z)``.
        tree: of the labels.
        rng: decides where the strokes lie.
    """
    strokes = np.full_like(labels, tree.unlabelled)
    for value in np.unique(labels):
        if value == tree.unlabelled:
            continue
        inside = labels == value
        slices = np.flatnonzero(inside.any(axis=(0, 1)))
        for index in rng.choice(slices, min(SLICES, len(slices)), replace=False):
            for x, y in _stroke(inside[..., index], rng):
                strokes[x, y, index] = value
    return strokes


def _stroke(inside: np.ndarray, rng: np.random.Generator) -> list[tuple[int, int]]:
    """A walk inside a region that rather goes on than turns."""
    rows, columns = np.nonzero(inside)
    start = int(rng.integers(len(rows)))
    place, way = (int(rows[start]), int(columns[start])), float(rng.uniform(0, 2 * np.pi))
    path = [place]
    for _ in range(LENGTH - 1):
        for turn in (0.0, 0.6, -0.6, 1.4, -1.4, np.pi):
            direction = way + turn + float(rng.normal(0, 0.15))
            step = (place[0] + round(np.cos(direction)), place[1] + round(np.sin(direction)))
            if 0 <= step[0] < inside.shape[0] and 0 <= step[1] < inside.shape[1] and inside[step]:
                place, way = step, direction
                break
        path.append(place)
    return path
