"""The demo's picture: superclasses as outlines, subclasses as fills, on slices that show no face."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np

from hierseg.atomic import replacing
from hierseg.labeltree import LabelTree

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import Patch

BACKGROUND = "#101418"


def color_table(tree: LabelTree) -> np.ndarray:
    """RGBA in 0..1 by node value; background and unlabelled are clear."""
    table = np.zeros((65536, 4), dtype=np.float32)
    for node in tree.nodes:
        if node.color is not None and node.name != "background":
            table[node.value] = (*(channel / 255 for channel in node.color), 0.62)
    return table


def slice_of(volume: np.ndarray, axis: int, index: int) -> np.ndarray:
    """One slice, turned so that it can be shown with the origin below: up is superior or anterior."""
    return np.take(volume, index, axis=axis).T


def show(
    ax: Axes,
    image: np.ndarray,
    labels: np.ndarray | None,
    tree: LabelTree,
    axis: int,
    index: int,
    spacing: tuple[float, ...],
) -> None:
    """Draw one slice in gray, with fills and outlines if there are labels."""
    gray = slice_of(image, axis, index)
    first, second = [step for number, step in enumerate(spacing) if number != axis]
    ax.imshow(
        gray,
        origin="lower",
        cmap="gray",
        vmin=0,
        vmax=np.percentile(image, 99.7),
        aspect=second / first,
        interpolation="bilinear",
    )
    if labels is not None:
        part = slice_of(labels, axis, index)
        ax.imshow(color_table(tree)[part], origin="lower", aspect=second / first, interpolation="nearest")
        top = tree.top_value_table[part]
        for node in tree.top_level:
            inside = top == node.value
            if node.name != "background" and node.color is not None and inside.any():
                ax.contour(
                    inside.astype(float),
                    levels=[0.5],
                    colors=[tuple(channel / 255 for channel in node.color)],
                    linewidths=1.1,
                )
    ax.set_axis_off()


def bounding_box(mask: np.ndarray, margin: int) -> tuple[slice, ...]:
    """The box of a mask with a margin, inside the volume."""
    return tuple(
        slice(max(0, int(places.min()) - margin), min(size, int(places.max()) + margin + 1))
        for places, size in zip(np.nonzero(mask), mask.shape, strict=True)
    )


def draw(
    path: Path,
    tree: LabelTree,
    panels: list[list[tuple[str, np.ndarray, np.ndarray | None, int, int, tuple[float, ...]]]],
) -> None:
    """Write the PNG: rows of panels (title, image, labels or None, axis, index, spacing) and a legend of the tree."""
    rows, columns = len(panels), max(len(row) for row in panels)
    figure, axes = plt.subplots(
        rows, columns, figsize=(3.3 * columns, 3.3 * rows + 1.1), facecolor=BACKGROUND, squeeze=False
    )
    for row, line in zip(axes, panels, strict=True):
        for ax in row:
            ax.set_axis_off()
        for ax, (title, image, labels, axis, index, spacing) in zip(row, line, strict=False):
            show(ax, image, labels, tree, axis, index, spacing)
            ax.set_title(title, color="white", fontsize=11)
    handles: list[Patch] = []
    for node in tree.top_level:
        if node.color is None or node.name == "background":
            continue
        handles.append(
            Patch(facecolor="none", edgecolor=[channel / 255 for channel in node.color], linewidth=2, label=node.name)
        )
        handles += [
            Patch(facecolor=[channel / 255 for channel in leaf.color or (128, 128, 128)], label=leaf.name)
            for leaf in tree.leaves_under(node)
        ]
    legend = figure.legend(handles=handles, loc="lower center", ncols=6, fontsize=8, frameon=False)
    for text in legend.get_texts():
        text.set_color("white")
    figure.subplots_adjust(left=0.01, right=0.99, top=0.94, bottom=1.15 / (3.3 * rows + 1.1), wspace=0.02, hspace=0.1)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110, facecolor=BACKGROUND)
    plt.close(figure)
