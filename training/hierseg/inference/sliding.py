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
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import nn

from hierseg.inference import coarse
from hierseg.inference.backends import CHANNELS_FIRST, Backends
from hierseg.inference.forward import Forward, TorchForward, leaf_columns
from hierseg.inference.tiles import Place, Plan, pad, plan_tiles
from hierseg.inference.window import Probabilities, Slab, Window, gaussian
from hierseg.labeltree import LabelTree

Progress = Callable[[str, float], None]


class Cancelled(Exception):  # noqa: N818 -- no error: the caller asked for it
    """The caller's ``cancelled`` returned True; nothing was produced."""


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
    return Probabilities(*(part.float() for part in slab.probabilities))


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
    backends: Backends | None = None,
    exhaustive: bool = True,
    report: dict[str, Any] | None = None,
) -> Iterator[Slab]:
    """Run a network over a prepared image, slab by slab along its longest axis.

    Args:
        model: gives a ``HierarchicalOutput``, or leaf logits alone (superclass probabilities are then their sums);
            put into evaluation mode while it runs.
        array: float32 ``(C, X, Y, Z)`` as :class:`~hierseg.data.preprocess.Preprocessor` prepares it.
        config: ``patch_size``, ``overlap`` (0.2) and ``spatial_dims`` (3) are read.
        tree: the model's label tree; ``model.tree`` if None.
        device: where to compute; where the model's weights lie if None.
        progress: called with ``("network", fraction done)``.
        cancelled: asked before each batch of tiles.
        stitch: where tiles are joined; ``device`` if None.
        tile_batch: tiles in one forward pass; chosen by device and dimensions if None.
        whole: one slab, of all planes.
        backends: chooses the fastest way to run the model; torch as it is if None, as for a model that is being trained.
        exhaustive: compute every tile and every branch; otherwise what the bundle's ``coarse_pass`` allows is left out
            (:mod:`~hierseg.inference.coarse`).
        report: gets ``backend``, ``tiles`` of the image and the number of ``computed`` ones, those of a coarse pass included, and
            ``forward_s``, the seconds in the network itself so far (not on a graphics card, which is not waited for).

    Raises:
        Cancelled: ``cancelled`` returned True.
        ConfigError: ``patch_size`` or ``overlap`` is out of range.
        ResourceError: a slab does not fit into the memory that is free.
    """
    known: LabelTree = cast("LabelTree", model.tree) if tree is None else tree
    device = _device(model) if device is None else torch.device(device)
    stitch = device if stitch is None else torch.device(stitch)
    size = array.shape[1], array.shape[2], array.shape[3]
    plan = plan_tiles(model, config, size, device, tile_batch, whole)
    name, forward = _way(model, known, plan, array.shape[0], device, backends)
    report = {} if report is None else report
    report.update(backend=name, tiles=plan.number, computed=plan.number)
    work = _Work(model, forward, known, device, stitch, cancelled, report)
    tensor = torch.as_tensor(array, dtype=torch.float32)
    allowed = None if exhaustive else coarse.settings(config)
    if allowed is None or known.background is None:
        tiles = [[_Tile(place, None) for place in group] for group in plan.groups]
        yield from work.slabs(plan, tiles, tensor, progress)
        return
    background = known.top_level.index(known.background)
    low = coarse.halved(tensor, allowed.factor)
    small = plan_tiles(model, {**config, "overlap": coarse.OVERLAP}, low.shape[1:], device, tile_batch, False)
    presence = None
    share = small.number / (small.number + plan.number)
    if small.number * coarse.LEAST_GAIN <= plan.number:
        everything = [[_Tile(place, None) for place in group] for group in small.groups]
        found = work.slabs(small, everything, low, _part(progress, 0.0, share))
        presence = coarse.find_presence(found, low.shape[1:], allowed, background)
        progress = _part(progress, share, 1.0)
    del low
    branches = forward.selective and allowed.branch_threshold is not None
    chosen = _chosen(plan, presence, size, branches)
    report["computed"] = sum(map(len, chosen)) + (0 if presence is None else small.number)
    yield from work.slabs(plan, chosen, tensor, progress)


