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
from hierseg.phantoms.trees import Shipped

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
    NECROTIC_CORE: (0.66, 0.38, 0.41, 0.73),
    EDEMA: (0.72, 0.42, 0.44, 0.70),
    ENHANCING: (0.62, 0.44, 0.62, 0.58),
}
_TUMOR = (NECROTIC_CORE, EDEMA, ENHANCING)
# Small volumes show the tumor and what is next to it.
CROPPED, COARSEST = 80.0, 2.5


class BratsPhantom(Shipped):
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
            size: voxels from left to right; below 96 the field of view shrinks to the tumor, too.
            difficulty: 0 to 1: how much the tumor's parts overlap in intensity, how irregular it is, and how much patients and
                scanners differ.
        """
        view = float(np.clip(COARSEST * size, CROPPED, FIELD_OF_VIEW[0]))
        step = view / size
        # 0 for the whole brain, 1 for a cube around the tumor.
        nearer = (FIELD_OF_VIEW[0] - view) / (FIELD_OF_VIEW[0] - CROPPED)
        flat = FIELD_OF_VIEW[2] / FIELD_OF_VIEW[0]
        shape = (size, size, round(size * (flat + (1 - flat) * nearer)))
        spacing = (step,) * 3
        tumor = _Tumor(rng, difficulty)
        middle = nearer * (tumor.center + rng.uniform(-6, 6, size=3))
        x, y, z = (axis + shift for axis, shift in zip(coordinates(shape, spacing), middle, strict=True))
        at = warped((x, y, z), rng, spacing, amount=1.5 + 2 * difficulty, width=40.0)
        classes, brain = _brain(at, rng, spacing)
        labels = tumor.labels(at, rng, spacing, brain & (classes != FLUID))
        classes = np.where(labels > 0, labels, classes)
        look = _Look(rng, difficulty)
        images = tuple(look.channel(number, classes, brain, rng, step) for number in range(len(CHANNELS)))
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
    folded = depth + 4.0 * smooth_field(rng, depth.shape, 7.0 / spacing[0], np.float64)
    brain = depth > -2.0
    classes = np.where(brain, FLUID, OUTSIDE).astype(np.int64)
    classes[brain & (folded > 0)] = GRAY_MATTER
    classes[brain & (folded > 8.0)] = WHITE_MATTER
    classes[both_sides(at, (9, 2, 10), (6, 30, 9)) < 1] = FLUID
    classes[both_sides(at, (20, -6, 0), (9, 16, 9)) < 1] = GRAY_MATTER
    return classes, brain


class _Tumor:
    """The measures of one patient's tumor, in mm: one or two lobes."""

    def __init__(self, rng: np.random.Generator, difficulty: float) -> None:
        side = -1.0 if rng.random() < 0.5 else 1.0
        self.center = np.array([side * rng.uniform(22, 38), rng.uniform(-35, 35), rng.uniform(-5, 30)])
        self.radius = float(rng.uniform(19, 25))
        self.lobes = [(np.zeros(3), np.exp(0.15 * rng.standard_normal(3)))]
        if rng.random() < difficulty:
            way = rng.standard_normal(3)
            self.lobes.append(
                (0.9 * self.radius * way / np.linalg.norm(way), 0.7 * np.exp(0.15 * rng.standard_normal(3)))
            )
        self.rough = 0.08 + 0.10 * difficulty
        self.core = float(rng.uniform(0.58, 0.74))
        self.reach = float(rng.uniform(1.3, 1.5))
        self.broken = float(rng.uniform(1.2, 1.8))

    def labels(
        self, at: Coordinates, rng: np.random.Generator, spacing: tuple[float, ...], tissue: np.ndarray
    ) -> np.ndarray:
        """Labels of the tumor's parts, 0 elsewhere; it lies in tissue and is never empty."""
        near = np.min(
            [
                ellipsoid(at, (self.center + away).tolist(), (self.radius * stretch).tolist())
                for away, stretch in self.lobes
            ],
            axis=0,
        )
        bumpy = near + self.rough * smooth_field(rng, near.shape, 9.0 / spacing[0], np.float64)
        spreading = near + 2.0 * self.rough * smooth_field(rng, near.shape, 14.0 / spacing[0], np.float64)
        gaps = smooth_field(rng, near.shape, 12.0 / spacing[0], np.float64)
        labels = np.zeros(near.shape, dtype=np.int64)
        labels[spreading < self.reach] = EDEMA
        labels[bumpy < 1.0] = ENHANCING
        # Where the rim is broken, the core reaches the edema.
        labels[(bumpy < self.core) | ((bumpy < 0.95) & (gaps > self.broken))] = NECROTIC_CORE
        labels[~tissue] = BACKGROUND
        return labels


class _Look:
    """One patient's intensities in one scanner: what the parts of a tumor look like differs from patient to patient."""

    def __init__(self, rng: np.random.Generator, difficulty: float) -> None:
        self.table = np.zeros((max(_MEANS) + 1, len(CHANNELS)))
        for label, means in _MEANS.items():
            self.table[label] = means
        parts = list(_TUMOR)
        middle = self.table[parts].mean(axis=0)
        # The parts are drawn together towards their common mean, and away from it by the patient's own.
        self.table[parts] = middle + (1.0 - 0.4 * difficulty) * (self.table[parts] - middle)
        self.table[parts] += (0.01 + 0.07 * difficulty) * rng.standard_normal((len(parts), len(CHANNELS)))
        self.table[parts] += 0.12 * difficulty * rng.standard_normal(len(CHANNELS))
        self.table[1:] += 0.06 * difficulty * rng.standard_normal((len(self.table) - 1, len(CHANNELS)))
        self.table = np.clip(self.table, 0.05, 1.2)
        self.table[OUTSIDE] = 0.0
        self.grain = 0.02 + 0.03 * difficulty
        self.noise = rng.uniform(0.01, 0.02 + 0.03 * difficulty, len(CHANNELS))
        self.blur = rng.uniform(0.3, 0.6 + 0.4 * difficulty, len(CHANNELS))
        self.gamma = np.exp(0.4 * difficulty * rng.standard_normal(len(CHANNELS)))
        self.shading = 0.06 + 0.10 * difficulty

    def channel(
        self, number: int, classes: np.ndarray, brain: np.ndarray, rng: np.random.Generator, step: float
    ) -> np.ndarray:
        """One channel, int16, exactly 0 outside the brain."""
        image = gaussian_filter(self.table[classes, number], self.blur[number] / step)
        # Necrosis is blotchy, an enhancing rim grainy, edema smooth.
        blotches = smooth_field(rng, classes.shape, 5.0 / step, np.float64)
        grains = rng.standard_normal(classes.shape)
        image = image + self.grain * np.where(classes == NECROTIC_CORE, 1.5 * blotches, 0.5 * blotches)
        image = image + self.grain * np.where(classes == ENHANCING, 1.2 * grains, 0.0)
        image = image + self.noise[number] * rng.standard_normal(classes.shape)
        image = image * np.exp(self.shading * smooth_field(rng, classes.shape, 60.0 / step, np.float64))
        image = np.clip(image, 0, 3) ** self.gamma[number]
        result: np.ndarray = np.where(brain, np.clip(1000 * image, 1, 32767), 0).astype(np.int16)
        return result
