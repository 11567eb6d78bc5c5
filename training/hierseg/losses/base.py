"""What every loss on node labels shares: looking up nodes, single precision, and the mean over labelled voxels."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from hierseg.errors import ConfigError
from hierseg.labeltree import LabelTree

_TABLE_SIZE = 65536
"""Node values go up to 65534, so that the last entry of every table stands for "no node"."""


class TreeLoss(nn.Module):
    """Base class of the losses on node labels.

    A subclass implements :meth:`compute`.  The tables derived from the tree are buffers, so that they follow the
    module to its device; they are not part of its state, because they come from the tree.

    A value that is no node's counts as unlabelled.  Whether a label map belongs to the tree is checked once, when
    it is read (:meth:`hierseg.labeltree.LabelTree.check_values`): checking here would halt a GPU at every step.

    Args:
        tree: the label tree; K = ``len(tree.leaves)``.
    """

    node_index: torch.Tensor
    leaf_index: torch.Tensor
    membership: torch.Tensor

    def __init__(self, tree: LabelTree) -> None:
        super().__init__()
        self.tree = tree
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
        leaves = len(self.tree.leaves)
        if leaf_logits.ndim < 2 or leaf_logits.shape[1] != leaves:
            raise ConfigError(
                f"the logits have the shape {tuple(leaf_logits.shape)}; the tree '{self.tree.name}' needs (B, {leaves}, ...)."
            )
        self.check_target(leaf_logits, target)
        with torch.autocast(device_type=leaf_logits.device.type, enabled=False):
            wide = leaf_logits if leaf_logits.dtype == torch.float64 else leaf_logits.float()
            return self.compute(wide, target)

    def check_target(self, leaf_logits: torch.Tensor, target: torch.Tensor) -> None:
        """Refuse a target that is not one node value for each voxel."""
        expected = (leaf_logits.shape[0], *leaf_logits.shape[2:])
        if target.shape != expected or target.is_floating_point():
            raise ConfigError(
                f"the target is {target.dtype} of shape {tuple(target.shape)}; logits of shape {tuple(leaf_logits.shape)} need integer node values of shape {expected}."
            )

    def compute(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """The loss in single or double precision; implemented by every loss."""
        raise NotImplementedError

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


def mean_over(values: torch.Tensor, selected: torch.Tensor) -> torch.Tensor:
    """The mean of the values where ``selected``; 0, still connected to the graph, where nothing is."""
    return torch.where(selected, values, values.new_zeros(())).sum() / selected.sum().clamp(min=1)


def _table(lookup: np.ndarray) -> torch.Tensor:
    """A lookup table of the tree, filled up with −1 to :data:`_TABLE_SIZE` entries."""
    full = np.full(_TABLE_SIZE, -1, dtype=np.int64)
    full[: len(lookup)] = lookup
    return torch.from_numpy(full)
