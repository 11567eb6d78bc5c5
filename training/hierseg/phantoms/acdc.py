"""Cardiac short-axis MR with the folders, label values and grid of ACDC.

A left ventricle tapers from base to apex inside its wall, a crescent of right ventricle leans on the septum.  Slices
are thick: each is the mean over its thickness, shifted a little as by breathing.  Both blood pools have about the same
intensity.  What blood and wall look like differs from scanner to scanner by more than the two differ in one of them, and
around the heart lie vessels and organs that look like either: position, shape and texture tell.

ACDC itself: Bernard et al., IEEE Transactions on Medical Imaging 2018.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hierseg.atomic import write_text
from hierseg.phantoms.chest import clutter, look_of
from hierseg.phantoms.contrast import smooth_field
from hierseg.phantoms.shapes import Scan, affine_of, coordinates, turned, warped
from hierseg.phantoms.trees import Shipped

IN_PLANE = 1.4
THICKNESS = 10.0
# Small slices show the heart and what is next to it, as crops of ACDC to the region of interest do.
CROPPED, COARSEST = 134.0, 2.1
# ACDC's published values.
BACKGROUND, RIGHT_VENTRICLE, WALL, LEFT_VENTRICLE = 0, 1, 2, 3
# Appearance only: muscles inside the cavities look like wall and count as cavity.
LEFT_MUSCLE, RIGHT_MUSCLE = 4, 5

_TRUTH = np.array([BACKGROUND, RIGHT_VENTRICLE, WALL, LEFT_VENTRICLE, LEFT_VENTRICLE, RIGHT_VENTRICLE], dtype=np.uint8)

FRAMES = (("ED", 1), ("ES", 12))
_DISEASES = ("NOR", "DCM", "HCM", "MINF", "RV")


class AcdcPhantom(Shipped):
    """Two frames a patient, end-diastolic and end-systolic, in the tree ``acdc``."""

    name = "acdc"
    tree_name = "acdc"
    channels: tuple[str, ...] = ("MRI",)
    default_size = 216
    dataset_name = "ACDC phantom"

    def subject(self, rng: np.random.Generator, index: int, size: int, difficulty: float) -> list[Scan]:
        """Draw a patient.

        Args:
            rng: source of everything.
            index: number of the patient, for its name.
            size: voxels along each side of a slice; below 144 the field of view shrinks to the heart, too.
            difficulty: 0 to 1: noise against contrast, how much scanners differ, and how much the shape varies.
        """
        view = float(np.clip(COARSEST * size, CROPPED, IN_PLANE * self.default_size))
        spacing = (view / size,) * 2 + (THICKNESS,)
        shape = (size, size, int(rng.integers(7, 12)))
        heart = _Heart(rng, difficulty)
        shifts = rng.normal(0, 0.5 + difficulty, size=(2, shape[2]))
        folds = int(rng.integers(2**31))
        look = look_of(rng, difficulty)
        surroundings = clutter(rng, look, shape, spacing, heart.center)
        scans = []
        for number, (frame, _) in enumerate(FRAMES):
            # Both frames are warped alike: it is the same chest.
            parts = [
                heart.labels(np.random.default_rng(folds), shape, spacing, number, shifts, offset)
                for offset in (-THICKNESS / 3, 0.0, THICKNESS / 3)
            ]
            image = look.image(rng, parts, surroundings, spacing)
            group = f"patient{index + 1:03d}"
            affine = affine_of(spacing, shape, signs=(-1, -1, 1))
            scans.append(Scan(f"{group}_{frame}", group, (image,), _TRUTH[parts[1]], affine))
        return scans

    def write_published(self, folder: Path, scans: list[Scan], rng: np.random.Generator) -> None:
        """Write ``patientXXX/`` as ACDC publishes it: ``Info.cfg``, two frames and their truths."""
        from hierseg.imageio import write_volume

        patient = folder / scans[0].group
        for scan, (_, frame) in zip(scans, FRAMES, strict=True):
            stem = f"{scan.group}_frame{frame:02d}"
            write_volume(patient / f"{stem}.nii.gz", scan.images[0], scan.affine)
            write_volume(patient / f"{stem}_gt.nii.gz", scan.labels, scan.affine)
        rows = {
            **dict(FRAMES),
            "Group": _DISEASES[int(rng.integers(len(_DISEASES)))],
            "Height": f"{rng.uniform(150, 195):.1f}",
            "NbFrame": 30,
            "Weight": f"{rng.uniform(50, 110):.1f}",
        }
        write_text(patient / "Info.cfg", "".join(f"{key}: {value}\n" for key, value in rows.items()))


class _Heart:
    """The measures of one patient's heart, in mm."""

    def __init__(self, rng: np.random.Generator, difficulty: float) -> None:
        vary = 0.06 + 0.12 * difficulty
        self.radius = 25.0 * float(np.exp(vary * rng.standard_normal()))
        self.wall = 10.5 * float(np.exp(vary * rng.standard_normal()))
        self.length = 45.0 * float(np.exp(0.5 * vary * rng.standard_normal()))
        self.right = 32.0 * float(np.exp(vary * rng.standard_normal()))
        self.squeeze = float(rng.uniform(0.62, 0.8))
        self.turn = float(rng.uniform(-1, 1)) * (10 + 30 * difficulty)
        self.oval = float(np.exp(0.08 * rng.standard_normal()))
        self.center = np.array([8.0, 0.0]) + rng.normal(0, 2 + 6 * difficulty, size=2)
        self.warp = 1.0 + 2.0 * difficulty

    def labels(
        self,
        rng: np.random.Generator,
        shape: tuple[int, int, int],
        spacing: tuple[float, ...],
        frame: int,
        shifts: np.ndarray,
        offset: float,
    ) -> np.ndarray:
        """What lies ``offset`` mm above the middles of the slices, int64 ``(x, y, z)``; frame 1 is contracted."""
        x, y, z = (axis.astype(np.float64) for axis in coordinates(shape, spacing))
        at = warped((x + shifts[0], y + shifts[1], z + offset), rng, spacing[:2], amount=self.warp, width=30.0)
        muscle = smooth_field(rng, shape, 5.0 / spacing[0], np.float64)
        labels = np.full(shape, BACKGROUND, dtype=np.int64)
        at = turned((at[0] - self.center[0], at[1] - self.center[1], at[2]), self.turn)
        # From 1 at the base to 0 at the apex; outside of that there is no ventricle.
        along = 1 - (self.length - at[2]) / (2 * self.length)
        present = (along > 0) & (along < 1)
        taper = np.sqrt(np.clip(1 - (1 - np.clip(along, 0, 1)) ** 2.2, 0, 1))
        outer = (self.radius + self.wall) * taper * (0.94 if frame else 1.0)
        inner = np.maximum(self.radius * (self.squeeze if frame else 1.0) * taper - (4 if frame else 2), 0)
        distance = np.sqrt((at[0] * self.oval) ** 2 + (at[1] / self.oval) ** 2)
        right = self.right * (0.85 if frame else 1.0) * np.clip(1.6 * along - 0.1, 0, 1)
        crescent = np.sqrt(((at[0] + outer * 0.85) / 1.05) ** 2 + ((at[1] - 4) / 1.25) ** 2)
        labels[present & (crescent < right)] = RIGHT_VENTRICLE
        labels[present & (crescent < 0.9 * right) & (muscle < -1.5)] = RIGHT_MUSCLE
        labels[present & (distance < outer)] = WALL
        labels[present & (distance < inner)] = LEFT_VENTRICLE
        labels[present & (distance < 0.85 * inner) & (muscle > 1.4)] = LEFT_MUSCLE
        return labels
