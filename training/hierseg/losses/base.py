"""What every loss on node labels shares: looking up nodes, single precision, and sums over voxels, part by part.

Every loss here is a function of a few sums over voxels: a mean is a sum over a count, Dice is made of three sums.  A
loss therefore says what to add up (:meth:`TreeLoss.sums`) and what to make of it (:meth:`TreeLoss.finish`).  Large
inputs are added up part by part, forward and backward, so that no second array of the logits' size is needed beside
their gradient (``docs/losses.md`` has the measurements).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

from hierseg.errors import ConfigError
from hierseg.labeltree import LabelTree

_TABLE_SIZE = 65536
"""Node values go up to 65534, so that the last entry of every table stands for "no node"."""

PART = 2**22
"""Numbers of logits that are worked on at a time; with so many or fewer, all at once."""

Sums = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class TreeLoss(nn.Module):
    """Base class of the losses on node labels.

    A subclass implements :meth:`sums` and :meth:`finish`.  The tables derived from the tree are buffers, so that they follow the
    module to its device; they are not part of its state, because they come from the tree.

    A value that is no node's counts as unlabelled.  Whether a label map belongs to the tree is checked once, when
    it is read (:meth:`hierseg.labeltree.LabelTree.check_values`): checking here would halt a GPU at every step.

    Args:
        tree: the label tree; K = ``len(tree.leaves)``.

    Attributes:
        channels: of the logits: K, unless a loss says otherwise.
    """

    node_index: torch.Tensor
    leaf_index: torch.Tensor
    membership: torch.Tensor

    def __init__(self, tree: LabelTree) -> None:
        super().__init__()
        self.tree = tree
        self.channels = len(tree.leaves)
        # The last row stands for "no node": all leaves belong to it, which makes lookups of −1 harmless.
        anything = np.ones((1, len(tree.leaves)), dtype=bool)
        self.register_buffer("node_index", _table(tree.node_index_table), persistent=False)
        self.register_buffer("leaf_index", _table(tree.leaf_index_table), persistent=False)
        self.register_buffer(
            "membership", torch.from_numpy(np.concatenate([tree.membership, anything])), persistent=False
        )

    def forward(self, leaf_logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """The loss, a scalar of at least single precision, also under autocast.

        Args:
            leaf_logits: ``(B, K, *spatial)``, raw.
            target: ``(B, *spatial)`` node values, any integer type that holds them.

        Returns:
            The mean over labelled voxels; 0 with zero gradients if none is labelled.

        Raises:
            ConfigError: the shapes do not fit each other or the tree.
        """
        if leaf_logits.ndim < 2 or leaf_logits.shape[1] != self.channels:
            raise ConfigError(
                f"the logits have the shape {tuple(leaf_logits.shape)}; the tree '{self.tree.name}' needs (B, {self.channels}, ...)."
            )
        self.check_target(leaf_logits, target)
        with torch.autocast(device_type=leaf_logits.device.type, enabled=False):
            wide = leaf_logits if leaf_logits.dtype == torch.float64 else leaf_logits.float()
            return self.finish(add_up(self.sums, wide, target))

    def check_target(self, leaf_logits: torch.Tensor, target: torch.Tensor) -> None:
        """Refuse a target that is not one node value for each voxel."""
        expected = (leaf_logits.shape[0], *leaf_logits.shape[2:])
        if target.shape != expected or target.is_floating_point():
            raise ConfigError(
                f"the target is {target.dtype} of shape {tuple(target.shape)}; logits of shape {tuple(leaf_logits.shape)} need integer node values of shape {expected}."
            )

    def sums(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Sums over voxels ``(n,)``: those of two parts of an input add up to those of the whole."""
        raise NotImplementedError

    def finish(self, sums: torch.Tensor) -> torch.Tensor:
        """The loss from the sums of all voxels; by default the first over the second, a mean."""
        return sums[0] / sums[1].clamp(min=1)

    def nodes(self, target: torch.Tensor) -> torch.Tensor:
        """Index in ``tree.nodes`` of every voxel's node; −1 where unlabelled."""
        return self.node_index[target.long().clamp(-1, _TABLE_SIZE - 1)]

    def leaves(self, target: torch.Tensor) -> torch.Tensor:
        """Index in ``tree.leaves`` of every voxel's leaf; −1 where the voxel carries an inner node or nothing."""
        return self.leaf_index[target.long().clamp(-1, _TABLE_SIZE - 1)]

    def inside(self, nodes: torch.Tensor) -> torch.Tensor:
        """Bool ``(B, K, *spatial)``: whether the leaf lies under the voxel's node; all leaves where that is −1."""
        return self.membership[nodes].movedim(-1, 1)

    def minus_log_probability(self, logits: torch.Tensor, nodes: torch.Tensor) -> torch.Tensor:
        """−log P of a node in every voxel, ``(B, *spatial)``: its leaves' probabilities summed; 0 where −1.

        Computed as a difference of two log-sum-exp, which neither under- nor overflows.
        """
        within = logits.masked_fill(~self.inside(nodes), -torch.inf).logsumexp(dim=1)
        return torch.where(nodes >= 0, logits.logsumexp(dim=1) - within, logits.new_zeros(()))


def sum_and_count(values: torch.Tensor, selected: torch.Tensor) -> torch.Tensor:
    """The values where ``selected`` added up, still connected to the graph where nothing is, and how many they are."""
    total = torch.where(selected, values, values.new_zeros(())).sum()
    return torch.stack([total, selected.sum().to(values.dtype)])


def add_up(sums: Sums, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """``sums(logits, target)``, part by part where the logits are many.

    Args:
        sums: as :meth:`TreeLoss.sums`.
        logits: ``(B, C, *spatial)``.
        target: ``(B, *spatial)``, or soft, of the logits' shape.
    """
    if logits.numel() <= PART or logits.ndim < 3:
        return sums(logits, target)
    result: torch.Tensor = _InParts.apply(logits, target, sums)
    return result


class _InParts(torch.autograd.Function):
    """Forward without a graph; backward computes each part again and writes its gradient where it belongs."""

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, target: torch.Tensor, sums: Sums) -> torch.Tensor:
        ctx.save_for_backward(logits, target)
        ctx.sums = sums
        return torch.stack([sums(part, its) for part, its, _ in _parts(logits, target)]).sum(dim=0)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        logits, target = ctx.saved_tensors
        result = torch.empty_like(logits)
        for part, its, into in _parts(logits.detach(), target, result):
            with torch.enable_grad():
                here = part.requires_grad_()
                (gradient,) = torch.autograd.grad(ctx.sums(here, its), here, gradients[0])
            into.copy_(gradient)
        return result, None, None


def _parts(
    logits: torch.Tensor, target: torch.Tensor, result: torch.Tensor | None = None
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Planes of single samples: views of logits, target and result (of the logits' shape)."""
    planes = logits.shape[2]
    step = max(1, PART * planes // logits[0].numel())
    axis = 2 if target.ndim == logits.ndim else 1
    for sample in range(logits.shape[0]):
        for start in range(0, planes, step):
            count = min(step, planes - start)
            one = slice(sample, sample + 1)
            part = logits[one].narrow(2, start, count)
            yield (
                part,
                target[one].narrow(axis, start, count),
                part if result is None else result[one].narrow(2, start, count),
            )


def _table(lookup: np.ndarray) -> torch.Tensor:
    """A lookup table of the tree, filled up with −1 to :data:`_TABLE_SIZE` entries."""
    full = np.full(_TABLE_SIZE, -1, dtype=np.int64)
    full[: len(lookup)] = lookup
    return torch.from_numpy(full)
