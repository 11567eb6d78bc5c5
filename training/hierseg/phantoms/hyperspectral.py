"""Scenes of neurosurgery in 32 spectral bands: sparse strokes of what is there, no background, and unknown materials.

A scene is a piece of exposed brain: regions of normal and abnormal tissue, vessels over them, instruments on top.  The
spectra of one superclass's members differ by little more than the noise; lamp, sensor and shading differ from scene to
scene.  In most scenes lies something that is in no class: such pixels are ``unlabelled`` in the truth as well.
Training scenes carry a few strokes a structure, test scenes their dense truth.

The setting is that of the hyperspectral data in Wang et al., arXiv 2507.15777 (four groups of classes, sparse annotation
without background), with fewer classes; spectra and shapes are made up.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from hierseg.labeltree import LabelTree
from hierseg.phantoms.contrast import smooth_field
from hierseg.phantoms.shapes import Scan, affine_of
from hierseg.phantoms.strokes import drawn

BANDS = 32
WAVELENGTHS = np.linspace(450, 760, BANDS)
"""Nanometers."""
SPACING = (0.5, 0.5, 1.0)
GROUPS = {
    "surgical equipment": ("forceps", "suction tip", "cotton"),
    "abnormal tissue": ("tumor", "infiltrated tissue", "necrosis"),
    "normal tissue": ("gray matter", "white matter", "dura"),
    "vascular structures": ("artery", "vein", "blood clot"),
}
LEAVES = tuple(name for names in GROUPS.values() for name in names)
UNLABELLED = 255
# Height, center in nm and width in nm of the humps of each group's reflectance.
_GROUP_HUMPS = (
    ((0.55, 600, 300), (0.15, 480, 60)),
    ((0.45, 680, 110), (0.20, 500, 50)),
    ((0.55, 720, 140), (0.25, 510, 45)),
    ((0.50, 740, 70), (0.10, 470, 40)),
)
_MATERIALS = 4
"""Materials that are in no class."""


class HyperspectralPhantom:
    """One subject is one scene, ``(size, size, 1)`` in each of the bands."""

    name = "hyperspectral"
    channels: tuple[str, ...] = tuple(f"{round(wavelength)}nm" for wavelength in WAVELENGTHS)
    default_size = 64
    dataset_name = "Hyperspectral phantom"

    def tree(self) -> LabelTree:
        """Four groups with three members each, and no background."""
        nodes: list[dict[str, object]] = []
        for number, (group, names) in enumerate(GROUPS.items()):
            nodes.append({"name": group, "value": len(LEAVES) + number})
            nodes += [{"name": name, "parent": group, "value": LEAVES.index(name)} for name in names]
        return LabelTree.from_dict(
            {"format_version": 1, "name": "Hyperspectral phantom", "unlabelled": UNLABELLED, "nodes": nodes}
        )

    def subject(self, rng: np.random.Generator, index: int, size: int, difficulty: float) -> list[Scan]:
        """Draw a scene.

        Args:
            rng: source of everything.
            index: number of the scene, for its name.
            size: pixels along each side.
            difficulty: 0 to 1: how close the spectra of a group lie, and how much lamps and sensors differ.
        """
        labels, unknown = _scene(rng, size)
        spectra = np.concatenate([_spectra(difficulty), _materials()])
        cube = spectra[np.where(unknown >= 0, len(LEAVES) + np.maximum(unknown, 0), labels)]
        cube = _recorded(cube, rng, difficulty)
        truth = np.where(unknown >= 0, UNLABELLED, labels).astype(np.uint8)[..., None]
        images = tuple(np.clip(1000 * cube[..., band, None], 0, 32767).astype(np.int16) for band in range(BANDS))
        name = f"scene_{index:04d}"
        return [Scan(name, name, images, truth, affine_of(SPACING, truth.shape))]

    def annotated(self, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """What an annotator says of a training scene: two strokes a structure."""
        return drawn(labels, UNLABELLED, rng)


def _humps(rows: tuple[tuple[float, float, float], ...], wavelengths: np.ndarray) -> np.ndarray:
    result: np.ndarray = sum(
        (height * np.exp(-0.5 * ((wavelengths - center) / width) ** 2) for height, center, width in rows),
        np.zeros_like(wavelengths),
    )
    return result


def _spectra(difficulty: float) -> np.ndarray:
    """Reflectance ``(leaves, bands)``: a member differs from its group by a hump and a dip at places of its own."""
    apart = 0.10 - 0.07 * difficulty
    rows = []
    for group, names in enumerate(GROUPS.values()):
        base = 0.12 + _humps(_GROUP_HUMPS[group], WAVELENGTHS)
        for member in range(len(names)):
            up, down = 480 + 75 * member + 12 * group, 700 - 60 * member - 10 * group
            rows.append(base + _humps(((apart, up, 22), (-apart, down, 22)), WAVELENGTHS))
    return np.array(rows)


def _materials() -> np.ndarray:
    """Reflectance of what is in no class: drapes, gloves, bone wax, dye; the same in every data set."""
    humps = (
        ((0.55, 470, 35), (0.20, 760, 60)),
        ((0.60, 560, 30),),
        ((0.75, 650, 250), (-0.35, 600, 25)),
        ((0.30, 520, 20), (0.45, 640, 25)),
    )
    return np.array([0.10 + _humps(rows, WAVELENGTHS) for rows in humps[:_MATERIALS]])


def _scene(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Values of leaves, and the number of an unknown material or −1, each int64 ``(size, size)``."""
    value = {name: number for number, name in enumerate(LEAVES)}
    x, y = np.meshgrid(*(np.linspace(-1, 1, size),) * 2, indexing="ij")

    def field(width: float) -> np.ndarray:
        return smooth_field(rng, (size, size), width * size, np.float64)

    labels = np.where(field(0.12) > 0.3, value["white matter"], value["gray matter"])
    edge = rng.uniform(0.55, 0.95) + 0.12 * field(0.12)
    labels[np.hypot(x, y) > edge] = value["dura"]
    place = rng.uniform(-0.45, 0.45, 2)
    lump = np.hypot(x - place[0], y - place[1]) + 0.08 * field(0.08)
    radius = rng.uniform(0.3, 0.5)
    labels[lump < 1.45 * radius] = value["infiltrated tissue"]
    labels[lump < radius] = value["tumor"]
    labels[(lump < 0.8 * radius) & (field(0.07) > 0.6)] = value["necrosis"]
    for name, width in (("vein", 0.09), ("artery", 0.055), ("vein", 0.07), ("artery", 0.045)):
        if rng.random() < 0.75:
            # A level line of a smooth field winds like a vessel; dividing by the slope keeps its width.
            wave = field(0.22)
            slope = np.hypot(*np.gradient(wave, 2 / size))
            labels[np.abs(wave - rng.uniform(-0.6, 0.6)) / np.maximum(slope, 0.5) < width / 2] = value[name]
    labels[np.hypot(x - rng.uniform(-0.8, 0.8), y - rng.uniform(-0.8, 0.8)) + 0.06 * field(0.06) < 0.16] = value[
        "blood clot"
    ]
    _instruments(labels, value, x, y, rng)
    unknown = np.full((size, size), -1)
    for _ in range(int(rng.integers(0, 3))):
        spot = rng.uniform(-0.9, 0.9, 2)
        unknown[np.hypot(x - spot[0], y - spot[1]) + 0.08 * field(0.08) < rng.uniform(0.15, 0.3)] = rng.integers(
            _MATERIALS
        )
    return labels, unknown


