"""A network over a whole image: overlapping tiles, joined with Gaussian weights.

Each tile's probabilities count most in its middle, where the network saw most around a voxel.  An image smaller than
a tile is padded with its channels' minimum up to the next size that the network can take, not up to a whole tile.
A 2D network sees tiles of thickness 1: the same code assembles its slices into a stack.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from hierseg.errors import ConfigError, ResourceError
from hierseg.labeltree import LabelTree

Progress = Callable[[str, float], None]


class Cancelled(Exception):  # noqa: N818 -- no error: the caller asked for it
    """The caller's ``cancelled`` returned True; nothing was produced."""


class Probabilities(NamedTuple):
    """What the network thinks of each voxel; both sum to 1 along the first axis.

    Attributes:
        superclass: float32 ``(R, X, Y, Z)`` in the order of ``tree.top_level``.
        leaf: float32 ``(K, X, Y, Z)`` in the order of ``tree.leaves``.
    """

    superclass: torch.Tensor
    leaf: torch.Tensor


def predict_prepared(
    model: nn.Module,
    array: np.ndarray | torch.Tensor,
    config: Mapping[str, Any],
    *,
    tree: LabelTree | None = None,
    device: torch.device | str | None = None,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
    tile_batch: int | None = None,
) -> Probabilities:
    """Run a network over a prepared image.

    Args:
        model: gives a ``HierarchicalOutput``, or leaf logits alone (superclass probabilities are then their sums);
            put into evaluation mode while it runs.
        array: float32 ``(C, X, Y, Z)`` as :class:`~hierseg.data.preprocess.Preprocessor` prepares it.
        config: ``patch_size``, ``overlap`` (0.5) and ``spatial_dims`` (3) are read.
        tree: the model's label tree; ``model.tree`` if None.
        device: where to compute; where the model's weights lie if None.
        progress: called with ``("network", fraction done)``.
        cancelled: asked before each batch of tiles.
        tile_batch: tiles in one forward pass; chosen by device and dimensions if None.

    Raises:
        Cancelled: ``cancelled`` returned True.
        ConfigError: ``patch_size`` or ``overlap`` is out of range.
        ResourceError: the probabilities of all classes do not fit into the memory that is free.
    """
    known: LabelTree = cast("LabelTree", model.tree) if tree is None else tree
    device = _device(model) if device is None else torch.device(device)
    image = torch.as_tensor(array, dtype=torch.float32, device=device)
    _check_memory((len(known.top_level) + len(known.leaves) + 2) * image[0].numel() * 4, device)
    spatial_dims = int(config.get("spatial_dims", 3))
    size = tuple(image.shape[1:])
    patch = _patch(config, size, spatial_dims, int(getattr(model, "divisor", 16)))
    image = _pad(image, patch)
    tiles = _tiles(image.shape[1:], patch, float(config.get("overlap", 0.5)))
    batch = tile_batch or _default_batch(device, spatial_dims)
    weight = _gaussian(patch).to(device)
    total = torch.zeros(image.shape[1:], device=device)
    superclass = torch.zeros((len(known.top_level), *image.shape[1:]), device=device)
    leaf = torch.zeros((len(known.leaves), *image.shape[1:]), device=device)
    sums = torch.tensor(top_membership(known), dtype=torch.float32, device=device)
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True):
            for start in range(0, len(tiles), batch):
                if cancelled is not None and cancelled():
                    raise Cancelled
                places = tiles[start : start + batch]
                inputs = torch.stack([image[(slice(None), *place)] for place in places])
                top, fine = _forward(model, inputs, spatial_dims, sums)
                for index, place in enumerate(places):
                    superclass[(slice(None), *place)].addcmul_(top[index], weight)
                    leaf[(slice(None), *place)].addcmul_(fine[index], weight)
                    total[place] += weight
                if progress is not None:
                    progress("network", min(1.0, (start + batch) / len(tiles)))
            x, y, z = size
            total = total[:x, :y, :z]
            return Probabilities(superclass[:, :x, :y, :z].div_(total), leaf[:, :x, :y, :z].div_(total))
    finally:
        model.train(was_training)


