"""A network over a whole image: overlapping tiles, joined with Gaussian weights, slab by slab.

Each tile's probabilities count most in its middle, where the network saw most around a voxel.  An image smaller than
a tile is padded with its channels' minimum up to the next size that the network can take, not up to a whole tile.
A 2D network sees tiles of thickness 1: the same code assembles its slices into a stack.

Tiles are taken in order along one axis.  As soon as all tiles that reach some planes are done, these planes are handed
on as a :class:`Slab` and forgotten: the probabilities of all classes exist for one tile's thickness at a time, never for
the whole image.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from hierseg.errors import ConfigError, ResourceError
from hierseg.inference import layout
from hierseg.labeltree import LabelTree

Progress = Callable[[str, float], None]

_PLANES_2D = 16


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
    """Run a network over a prepared image and keep the probabilities of all classes; arguments as :func:`slabs`.

    Raises:
        Cancelled: ``cancelled`` returned True.
        ConfigError: ``patch_size`` or ``overlap`` is out of range.
        ResourceError: the probabilities of all classes do not fit into the memory that is free.
    """
    (slab,) = slabs(
        model, array, config, tree=tree, device=device, progress=progress, cancelled=cancelled,
        tile_batch=tile_batch, whole=True,
    )  # fmt: skip
    return slab.probabilities


def slabs(
    model: nn.Module,
    array: np.ndarray | torch.Tensor,
    config: Mapping[str, Any],
    *,
    tree: LabelTree | None = None,
    device: torch.device | str | None = None,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
    stitch: torch.device | str | None = None,
    tile_batch: int | None = None,
    whole: bool = False,
    choose_layout: bool = False,
) -> Iterator[Slab]:
    """Run a network over a prepared image, slab by slab along its longest axis.

    Args:
        model: gives a ``HierarchicalOutput``, or leaf logits alone (superclass probabilities are then their sums);
            put into evaluation mode while it runs.
        array: float32 ``(C, X, Y, Z)`` as :class:`~hierseg.data.preprocess.Preprocessor` prepares it.
        config: ``patch_size``, ``overlap`` (0.5) and ``spatial_dims`` (3) are read.
        tree: the model's label tree; ``model.tree`` if None.
        device: where to compute; where the model's weights lie if None.
        progress: called with ``("network", fraction done)``.
        cancelled: asked before each batch of tiles.
        stitch: where tiles are joined; ``device`` if None.
        tile_batch: tiles in one forward pass; chosen by device and dimensions if None.
        whole: one slab, of all planes.
        choose_layout: on the CPU, let :mod:`~hierseg.inference.layout` choose how the model's weights lie in memory; not
            for a model that is being trained.

    Raises:
        Cancelled: ``cancelled`` returned True.
        ConfigError: ``patch_size`` or ``overlap`` is out of range.
        ResourceError: a slab does not fit into the memory that is free.
    """
    known: LabelTree = cast("LabelTree", model.tree) if tree is None else tree
    device = _device(model) if device is None else torch.device(device)
    stitch = device if stitch is None else torch.device(stitch)
    size = tuple(int(extent) for extent in array.shape[1:])
    plan = _plan(model, config, size, device, tile_batch, whole)
    window = _Window(known, plan, stitch)
    image = _pad(torch.as_tensor(array, dtype=torch.float32, device=stitch), plan.patch)
    weight = _gaussian(plan.patch).to(stitch)
    sums = torch.tensor(top_membership(known), dtype=torch.float32, device=device)
    count, done = sum(map(len, plan.groups)), 0
    form = torch.contiguous_format
    if choose_layout and device.type == "cpu":
        tile = (min(plan.batch, len(plan.groups[0])), image.shape[0], *plan.patch[: plan.spatial_dims])
        form = layout.memory_format(layout.choose(model, tile, count // plan.batch), plan.spatial_dims)
    was_training = model.training
    for group, stop in zip(plan.groups, plan.stops, strict=True):
        model.eval()
        try:
            for begin in range(0, len(group), plan.batch):
                if cancelled is not None and cancelled():
                    raise Cancelled
                places = group[begin : begin + plan.batch]
                with _inference():
                    inputs = torch.stack([image[(slice(None), *place)] for place in places]).to(device)
                    top, fine = _forward(model, inputs, plan.spatial_dims, sums, form)
                    window.add(places, top.to(stitch), fine.to(stitch), weight)
                done += len(places)
                if progress is not None:
                    progress("network", done / count)
        finally:
            # Between two slabs the caller has the model as it was.
            model.train(was_training)
        slab = window.complete(stop, size)
        if slab is not None:
            yield slab
        if stop < size[plan.axis]:
            window.advance(stop)


class _Plan(NamedTuple):
    """Which tiles there are, in which order.

    Attributes:
        spatial_dims: of the network.
        axis: slabs follow each other along it.
        size: of the image, padded to at least one tile.
        patch: a tile's edges, ``(x, y, z)``.
        batch: tiles in one forward pass.
        groups: the tiles that complete one slab each.
        stops: the plane after the last one that each group completes.
    """

    spatial_dims: int
    axis: int
    size: tuple[int, int, int]
    patch: tuple[int, int, int]
    batch: int
    groups: list[list[tuple[slice, ...]]]
    stops: list[int]


def _plan(
    model: nn.Module,
    config: Mapping[str, Any],
    size: Sequence[int],
    device: torch.device,
    tile_batch: int | None,
    whole: bool,
) -> _Plan:
    spatial_dims = int(config.get("spatial_dims", 3))
    patch = _patch(config, size, spatial_dims, int(getattr(model, "divisor", 16)))
    x, y, z = (max(extent, edge) for extent, edge in zip(size, patch, strict=True))
    axis = 2 if spatial_dims == 2 else max(range(3), key=lambda index: (size[index], -index))
    groups = _tiles_along(axis, (x, y, z), patch, float(config.get("overlap", 0.5)))
    # A 2D network's planes are complete one by one: some are gathered, so that few slabs have to be restored.
    groups = _joined(groups, _PLANES_2D) if spatial_dims == 2 else groups
    if whole:
        groups = [[place for group in groups for place in group]]
    stops = [*(group[0][axis].start for group in groups[1:]), (x, y, z)[axis]]
    return _Plan(spatial_dims, axis, (x, y, z), patch, tile_batch or default_batch(device, spatial_dims), groups, stops)


class _Window:
    """Sums of weighted probabilities for the planes that tiles reach now.

    Plane ``base - 1`` of the grid, the last one handed on, comes first: interpolation between planes needs it.
    """

    def __init__(self, tree: LabelTree, plan: _Plan, device: torch.device) -> None:
        shape = list(plan.size)
        shape[plan.axis] = max(_reach(group, plan.axis) for group in plan.groups) + 1
        rows = len(tree.top_level) + len(tree.leaves) + 1
        _check_memory(rows * math.prod(shape) * 4 + math.prod(plan.size) * 12, device)
        self.axis, self.base = plan.axis, 0
        self.total = torch.zeros(shape, device=device)
        self.superclass = torch.zeros((len(tree.top_level), *shape), device=device)
        self.leaf = torch.zeros((len(tree.leaves), *shape), device=device)

    def add(
        self, places: Sequence[tuple[slice, ...]], top: torch.Tensor, fine: torch.Tensor, weight: torch.Tensor
    ) -> None:
        """Add tiles' probabilities ``(B, channels, X, Y, Z)``."""
        for index, place in enumerate(places):
            here = list(place)
            along = place[self.axis]
            here[self.axis] = slice(along.start - self.base + 1, along.stop - self.base + 1)
            self.superclass[(slice(None), *here)].addcmul_(top[index], weight)
            self.leaf[(slice(None), *here)].addcmul_(fine[index], weight)
            self.total[tuple(here)] += weight

    def complete(self, stop: int, size: Sequence[int]) -> Slab | None:
        """The planes before ``stop``, as far as they lie in the image; None if none does."""
        stop = min(stop, size[self.axis])
        if stop <= self.base:
            return None
        new: list[slice] = [slice(0, extent) for extent in size]
        new[self.axis] = slice(1, stop - self.base + 1)
        weights = self.total[tuple(new)]
        for part in (self.superclass, self.leaf):
            part[(slice(None), *new)].div_(weights)
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