def _way(
    model: nn.Module, tree: LabelTree, plan: Plan, channels: int, device: torch.device, backends: Backends | None
) -> tuple[str, Forward]:
    """How the network is run, with the name of it."""
    if backends is None:
        return CHANNELS_FIRST, TorchForward(model, tree, plan.spatial_dims, device)
    tile = (min(plan.batch, len(plan.groups[0])), channels, *plan.patch[: plan.spatial_dims])
    with _evaluation(model):
        return backends.best(tile, math.ceil(plan.number / plan.batch), device)


class _Tile(NamedTuple):
    """A tile and the top-level nodes that can be present in it; None: all."""

    place: Place
    present: tuple[int, ...] | None


def _chosen(plan: Plan, presence: coarse.Presence | None, size: Sequence[int], branches: bool) -> list[list[_Tile]]:
    """The tiles of each group in which anything but background can be, and what can be there."""
    if presence is None:
        return [[_Tile(place, None) for place in group] for group in plan.groups]
    everything = len(presence.blocks)
    groups: list[list[_Tile]] = []
    for group in plan.groups:
        groups.append([])
        for place in group:
            if presence.anything(place, size, plan.overlap):
                rows = tuple(sorted({presence.background, *presence(place)})) if branches else ()
                groups[-1].append(_Tile(place, rows if 0 < len(rows) < everything else None))
    return groups


class _Work:
    """One network on its way over an image."""

    def __init__(
        self,
        model: nn.Module,
        forward: Forward,
        tree: LabelTree,
        device: torch.device,
        stitch: torch.device,
        cancelled: Callable[[], bool] | None,
        report: dict[str, Any],
    ) -> None:
        self.model, self.forward, self.tree, self.device, self.stitch = model, forward, tree, device, stitch
        self.cancelled, self.report = cancelled, report

    def slabs(
        self, plan: Plan, groups: Sequence[Sequence[_Tile]], array: torch.Tensor, progress: Progress | None
    ) -> Iterator[Slab]:
        """The slabs that groups of tiles complete, one after the other."""
        size = array.shape[1:]
        window = Window(self.tree, plan, self.stitch)
        image = pad(array.to(self.stitch), plan.patch)
        weight = gaussian(plan.patch).to(self.stitch)
        count, done = sum(map(len, groups)), 0
        for group, stop in zip(groups, plan.stops, strict=True):
            for begin in range(0, len(group), plan.batch):
                if self.cancelled is not None and self.cancelled():
                    raise Cancelled
                self._add(window, image, weight, group[begin : begin + plan.batch])
                done = min(done + plan.batch, count)
                if progress is not None:
                    progress("network", done / count)
            slab = window.complete(stop, size)
            if slab is not None:
                yield slab
            if stop < size[plan.axis]:
                window.advance(stop)

    def _add(self, window: Window, image: torch.Tensor, weight: torch.Tensor, tiles: Sequence[_Tile]) -> None:
        present = self.forward.everything
        if all(tile.present is not None for tile in tiles):
            present = tuple(sorted({row for tile in tiles for row in tile.present or ()}))
        # Between two batches the caller has the model as it was.
        with _evaluation(self.model):
            inputs = torch.stack([image[(slice(None), *tile.place)] for tile in tiles]).to(self.device)
            began = time.perf_counter()
            logits = self.forward(inputs, present)
            seconds = time.perf_counter() - began
        columns = None if present is None else leaf_columns(self.tree, present)
        logits = logits.to(self.stitch)
        window.add([tile.place for tile in tiles], logits, weight, present, columns)
        if self.device.type == "cpu":
            self.report["forward_s"] = self.report.get("forward_s", 0.0) + seconds + logits.seconds


@contextlib.contextmanager
def _evaluation(model: nn.Module) -> Iterator[None]:
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def _part(progress: Progress | None, begin: float, end: float) -> Progress | None:
    """Progress of one part as progress of the whole."""
    if progress is None:
        return None
    return lambda stage, fraction: progress(stage, begin + (end - begin) * fraction)


def _device(model: nn.Module) -> torch.device:
    """Where the model's weights lie."""
    parameter = next(model.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device