def tile_starts(size: int, patch: int, overlap: float) -> list[int]:
    """Where tiles start along one axis: evenly spread, at least ``overlap`` of a tile shared by neighbors."""
    step = max(1.0, patch * (1.0 - overlap))
    count = 1 + max(0, math.ceil((size - patch) / step - 1e-6))
    return [0] if count == 1 else [round(index * (size - patch) / (count - 1)) for index in range(count)]


def _tiles(size: Sequence[int], patch: Sequence[int], overlap: float) -> list[tuple[slice, ...]]:
    """All tiles of an image, the last axis fastest."""
    starts = [tile_starts(extent, edge, overlap) for extent, edge in zip(size, patch, strict=True)]
    return [
        tuple(slice(first, first + edge) for first, edge in zip(corner, patch, strict=True))
        for corner in itertools.product(*starts)
    ]


def _device(model: nn.Module) -> torch.device:
    """Where the model's weights lie."""
    parameter = next(model.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device


def top_membership(tree: LabelTree) -> np.ndarray:
    """Bool ``(R, K)``: which leaves lie under which top-level node."""
    rows = {node.name: index for index, node in enumerate(tree.nodes)}
    matrix: np.ndarray = tree.membership[[rows[node.name] for node in tree.top_level]]
    return matrix


def _forward(
    model: nn.Module, inputs: torch.Tensor, spatial_dims: int, sums: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Superclass and leaf probabilities in float32, ``(B, channels, X, Y, Z)``."""
    flat = spatial_dims == 2
    with torch.autocast(inputs.device.type, dtype=torch.float16, enabled=inputs.device.type == "cuda"):
        output = model(inputs[..., 0] if flat else inputs)
    logits = getattr(output, "leaf_logits", output)
    leaf = torch.softmax(logits.float(), dim=1)
    top_logits = getattr(output, "superclass_logits", None)
    top = (
        torch.einsum("rk,bk...->br...", sums, leaf) if top_logits is None else torch.softmax(top_logits.float(), dim=1)
    )
    return (top[..., None], leaf[..., None]) if flat else (top, leaf)


def _patch(config: Mapping[str, Any], size: Sequence[int], spatial_dims: int, divisor: int) -> tuple[int, int, int]:
    """The tile's edges: the configured ones, less where the image is smaller, always multiples of ``divisor``."""
    edges = [int(edge) for edge in config["patch_size"]]
    overlap = float(config.get("overlap", 0.5))
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


def _pad(image: torch.Tensor, patch: Sequence[int]) -> torch.Tensor:
    """Pad at the far ends up to one tile, each channel with its own minimum."""
    missing = [max(0, edge - extent) for edge, extent in zip(patch, image.shape[1:], strict=True)]
    if not any(missing):
        return image
    floor = image.amin(dim=(1, 2, 3), keepdim=True)
    return F.pad(image - floor, [0, missing[2], 0, missing[1], 0, missing[0]]) + floor


def _check_memory(needed: int, device: torch.device) -> None:
    """Refuse before the start what the operating system would end by force in the middle."""
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else _free_memory()
    if free is not None and needed > free:
        raise ResourceError(
            f"the probabilities of all classes need {needed / 1e9:.1f} GB, but only {free / 1e9:.1f} GB are free on {device}; "
            "crop the image, use another device, or close other programs."
        )


def _free_memory() -> int | None:
    """Bytes that programs may still take, where the system says so (Linux)."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError):
        return None


def _default_batch(device: torch.device, spatial_dims: int) -> int:
    return (32 if spatial_dims == 2 else 4) if device.type == "cuda" else (4 if spatial_dims == 2 else 1)


@lru_cache(maxsize=8)
def _gaussian(patch: tuple[int, int, int]) -> torch.Tensor:
    """Weights of a tile's voxels: a Gaussian of 1/8 of the tile, never below 0.001 so that corners still count."""
    weight = torch.ones(())
    for edge in patch:
        places = torch.arange(edge, dtype=torch.float64) - (edge - 1) / 2
        weight = weight[..., None] * torch.exp(-0.5 * (places / (edge / 8)) ** 2)
    return (weight / weight.max()).clamp_(min=1e-3).float()
