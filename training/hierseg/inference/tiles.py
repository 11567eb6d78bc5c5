"""Which tiles a network sees of an image, and in which order."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from hierseg.bundle_format import DEFAULT_OVERLAP
from hierseg.errors import ConfigError

Place = tuple[slice, ...]
"""A tile's box in the padded image, ``(x, y, z)``."""

_PLANES_2D = 16


class Plan(NamedTuple):
    """Which tiles there are, in which order.

    Attributes:
        spatial_dims: of the network.
        axis: slabs follow each other along it.
        size: of the image, padded to at least one tile.
        patch: a tile's edges, ``(x, y, z)``.
        overlap: at least so much of a tile is shared with its neighbor.
        batch: tiles in one forward pass.
        groups: the tiles that complete one slab each.
        stops: the plane after the last one that each group completes.
    """

    spatial_dims: int
    axis: int
    size: tuple[int, int, int]
    patch: tuple[int, int, int]
    overlap: float
    batch: int
    groups: list[list[Place]]
    stops: list[int]

    @property
    def number(self) -> int:
        """How many tiles there are."""
        return sum(map(len, self.groups))

    def reach(self, group: list[Place]) -> int:
        """How many planes the tiles of a group reach."""
        return int(group[-1][self.axis].stop - group[0][self.axis].start)


def plan_tiles(
    model: nn.Module,
    config: Mapping[str, Any],
    size: Sequence[int],
    device: torch.device,
    tile_batch: int | None,
    whole: bool,
) -> Plan:
    """The tiles of an image of that size, in the order of :func:`~hierseg.inference.sliding.slabs`.

    Raises:
        ConfigError: ``patch_size`` or ``overlap`` is out of range.
    """
    spatial_dims = int(config.get("spatial_dims", 3))
    patch = _patch(config, size, spatial_dims, int(getattr(model, "divisor", 16)))
    x, y, z = (max(extent, edge) for extent, edge in zip(size, patch, strict=True))
    axis = 2 if spatial_dims == 2 else max(range(3), key=lambda index: (size[index], -index))
    overlap = float(config.get("overlap", DEFAULT_OVERLAP))
    groups = _tiles_along(axis, (x, y, z), patch, overlap)
    # A 2D network's planes are complete one by one: some are gathered, so that few slabs have to be restored.
    groups = _joined(groups, _PLANES_2D) if spatial_dims == 2 else groups
    if whole:
        groups = [[place for group in groups for place in group]]
    stops = [*(group[0][axis].start for group in groups[1:]), (x, y, z)[axis]]
    batch = tile_batch or default_batch(device, spatial_dims)
    return Plan(spatial_dims, axis, (x, y, z), patch, overlap, batch, groups, stops)


def tile_starts(size: int, patch: int, overlap: float) -> list[int]:
    """Where tiles start along one axis: evenly spread, at least ``overlap`` of a tile shared by neighbors."""
    step = max(1.0, patch * (1.0 - overlap))
    count = 1 + max(0, math.ceil((size - patch) / step - 1e-6))
    return [0] if count == 1 else [round(index * (size - patch) / (count - 1)) for index in range(count)]


def _tiles_along(axis: int, size: Sequence[int], patch: Sequence[int], overlap: float) -> list[list[Place]]:
    """All tiles of an image, one list for each start along the axis; the last axis fastest."""
    starts = [tile_starts(extent, edge, overlap) for extent, edge in zip(size, patch, strict=True)]
    return [
        [
            tuple(slice(first, first + edge) for first, edge in zip(corner, patch, strict=True))
            for corner in itertools.product(*([start] if index == axis else starts[index] for index in range(3)))
        ]
        for start in starts[axis]
    ]


def _joined(groups: list[list[Place]], number: int) -> list[list[Place]]:
    return [list(itertools.chain(*groups[begin : begin + number])) for begin in range(0, len(groups), number)]


def _patch(config: Mapping[str, Any], size: Sequence[int], spatial_dims: int, divisor: int) -> tuple[int, int, int]:
    """The tile's edges: the configured ones, less where the image is smaller, always multiples of ``divisor``."""
    edges = [int(edge) for edge in config["patch_size"]]
    overlap = float(config.get("overlap", DEFAULT_OVERLAP))
    if len(edges) != spatial_dims or min(edges) < 1:
        raise ConfigError(f"the patch_size is {edges}; give {spatial_dims} numbers of 1 or more.")
    if not 0.0 <= overlap < 1.0:
        raise ConfigError(f"the overlap is {overlap:g}; give a number from 0 to below 1.")
    fitting = [
        max(1, math.ceil(min(edge, extent) / divisor)) * divisor
        for edge, extent in zip(edges, size[:spatial_dims], strict=True)
    ]
    x, y, z = [*fitting, 1][:3]
    return x, y, z


def pad(image: torch.Tensor, patch: Sequence[int]) -> torch.Tensor:
    """Pad at the far ends up to one tile, each channel with its own minimum."""
    missing = [max(0, edge - extent) for edge, extent in zip(patch, image.shape[1:], strict=True)]
    if not any(missing):
        return image
    floor = image.amin(dim=(1, 2, 3), keepdim=True)
    return F.pad(image - floor, [0, missing[2], 0, missing[1], 0, missing[0]]) + floor


def default_batch(device: torch.device, spatial_dims: int) -> int:
    """How many tiles a device takes at once if nobody says otherwise; a processor gains nothing by more than one."""
    return (32 if spatial_dims == 2 else 4) if device.type == "cuda" else 1
