"""What a cardiac phantom's scanner shows: how blood and wall look in it, and what lies around the heart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from hierseg.phantoms.contrast import smooth_field
from hierseg.phantoms.shapes import coordinates


@dataclass(frozen=True)
class Look:
    """Intensities of one subject, about 0 to 1, and what its scanner does to them.

    Attributes:
        table: mean of background flesh, right ventricle, wall, left ventricle, left and right muscle.
        grain: standard deviation of the texture of each of them: fine in flesh and wall, coarse in blood.
        noise: standard deviation of the noise.
        shading: of the logarithm of the coil's shading.
        blur: standard deviation of the smoothing, in voxels.
        gamma: of the gray scale.
    """

    table: np.ndarray
    grain: float
    noise: float
    shading: float
    blur: float
    gamma: float

    def image(
        self,
        rng: np.random.Generator,
        parts: list[np.ndarray],
        surroundings: np.ndarray,
        spacing: tuple[float, ...],
    ) -> np.ndarray:
        """The mean over a slice's thickness of what each part would look like, as int16 ``(x, y, z)``."""
        shape = surroundings.shape
        image = np.mean([np.where(part > 0, self.table[part], surroundings) for part in parts], axis=0)
        fine = rng.standard_normal(shape)
        coarse = smooth_field(rng, shape, 4.0 / spacing[0], np.float64)
        blood = np.mean([(part == 1) | (part == 3) for part in parts], axis=0)
        image = image + self.grain * (blood * coarse + (1 - blood) * fine)
        image = gaussian_filter(image, (self.blur, self.blur, 0))
        image = image + self.noise * rng.standard_normal(shape)
        image = image * np.exp(self.shading * smooth_field(rng, shape, 50.0 / spacing[0], np.float64))
        result: np.ndarray = (600 * np.clip(image, 0, 4) ** self.gamma).astype(np.int16)
        return result


def look_of(rng: np.random.Generator, difficulty: float) -> Look:
    """Draw a scanner and its sequence."""
    blood = float(rng.uniform(0.45, 0.75))
    wall = blood - float(rng.uniform(0.17, 0.29)) * (1.2 - 0.4 * difficulty)
    # Flesh is darker than the wall or brighter than the blood, so that the heart's border can be seen.
    away = float(rng.uniform(0.10, 0.22))
    flesh = wall - away if rng.random() < 0.5 else blood + away
    left, right = blood + (0.01 + 0.04 * difficulty) * rng.standard_normal(2)
    return Look(
        table=np.array([max(flesh, 0.05), right, wall, left, wall, wall]),
        grain=0.03 + 0.05 * difficulty,
        noise=0.03 + 0.05 * difficulty,
        shading=0.08 + 0.28 * difficulty,
        blur=float(rng.uniform(0.0, 0.3 + 0.6 * difficulty)),
        gamma=float(np.exp(0.3 * difficulty * rng.standard_normal())),
    )


def clutter(
    rng: np.random.Generator, look: Look, shape: tuple[int, int, int], spacing: tuple[float, ...], center: np.ndarray
) -> np.ndarray:
    """Intensities around the heart: flesh, fat, two lungs, and vessels and organs that look like blood or wall."""
    x, y, z = (axis.astype(np.float64) for axis in coordinates(shape, spacing))
    flesh, _, wall, blood = look.table[:4]
    image = np.full(shape, flesh)
    lung, fat = float(rng.uniform(0.05, 0.25)), float(rng.uniform(0.75, 1.0))
    image[(x / 145) ** 2 + ((y - 15) / 118) ** 2 > 1] = fat
    image[(x / 160) ** 2 + ((y - 15) / 132) ** 2 > 1] = 0.02
    for side in (-1, 1):
        middle = side * rng.uniform(72, 88)
        image[
            ((x - middle) / rng.uniform(34, 50)) ** 2 + ((y - rng.uniform(-20, 20)) / rng.uniform(50, 80)) ** 2 < 1
        ] = lung
    for _ in range(int(rng.integers(2, 6))):
        angle, away = rng.uniform(0, 2 * np.pi), rng.uniform(42, 80)
        place = center + away * np.array([np.cos(angle), np.sin(angle)])
        lean = rng.uniform(-0.4, 0.4, size=2)
        across = np.sqrt(
            ((x - place[0] - lean[0] * z) / rng.uniform(6, 20)) ** 2
            + ((y - place[1] - lean[1] * z) / rng.uniform(6, 20)) ** 2
        )
        inside = float(rng.choice([blood, wall, fat, rng.uniform(0.2, 0.9)]))
        image[across < 1] = inside
        if rng.random() < 0.5:
            image[across < rng.uniform(0.4, 0.75)] = float(rng.choice([blood, wall]))
    return image
