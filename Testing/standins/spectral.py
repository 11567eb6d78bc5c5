"""A tiny hyperspectral data set: one slice a case, many channels, strokes of some classes, and no background."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np

from hierseg.dataset import Dataset
from standins.label_trees import tree_of

CHANNELS = 12
SIZE = 32
TREE = tree_of({"tissue": {"normal": {}, "abnormal": {}}, "vessel": {"artery": {}, "vein": {}}, "tool": {}})
CLASSES = ("normal", "abnormal", "artery", "vein", "tool")


def spectra() -> np.ndarray:
    """``(classes + 1, channels)``: siblings have similar spectra; the last row is what nobody annotates."""
    waves = np.linspace(0, 1, CHANNELS)
    centers = (0.25, 0.35, 0.6, 0.7, 0.95, 0.05)
    return np.stack([np.exp(-(((waves - center) / 0.15) ** 2)) for center in centers])


def scene(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Channels ``(C, X, Y)`` and class rows ``(X, Y)`` of a picture in stripes, in random order."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(CLASSES) + 1)
    rows = np.repeat(order, -(-SIZE // len(order)))[:SIZE]
    classes = np.tile(rows[:, None], (1, SIZE))
    image = spectra()[classes].transpose(2, 0, 1) + rng.normal(0, 0.05, (CHANNELS, SIZE, SIZE))
    return image.astype(np.float32), classes


def strokes(classes: np.ndarray, seed: int) -> np.ndarray:
    """Node values on a few columns; the unknown class and all else is unlabelled, every fourth stroke is coarse."""
    values = np.array([*(TREE.node(name).value for name in CLASSES), TREE.unlabelled], dtype=np.uint8)
    label = np.full(classes.shape, TREE.unlabelled, dtype=np.uint8)
    rng = np.random.default_rng([seed, 1])
    for number, column in enumerate(rng.choice(SIZE, 12, replace=False)):
        found = values[classes[:, column]]
        label[:, column] = (
            np.where(found == TREE.unlabelled, found, TREE.top_value_table[found]) if number % 4 == 3 else found
        )
    return label


def make_spectral(folder: Path, cases: int = 4, validation: int = 2) -> Dataset:
    """Write the data set."""
    dataset = Dataset.create(folder, "spectral", [f"band{n:02d}" for n in range(CHANNELS)], TREE)

    def writer(array: np.ndarray) -> Callable[[Path], None]:
        return lambda path: nib.save(nib.Nifti1Image(array[..., None], np.eye(4)), path)

    for seed in range(cases + validation):
        image, classes = scene(seed)
        dataset.save_case(
            f"frame{seed}",
            [writer(channel) for channel in image],
            writer(strokes(classes, seed)),
            split="training" if seed < cases else "validation",
        )
    return dataset
