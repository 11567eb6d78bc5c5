"""What can be present where, found by the network itself on the image at half the resolution.

A structure that fills a small part of a large image need not be looked for in every tile: the image is averaged to half
its resolution, the same network runs over it (about an eighth of the work), and tiles in whose middle nothing but
background can be, with a margin of one block, are background.  (A tile's edge counts next to nothing where a neighbor
has its middle.)  In the other tiles, the branches of top-level nodes that cannot be present are left out.

A network need not understand an image at half its resolution.  So a bundle allows this in its configuration only as far as
it was measured (:mod:`hierseg.inference.coarse_check`): ``{"factor": [2, 2, 2], "threshold": 0.3, "branch_threshold": null}``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from hierseg.inference.window import Slab

OVERLAP = 0.25
"""Of the tiles of the coarse pass."""
LEAST_GAIN = 12
"""The coarse pass is made if it has at most one tile for so many of the full one."""
_BLOCK = 4
"""Voxels of the coarse grid that are kept as one."""


class Coarse(NamedTuple):
    """What a bundle allows.

    Attributes:
        factor: voxels of the network's grid along each axis that are one of the coarse grid.
        threshold: where background's probability is above 1 − this, there is nothing else.
        branch_threshold: where a top-level node's probability is below this, it is absent; None: not to be known.
    """

    factor: tuple[int, int, int]
    threshold: float
    branch_threshold: float | None = None


class Presence:
    """Which top-level nodes can be present in a box of the network's grid.

    Args:
        blocks: bool ``(R, X, Y, Z)``, of blocks of the network's grid; the row of the background: anything but background.
        edges: of a block, in voxels of the network's grid.
        background: its row.
    """

    def __init__(self, blocks: torch.Tensor, edges: Sequence[int], background: int) -> None:
        self.blocks, self.edges, self.background = blocks, tuple(edges), background

    def anything(self, place: Sequence[slice], size: Sequence[int], overlap: float) -> bool:
        """Whether anything but background can be in the middle of a tile.

        The middles of all tiles fill the image: half of what a tile shares with its neighbor is not its middle, unless the
        image ends there.  With Gaussian weights it counts less than the neighbor there.
        """
        middle = []
        for part, extent in zip(place, size, strict=True):
            cut = int((part.stop - part.start) * min(0.5, overlap) / 2)
            middle.append(
                slice(part.start + (cut if part.start > 0 else 0), part.stop - (cut if part.stop < extent else 0))
            )
        return self.background in self(middle)

    def __call__(self, place: Sequence[slice]) -> tuple[int, ...]:
        """The rows of ``blocks`` that are set in a box, with one block's margin."""
        near = [
            slice(max(0, part.start // edge - 1), -(-part.stop // edge) + 1)
            for part, edge in zip(place, self.edges, strict=True)
        ]
        found = self.blocks[(slice(None), *near)].flatten(1).any(dim=1)
        return tuple(int(row) for row in torch.nonzero(found).flatten())

    def spread(self, size: Sequence[int]) -> torch.Tensor:
        """The same for every voxel of a network's grid, ``(R, X, Y, Z)``, margin included."""
        wide = F.max_pool3d(self.blocks[None].float(), 3, 1, 1)[0] > 0
        for axis, (edge, extent) in enumerate(zip(self.edges, size, strict=True), start=1):
            wide = wide.repeat_interleave(edge, dim=axis).narrow(axis, 0, extent)
        return wide


def halved(array: torch.Tensor, factor: Sequence[int]) -> torch.Tensor:
    """The mean of ``factor`` voxels along each axis of ``(C, X, Y, Z)``."""
    return F.avg_pool3d(array[None], tuple(factor), ceil_mode=True)[0]


def find_presence(slabs: Iterable[Slab], size: Sequence[int], coarse: Coarse, background: int) -> Presence:
    """Gather what a coarse pass finds.

    Args:
        slabs: of the coarse grid.
        size: of the coarse grid.
        coarse: what the bundle allows.
        background: its row in ``tree.top_level``.
    """
    edges = [_BLOCK * step for step in coarse.factor]
    blocks: torch.Tensor | None = None
    for slab in slabs:
        values = slab.probabilities.superclass.narrow(slab.axis + 1, slab.start - slab.first, slab.stop - slab.start)
        found = values >= (0.0 if coarse.branch_threshold is None else coarse.branch_threshold)
        found[background] = values[background] <= 1.0 - coarse.threshold
        if blocks is None:
            blocks = torch.zeros(found.shape[0], *(math.ceil(extent / _BLOCK) for extent in size), dtype=torch.bool)
        # Slabs begin anywhere: planes in front bring the first block to its start.
        lead = slab.start % _BLOCK
        pad = [0, 0, 0, 0, 0, 0]
        pad[2 * (2 - slab.axis)] = lead
        pooled = F.max_pool3d(F.pad(found[None].float(), pad), _BLOCK, ceil_mode=True)[0].cpu() > 0
        first = slab.start // _BLOCK
        blocks.narrow(slab.axis + 1, first, pooled.shape[slab.axis + 1]).logical_or_(pooled)
    if blocks is None:
        raise ValueError("a coarse pass gave no slab")
    return Presence(blocks, edges, background)


def settings(config: Mapping[str, Any]) -> Coarse | None:
    """What a bundle's configuration allows; None: nothing."""
    found = config.get("coarse_pass")
    if not found or int(config.get("spatial_dims", 3)) != 3:
        return None
    x, y, z = (int(step) for step in found["factor"])
    limit = found.get("branch_threshold")
    return Coarse((x, y, z), float(found["threshold"]), None if limit is None else float(limit))
