"""The optimizer, its schedule, averaged weights, and what is frozen."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from hierseg.engine.config import TrainConfig
from hierseg.errors import ConfigError, TrainingError
from hierseg.labeltree import LabelTree, Node
from hierseg.networks import HierarchicalSegmenter
from hierseg.networks.heads import SeparateHeads


def build_optimizer(
    model: HierarchicalSegmenter,
    config: TrainConfig,
    start_tree: LabelTree | None = None,
    taught: frozenset[str] = frozenset(),
    others: Iterable[HierarchicalSegmenter] = (),
) -> torch.optim.SGD:
    """SGD with momentum; the trunk is a group of its own, so that it can learn more slowly.

    Args:
        model: what is frozen stops requiring gradients.
        config: says what is frozen.
        start_tree: of the model that training started from; ``freeze: others`` compares with it.
        taught: names of the top-level nodes that the cases show subclasses of; ``freeze: auto`` trains these.
        others: networks of the method that are trained as well, from the start.
    """
    if config.freeze in ("trunk", "others", "auto"):
        model.trunk.requires_grad_(requires_grad=False)
    if config.freeze == "others":
        freeze_unchanged(model, start_tree)
    if config.freeze == "auto":
        freeze_untaught(model, taught, start_tree)
    groups = [
        {"params": [p for p in model.trunk.parameters() if p.requires_grad], "factor": config.learning_rate_trunk},
        {"params": [p for p in model.heads.parameters() if p.requires_grad], "factor": 1.0},
        *({"params": list(other.parameters()), "factor": 1.0} for other in others),
    ]
    return torch.optim.SGD(
        [group for group in groups if group["params"]],
        lr=config.learning_rate,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
    )


def freeze_unchanged(model: HierarchicalSegmenter, start_tree: LabelTree | None) -> None:
    """Freeze the branches of the top-level nodes whose part of the tree is as it was in the start model.

    Separate normalization gives every superclass a branch of its own; with the trunk frozen as well, a superclass can
    get subclasses while the logits of all others stay bit for bit what they were.

    Raises:
        ConfigError: there is no start model, the network has one branch for all, or nothing in the tree is new.
    """
    if start_tree is None:
        raise ConfigError(
            "'freeze: others' keeps what a start model knows; give one by --init, or choose another 'freeze'."
        )
    if not isinstance(model.heads, SeparateHeads):
        raise ConfigError(
            "'freeze: others' needs a network with separate normalization; choose 'freeze: trunk' instead."
        )
    unchanged = [_subtree(model.tree, node) == _subtree(start_tree, node) for node in model.tree.top_level]
    if all(unchanged):
        raise ConfigError(
            "'freeze: others' trains the superclasses that are new or got subclasses, but the dataset's label tree is that of the "
            "start model; choose another 'freeze'."
        )
    for kept, *parts in zip(unchanged, model.heads.branches, model.heads.superclass, model.heads.leaf, strict=True):
        for part in parts if kept else ():
            part.requires_grad_(requires_grad=False)


def freeze_untaught(model: HierarchicalSegmenter, taught: frozenset[str], start_tree: LabelTree | None) -> None:
    """Freeze the branches of the top-level nodes that no case shows a subclass of.

    A network with one branch for all has nothing to freeze apart: its heads learn together.

    Raises:
        ConfigError: there is no start model.
        TrainingError: no case shows any subclass.
    """
    if start_tree is None:
        raise ConfigError(
            "'freeze: auto' keeps what a start model knows; give one by --init, or choose another 'freeze'."
        )
    if not taught:
        raise TrainingError(
            "no case has a voxel that is labelled with a subclass, so there is nothing to fine-tune; refine a structure in "
            "some slices and save it to the dataset, or choose another 'freeze'."
        )
    if isinstance(model.heads, SeparateHeads):
        for node, *parts in zip(
            model.tree.top_level, model.heads.branches, model.heads.superclass, model.heads.leaf, strict=True
        ):
            for part in parts if node.name not in taught else ():
                part.requires_grad_(requires_grad=False)


def _subtree(tree: LabelTree, top: Node) -> list[str] | None:
    """Paths at and below a top-level node; None if the tree has no such node."""
    if top.path not in tree:
        return None
    return [top.path, *(node.path for node in tree.descendants(top.path))]


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

    ``norm``, ``others`` and ``auto``: batch normalization uses the statistics that it came with, so that few, one-sided patches cannot spoil
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
