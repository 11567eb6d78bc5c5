"""Whole heads in the brain start tree's structures, each with its own random contrast.

A head is built of warped ellipsoids that stand where the structures of a brain stand: a folded cortex around white
matter, paired deep nuclei, ventricles, cerebellum and brainstem, in skull and scalp.  It is no atlas: sizes and
neighborhoods are about right, details are not.  What is learned is position and shape, because the structures of one
region get nearly the same intensity.
"""

from __future__ import annotations

import numpy as np

from hierseg.phantoms.contrast import smooth_field, synthesize
from hierseg.phantoms.shapes import (
    Coordinates,
    Scan,
    affine_of,
    both_sides,
    coordinates,
    ellipsoid,
    sibling_means,
    warped,
)
from hierseg.phantoms.trees import Shipped

FIELD_OF_VIEW = (182.0, 218.0, 182.0)
"""Millimeters from left to right, back to front, bottom to top."""

# Values of the brain start tree's leaves; SKULL and SCALP are background there, with an intensity of their own.
BACKGROUND, CORTEX, WHITE_MATTER = 0, 1, 2
THALAMUS, CAUDATE, PUTAMEN, PALLIDUM, HIPPOCAMPUS, AMYGDALA, ACCUMBENS, VENTRAL = 3, 4, 5, 6, 7, 8, 9, 10
LATERAL_VENTRICLE, THIRD_VENTRICLE, FOURTH_VENTRICLE, OUTER_FLUID = 11, 12, 13, 14
BRAINSTEM, CEREBELLUM = 15, 16
SKULL, SCALP = 21, 22

FAMILIES = (
    (CORTEX, WHITE_MATTER),
    (THALAMUS, CAUDATE, PUTAMEN, PALLIDUM, HIPPOCAMPUS, AMYGDALA, ACCUMBENS, VENTRAL),
    (LATERAL_VENTRICLE, THIRD_VENTRICLE, FOURTH_VENTRICLE, OUTER_FLUID),
    (BRAINSTEM, CEREBELLUM),
    (SKULL,),
    (SCALP,),
)

# Label, center (x to the side, y to the front, z up) and semi-axes in mm; later rows lie over earlier ones.
_NUCLEI = (
    (VENTRAL, (9, -16, -14), (8, 9, 6)),
    (THALAMUS, (11, -18, 2), (9, 15, 9)),
    (PUTAMEN, (26, 4, 0), (6.5, 17, 10)),
    (PALLIDUM, (19, 0, -2), (5, 10, 7)),
    (HIPPOCAMPUS, (27, -24, -16), (7, 18, 7)),
    (AMYGDALA, (24, -2, -20), (8, 8, 8)),
    (LATERAL_VENTRICLE, (9, 0, 18), (6, 34, 9)),
    (CAUDATE, (15, 14, 12), (5.5, 16, 10)),
    (ACCUMBENS, (10, 14, -6), (5.5, 6, 5)),
)


class BrainPhantom(Shipped):
    """Heads of the tree ``brain_start``, one MR-like channel with random contrast."""

    name = "brain"
    tree_name = "brain_start"
    channels: tuple[str, ...] = ("MRI",)
    default_size = 109
    dataset_name = "Brain phantom"

    def subject(self, rng: np.random.Generator, index: int, size: int, difficulty: float) -> list[Scan]:
        """Draw a head.

        Args:
            rng: source of everything.
            index: number of the subject, for its name.
            size: voxels from back to front; the head always fills the same field of view.
            difficulty: 0 to 1: how much the intensities of a region's structures overlap, and how warped a head is.
        """
        spacing = (FIELD_OF_VIEW[1] / size,) * 3
        shape = tuple(max(8, round(length / spacing[0])) for length in FIELD_OF_VIEW)
        classes = self.classes(rng, shape, spacing, difficulty)
        spread = 0.05 + 0.05 * difficulty
        means = sibling_means(rng, FAMILIES, spread=spread, overlap=2.0 - 1.6 * difficulty)
        means[BACKGROUND] = (0.0, 0.01)
        image = synthesize(classes, rng, spacing=spacing, means=means, strength=0.5 + 0.5 * difficulty)
        labels = np.where(classes >= SKULL, BACKGROUND, classes).astype(np.uint8)
        name = f"brain_{index:04d}"
        return [Scan(name, name, ((1000 * image).astype(np.int16),), labels, affine_of(spacing, shape))]

    def classes(
        self, rng: np.random.Generator, shape: tuple[int, ...], spacing: tuple[float, ...], difficulty: float
    ) -> np.ndarray:
        """The head as int64 ``(x, y, z)``: values of leaves, and :data:`SKULL` and :data:`SCALP`."""
        at = coordinates(shape, spacing)
        at = _stretched(at, rng, 0.04 + 0.04 * difficulty)
        at = warped(at, rng, spacing, amount=1.5 + 2.5 * difficulty, width=45.0)
        labels = np.zeros(shape, dtype=np.int64)
        outer = ellipsoid(at, (0, 0, 6), (80, 98, 82))
        labels[outer < 1] = SCALP
        labels[ellipsoid(at, (0, 0, 6), (74, 92, 77)) < 1] = SKULL
        inside = ellipsoid(at, (0, 0, 8), (69, 87, 71)) < 1
        labels[inside] = OUTER_FLUID
        self._hindbrain(labels, at, inside)
        self._cerebrum(labels, at, rng, spacing, inside)
        for label, center, axes in _NUCLEI:
            labels[(both_sides(at, center, axes) < 1) & inside] = label
        labels[ellipsoid(at, (0, -12, 0), (2.6, 14, 10)) < 1] = THIRD_VENTRICLE
        return labels

    @staticmethod
    def _hindbrain(labels: np.ndarray, at: Coordinates, inside: np.ndarray) -> None:
        labels[(both_sides(at, (22, -56, -38), (28, 26, 18)) < 1) & inside] = CEREBELLUM
        labels[(ellipsoid(at, (0, -24, -36), (12, 13, 28)) < 1) & inside] = BRAINSTEM
        labels[ellipsoid(at, (0, -38, -34), (6.5, 6, 10)) < 1] = FOURTH_VENTRICLE

    @staticmethod
    def _cerebrum(
        labels: np.ndarray,
        at: Coordinates,
        rng: np.random.Generator,
        spacing: tuple[float, ...],
        inside: np.ndarray,
    ) -> None:
        x, y, z = at
        hemispheres = both_sides(at, (32, 0, 18), (36, 86, 59))
        temporal = both_sides(at, (42, 0, -18), (24, 48, 24))
        # Depth below the surface in mm; a random field folds it, which makes sulci of fluid and gyri of cortex.
        depth = np.maximum(36 * (1 - hemispheres), 24 * (1 - temporal))
        folded = depth + 4.0 * smooth_field(rng, depth.shape, 7.0 / spacing[0])
        # The deep nuclei hang below the hemispheres; white matter surrounds them.
        core = both_sides(at, (16, -2, -2), (22, 34, 20)) < 1
        above = (z > -22 - 0.1 * y) | (temporal < 1)
        free = inside & above & (labels == OUTER_FLUID) & (np.abs(x) > 1.2)
        labels[free & (folded > 0)] = CORTEX
        labels[free & (folded > 8.0)] = WHITE_MATTER
        labels[inside & core & (labels != BRAINSTEM) & (labels != CEREBELLUM)] = WHITE_MATTER


def _stretched(at: Coordinates, rng: np.random.Generator, amount: float) -> Coordinates:
    x, y, z = (axis * float(np.exp(amount * rng.standard_normal())) for axis in at)
    return x, y, z