@contextlib.contextmanager
def _inference() -> Iterator[None]:
    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True):
        yield


def tile_starts(size: int, patch: int, overlap: float) -> list[int]:
    """Where tiles start along one axis: evenly spread, at least ``overlap`` of a tile shared by neighbors."""
    step = max(1.0, patch * (1.0 - overlap))
    count = 1 + max(0, math.ceil((size - patch) / step - 1e-6))
    return [0] if count == 1 else [round(index * (size - patch) / (count - 1)) for index in range(count)]


def _tiles_along(axis: int, size: Sequence[int], patch: Sequence[int], overlap: float) -> list[list[tuple[slice, ...]]]:
    """All tiles of an image, one list for each start along the axis; the last axis fastest."""
    starts = [tile_starts(extent, edge, overlap) for extent, edge in zip(size, patch, strict=True)]
    return [
        [
            tuple(slice(first, first + edge) for first, edge in zip(corner, patch, strict=True))
            for corner in itertools.product(*([start] if index == axis else starts[index] for index in range(3)))
        ]
        for start in starts[axis]
    ]


def _joined(groups: list[list[tuple[slice, ...]]], number: int) -> list[list[tuple[slice, ...]]]:
    return [list(itertools.chain(*groups[begin : begin + number])) for begin in range(0, len(groups), number)]


def _reach(group: list[tuple[slice, ...]], axis: int) -> int:
    """How many planes the tiles of a group reach."""
    return int(group[-1][axis].stop - group[0][axis].start)


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
    model: nn.Module, inputs: torch.Tensor, spatial_dims: int, sums: torch.Tensor, form: torch.memory_format
) -> tuple[torch.Tensor, torch.Tensor]:
    """Superclass and leaf probabilities in float32, ``(B, channels, X, Y, Z)``."""
    flat = spatial_dims == 2
    with torch.autocast(inputs.device.type, dtype=torch.float16, enabled=inputs.device.type == "cuda"):
        output = model((inputs[..., 0] if flat else inputs).contiguous(memory_format=form))
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


def default_batch(device: torch.device, spatial_dims: int) -> int:
    """How many tiles a device takes at once if nobody says otherwise."""
    return (32 if spatial_dims == 2 else 4) if device.type == "cuda" else (4 if spatial_dims == 2 else 1)


@lru_cache(maxsize=8)
def _gaussian(patch: tuple[int, int, int]) -> torch.Tensor:
    """Weights of a tile's voxels: a Gaussian of 1/8 of the tile, never below 0.001 so that corners still count."""
    weight = torch.ones(())
    for edge in patch:
        places = torch.arange(edge, dtype=torch.float64) - (edge - 1) / 2
        weight = weight[..., None] * torch.exp(-0.5 * (places / (edge / 8)) ** 2)
    return (weight / weight.max()).clamp_(min=1e-3).float()
