"""Where the time goes, and what the floor is: the network's arithmetic over what this machine can do.

The rates are measured: products of matrices, and the convolution that most of the network's arithmetic is in.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

from hierseg.inference import Predictor

from . import rows
from .cases import Case

_RUNS = 5
_TOP = 8


CASE = Case("floor", "one tile of 96³, 61 leaves; profile of 3 tiles", (96, 96, 192), (1.0,) * 3, (1.0,) * 3, 61)


def measured(setup: rows.Setup) -> dict[str, Any]:
    """Arithmetic, rates and profile of one case, whose image should be a few tiles."""
    case = setup.case
    tile = torch.rand(1, case.channels, *case.patch)
    network = setup.network
    operations = flops(network, tile)
    with torch.inference_mode():
        seconds = _median(lambda: network(tile))
    gemm, convolution = gemm_rate(), convolution_rate(case)
    return {
        "title": case.title,
        "gflop_a_tile": round(operations / 1e9, 2),
        "gemm_gflops": round(gemm / 1e9, 1),
        "convolution_gflops": round(convolution / 1e9, 1),
        "tile_s": round(seconds, 4),
        "floor_s": round(operations / gemm, 4),
        "share_of_gemm": round(operations / gemm / seconds, 3),
        "profile": profiled(setup),
    }


def flops(network: torch.nn.Module, tile: torch.Tensor) -> int:
    """Multiplications and additions of the network's convolutions on one tile."""

    def direct(shape: Any, weight: Any, *_rest: Any, out_shape: Any = None, **_more: Any) -> int:
        return conv_flop_count(shape, weight, out_shape, transposed=False)

    # The operator that small convolutions call by name is not in torch's own list.
    counter = FlopCounterMode(display=False, custom_mapping={torch.ops.aten.mkldnn_convolution: direct})
    with torch.no_grad(), counter:
        network(tile)
    return int(counter.get_total_flops())


def gemm_rate(edge: int = 1536) -> float:
    """Operations a second of a product of two square float32 matrices."""
    a, b = torch.rand(edge, edge), torch.rand(edge, edge)
    return 2 * edge**3 / _median(lambda: a @ b)


def convolution_rate(case: Case) -> float:
    """Operations a second of the network's first full-size convolution, alone."""
    width = 16 if case.dims == 3 else 32
    make = torch.nn.Conv3d if case.dims == 3 else torch.nn.Conv2d
    convolution, tile = make(width, width, 3, padding=1), torch.rand(1, width, *case.patch)
    with torch.inference_mode():
        seconds = _median(lambda: convolution(tile))
    return 2 * width**2 * 3**case.dims * tile[0, 0].numel() / seconds


def profiled(setup: rows.Setup) -> dict[str, Any]:
    """The operators that take most of a prediction's time, and the shares of its stages."""
    predictor = Predictor(setup.network, setup.case.config(), device=setup.device)
    predictor.predict(setup.volumes)
    with profile(activities=[ProfilerActivity.CPU]) as found:
        prediction = predictor.predict(setup.volumes)
    events = [event for event in found.key_averages() if event.self_cpu_time_total > 0]
    events.sort(key=lambda event: -event.self_cpu_time_total)
    total = sum(event.self_cpu_time_total for event in events)
    whole = sum(prediction.stages.values())
    return {
        "tiles": setup.case.tiles(),
        "stages": {name: round(seconds / whole, 3) for name, seconds in prediction.stages.items()},
        "operators": [
            {"name": event.key, "share": round(event.self_cpu_time_total / total, 3), "calls": int(event.count)}
            for event in events[:_TOP]
        ],
    }


def _median(run: Callable[[], Any]) -> float:
    """Seconds of a run, the first one left out."""
    seconds = []
    for _ in range(_RUNS + 1):
        began = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[1:])
