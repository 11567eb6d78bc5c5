"""Tiny data sets: bright blobs in noise, annotated fine, coarse or sparsely."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np

from hierseg.dataset import Dataset
from hierseg.labeltree import LabelTree

TREE = LabelTree.from_dict(
    {
        "format_version": 1,
        "name": "blobs",
        "unlabelled": 255,
        "nodes": [
            {"name": "background", "value": 0},
            {"name": "tumor", "value": 5},
            {"name": "core", "parent": "tumor", "value": 1},
            {"name": "edema", "parent": "tumor", "value": 2},
        ],
    }
)

TINY = {
    "iterations": 6,
    "batch_size": 2,
    "patch_size": [32, 16, 16],
    "width": 4,
    "validation": {"interval": 3},
    "checkpoint_interval": 2,
    "log_interval": 2,
}


def blob(seed: int, size: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """An image with a ball of two halves, and its full label map."""
    rng = np.random.default_rng(seed)
    axes = np.meshgrid(*(np.arange(size),) * 3, indexing="ij")
    center = rng.uniform(size * 0.4, size * 0.6, 3)
    ball = sum((axis - middle) ** 2 for axis, middle in zip(axes, center, strict=True)) < (size / 4) ** 2
    label = np.where(ball, np.where(axes[2] < center[2], 1, 2), 0).astype(np.uint8)
    image = np.array([0.1, 0.6, 1.0])[label] + rng.normal(0, 0.05, label.shape)
    return image.astype(np.float32), label


def save(
    dataset: Dataset, case_id: str, image: np.ndarray | list[np.ndarray], label: np.ndarray | None, **keys: object
) -> None:
    """Write a case with an identity affine."""
    images = image if isinstance(image, list) else [image]

    def writer(array: np.ndarray) -> Callable[[Path], None]:
        return lambda path: nib.save(nib.Nifti1Image(array, np.eye(4)), path)

    dataset.save_case(case_id, [writer(array) for array in images], None if label is None else writer(label), **keys)  # type: ignore[arg-type]


def coarsen(label: np.ndarray) -> np.ndarray:
    """Subclasses become their superclass."""
    return np.where(np.isin(label, (1, 2)), 5, label).astype(np.uint8)


def make(folder: Path) -> Dataset:
    """Three fine and three coarse cases."""
    dataset = Dataset.create(folder, "blobs", ["MRI"], TREE)
    for seed in range(6):
        image, label = blob(seed)
        save(dataset, f"case{seed}", image, label if seed < 3 else coarsen(label))
    return dataset
