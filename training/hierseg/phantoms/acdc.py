"""Cardiac short-axis MR with the folders, label values and grid of ACDC.

A left ventricle tapers from base to apex inside its wall, a crescent of right ventricle leans on the septum.  Slices
are thick: each is the mean over its thickness, shifted a little as by breathing.  Both blood pools have one
intensity, and the wall's differs by little more than the noise, so that position and shape tell the three apart.

ACDC itself: Bernard et al., IEEE Transactions on Medical Imaging 2018.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hierseg.atomic import write_text
from hierseg.phantoms.contrast import smooth_field
from hierseg.phantoms.shapes import Coordinates, Scan, affine_of, coordinates, ellipsoid, turned, warped

IN_PLANE = 1.4
THICKNESS = 10.0
SLICES = 9
# ACDC's published values.
BACKGROUND, RIGHT_VENTRICLE, WALL, LEFT_VENTRICLE = 0, 1, 2, 3
# Appearance only: background in the truth, but for the papillary muscles, which look like wall and count as cavity.
LUNG, FLESH, FAT, PAPILLARY = 4, 5, 6, 7

_TRUTH = np.array([BACKGROUND, RIGHT_VENTRICLE, WALL, LEFT_VENTRICLE, 0, 0, 0, LEFT_VENTRICLE], dtype=np.uint8)

FRAMES = (("ED", 1), ("ES", 12))
_DISEASES = ("NOR", "DCM", "HCM", "MINF", "RV")


class AcdcPhantom:
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
            size: voxels along each side of a slice; their number, not the field of view, changes.
            difficulty: 0 to 1: noise against contrast, and how much the shape varies.
        """
        spacing = (IN_PLANE * self.default_size / size,) * 2 + (THICKNESS,)
        shape = (size, size, SLICES)
        heart = _Heart(rng, difficulty)
        shifts = rng.normal(0, 0.5 + difficulty, size=(2, SLICES))
        folds = int(rng.integers(2**31))
        scans = []
        for number, (frame, _) in enumerate(FRAMES):
            # Both frames are warped alike: it is the same chest.
            parts = [
                heart.labels(np.random.default_rng(folds), shape, spacing, number, shifts, offset)
                for offset in (-THICKNESS / 3, 0.0, THICKNESS / 3)
            ]
            image = _image(parts, rng, difficulty)
            labels = _TRUTH[parts[1]]
            group = f"patient{index + 1:03d}"
            scans.append(
                Scan(f"{group}_{frame}", group, (image,), labels, affine_of(spacing, shape, signs=(-1, -1, 1)))
            )
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
        vary = 0.06 + 0.10 * difficulty
        self.radius = 27.0 * float(np.exp(vary * rng.standard_normal()))
        self.wall = 9.5 * float(np.exp(vary * rng.standard_normal()))
        self.length = 43.0 * float(np.exp(0.5 * vary * rng.standard_normal()))
        self.right = 34.0 * float(np.exp(vary * rng.standard_normal()))
        self.squeeze = float(rng.uniform(0.62, 0.78))
        self.turn = float(rng.uniform(-25, 25))
        self.center = rng.normal(0, 6, size=2)
        self.warp = 1.0 + 1.5 * difficulty

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
        x, y, z = coordinates(shape, spacing)
        at = warped((x + shifts[0], y + shifts[1], z + offset), rng, spacing[:2], amount=self.warp, width=30.0)
        papillary = smooth_field(rng, shape, 6.0 / spacing[0])
        labels = self._chest(at)
        at = turned((at[0] - self.center[0], at[1] - self.center[1], at[2]), self.turn)
        # From 1 at the base to 0 at the apex; outside of that there is no ventricle.
        along = 1 - (self.length - at[2]) / (2 * self.length)
        present = (along > 0) & (along < 1)
        taper = np.sqrt(np.clip(1 - (1 - np.clip(along, 0, 1)) ** 2.2, 0, 1))
        outer = (self.radius + self.wall) * taper * (0.94 if frame else 1.0)
        inner = np.maximum(self.radius * (self.squeeze if frame else 1.0) * taper - (4 if frame else 2), 0)
        distance = np.hypot(at[0], at[1])
        right = self.right * (0.85 if frame else 1.0) * np.clip(1.6 * along - 0.1, 0, 1)
        crescent = np.hypot((at[0] + outer * 0.85) / 1.05, (at[1] - 4) / 1.25) < right
        labels[present & crescent] = RIGHT_VENTRICLE
        labels[present & (distance < outer)] = WALL
        labels[present & (distance < inner)] = LEFT_VENTRICLE
        labels[present & (distance < 0.85 * inner) & (papillary > 1.6)] = PAPILLARY
        return labels

    @staticmethod
    def _chest(at: Coordinates) -> np.ndarray:
        labels = np.full(at[0].shape, BACKGROUND, dtype=np.int64)
        flat = (at[0], at[1], np.zeros_like(at[2]))
        labels[ellipsoid(flat, (0, 15, 0), (145, 118, 1)) < 1] = FAT
        labels[ellipsoid(flat, (0, 15, 0), (132, 106, 1)) < 1] = FLESH
        labels[ellipsoid(flat, (78, 10, 0), (48, 78, 1)) < 1] = LUNG
        labels[ellipsoid(flat, (-82, -4, 0), (42, 62, 1)) < 1] = LUNG
        return labels


def _image(parts: list[np.ndarray], rng: np.random.Generator, difficulty: float) -> np.ndarray:
    """The mean over a slice's thickness of what each part would look like, with coil shading and noise, int16."""
    blood = float(rng.uniform(0.5, 0.7))
    noise = 0.06 + 0.05 * difficulty
    wall = blood - noise * (2.2 - 1.6 * difficulty)
    table = np.zeros(len(_TRUTH), dtype=np.float32)
    table[[RIGHT_VENTRICLE, LEFT_VENTRICLE]] = blood
    table[[WALL, PAPILLARY]] = wall
    table[[LUNG, FLESH, FAT]] = (0.12, wall - float(rng.uniform(0.06, 0.18)), float(rng.uniform(0.75, 0.95)))
    image = np.mean([table[part] for part in parts], axis=0)
    shape = image.shape
    image = image + 0.6 * noise * smooth_field(rng, shape, 3.0) + noise * rng.standard_normal(shape)
    image = image * np.exp(0.15 * smooth_field(rng, shape, shape[0] / 3))
    result: np.ndarray = np.clip(600 * image, 0, 32767).astype(np.int16)
    return result
