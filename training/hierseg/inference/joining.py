"""From a tile's logits to weighted probabilities in the sums of a window: softmax, weight, add.

All classes of a tile are more than a processor's caches hold.  Worked on as a whole, each of the three steps reads and
writes them in memory, which took nearly half as long as the network at 61 leaves; in pieces that stay in the cache, logits are
read once and sums changed once.  A graphics card gets whole tiles: its memory is fast, and starting work is dear.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch

_PIECE = 1_000_000
"""Bytes of a piece's float32 logits on a processor."""

_FEW = 16
"""With so many classes and more, probabilities are made voxel by voxel where logits lie so, and turned over then."""

Piece = tuple[slice, slice]


class Channels(NamedTuple):
    """Where a network's channels belong among all of them.

    Attributes:
        order: in which they are to be taken; None: as they come.
        runs: for neighbors among them, slices of all channels and of those, taken in order; None: they are all channels.
    """

    order: torch.Tensor | None
    runs: list[tuple[slice, slice]] | None


def pieces(shape: Sequence[int], channels: int, device: torch.device) -> Iterator[Piece]:
    """Parts of a tile ``(X, Y, Z)`` along its first two axes: planes, or lines of one plane."""
    planes, lines = shape[0], shape[1]
    if device.type != "cpu":
        yield slice(0, planes), slice(0, lines)
        return
    count = max(1, _PIECE // (4 * channels * shape[2]))
    if count >= lines:
        step = count // lines
        for begin in range(0, planes, step):
            yield slice(begin, min(begin + step, planes)), slice(0, lines)
        return
    for plane in range(planes):
        for begin in range(0, lines, count):
            yield slice(plane, plane + 1), slice(begin, min(begin + count, lines))


def softmax(logits: torch.Tensor) -> torch.Tensor:
    """Probabilities ``(K, X, Y, Z)`` of logits of that shape, in single precision at least."""
    dtype = torch.promote_types(logits.dtype, torch.float32)
    channels = len(logits)
    if logits.device.type == "cpu" and channels >= _FEW and logits.stride(0) == 1:
        by_voxel = torch.softmax(logits.movedim(0, -1), dim=-1, dtype=dtype)
        return by_voxel.reshape(-1, channels).t().contiguous().view(logits.shape)
    return torch.softmax(logits, dim=0, dtype=dtype)


def add_weighted(sums: torch.Tensor, values: torch.Tensor, weight: torch.Tensor, channels: Channels) -> None:
    """``sums += values · weight``.

    Args:
        sums: ``(channels, X, Y, Z)`` of any precision.
        values: of all these channels, or of some.
        weight: ``(X, Y, Z)``.
        channels: which ones (:func:`channels_of`).
    """
    if channels.order is not None:
        # Sorted in the cache; added channel by channel, unsorted ones took twice as long.
        values = values.index_select(0, channels.order)
    if channels.runs is None and (sums.dtype == values.dtype or sums.is_cuda):
        sums.addcmul_(values, weight)
        return
    weighted = (values * weight).to(sums.dtype)
    for there, here in channels.runs or [(slice(None), slice(None))]:
        sums[there] += weighted[here]


def channels_of(chosen: Sequence[int] | None, number: int, device: torch.device) -> Channels:
    """Where chosen channels belong.

    Args:
        chosen: the place of each among all; None: all of them, in order.
        number: of all channels.
        device: of what will be added.
    """
    if chosen is None:
        return Channels(None, None)
    order = sorted(range(len(chosen)), key=lambda index: chosen[index])
    places = [chosen[index] for index in order]
    sorting = None if order == list(range(len(chosen))) else torch.tensor(order, device=device)
    if places == list(range(number)):
        return Channels(sorting, None)
    starts = [index for index in range(len(places)) if index == 0 or places[index] != places[index - 1] + 1]
    runs = [
        (slice(places[begin], places[end - 1] + 1), slice(begin, end))
        for begin, end in itertools.pairwise([*starts, len(places)])
    ]
    return Channels(sorting, runs)
