"""The planes of the network's grid that tiles reach now: sums of weighted probabilities, and what is complete of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch

from hierseg.errors import ResourceError
from hierseg.inference.forward import TileLogits, top_membership
from hierseg.inference.joining import add_weighted, channels_of, pieces, softmax
from hierseg.inference.tiles import Place, Plan
from hierseg.labeltree import LabelTree
from hierseg.memory import free_memory

_LEAST_WEIGHT = 1e-3

_MUCH = 250_000_000
"""Bytes of float32 sums from which on a processor keeps them in half precision, too."""


class Probabilities(NamedTuple):
    """What the network thinks of each voxel; both sum to 1 along the first axis.

    Attributes:
        superclass: ``(R, X, Y, Z)`` in the order of ``tree.top_level``; float32 or float16 (:func:`sums_dtype`).
        leaf: the same of ``(K, X, Y, Z)`` in the order of ``tree.leaves``.
    """

    superclass: torch.Tensor
    leaf: torch.Tensor


class Slab(NamedTuple):
    """Planes of the network's grid that are complete.

    Attributes:
        axis: the spatial axis (0, 1 or 2) that the planes lie along.
        first: the first plane that ``probabilities`` hold: one before ``start``, but for the first slab.
        start: the first plane that is new.
        stop: the plane after the last one.
        probabilities: of the planes ``first`` to ``stop``; a view that is overwritten when the next slab is asked for.
    """

    axis: int
    first: int
    start: int
    stop: int
    probabilities: Probabilities


class Window:
    """Sums of weighted probabilities for the planes that tiles reach now.

    Plane ``base - 1`` of the grid, the last one handed on, comes first: interpolation between planes needs it.
    """

    def __init__(self, tree: LabelTree, plan: Plan, device: torch.device, dtype: torch.dtype | None = None) -> None:
        shape = list(plan.size)
        shape[plan.axis] = max(plan.reach(group) for group in plan.groups) + 1
        rows = len(tree.top_level) + len(tree.leaves)
        dtype = sums_dtype(device, rows * math.prod(shape)) if dtype is None else dtype
        check_memory((rows * dtype.itemsize + 4) * math.prod(shape) + math.prod(plan.size) * 12, device)
        self.axis, self.base = plan.axis, 0
        # Without a background every tile is computed: then these rows are never filled.
        self.background = 0 if tree.background is None else tree.top_level.index(tree.background)
        self.background_leaf = 0 if tree.background is None else tree.leaves.index(tree.background)
        self.membership = torch.tensor(top_membership(tree), dtype=torch.float32, device=device)
        self.total = torch.zeros(shape, device=device)
        self.superclass = torch.zeros((len(tree.top_level), *shape), dtype=dtype, device=device)
        self.leaf = torch.zeros((len(tree.leaves), *shape), dtype=dtype, device=device)

    def add(
        self,
        places: Sequence[Place],
        logits: TileLogits,
        weight: torch.Tensor,
        rows: Sequence[int] | None = None,
        columns: Sequence[int] | None = None,
    ) -> None:
        """Add tiles' probabilities.

        Args:
            places: of the tiles.
            logits: of the tiles; of all top-level nodes and leaves, or of ``rows`` and ``columns``.  Where there are none of
                top-level nodes, their probabilities are the sums of their leaves'.
            weight: of a tile's voxels, ``(X, Y, Z)``.
            rows: the top-level nodes that can be present; None for all.
            columns: the leaves below them, in the order of the logits.
        """
        superclasses = channels_of(rows, len(self.superclass), weight.device)
        leaves = channels_of(columns, len(self.leaf), weight.device)
        for index, place in enumerate(places):
            here: list[slice] = list(place)
            along = place[self.axis]
            here[self.axis] = slice(along.start - self.base + 1, along.stop - self.base + 1)
            top_sums, leaf_sums = (part[(slice(None), *here)] for part in (self.superclass, self.leaf))
            for piece in pieces(weight.shape, logits.classes, weight.device):
                at, share = (slice(None), *piece), weight[piece]
                top, leaf = logits.piece(index, piece)
                found = softmax(leaf)
                add_weighted(leaf_sums[at], found, share, leaves)
                above = self._summed(found) if top is None else softmax(top)
                add_weighted(top_sums[at], above, share, superclasses)
            self.total[tuple(here)] += weight

    def _summed(self, leaf: torch.Tensor) -> torch.Tensor:
        return torch.einsum("rk,k...->r...", self.membership, leaf)

    def complete(self, stop: int, size: Sequence[int]) -> Slab | None:
        """The planes before ``stop``, as far as they lie in the image; None if none does."""
        stop = min(stop, size[self.axis])
        if stop <= self.base:
            return None
        new: list[slice] = [slice(0, extent) for extent in size]
        new[self.axis] = slice(1, stop - self.base + 1)
        weights = self.total[tuple(new)]
        empty = weights == 0
        for part, background in ((self.superclass, self.background), (self.leaf, self.background_leaf)):
            part[(slice(None), *new)].div_(weights.clamp_min(_LEAST_WEIGHT).to(part.dtype))
            # Where no tile was computed there is nothing but background.
            part[background][tuple(new)].masked_fill_(empty, 1.0)
        first = max(self.base - 1, 0)
        new[self.axis] = slice(first - self.base + 1, stop - self.base + 1)
        ready = Probabilities(self.superclass[(slice(None), *new)], self.leaf[(slice(None), *new)])
        return Slab(self.axis, first, self.base, stop, ready)

    def advance(self, stop: int) -> None:
        """Go on: ``stop`` is the first plane that tiles will still reach."""
        step = stop - self.base
        for part, along in ((self.total, self.axis), (self.superclass, self.axis + 1), (self.leaf, self.axis + 1)):
            kept = max(0, part.shape[along] - step)
            # In pieces that do not overlap with where they go.
            for begin in range(0, kept, step):
                count = min(step, kept - begin)
                part.narrow(along, begin, count).copy_(part.narrow(along, begin + step, count))
            part.narrow(along, kept, part.shape[along] - kept).zero_()
        self.base = stop


def sums_dtype(device: torch.device, numbers: int) -> torch.dtype:
    """Half precision on a graphics card, where memory is short, and for many numbers: fresh memory costs more than rounding."""
    half = device.type == "cuda" or numbers * torch.float32.itemsize > _MUCH
    return torch.float16 if half else torch.float32


def check_memory(needed: int, device: torch.device) -> None:
    """Refuse before the start what the operating system would end by force in the middle."""
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else free_memory()
    if free is not None and needed > free:
        raise ResourceError(
            f"the probabilities of all classes need {needed / 1e9:.1f} GB, but only {free / 1e9:.1f} GB are free on {device}; "
            "crop the image, use another device, or close other programs."
        )


@lru_cache(maxsize=8)
def gaussian(patch: tuple[int, int, int]) -> torch.Tensor:
    """Weights of a tile's voxels: a Gaussian of 1/8 of the tile, never below 0.001 so that corners still count."""
    weight = torch.ones(())
    for edge in patch:
        places = torch.arange(edge, dtype=torch.float64) - (edge - 1) / 2
        weight = weight[..., None] * torch.exp(-0.5 * (places / (edge / 8)) ** 2)
    return (weight / weight.max()).clamp_(min=_LEAST_WEIGHT).float()
