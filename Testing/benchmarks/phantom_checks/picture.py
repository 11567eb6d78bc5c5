"""A picture of the phantoms: what is shown and what is true, subject by subject."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
from phantom_checks.specs import FROZEN

from hierseg.phantoms.hyperspectral import BANDS, UNLABELLED
from hierseg.phantoms.shapes import Scan
from hierseg.phantoms.writing import draw_subject

COLUMNS = 7
RED_GREEN_BLUE = (int(0.6 * BANDS), int(0.32 * BANDS), 2)
"""Bands that are shown as colors."""


def draw_picture(path: Path) -> None:
    """Training subjects of each frozen draw, an image above its truth; unknown materials are gray."""
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2 * len(FROZEN), COLUMNS, figsize=(COLUMNS * 1.15, 2 * len(FROZEN) * 1.15))
    for number, (name, request) in enumerate(FROZEN.items()):
        for column in range(COLUMNS):
            scans = draw_subject(request, column)
            image, labels = _shown(name, scans[column % len(scans)])
            axes[2 * number, column].imshow(image, cmap="gray")
            axes[2 * number + 1, column].imshow(labels, cmap="tab20", vmin=0, vmax=19, interpolation="nearest")
    for axis in axes.flat:
        axis.axis("off")
    figure.tight_layout(pad=0.15)
    figure.savefig(path, dpi=80)
    plt.close(figure)


def _shown(name: str, scan: Scan) -> tuple[np.ndarray, np.ndarray]:
    """A slice with its labels, turned as it is looked at."""
    if name == "hyperspectral":
        image = np.stack([scan.images[band][..., 0] for band in RED_GREEN_BLUE], axis=-1) / 1000
        labels = scan.labels[..., 0]
        return np.clip(image, 0, 1).transpose(1, 0, 2), np.where(labels == UNLABELLED, 14, labels).T
    middle = int(np.argmax((scan.labels > 0).sum(axis=(0, 1))))
    channel = 2 if name == "brats" else 0
    return scan.images[channel][..., middle].T, scan.labels[..., middle].T
