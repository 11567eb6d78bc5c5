"""The annotator of the demo: strokes in five slices, drawn inside the structures of a reference.

An annotator draws short strokes in the middle of a structure and leaves out the places where two meet.  So does this:
in each slice the structure is thinned from its border until little more than a stroke is left, so that a large structure
gets about as much paint as a small one.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import binary_erosion

SLICES = 5
STROKE_VOXELS = 80
AXIS = 1  # coronal: the cerebellum's folds are seen best


def choose_slices(inside: np.ndarray, axis: int = AXIS, count: int = SLICES) -> list[int]:
    """Indices of slices evenly spread over a structure, the thin ends left out."""
    along = np.nonzero(inside)[axis]
    return sorted({int(index) for index in np.quantile(along, np.linspace(0.1, 0.9, count))})


def draw(reference: np.ndarray, value: int, slices: list[int], axis: int = AXIS) -> np.ndarray:
    """Bool mask of the strokes for one structure.

    Args:
        reference: node values ``(x, y, z)``.
        value: the structure's.
        slices: where the annotator paints.
        axis: along which the slices are counted.
    """
    mask = np.zeros(reference.shape, dtype=bool)
    for index in slices:
        place: list[int | slice] = [slice(None)] * reference.ndim
        place[axis] = index
        region = reference[tuple(place)] == value
        while (thinner := binary_erosion(region)).sum() >= STROKE_VOXELS:
            region = thinner
        mask[tuple(place)] = region
    return mask
