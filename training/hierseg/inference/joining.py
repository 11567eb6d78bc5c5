"""From a tile's logits to weighted probabilities in the sums of a window: softmax, weight, add.

All classes of a tile are more than a processor's caches hold.  Worked on as a whole, each of the three steps reads and
writes them in memory, which took as long as half the network at 61 leaves; in pieces that stay in the cache, logits are
read once and sums changed once.  A graphics card gets whole tiles: its memory is fast, and starting work is dear.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

_PIECE = 1_000_000
"""Bytes of a piece's float32 logits on a processor."""

_FEW = 16
"""With so many classes and more, probabilities are made voxel by voxel where logits lie so, and turned over then."""

Piece = tuple[slice, slice]
Runs = list[tuple[slice, slice]]


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


def add_weighted(sums: torch.Tensor, values: torch.Tensor, weight: torch.Tensor, runs: Runs | None) -> None:
    """``sums += values · weight``.

    Args:
        sums: ``(channels, X, Y, Z)`` of any precision.
        values: of all these channels, or of some.
        weight: ``(X, Y, Z)``.
        runs: where the channels of ``values`` lie in ``sums`` (:func:`runs_of`); None where they are the same.
    """
    if runs is None and (sums.dtype == values.dtype or sums.is_cuda):
        sums.addcmul_(values, weight)
        return
    weighted = (values * weight).to(sums.dtype)
    for there, here in [(slice(None), slice(None))] if runs is None else runs:
        sums[there] += weighted[here]


def runs_of(chosen: Sequence[int] | None) -> Runs | None:
    """Chosen channels as runs of consecutive ones: slices of all channels, and of the chosen."""
    if chosen is None:
        return None
    runs: Runs = []
    begin = 0
    for index in range(1, len(chosen) + 1):
        if index == len(chosen) or chosen[index] != chosen[index - 1] + 1:
            runs.append((slice(chosen[begin], chosen[index - 1] + 1), slice(begin, index)))
            begin = index
    return runs
