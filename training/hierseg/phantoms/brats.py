"""Skull-stripped multi-parametric MR of brains with a glioma, with the folders, label values and grid of BraTS 2021.

The tumor is a warped ball: a necrotic core, a broken enhancing rim, edema that spreads through the brain.  Each of the
four channels shows some of it, none shows all, and the parts overlap in every channel.

BraTS 2021 itself: Baid et al., arXiv 2107.02314.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from hierseg.phantoms.contrast import smooth_field
from hierseg.phantoms.shapes import Coordinates, Scan, both_sides, coordinates, ellipsoid, warped

FIELD_OF_VIEW = (240.0, 240.0, 155.0)
# BraTS 2021's published values.
BACKGROUND, NECROTIC_CORE, EDEMA, ENHANCING = 0, 1, 2, 4
# Appearance only: background in the truth.
OUTSIDE, FLUID, GRAY_MATTER, WHITE_MATTER = 0, 5, 6, 7

CHANNELS = ("FLAIR", "T1", "T1ce", "T2")
_FILE_PARTS = ("flair", "t1", "t1ce", "t2")

# Mean intensity by channel in the order of CHANNELS.
_MEANS = {
    FLUID: (0.15, 0.20, 0.20, 0.90),
    GRAY_MATTER: (0.45, 0.45, 0.47, 0.55),
    WHITE_MATTER: (0.38, 0.62, 0.64, 0.40),
    NECROTIC_CORE: (0.58, 0.34, 0.42, 0.70),
    EDEMA: (0.68, 0.42, 0.44, 0.72),
    ENHANCING: (0.64, 0.42, 0.56, 0.66),
}
_TUMOR = (NECROTIC_CORE, EDEMA, ENHANCING)


class BratsPhantom:
    """One subject is one scan of four channels, in the tree ``brats2021``."""

    name = "brats"
    tree_name = "brats2021"
    channels: tuple[str, ...] = CHANNELS
    default_size = 240
    dataset_name = "BraTS 2021 phantom"

    def subject(self, rng: np.random.Generator, index: int, size: int, difficulty: float) -> list[Scan]:
        """Draw a brain with a tumor.

        Args:
            rng: source of everything.
            index: number of the subject, for its name.
            size: voxels from left to right; the brain always fills the same field of view.
            difficulty: 0 to 1: how much the tumor's parts overlap in intensity, and how irregular it is.
        """
        step = FIELD_OF_VIEW[0] / size
        shape = tuple(max(8, round(length / step)) for length in FIELD_OF_VIEW)
        spacing = (step,) * 3
        at = warped(coordinates(shape, spacing), rng, spacing, amount=1.5 + 2 * difficulty, width=40.0)
        classes, brain = _brain(at, rng, spacing)
        labels = _tumor(at, rng, spacing, brain & (classes != FLUID), difficulty)
        classes = np.where(labels > 0, labels, classes)
        images = tuple(_channel(number, classes, brain, rng, difficulty, step) for number in range(len(CHANNELS)))
        # The published grid: both in-plane axes run against RAS.
        affine = np.diag([-step, -step, step, 1.0])
        affine[1, 3] = (shape[1] - 1) * step
        name = f"BraTS2021_{index:05d}"
        return [Scan(name, name, images, labels.astype(np.uint8), affine)]

    def write_published(self, folder: Path, scans: list[Scan], rng: np.random.Generator) -> None:
        """Write ``BraTS2021_XXXXX/`` as BraTS 2021 publishes it: four channels and ``_seg``."""
        from hierseg.imageio import write_volume

        for scan in scans:
            for part, image in zip(_FILE_PARTS, scan.images, strict=True):
                write_volume(folder / scan.id / f"{scan.id}_{part}.nii.gz", image, scan.affine)
            write_volume(folder / scan.id / f"{scan.id}_seg.nii.gz", scan.labels, scan.affine)


def _brain(at: Coordinates, rng: np.random.Generator, spacing: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    hemispheres = both_sides(at, (30, 0, 6), (40, 84, 60))
    cerebellum = both_sides(at, (20, 46, -46), (30, 28, 20))
    depth = np.maximum(40 * (1 - hemispheres), 22 * (1 - cerebellum))
    folded = depth + 4.0 * smooth_field(rng, depth.shape, 7.0 / spacing[0])
    brain = depth > -2.0
    classes = np.where(brain, FLUID, OUTSIDE).astype(np.int64)
    classes[brain & (folded > 0)] = GRAY_MATTER
    classes[brain & (folded > 8.0)] = WHITE_MATTER
    classes[both_sides(at, (9, 2, 10), (6, 30, 9)) < 1] = FLUID
    classes[both_sides(at, (20, -6, 0), (9, 16, 9)) < 1] = GRAY_MATTER
    return classes, brain


def _tumor(
    at: Coordinates, rng: np.random.Generator, spacing: tuple[float, ...], tissue: np.ndarray, difficulty: float
) -> np.ndarray:
    """Labels of the tumor's parts, 0 elsewhere; it lies in tissue and is never empty."""
    side = -1.0 if rng.random() < 0.5 else 1.0
    center = (side * rng.uniform(22, 38), rng.uniform(-35, 35), rng.uniform(-5, 30))
    radius = float(rng.uniform(15, 24))
    stretch = np.exp(0.15 * rng.standard_normal(3))
    near = ellipsoid(at, center, (radius * stretch).tolist())
    rough = 0.10 + 0.10 * difficulty
    bumpy = near + rough * smooth_field(rng, near.shape, 9.0 / spacing[0])
    spreading = near + 2.0 * rough * smooth_field(rng, near.shape, 14.0 / spacing[0])
    gaps = smooth_field(rng, near.shape, 8.0 / spacing[0])
    reach = float(rng.uniform(1.35, 1.6))
    labels = np.zeros(near.shape, dtype=np.int64)
    labels[spreading < reach] = EDEMA
    labels[bumpy < 1.0] = ENHANCING
    # Where the rim is broken, the core reaches the edema.
    labels[(bumpy < 0.72) | ((bumpy < 0.95) & (gaps > 1.1))] = NECROTIC_CORE
    labels[~tissue] = BACKGROUND
    return labels


def _channel(
    number: int, classes: np.ndarray, brain: np.ndarray, rng: np.random.Generator, difficulty: float, step: float
) -> np.ndarray:
    """One channel, int16, exactly 0 outside the brain."""
    table = np.zeros(max(_MEANS) + 1, dtype=np.float32)
    for label, means in _MEANS.items():
        table[label] = means[number]
    # The parts of the tumor are drawn together towards their common mean, and vary from patient to patient.
    middle = float(np.mean(table[list(_TUMOR)]))
    for label in _TUMOR:
        table[label] = middle + (0.9 - 0.6 * difficulty) * (table[label] - middle) + 0.03 * rng.standard_normal()
    texture = 0.05 + 0.05 * difficulty
    image = gaussian_filter(table[classes], 0.6 / step)
    image = image + texture * smooth_field(rng, classes.shape, 3.0 / step)
    image = image + 0.6 * texture * rng.standard_normal(classes.shape)
    image = image * np.exp(0.08 * smooth_field(rng, classes.shape, 70.0 / step))
    result: np.ndarray = np.where(brain, np.clip(1000 * image, 1, 32767), 0).astype(np.int16)
    return result
