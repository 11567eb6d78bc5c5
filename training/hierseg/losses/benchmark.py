"""What the losses cost: memory beyond the logits and their gradient, and time, each loss in a process of its own.

A process's largest resident memory is what the operating system saw, whatever allocated it; on Linux it is reset
after the logits are there, so that only the loss is measured.  On a GPU it is the allocator's peak.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

from hierseg.errors import ConfigError
from hierseg.inference.benchmark import environment, spread
from hierseg.inference.predictor import resolve_device
from hierseg.labeltree import LabelTree
from hierseg.losses import (
    MarginalCrossEntropy,
    NegativeLearning,
    NodeDice,
    PartialCrossEntropyDice,
    SplitCrossEntropy,
    TreeCrossEntropy,
    TreeWasserstein,
)

LOSSES: dict[str, Callable[[LabelTree], torch.nn.Module]] = {
    "partial": PartialCrossEntropyDice,
    "marginal": MarginalCrossEntropy,
    "wasserstein": TreeWasserstein,
    "tree_cross_entropy": TreeCrossEntropy,
    "negative": NegativeLearning,
    "balanced_marginal": lambda tree: NegativeLearning(tree, balanced_marginal=True),
    "split": SplitCrossEntropy,
    "node_dice": NodeDice,
}

_LEAVES_A_GROUP, _GROUPS_A_TOP = 6, 5
_MB = 1e6


def bench_losses(
    *,
    size: int = 96,
    leaves: int = 117,
    runs: int = 3,
    device: str = "auto",
    seed: int = 0,
    say: Callable[[str], None] = lambda _text: None,
) -> dict[str, Any]:
    """Measure forward and backward of every loss on one patch of ``size``³ voxels.

    Args:
        size: edge of the patch.
        leaves: of a tree with three levels.
        runs: processes a loss.
        device: ``auto``, ``cpu``, ``cuda``, ...
        seed: of logits and labels.
        say: told what is being done.

    Returns:
        Machine, setting, the size of the logits, and for each loss the memory beyond logits and gradient (MB) and the
        seconds: median and spread.
    """
    target = str(resolve_device(device))
    rows: dict[str, dict[str, Any]] = {}
    for name in LOSSES:
        found = []
        for run in range(runs):
            say(f"{name}, run {run + 1} of {runs}")
            found.append(_in_a_process(name, size, leaves, target, seed))
        extra = [row["beyond_mb"] for row in found]
        rows[name] = {
            "beyond_mb": None if None in extra else spread(extra),
            "seconds": spread([row["seconds"] for row in found]),
        }
    return {
        "benchmark": "losses",
        **environment(torch.device(target), seed),
        "patch": [size] * 3,
        "leaves": leaves,
        "nodes": len(layered_tree(leaves).nodes),
        "logits_mb": round(4 * leaves * size**3 / _MB, 1),
        "runs": runs,
        "losses": rows,
    }


def layered_tree(leaves: int) -> LabelTree:
    """Groups of six leaves, and top-level nodes of five groups."""
    nodes: list[dict[str, Any]] = []
    groups = -(-leaves // _LEAVES_A_GROUP)
    tops = -(-groups // _GROUPS_A_TOP)
    nodes += [{"name": f"top {n}", "value": 60000 + n} for n in range(tops)]
    nodes += [{"name": f"group {n}", "value": 50000 + n, "parent": f"top {n // _GROUPS_A_TOP}"} for n in range(groups)]
    nodes += [{"name": f"leaf {n}", "value": n, "parent": f"group {n // _LEAVES_A_GROUP}"} for n in range(leaves)]
    return LabelTree.from_dict({"format_version": 1, "name": "benchmark", "unlabelled": 65535, "nodes": nodes})


def measure_one(name: str, size: int, leaves: int, device: str, seed: int) -> dict[str, float | None]:
    """Forward and backward of one loss: seconds, and megabytes beyond the logits and their gradient.

    Raises:
        ConfigError: there is no such loss.
    """
    if name not in LOSSES:
        raise ConfigError(f"there is no loss {name!r}; choose one of {', '.join(LOSSES)}.")
    torch.set_num_threads(1)
    tree, where = layered_tree(leaves), torch.device(device)
    loss = LOSSES[name](tree).to(where)
    generator = torch.Generator().manual_seed(seed)
    choice = torch.randint(len(tree.nodes) + 1, (1, size, size, size), generator=generator)
    target = torch.tensor([*tree.values.tolist(), tree.unlabelled])[choice].to(where)
    logits = torch.randn((1, leaves, size, size, size), generator=generator).to(where).requires_grad_()
    # What is loaded and built at first use is not the loss's memory.
    loss(logits[..., :2, :2, :2], target[..., :2, :2, :2]).backward()
    logits.grad = None
    before = _start_peak(where)
    began = time.perf_counter()
    loss(logits, target).backward()
    if where.type == "cuda":
        torch.cuda.synchronize(where)
    seconds = time.perf_counter() - began
    peak = _peak(where)
    beyond = None if before is None or peak is None else (peak - before - 4 * logits.numel()) / _MB
    return {"seconds": seconds, "beyond_mb": beyond}


def _in_a_process(name: str, size: int, leaves: int, device: str, seed: int) -> dict[str, Any]:
    words = [json.dumps(value) for value in (name, size, leaves, device, seed)]
    code = "import json, sys; from hierseg.losses.benchmark import measure_one; print(json.dumps(measure_one(*map(json.loads, sys.argv[1:]))))"
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, encoding="utf-8", errors="replace", check=False
    )
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["killed: the memory is too small"]
        raise ConfigError(
            f"the loss '{name}' could not be measured ({last[0]}); give a smaller --size or fewer --leaves."
        )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _start_peak(device: torch.device) -> int | None:
    """Begin to watch the largest memory; returns what is taken now, in bytes, None where it cannot be seen."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    try:
        with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
            file.write("5")
    except OSError:
        return None
    return _status("VmRSS")


def _peak(device: torch.device) -> int | None:
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else _status("VmHWM")


def _status(key: str) -> int | None:
    try:
        with open("/proc/self/status", encoding="ascii") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith(f"{key}:"))
    except (OSError, StopIteration):
        return None
