"""Slices of annotated cases that are kept for measuring, where no whole case can be spared.

Of one or two cases none can be held out.  Their annotation usually lies in some slices: a few of these are hidden from the
training and scored instead.  Slices of one image are much alike, so such a score is better than that of a new image
would be; whoever shows it has to say so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hierseg.data.cases import subclass_values
from hierseg.labeltree import LabelTree

_LEAST_BANDS = 3
_LEAST_RUN = 5
_BLOCKS = 20


@dataclass(frozen=True)
class HeldSlices:
    """Slices of a label map as it is stored.

    Attributes:
        axis: 0, 1 or 2.
        indices: along it.
    """

    axis: int
    indices: tuple[int, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"axis": self.axis, "indices": list(self.indices)}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> HeldSlices:
        """The opposite of :meth:`to_dict`."""
        return cls(int(content["axis"]), tuple(int(index) for index in content["indices"]))

    def hide(self, label: np.ndarray, unlabelled: int) -> np.ndarray:
        """A copy in which the held slices are unlabelled: what is trained on."""
        shown = label.copy()
        shown[self._place()] = unlabelled
        return shown

    def only(self, label: np.ndarray, unlabelled: int) -> np.ndarray:
        """A copy in which all other slices are unlabelled: what is measured on."""
        shown = np.full_like(label, unlabelled)
        shown[self._place()] = label[self._place()]
        return shown

    def _place(self) -> tuple[Any, ...]:
        place: list[Any] = [slice(None)] * 3
        place[self.axis] = list(self.indices)
        return tuple(place)


def choose_slices(label: np.ndarray, tree: LabelTree, share: float) -> HeldSlices | None:
    """Annotated slices to hold out, the same ones every time; None if none can be spared.

    Strokes lie in a few slices with gaps between: these slices, along the axis that has the fewest, are told from structures
    that are annotated throughout, as those that were taken over from a prediction.  Of the strokes, whole bands of slices
    are held out, those that show most subclasses with the least paint.  Without strokes, thin blocks spread over the annotation are.
    Each subclass keeps at least half of its slices for the training.

    Args:
        label: node values ``(X, Y, Z)``.
        tree: of the values.
        share: of the annotated slices.
    """
    present = np.unique(label)
    values = [value for value in sorted(subclass_values(tree)) if value in present]
    if not values or label.ndim != 3:
        return None
    masks = [label == value for value in values]
    counts = [
        np.stack([mask.sum(axis=tuple(other for other in range(3) if other != axis)) for mask in masks])
        for axis in range(3)
    ]
    # Along which axis strokes were painted shows by gaps between them, and by how few slices a subclass lies in.
    axis = min(
        (2, 1, 0),
        key=lambda number: (
            not any(_has_gaps(row) for row in counts[number]),
            int((counts[number] > 0).sum(axis=1).min()),
        ),
    )
    table = counts[axis]
    strokes = table[[row for row in range(len(values)) if _has_gaps(table[row])]]
    held: list[int] = []
    if len(strokes):
        bands = _bands(np.flatnonzero(strokes.any(axis=0)))
        wanted = max(1, round(share * len(bands))) if len(bands) >= _LEAST_BANDS else 0
        # Most subclasses first; of like ones those with the least paint, which training misses least.
        bands.sort(key=lambda band: (-int(strokes[:, band].any(axis=1).sum()), int(strokes[:, band].sum()), band))
        held = _take(bands, wanted, table)
    if not held:
        held = _take(*_spread(np.flatnonzero(table.any(axis=0)), share), table)
    return HeldSlices(axis, tuple(sorted(held))) if held else None


def _take(bands: list[list[int]], wanted: int, table: np.ndarray) -> list[int]:
    """The first bands that leave each subclass half of its slices."""
    held: list[int] = []
    for band in bands:
        if wanted == 0:
            break
        hidden = [*held, *band]
        if (2 * (table[:, hidden] > 0).sum(axis=1) <= (table > 0).sum(axis=1)).all():
            held, wanted = hidden, wanted - 1
    return held


def _has_gaps(counts: np.ndarray) -> bool:
    """Whether a subclass lies in several separate bands of slices; specks beside a whole structure do not count."""
    runs = _bands(np.flatnonzero(counts))
    return len(runs) >= _LEAST_BANDS and 2 * max(len(run) for run in runs) <= sum(len(run) for run in runs)


def _bands(indices: np.ndarray) -> list[list[int]]:
    """Runs of consecutive indices."""
    cuts = np.flatnonzero(np.diff(indices) > 1) + 1
    return [part.tolist() for part in np.split(indices, cuts)]


def _spread(indices: np.ndarray, share: float) -> tuple[list[list[int]], int]:
    """Blocks of an annotation without gaps, evenly spread ones first, and how many of them to take."""
    if len(indices) < _LEAST_RUN:
        return [], 0
    blocks = [part.tolist() for part in np.array_split(indices, min(_BLOCKS, len(indices)))]
    wanted = max(1, round(share * len(blocks)))
    # Not the first and the last block, where little of anything is left.
    inner = range(1, len(blocks) - 1)
    best = [round((number + 0.5) * len(blocks) / wanted - 0.5) for number in range(wanted)]
    # A block that would take too much of a small structure is passed over for another one.
    places = [place for place in best if place in inner] + [place for place in inner if place not in best]
    return [blocks[place] for place in places], wanted
