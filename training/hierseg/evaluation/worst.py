"""The worst cases, and the slice of each that shows the largest error.

Nothing beyond what was annotated is shown: a picture is cut to the reference's bounding box and a small margin, so that a
face around an annotated structure stays out.  Where the reference shows no structure, there is no image.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import nibabel as nib
import numpy as np

from hierseg.evaluation.case_scores import CaseScores, node_distances, wrong_pairs
from hierseg.labeltree import LabelTree

_MARGIN = 0.06  # of the box, on every side
_THICK = 1.5  # slices that are this much thicker than their voxels are wide are looked at as they were taken


@dataclass(frozen=True)
class Picture:
    """One slice of a case, rows from top to bottom, as on a radiologist's screen: the patient's right on the left.

    Attributes:
        case: its name.
        reference, predicted: node values ``(rows, columns)``.
        image: uint8, the same shape, black and white at the 1st and 99th percentile; None without an image.
        size: mm of the rows together, and of the columns.
        where: which slice this is.
        wrong: labelled voxels of the slice that are wrong.
    """

    case: str
    reference: np.ndarray
    predicted: np.ndarray
    image: np.ndarray | None
    size: tuple[float, float]
    where: str
    wrong: int


def worst_cases(cases: Mapping[str, CaseScores], tree: LabelTree, number: int) -> list[str]:
    """Cases with errors: the lowest mean Dice of the subclasses first, then the largest tree distance.

    A case without a subclass in its reference is judged by the nodes that it has.
    """

    def badness(name: str) -> tuple[float, float]:
        case = cases[name]
        dice = _mean_dice(case, [leaf.name for leaf in tree.leaves if leaf != tree.background])
        if dice is None:
            dice = _mean_dice(case, [node.name for node in tree.nodes if node != tree.background])
        return 1.0 if dice is None else dice, -(case.tree_distance or 0.0)

    return sorted((name for name, case in cases.items() if case.wrong), key=badness)[:number]


def picture(
    case: str,
    prediction: np.ndarray,
    reference: np.ndarray,
    tree: LabelTree,
    affine: np.ndarray,
    image: np.ndarray | None = None,
) -> Picture | None:
    """The slice with the largest error, each wrong voxel counting by its distance in the tree; None if nothing can be shown.

    Args:
        case: its name.
        prediction: node values ``(x, y, z)``.
        reference: the same.
        tree: of both.
        affine: voxel → RAS mm.
        image: the same shape, for the background.
    """
    turn = nib.orientations.io_orientation(affine)
    maps = [nib.orientations.apply_orientation(one, turn) for one in (prediction, reference)]
    found, truth = maps
    spacing = np.empty(3)
    spacing[turn[:, 0].astype(int)] = np.linalg.norm(affine[:3, :3], axis=0)
    shown = truth != tree.unlabelled
    if tree.background is not None:
        shown = shown & (truth != tree.background.value)
    known = bool(shown.any())
    box = _box(shown if known else _foreground(found, tree))
    if box is None:
        return None
    axis = _axis(truth.shape, spacing)
    found, truth = found[box], truth[box]
    cost, wrong = _errors(found, truth, tree)
    across = tuple(other for other in range(3) if other != axis)
    index = int(cost.sum(axis=across).argmax())
    gray = None
    if image is not None and known:
        gray = _gray(_screen(nib.orientations.apply_orientation(image, turn)[box], axis, index))
    rows, columns = (spacing[other] * truth.shape[other] for other in (across[1], across[0]))
    return Picture(
        case,
        _screen(truth, axis, index),
        _screen(found, axis, index),
        gray,
        (float(rows), float(columns)),
        f"{('sagittal', 'coronal', 'axial')[axis]} slice {index + box[axis].start + 1} of {maps[1].shape[axis]}",
        int(_screen(wrong, axis, index).sum()),
    )


def _mean_dice(case: CaseScores, names: list[str]) -> float | None:
    found = [dice for name in names if (dice := case.nodes[name].dice) is not None]
    return sum(found) / len(found) if found else None


def _foreground(labels: np.ndarray, tree: LabelTree) -> np.ndarray:
    clear = [tree.unlabelled] if tree.background is None else [tree.unlabelled, tree.background.value]
    result: np.ndarray = ~np.isin(labels, clear)
    return result


def _errors(found: np.ndarray, truth: np.ndarray, tree: LabelTree) -> tuple[np.ndarray, np.ndarray]:
    """Of every voxel the distance in the tree, and whether it is wrong; neither where the reference is unlabelled."""
    pairs = [tree.node_index_table[labels] for labels in (found, truth)]  # −1: unlabelled, which is the last row
    labelled = pairs[1] >= 0
    wrong = np.where(labelled, wrong_pairs(tree)[pairs[0], pairs[1]], False)
    return np.where(wrong, node_distances(tree)[pairs[0], pairs[1]], 0.0), wrong


def _axis(shape: tuple[int, ...], spacing: np.ndarray) -> int:
    """Across which axis slices are shown: the one of a single slice, of thick slices, or the patient's long axis."""
    if 1 in shape:
        return shape.index(1)
    thickest = int(spacing.argmax())
    return thickest if spacing[thickest] > _THICK * np.median(spacing) else 2


def _box(mask: np.ndarray) -> tuple[slice, ...] | None:
    """The box around what is True, with the margin."""
    if not mask.any():
        return None
    found = []
    for axis, length in enumerate(mask.shape):
        along = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        first, last = int(along[0]), int(along[-1]) + 1
        margin = max(2, round(_MARGIN * (last - first)))
        found.append(slice(max(0, first - margin), min(length, last + margin)))
    return tuple(found)


def _screen(volume: np.ndarray, axis: int, index: int) -> np.ndarray:
    """A slice of an array in RAS order, as rows from top to bottom: anterior or superior up, right or anterior to the left."""
    return np.ascontiguousarray(np.take(volume, index, axis=axis)[::-1, ::-1].T)


def _gray(part: np.ndarray) -> np.ndarray:
    low, high = np.percentile(part, [1, 99])
    result: np.ndarray = (255 * np.clip((part - low) / max(high - low, 1e-6), 0, 1)).astype(np.uint8)
    return result
