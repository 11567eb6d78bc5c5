"""How a network's arrays lie in memory on the CPU: channels first or channels last, whichever is faster here.

Which is faster depends on the network and the processor (instance normalization, for one, knows no channels-last form),
so it is measured once, with tiles of half the edges, and remembered in the user's folder.  Results are the same but for
rounding.  ``HIERSEG_LAYOUT`` in the environment decides instead: ``channels_first`` or ``channels_last``.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hierseg.atomic import write_text
from hierseg.errors import ConfigError
from hierseg.resources import home

CHANNELS_FIRST, CHANNELS_LAST = "channels_first", "channels_last"
LEAST_TILES = 16
"""With fewer tiles the measurement would cost more than it gains."""
_RUNS = 3
_LEAST_GAIN = 1.03


def memory_format(layout: str, spatial_dims: int) -> torch.memory_format:
    """Torch's name of a layout."""
    if layout == CHANNELS_FIRST:
        return torch.contiguous_format
    return torch.channels_last if spatial_dims == 2 else torch.channels_last_3d


def choose(model: nn.Module, shape: Sequence[int], tiles: int) -> str:
    """The layout for a network on the CPU.

    Args:
        model: in evaluation mode; its weights are left in the layout that is chosen.
        shape: of a batch of tiles, ``(B, C, *spatial)``.
        tiles: how many such batches are about to be computed.

    Raises:
        ConfigError: ``HIERSEG_LAYOUT`` is neither of the two.
    """
    given = os.environ.get("HIERSEG_LAYOUT", "")
    if given not in ("", CHANNELS_FIRST, CHANNELS_LAST):
        raise ConfigError(f"HIERSEG_LAYOUT is {given!r}; give {CHANNELS_FIRST} or {CHANNELS_LAST}, or unset it.")
    path = home() / "layouts.json"
    key = _key(model, shape)
    known = given or _read(path).get(key, "")
    if known not in (CHANNELS_FIRST, CHANNELS_LAST):
        known = CHANNELS_FIRST
        if tiles >= LEAST_TILES:
            # An eighth of a tile's work: all runs together take about as long as one tile.
            divisor = int(getattr(model, "divisor", 16))
            known = _measured(
                model, [*shape[:2], *(max(divisor, edge // 2 // divisor * divisor) for edge in shape[2:])]
            )
            _remember(path, key, known)
    model.to(memory_format=memory_format(known, len(shape) - 2))  # type: ignore[call-overload]
    return known


def _measured(model: nn.Module, shape: Sequence[int]) -> str:
    seconds = {}
    for layout in (CHANNELS_FIRST, CHANNELS_LAST):
        form = memory_format(layout, len(shape) - 2)
        model.to(memory_format=form)  # type: ignore[call-overload]
        tile = torch.zeros(*shape).contiguous(memory_format=form)
        seconds[layout] = _median(lambda tile=tile: model(tile))  # type: ignore[misc]
    return CHANNELS_LAST if seconds[CHANNELS_FIRST] > _LEAST_GAIN * seconds[CHANNELS_LAST] else CHANNELS_FIRST


def _median(run: Callable[[], Any]) -> float:
    """Seconds of a run, the first one left out."""
    seconds = []
    with torch.inference_mode():
        for _ in range(_RUNS + 1):
            began = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[1:])


def _key(model: nn.Module, shape: Sequence[int]) -> str:
    """What the measurement depends on; weights do not matter, their shapes do."""
    shapes = [(name, tuple(value.shape)) for name, value in model.state_dict().items()]
    what = [
        type(model).__name__,
        shapes,
        tuple(shape),
        torch.get_num_threads(),
        torch.__version__,
        platform.processor(),
        platform.node(),
    ]
    return hashlib.sha256(repr(what).encode()).hexdigest()


def _read(path: Path) -> dict[str, str]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _remember(path: Path, key: str, layout: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps({**_read(path), key: layout}, indent=1) + "\n")
    except OSError:
        # A home that cannot be written to: it is measured again the next time.
        return
