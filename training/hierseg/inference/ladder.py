"""What is tried when memory does not suffice: each rung needs less than the one before, and takes longer.

Stitch in the computer's memory, one tile at a time, smaller tiles, the processor.  Only smaller tiles change the result:
the network sees less around each voxel.  Each rung is told in one sentence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

_CPU = torch.device("cpu")
_SMALLEST = 32


@dataclass(frozen=True)
class Rung:
    """One way of computing a prediction.

    Attributes:
        device: where the network runs.
        stitch: where tiles are joined and decided.
        tile_batch: tiles in one forward pass; None: as many as the device usually takes.
        patch_size: edges of a tile.
        sentence: what is said to the user; empty for the usual way.
    """

    device: torch.device
    stitch: torch.device
    tile_batch: int | None
    patch_size: tuple[int, ...]
    sentence: str = ""


def ladder(device: torch.device, config: Mapping[str, Any], divisor: int, tile_batch: int) -> list[Rung]:
    """The usual way, and below it what is tried instead, one after the other.

    Args:
        device: where prediction is wanted.
        config: with ``patch_size``.
        divisor: a tile's edges are multiples of it.
        tile_batch: how many tiles the device usually takes at once.
    """
    patch = tuple(int(edge) for edge in config["patch_size"])
    name = "The graphics card's memory" if device.type != "cpu" else "The computer's memory"
    rungs = [Rung(device, device, None, patch)]

    def lower(what: str, **changes: Any) -> None:
        sentence = f"{name} does not suffice for this image: {what}."
        rungs.append(replace(rungs[-1], sentence=sentence, **changes))

    if device.type != "cpu":
        lower("tiles are joined in the computer's memory", stitch=_CPU)
    if tile_batch > 1:
        lower("one tile is computed at a time", tile_batch=1)
    small = tuple(_half(edge, divisor) for edge in patch)
    while small != rungs[-1].patch_size:
        lower("smaller tiles are computed, which may change the result a little", patch_size=small)
        small = tuple(_half(edge, divisor) for edge in small)
    if device.type != "cpu":
        lower("it is computed on the processor", device=_CPU, patch_size=patch)
    return rungs


def _half(edge: int, divisor: int) -> int:
    """Half an edge as a multiple of ``divisor``, not below the smallest that makes sense."""
    return min(edge, max(divisor, -(-_SMALLEST // divisor) * divisor, edge // 2 // divisor * divisor))
