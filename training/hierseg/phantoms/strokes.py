"""Dense label maps as somebody with little time would have drawn them: a few short strokes where a structure is."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import binary_erosion


def drawn(
    labels: np.ndarray, unlabelled: int, rng: np.random.Generator, *, strokes: int = 2, length: int = 12
) -> np.ndarray:
    """A map that is unlabelled but for strokes one voxel wide in slices along the last axis.

    Strokes say what is there and never what is not.  As annotators do, they stay off the borders of what is wide enough.

    Args:
        labels: node values ``(x, y, z)``.
        unlabelled: the value of what nobody said anything about.
        rng: decides where the strokes lie.
        strokes: for each structure in each slice.
        length: voxels of a stroke, at most.
    """
    result = np.full_like(labels, unlabelled)
    for index in range(labels.shape[-1]):
        for value in np.unique(labels[..., index]):
            if value == unlabelled:
                continue
            inside = labels[..., index] == value
            eroded = binary_erosion(inside)
            for _ in range(strokes):
                for x, y in _walk(eroded if eroded.sum() >= length else inside, rng, length):
                    result[x, y, index] = value
    return result


def _walk(inside: np.ndarray, rng: np.random.Generator, length: int) -> list[tuple[int, int]]:
    """Steps inside a region, to neighbors not yet visited, rather on than back."""
    places = np.argwhere(inside)
    row = places[int(rng.integers(len(places)))]
    here = (int(row[0]), int(row[1]))
    path, way = [here], rng.standard_normal(2)
    while len(path) < length:
        steps = [(dx, dy) for dx in (-1, 0, 1) for dy in (-1, 0, 1) if (dx, dy) != (0, 0)]
        free = [
            step for step in steps if _at(inside, here, step) and (here[0] + step[0], here[1] + step[1]) not in path
        ]
        if not free:
            break
        best = max(free, key=lambda step: float(np.dot(step, way) / np.hypot(*step)))
        here = (here[0] + best[0], here[1] + best[1])
        way = 0.7 * way / np.hypot(*way) + 0.3 * np.array(best) + 0.15 * rng.standard_normal(2)
        path.append(here)
    return path


def _at(inside: np.ndarray, here: tuple[int, ...], step: tuple[int, int]) -> bool:
    x, y = here[0] + step[0], here[1] + step[1]
    return 0 <= x < inside.shape[0] and 0 <= y < inside.shape[1] and bool(inside[x, y])
