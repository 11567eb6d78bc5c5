"""Geometry that phantoms share: coordinates in mm, random smooth warps, ellipsoids, and random intensities.

A shape is a function below 1 inside, so that unions are minima and a shell is what lies between two thresholds.
Shapes stay simple; warping the coordinates before evaluating them is what makes every subject differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hierseg.phantoms.contrast import smooth_field

Coordinates = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Scan:
    """One image of a phantom subject, with its truth.

    Attributes:
        id: for file names: letters, digits and ``_``.
        group: the subject; scans of one subject belong on the same side of a split.
        images: one int16 or float32 array ``(x, y, z)`` a channel.
        labels: integers ``(x, y, z)``: values of the label tree's leaves.
        affine: 4×4, voxel index → millimeters in RAS.
    """

    id: str
    group: str
    images: tuple[np.ndarray, ...]
    labels: np.ndarray
    affine: np.ndarray


def coordinates(shape: Sequence[int], spacing: Sequence[float]) -> Coordinates:
    """Millimeters from the middle of the grid along each axis, as three arrays of the grid's shape."""
    axes = [(np.arange(size) - (size - 1) / 2) * step for size, step in zip(shape, spacing, strict=True)]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    return x.astype(np.float32), y.astype(np.float32), z.astype(np.float32)


def warped(
    at: Coordinates, rng: np.random.Generator, spacing: Sequence[float], *, amount: float, width: float
) -> Coordinates:
    """Coordinates displaced by a random smooth field.

    Args:
        at: what to displace; the field has its precision.
        rng: source of the field.
        spacing: size of a voxel in mm.
        amount: standard deviation of the displacement along each axis, mm.
        width: over how many mm it is correlated; it should be several times ``amount``, or shapes tear.
    """
    sigma = width / float(np.min(spacing))
    x, y, z = (axis + amount * smooth_field(rng, axis.shape, sigma, axis.dtype.type) for axis in at)
    return x, y, z


def turned(at: Coordinates, degrees: float) -> Coordinates:
    """Coordinates turned in the x-y plane."""
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    x, y, z = at
    return x * cosine + y * sine, y * cosine - x * sine, z


def ellipsoid(at: Coordinates, center: Sequence[float], axes: Sequence[float]) -> np.ndarray:
    """Distance from the center in units of the semi-axes: 1 on the surface; center and axes in mm."""
    squares = [((value - middle) / axis) ** 2 for value, middle, axis in zip(at, center, axes, strict=True)]
    result: np.ndarray = np.sqrt(squares[0] + squares[1] + squares[2])
    return result


def both_sides(at: Coordinates, center: Sequence[float], axes: Sequence[float]) -> np.ndarray:
    """The ellipsoid and its mirror image at −x, as one shape."""
    x, y, z = at
    return ellipsoid((np.abs(x), y, z), center, axes)


def sibling_means(
    rng: np.random.Generator, families: Sequence[Sequence[int]], *, spread: float, overlap: float
) -> dict[int, tuple[float, float]]:
    """Random intensities for which the members of a family overlap.

    Args:
        rng: source of randomness.
        families: labels whose intensities shall be alike; the families themselves may be far apart.
        spread: standard deviation of the intensity within one label.
        overlap: how far the means of a family lie apart, in units of ``spread``: 0 are the same, 3 can be told apart.

    Returns:
        For each label its mean in 0..1 and its standard deviation, as ``contrast.synthesize`` takes them.
    """
    means: dict[int, tuple[float, float]] = {}
    for family in families:
        center = float(rng.uniform(0.2, 0.9))
        offsets = overlap * spread * (rng.random(len(family)) - 0.5)
        for label, offset in zip(family, offsets, strict=True):
            means[label] = (float(np.clip(center + offset, 0.05, 1.0)), spread)
    return means


def affine_of(spacing: Sequence[float], shape: Sequence[int], signs: Sequence[int] = (1, 1, 1)) -> np.ndarray:
    """The affine of a grid whose middle is the origin; ``signs`` say which axes run against RAS."""
    steps = np.array(spacing, dtype=np.float64) * np.array(signs)
    affine = np.diag([*steps, 1.0])
    affine[:3, 3] = -steps * (np.array(shape) - 1) / 2
    return affine
