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

    The axis is the one along which the fewest slices are annotated.  Where the annotation lies in several separate bands of
    slices, whole bands are taken, from the inside; in one long band, a block in its middle.  Each subclass stays in
    slices that are trained on.

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
    shown = [
        np.stack([mask.any(axis=tuple(other for other in range(3) if other != axis)) for mask in masks])
        for axis in range(3)
    ]
    counts = [int(found.any(axis=0).sum()) for found in shown]
    axis = min((2, 1, 0), key=lambda number: counts[number])
    table = shown[axis]
    bands = _bands(np.flatnonzero(table.any(axis=0)))
    if len(bands) < _LEAST_BANDS:
        bands = _blocks(max(bands, key=len), share)
        wanted = 1
    else:
        wanted = max(1, round(share * len(bands)))
    held: list[int] = []
    for band in _ranked(bands, table):
        rest = table.copy()
        rest[:, [*held, *band]] = False
        if rest.any(axis=1).all():
            held += band
            wanted -= 1
        if wanted == 0:
            break
    return HeldSlices(axis, tuple(sorted(held))) if held else None


def _bands(indices: np.ndarray) -> list[list[int]]:
    """Runs of consecutive indices."""
    cuts = np.flatnonzero(np.diff(indices) > 1) + 1
    return [part.tolist() for part in np.split(indices, cuts)]


def _blocks(band: list[int], share: float) -> list[list[int]]:
    """Blocks inside one long band, its ends left out; none if it is short."""
    if len(band) < _LEAST_RUN:
        return []
    size = max(1, round(share * len(band)))
    return [band[start : start + size] for start in range(1, len(band) - size)]


def _ranked(bands: list[list[int]], table: np.ndarray) -> list[list[int]]:
    """Those that show the most subclasses first; of like ones the inner ones."""
    middle = (len(bands) - 1) / 2
    order = sorted(
        range(len(bands)),
        key=lambda place: (-int(table[:, bands[place]].any(axis=1).sum()), abs(place - middle), place),
    )
    return [bands[place] for place in order]
