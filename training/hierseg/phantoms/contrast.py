"""Images from label maps: every structure gets a random intensity, then a scanner is imitated.

This is the idea of domain randomization as in SynthSeg (Billot et al., Medical Image Analysis 2023): a network that
has seen every contrast of the same anatomy has to learn the anatomy.  The steps, in order: intensity and texture a
structure, partial volume (blur), bias field, thick slices, noise, gamma.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.ndimage import gaussian_filter, zoom


def smooth_field(
    rng: np.random.Generator, shape: tuple[int, ...], sigma: float, dtype: type[np.floating] = np.float32
) -> np.ndarray:
    """A random field ``shape`` of zero mean and unit variance, correlated over about ``sigma`` voxels.

    It is drawn on a coarser grid and interpolated, so that wide fields cost no more than narrow ones.  Processors
    round sums of float32 differently; where the same bytes are wanted on all of them, take float64.
    """
    step = max(1.0, sigma / 2)
    coarse = tuple(max(2, int(np.ceil(size / step)) + 2) for size in shape)
    field = gaussian_filter(rng.standard_normal(coarse).astype(dtype), min(sigma / step, 2.0), mode="nearest")
    if step > 1:
        field = zoom(field, step, order=1)
    field = field[tuple(slice(0, size) for size in shape)]
    result: np.ndarray = (field - field.mean()) / (field.std() + 1e-6)
    return result


def random_means(
    labels: np.ndarray, rng: np.random.Generator, *, background: int | None = 0
) -> dict[int, tuple[float, float]]:
    """A mean in 0..1 and a standard deviation for every label that occurs; the background is dark nine times in ten."""
    means = {int(label): (float(rng.uniform(0, 1)), float(rng.uniform(0.01, 0.08))) for label in np.unique(labels)}
    if background in means and rng.random() < 0.9:
        means[background] = (0.0, float(rng.uniform(0.0, 0.02)))
    return means


def synthesize(
    labels: np.ndarray,
    rng: np.random.Generator,
    *,
    spacing: tuple[float, ...] = (1.0, 1.0, 1.0),
    means: Mapping[int, tuple[float, float]] | None = None,
    background: int | None = 0,
    strength: float = 1.0,
) -> np.ndarray:
    """An image of the anatomy in a label map, as some scanner might show it.

    Args:
        labels: integers ``(x, y, z)`` or ``(x, y)``.
        rng: all randomness comes from it: the same state gives the same image.
        spacing: size of a voxel in mm; blur, bias and slice thickness are drawn in mm.
        means: mean and standard deviation of each label; :func:`random_means` if None.
        background: the label that is usually dark, or None.
        strength: 0 leaves out bias, slices, noise and gamma; 1 is the full range.

    Returns:
        float32, the shape of ``labels``, about 0..1.
    """
    table = random_means(labels, rng, background=background) if means is None else means
    top = int(labels.max()) + 1
    mean, deviation = np.zeros(top, np.float32), np.zeros(top, np.float32)
    for label, (center, spread) in table.items():
        if label < top:
            mean[label], deviation[label] = center, spread
    texture = 0.6 * rng.standard_normal(labels.shape).astype(np.float32)
    texture += 0.8 * smooth_field(rng, labels.shape, float(rng.uniform(1.0, 4.0)))
    image = mean[labels] + deviation[labels] * texture
    size = np.array(spacing[: labels.ndim], dtype=np.float64)
    image = gaussian_filter(image, rng.uniform(0.2, 0.9) / size)
    if strength > 0:
        image = image * np.exp(
            0.25 * strength * rng.random() * smooth_field(rng, labels.shape, float(rng.uniform(25, 60) / size.min()))
        )
        image = _thick_slices(image, rng, size, strength)
        image = image + rng.uniform(0.0, 0.04) * strength * rng.standard_normal(labels.shape).astype(np.float32)
        low, high = float(image.min()), float(image.max())
        image = ((image - low) / (high - low + 1e-6)) ** float(np.exp(0.35 * strength * rng.standard_normal()))
    result: np.ndarray = image.astype(np.float32)
    return result


def _thick_slices(image: np.ndarray, rng: np.random.Generator, size: np.ndarray, strength: float) -> np.ndarray:
    """Half of the time, blur along one axis to a slice of up to 6 mm and sample it that coarsely."""
    if rng.random() > 0.5 * strength:
        return image
    axis = int(rng.integers(image.ndim))
    thickness = rng.uniform(size[axis], max(6.0, size[axis])) / size[axis]
    if thickness <= 1.2 or image.shape[axis] < 8:
        return image
    sigma = np.zeros(image.ndim)
    sigma[axis] = thickness / 2.355
    blurred = gaussian_filter(image, sigma)
    count = max(4, round(image.shape[axis] / thickness))
    positions = np.linspace(0, image.shape[axis] - 1, count)
    index = np.arange(image.shape[axis])
    nearest = np.clip(np.searchsorted(positions, index) - 1, 0, count - 2)
    weight = (index - positions[nearest]) / (positions[nearest + 1] - positions[nearest])
    sampled = np.take(blurred, np.round(positions).astype(int), axis=axis)
    shape = [1] * image.ndim
    shape[axis] = -1
    weight = weight.reshape(shape).astype(np.float32)
    result: np.ndarray = (
        np.take(sampled, nearest, axis=axis) * (1 - weight) + np.take(sampled, nearest + 1, axis=axis) * weight
    )
    return result
