"""Arrays without their empty surroundings: what both sides of the worker's stream do to a result.

Most of a label map is one value, the background's: only the box of the other voxels travels, with the value that
surrounds it and the place where it lies.  What comes out of :func:`uncropped` is what went into :func:`cropped`, exactly.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from hierseg.errors import WorkerError
from hierseg.worker.protocol import MAX_PAYLOAD

_SAMPLES = 20_000


def cropped(array: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
    """The box of the voxels that differ from the most frequent value, and how to get the whole back.

    Args:
        array: unsigned integers, any shape.

    Returns:
        A view of the array, and ``{"shape": of the whole, "start": of the box, "fill": value}``.
    """
    flat = array.reshape(-1)
    fill = int(np.bincount(flat[:: max(1, flat.size // _SAMPLES)]).argmax()) if flat.size else 0
    bounds = _bounds(array, fill)
    place = tuple(slice(low, high) for low, high in bounds)
    return array[place], {"shape": list(array.shape), "start": [low for low, _ in bounds], "fill": fill}


def uncropped(piece: np.ndarray, how: Mapping[str, Any]) -> np.ndarray:
    """The whole array; itself where nothing was cut off.

    Args:
        piece: the box.
        how: from :func:`cropped`.

    Raises:
        WorkerError: the box does not lie in the whole, or the value does not fit its type.
    """
    shape, start, fill = tuple(how["shape"]), tuple(how["start"]), how["fill"]
    if piece.shape == shape:
        return piece
    fits = len(shape) == len(start) == piece.ndim and all(
        low >= 0 and low + size <= whole for low, size, whole in zip(start, piece.shape, shape, strict=True)
    )
    fits = fits and 0 <= fill <= np.iinfo(piece.dtype).max and math.prod(shape) * piece.itemsize <= MAX_PAYLOAD
    if not fits:
        raise WorkerError(f"a box of {piece.shape} at {start} with {fill} around it does not lie in {shape}.")
    result = np.full(shape, fill, piece.dtype)
    result[tuple(slice(low, low + size) for low, size in zip(start, piece.shape, strict=True))] = piece
    return result


def _bounds(array: np.ndarray, fill: int) -> list[tuple[int, int]]:
    """First and last + 1 index along each axis of what differs from ``fill``; (0, 0) for each where nothing does."""
    # Plane by plane: what is compared stays in the processor's cache.
    shadow = np.zeros(array.shape[1:], dtype=bool)
    along = np.zeros(array.shape[0], dtype=bool)
    other = np.empty(array.shape[1:], dtype=bool)
    for index, plane in enumerate(array):
        np.not_equal(plane, fill, out=other)
        along[index] = other.any()
        if along[index]:
            shadow |= other
    lines = [
        along,
        *(shadow.any(axis=tuple(i for i in range(shadow.ndim) if i != axis)) for axis in range(shadow.ndim)),
    ]
    found = [np.flatnonzero(line) for line in lines]
    return [(int(line[0]), int(line[-1]) + 1) if line.size else (0, 0) for line in found]