def _instruments(
    labels: np.ndarray, value: dict[str, int], x: np.ndarray, y: np.ndarray, rng: np.random.Generator
) -> None:
    """Cotton lies flat, suction is a tube from the border, forceps are two narrow blades."""
    if rng.random() < 0.6:
        middle, turn = rng.uniform(-0.7, 0.7, 2), rng.uniform(0, np.pi)
        along = (x - middle[0]) * np.cos(turn) + (y - middle[1]) * np.sin(turn)
        across = (y - middle[1]) * np.cos(turn) - (x - middle[0]) * np.sin(turn)
        labels[(np.abs(along) < rng.uniform(0.15, 0.25)) & (np.abs(across) < rng.uniform(0.12, 0.2))] = value["cotton"]
    for name, blades in (("suction tip", ((0.0, 0.09),)), ("forceps", ((-0.1, 0.05), (0.1, 0.05)))):
        if rng.random() < 0.6:
            turn, tip = rng.uniform(0, 2 * np.pi), rng.uniform(-0.2, 0.5)
            along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
            for offset, half in blades:
                labels[(along > tip) & (np.abs(across - offset * (along - tip + 0.4)) < half)] = value[name]


def _recorded(cube: np.ndarray, rng: np.random.Generator, difficulty: float) -> np.ndarray:
    """What a camera makes of reflectances ``(x, y, bands)``: lamp, shading, highlights, optics, sensor, noise."""
    shape = cube.shape[:2]
    place = (WAVELENGTHS - WAVELENGTHS.mean()) / np.ptp(WAVELENGTHS)
    tint = 1 + (0.1 + 0.3 * difficulty) * (rng.uniform(-1, 1) * place + rng.uniform(-1, 1) * (place**2 - 0.08))
    lamp = tint * float(rng.uniform(1 - 0.3 * difficulty, 1 + 0.3 * difficulty))
    sensor = 1 + 0.03 * difficulty * rng.standard_normal(BANDS)
    shift = difficulty * rng.uniform(-0.8, 0.8)
    bands = np.clip(np.arange(BANDS) + shift, 0, BANDS - 1)
    low = np.minimum(bands.astype(int), BANDS - 2)
    cube = cube[..., low] * (1 - (bands - low)) + cube[..., low + 1] * (bands - low)
    texture = 0.06 * smooth_field(rng, shape, 2.0, np.float64) + 0.04 * rng.standard_normal(shape)
    shading = np.exp((0.1 + 0.2 * difficulty) * smooth_field(rng, shape, shape[0] / 3, np.float64) + texture)
    highlights = 0.5 * np.clip(smooth_field(rng, shape, 2.0, np.float64) - 2.0, 0, 1)
    cube = gaussian_filter(cube, (0.5, 0.5, 0.6)) * shading[..., None] + highlights[..., None]
    result: np.ndarray = cube * lamp * sensor + (0.01 + 0.02 * difficulty) * rng.standard_normal(cube.shape)
    return result
