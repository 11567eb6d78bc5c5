"""The demo's table: Dice per tree node before and after, and what the nearest stroke alone would give."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.ndimage import distance_transform_edt
from scipy.spatial import cKDTree

from hierseg.evaluation.metrics import node_scores
from hierseg.labeltree import LabelTree

FAR_MM = 10.0


@dataclass
class Scores:
    """Dice of every node, 0..1 or None where it cannot be told.

    Attributes:
        before: the start bundle on B.
        after: the fine-tuned bundle on B.
        nearest: B's new leaves, from the start bundle's parent split by the nearest stroke.
        far_before: the start bundle on A, away from the strokes.
        far_after: the fine-tuned bundle on A, away from the strokes.
    """

    before: dict[str, float | None] = field(default_factory=dict)
    after: dict[str, float | None] = field(default_factory=dict)
    nearest: dict[str, float | None] = field(default_factory=dict)
    far_before: dict[str, float | None] = field(default_factory=dict)
    far_after: dict[str, float | None] = field(default_factory=dict)


def places(mask: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """World coordinates in mm, ``(n, 3)``, of a mask's voxels."""
    return np.argwhere(mask) @ affine[:3, :3].T + affine[:3, 3]


def split_by_nearest_stroke(
    parent: np.ndarray,
    affine: np.ndarray,
    strokes: dict[int, np.ndarray],
    stroke_affine: np.ndarray,
    background: np.ndarray,
) -> np.ndarray:
    """The baseline: each voxel of the parent takes the label of the stroke that is nearest in world coordinates.

    Args:
        parent: bool, where B's parent was predicted.
        affine: of B.
        strokes: node value to bool mask, on A's grid.
        stroke_affine: of A.
        background: B's prediction, which the result keeps outside the parent.
    """
    known = np.concatenate([places(mask, stroke_affine) for mask in strokes.values()])
    value = np.concatenate([np.full(int(mask.sum()), node) for node, mask in strokes.items()])
    _, nearest = cKDTree(known).query(places(parent, affine))
    result = background.copy()
    result[parent] = value[nearest]
    return result


def away_from(strokes: np.ndarray, spacing: tuple[float, ...], distance_mm: float = FAR_MM) -> np.ndarray:
    """Bool mask of the voxels at least ``distance_mm`` from any stroke."""
    far: np.ndarray = distance_transform_edt(~strokes, sampling=spacing) >= distance_mm
    return far


def score(
    prediction: np.ndarray, reference: np.ndarray, tree: LabelTree, only: np.ndarray | None = None
) -> dict[str, float | None]:
    """Dice per node; with ``only``, on those voxels."""
    if only is not None:
        reference = np.where(only, reference, tree.unlabelled).astype(reference.dtype)
    return node_scores(prediction, reference, tree)


def table(scores: Scores, tree: LabelTree, new: set[str]) -> str:
    """The scores as a Markdown table, one row a node, indented by depth; Dice in percent."""
    rows = [
        "| node | B before | B after | change | B nearest stroke | A ≥ 10 mm before | A ≥ 10 mm after |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for node in tree.nodes:
        before, after = scores.before.get(node.name), scores.after.get(node.name)
        change = "" if before is None or after is None or node.name in new else f"{100 * (after - before):+.1f}"
        cells = [
            "·  " * (node.depth - 1) + node.name + (" (new)" if node.name in new else ""),
            _percent(None if node.name in new else before),
            _percent(after),
            change,
            _percent(scores.nearest.get(node.name)) if node.name in new else "",
            _percent(None if node.name in new else scores.far_before.get(node.name)),
            _percent(scores.far_after.get(node.name)),
        ]
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def verdict(scores: Scores, new: set[str]) -> list[str]:
    """What the table says, as sentences: the new leaves against the baseline, and the largest loss elsewhere."""
    lines = []
    for name in sorted(new):
        after, nearest = scores.after[name], scores.nearest[name]
        if after is not None and nearest is not None:
            word = "beats" if after > nearest else "does not beat"
            lines.append(f"{name} on B: {100 * after:.1f} {word} the nearest stroke's {100 * nearest:.1f}")
    losses = {
        name: 100 * (before - after)
        for name, before in scores.before.items()
        if name not in new and before is not None and (after := scores.after.get(name)) is not None
    }
    worst = max(losses, key=lambda name: losses[name])
    lines.append(f"largest loss of an untouched node on B: {losses[worst]:.1f} points ({worst})")
    return lines


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"
