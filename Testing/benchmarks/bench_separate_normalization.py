"""What separate normalization costs, for 2 to 10 top-level nodes: time of a training step, and parameters.

    PYTHONPATH=training python Testing/benchmarks/bench_separate_normalization.py > separate_normalization.json

A step is a forward and a backward pass through both outputs.  The machine may be busy: each run is a *pair*, one step
with separate normalization and one without, right after each other, and what counts is the ratio within the pairs.
Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from typing import Any

import torch

from hierseg.labeltree import LabelTree
from hierseg.networks import HierarchicalSegmenter

SIZES = {2: (128, 128), 3: (32, 32, 32)}


def tree_with(top_level: int) -> LabelTree:
    """A background and superclasses of two subclasses each, ``top_level`` in all."""
    rows: list[dict[str, Any]] = [{"name": "background", "value": 0}]
    for index in range(1, top_level):
        rows.append({"name": f"superclass {index}", "value": 10 * index})
        rows += [{"name": f"{index}.{j}", "parent": f"superclass {index}", "value": 10 * index + j} for j in (1, 2)]
    return LabelTree.from_dict({"format_version": 1, "name": "benchmark", "unlabelled": 255, "nodes": rows})


def step(model: HierarchicalSegmenter, image: torch.Tensor) -> float:
    """Seconds of one forward and backward pass."""
    start = time.perf_counter()
    output = model(image)
    (output.superclass_logits.mean() + output.leaf_logits.mean()).backward()
    if image.is_cuda:
        torch.cuda.synchronize()
    model.zero_grad(set_to_none=True)
    return time.perf_counter() - start


def spread(values: list[float]) -> dict[str, float]:
    """Median and quartiles."""
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": round(median, 4), "quartile_1": round(low, 4), "quartile_3": round(high, 4)}


def measure(top_level: int, dims: int, pairs: int, device: str) -> dict[str, Any]:
    """One row of the result."""
    tree = tree_with(top_level)
    models = {on: HierarchicalSegmenter(tree, 1, dims, separate_normalization=on).to(device) for on in (True, False)}
    image = torch.randn(1, 1, *SIZES[dims], device=device)
    seconds: dict[bool, list[float]] = {True: [], False: []}
    for run in range(pairs + 1):
        # Alternating which comes first, so that neither always profits from a warm cache; the first pair warms up.
        for on in (True, False) if run % 2 else (False, True):
            taken = step(models[on], image)
            if run:
                seconds[on].append(taken)
    parameters = {on: sum(parameter.numel() for parameter in model.parameters()) for on, model in models.items()}
    return {
        "top_level_nodes": top_level,
        "leaves": len(tree.leaves),
        "spatial_dims": dims,
        "size": SIZES[dims],
        "seconds_on": spread(seconds[True]),
        "seconds_off": spread(seconds[False]),
        "time_ratio": spread([on / off for on, off in zip(seconds[True], seconds[False], strict=True)]),
        "parameters_on": parameters[True],
        "parameters_off": parameters[False],
        "parameters_added_percent": round(100 * (parameters[True] / parameters[False] - 1), 3),
    }


def main() -> None:
    """Read the options, measure, print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=9, help="paired runs for each row (default 9)")
    parser.add_argument("--threads", type=int, default=1, help="threads on the CPU (default 1)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default cpu)")
    parser.add_argument("--dims", type=int, nargs="+", choices=(2, 3), default=(2, 3))
    parser.add_argument("--top-level", type=int, nargs="+", default=list(range(2, 11)), metavar="R")
    arguments = parser.parse_args()
    if arguments.pairs < 2 or min(arguments.top_level) < 2:
        parser.error("give at least 2 pairs, and at least 2 top-level nodes")
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    rows = [measure(r, dims, arguments.pairs, arguments.device) for dims in arguments.dims for r in arguments.top_level]
    machine = torch.cuda.get_device_name() if arguments.device == "cuda" else platform.processor() or platform.machine()
    content = {"device": machine, "threads": arguments.threads, "torch": torch.__version__, "pairs": arguments.pairs}
    print(json.dumps({**content, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
