"""The optimizer, its schedule, averaged weights, and what is frozen."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from hierseg.engine.config import TrainConfig
from hierseg.networks import HierarchicalSegmenter


def build_optimizer(model: HierarchicalSegmenter, config: TrainConfig) -> torch.optim.SGD:
    """SGD with momentum; the trunk is a group of its own, so that it can learn more slowly."""
    if config.freeze == "trunk":
        model.trunk.requires_grad_(requires_grad=False)
    groups = [
        {"params": [p for p in model.trunk.parameters() if p.requires_grad], "factor": config.learning_rate_trunk},
        {"params": [p for p in model.heads.parameters() if p.requires_grad], "factor": 1.0},
    ]
    return torch.optim.SGD(
        [group for group in groups if group["params"]],
        lr=config.learning_rate,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
    )


def set_learning_rate(optimizer: torch.optim.Optimizer, config: TrainConfig, iteration: int) -> float:
    """Set the rate of an iteration, a pure function of its number; returns the heads' rate."""
    left = 1.0 - iteration / config.iterations
    shape = {"linear": left, "poly": left**0.9, "constant": 1.0}[config.schedule]
    if iteration < config.warmup:
        shape *= (iteration + 1) / (config.warmup + 1)
    rate = config.learning_rate * shape
    for group in optimizer.param_groups:
        group["lr"] = rate * group["factor"]
    return rate


def set_training_mode(model: HierarchicalSegmenter, config: TrainConfig) -> None:
    """Training mode, with what the configuration freezes kept as it is.

    ``norm``: batch normalization uses the statistics that it came with, so that few, one-sided patches cannot spoil
    them.  A layer that never saw a batch has none to keep, and goes on collecting them.
    """
    model.train()
    if config.freeze == "none":
        return
    part: nn.Module = model.trunk if config.freeze == "trunk" else model
    for module in part.modules():
        if (
            isinstance(module, _BatchNorm)
            and module.num_batches_tracked is not None
            and int(module.num_batches_tracked) > 0
        ):
            module.eval()


class AveragedWeights:
    """An exponential moving average of a model's weights and statistics.

    Args:
        model: whose weights are averaged.
        decay: share of the average that is kept at each step; smaller at first, so that the start does not linger.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.model = copy.deepcopy(model).eval().requires_grad_(requires_grad=False)

    @torch.no_grad()
    def update(self, model: nn.Module, iteration: int) -> None:
        """Move the average towards the model, after iteration ``iteration`` (from 0)."""
        decay = min(self.decay, (1 + iteration) / (10 + iteration))
        own, other = self.model.state_dict(), model.state_dict()
        for name, tensor in own.items():
            if tensor.is_floating_point():
                tensor.lerp_(other[name].to(tensor.dtype), 1.0 - decay)
            else:
                tensor.copy_(other[name])


def clip_gradients(parameters: Iterable[nn.Parameter], limit: float) -> None:
    """Scale the gradients down to a norm of ``limit``; 0 means no limit."""
    if limit > 0:
        torch.nn.utils.clip_grad_norm_(parameters, limit)
