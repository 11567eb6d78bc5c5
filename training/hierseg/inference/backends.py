"""The ways to run a network on a device, of which the fastest is found by measuring, once.

On the CPU: torch with channels first or last, and OpenVINO where it is installed.  On CUDA under Linux: torch with
channels first or last, and ``torch.compile``.  Which is fastest depends on the network and the machine (instance
normalization, for one, knows no channels-last form); it is measured with tiles of half the edges and remembered in the
user's folder, together with the seconds that a way takes to get ready: these have to be worth it for the image at hand.
Results are the same but for rounding.  ``HIERSEG_BACKEND`` in the environment decides instead.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hierseg.atomic import write_text
from hierseg.errors import ConfigError
from hierseg.inference import openvino_forward
from hierseg.inference.forward import Forward, TorchForward
from hierseg.inference.joining import pieces
from hierseg.labeltree import LabelTree
from hierseg.resources import home

CHANNELS_FIRST, CHANNELS_LAST, OPENVINO, COMPILE = "channels_first", "channels_last", "openvino", "compile"
TORCH = "torch"
"""The faster of channels first and last."""
NAMES = (CHANNELS_FIRST, CHANNELS_LAST, OPENVINO, COMPILE, TORCH)
LEAST_TILES = 4
"""With fewer tiles the measurement would cost more than it gains."""
LEAST_SECONDS = 12.0
"""Ways that have to get ready first are not measured for less work than this."""
_QUICK = (CHANNELS_FIRST, CHANNELS_LAST)
"""Ways that need not get ready."""
_RUNS = 2
_LEAST_GAIN = 1.03


class Backends:
    """All ways to run one network.

    Args:
        model: the network.
        tree: its label tree.
        spatial_dims: 2 or 3.
        wanted: one of :data:`NAMES`, or ``auto``: measure.

    Raises:
        ConfigError: ``wanted`` or ``HIERSEG_BACKEND`` is no such name.
    """

    def __init__(self, model: nn.Module, tree: LabelTree, spatial_dims: int, wanted: str = "auto") -> None:
        self._model, self._tree, self._dims = model, tree, spatial_dims
        given, self._where = (wanted, "the back-end") if wanted != "auto" else _from_environment()
        if given not in ("", *NAMES):
            raise ConfigError(f"{self._where} is {given!r}; give {', '.join(NAMES)}, or auto.")
        self._wanted = given
        self._ready: dict[tuple[str, str], Forward] = {}
        self._last: tuple[tuple[int, ...], torch.device] | None = None

    def best(self, shape: Sequence[int], batches: int, device: torch.device) -> tuple[str, Forward]:
        """The fastest way for an image, with its name.

        Args:
            shape: of a batch of tiles, ``(B, C, *spatial)``.
            batches: how many of them are about to be computed.
            device: where the model's weights lie.

        Raises:
            ConfigError: the way that was asked for is not to be had here.
        """
        self._last = tuple(shape), device
        name = self._wanted
        if name in ("", TORCH):
            name = self._cheapest(shape, batches, device)
        elif name not in candidates(device):
            raise ConfigError(f"{self._where} is {name!r}, which is {_why_not(name)}; install it, or give auto.")
        return name, self._built(name, device)

    def settle(self) -> None:
        """Get the way ready that is fastest for further images like the last one; for a worker with time on its hands."""
        if self._last is None or self._wanted not in ("", TORCH):
            return
        shape, device = self._last
        names = self._candidates(device)
        if len(names) == 1:
            return
        try:
            seconds = self._seconds(shape, device, names)
            self._built(min(names, key=lambda name: seconds[name]), device)
        except (ImportError, RuntimeError, OSError, MemoryError):
            # It was not asked for: the way that is ready now goes on.
            return

    def _candidates(self, device: torch.device) -> tuple[str, ...]:
        names = candidates(device)
        return tuple(name for name in names if name in _QUICK) if self._wanted == TORCH else names

    def _cheapest(self, shape: Sequence[int], batches: int, device: torch.device) -> str:
        names = self._candidates(device)
        quick = [name for name in names if name in _QUICK]
        seconds = _known(_key(self._model, shape, device))
        if len(names) > 1 and batches >= LEAST_TILES:
            seconds = self._seconds(shape, device, quick)
            if batches * min(seconds[name] for name in quick) >= LEAST_SECONDS:
                seconds = self._seconds(shape, device, names)
        costs = {name: self._cost(name, seconds, batches, device) for name in names if name in seconds}
        if not costs:
            return CHANNELS_FIRST
        best = min(costs, key=lambda name: costs[name])
        # A gain within the measurement's noise is none.
        return best if costs.get(CHANNELS_FIRST, 0.0) > _LEAST_GAIN * costs[best] else CHANNELS_FIRST

    def _seconds(self, shape: Sequence[int], device: torch.device, names: Sequence[str]) -> dict[str, float]:
        """Seconds of a batch by each of these ways, and those to get ready; measured where they are not known."""
        key = _key(self._model, shape, device)
        seconds = _known(key)
        small, share = _smaller(shape, int(getattr(self._model, "divisor", 16)))
        missing = [name for name in names if name not in seconds]
        for name in missing:
            began = time.perf_counter()
            measured = self._measured(name, small, device)
            seconds[name] = measured / share
            if name not in _QUICK:
                seconds[f"{name} ready"] = time.perf_counter() - began - (_RUNS + 1) * measured
        if missing:
            _remember(key, seconds)
        return seconds

    def _cost(self, name: str, seconds: dict[str, float], batches: int, device: torch.device) -> float:
        """Seconds for the image, getting ready included."""
        ready = 0.0 if (name, str(device)) in self._ready else seconds.get(f"{name} ready", 0.0)
        # Infinite where it cannot run the network: then so are both.
        return max(0.0, 0.0 if math.isnan(ready) else ready) + batches * seconds[name]

    def _measured(self, name: str, shape: Sequence[int], device: torch.device) -> float:
        """Seconds of a batch; infinite where this way cannot run the network."""
        tiles = torch.zeros(*shape, *[1] * (3 - self._dims), device=device)
        try:
            run = self._built(name, device)
            return _median(lambda: _run(run, tiles), device)
        except (ImportError, RuntimeError, OSError) as error:
            if name in _QUICK or isinstance(error, torch.OutOfMemoryError):
                raise
            return math.inf

    def _built(self, name: str, device: torch.device) -> Forward:
        form = torch.contiguous_format
        if name == CHANNELS_LAST:
            form = torch.channels_last if self._dims == 2 else torch.channels_last_3d
        if name != OPENVINO:
            self._model.to(memory_format=form)  # type: ignore[call-overload]
        key = name, str(device)
        if key not in self._ready:
            if name == OPENVINO:
                self._ready[key] = openvino_forward.OpenVinoForward(self._model, self._tree, self._dims)
            else:
                compiled = torch.compile if name == COMPILE else None
                self._ready[key] = TorchForward(self._model, self._tree, self._dims, device, form, compiled)
        return self._ready[key]


def candidates(device: torch.device) -> tuple[str, ...]:
    """The ways that there are on a device here."""
    if device.type == "cpu":
        return (CHANNELS_FIRST, CHANNELS_LAST, *([OPENVINO] if openvino_forward.is_installed() else []))
    if device.type == "cuda":
        return (CHANNELS_FIRST, CHANNELS_LAST, *([COMPILE] if sys.platform == "linux" else []))
    return (CHANNELS_FIRST,)


def _from_environment() -> tuple[str, str]:
    given = os.environ.get("HIERSEG_BACKEND", "")
    return "" if given == "auto" else given, "HIERSEG_BACKEND"


def _why_not(name: str) -> str:
    return {
        OPENVINO: "for the CPU and needs the package openvino",
        COMPILE: "for CUDA under Linux",
    }.get(name, "not for this device")


def _smaller(shape: Sequence[int], divisor: int) -> tuple[list[int], float]:
    """A tile of half the edges, and its share of the work: all runs together take about as long as one tile."""
    small = [*shape[:2], *(max(divisor, edge // 2 // divisor * divisor) for edge in shape[2:])]
    return small, math.prod(small) / math.prod(shape)


def _run(run: Forward, tiles: torch.Tensor) -> None:
    """All logits of tiles, made as they will be."""
    logits = run(tiles, run.everything)
    for index in range(len(tiles)):
        for piece in pieces(tiles.shape[2:], logits.classes, tiles.device):
            logits.piece(index, piece)


def _median(run: Callable[[], Any], device: torch.device) -> float:
    """Seconds of a run, the first one left out."""
    seconds = []
    for _ in range(_RUNS + 1):
        began = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[1:])


def _key(model: nn.Module, shape: Sequence[int], device: torch.device) -> str:
    """What the measurement depends on; weights do not matter, their shapes do."""
    shapes = [(name, tuple(value.shape)) for name, value in model.state_dict().items()]
    what = [
        type(model).__name__,
        shapes,
        tuple(shape),
        torch.cuda.get_device_name(device) if device.type == "cuda" else torch.get_num_threads(),
        torch.__version__,
        platform.processor(),
        platform.node(),
    ]
    return hashlib.sha256(repr(what).encode()).hexdigest()


def _known(key: str) -> dict[str, float]:
    """What was measured before: seconds of a batch, and seconds to get ready."""
    found = _read(_path()).get(key)
    return dict(found) if isinstance(found, dict) and _are_numbers(found) else {}


def _path() -> Path:
    return home() / "backends.json"


def _are_numbers(found: dict[Any, Any]) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in found.values())


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _remember(key: str, seconds: dict[str, float]) -> None:
    path = _path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps({**_read(path), key: seconds}, indent=1) + "\n")
    except OSError:
        # A home that cannot be written to: it is measured again the next time.
        return
