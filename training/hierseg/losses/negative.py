"""Negative learning: pushing down the leaves that a voxel cannot be."""

from __future__ import annotations

import torch

from hierseg.labeltree import LabelTree
from hierseg.losses.base import TreeLoss, sum_and_count


class NegativeLearning(TreeLoss):
    """−Σ log(1 − p) over the leaves outside the voxel's node.

    The baseline "NL" of paper A.  Its published code computes something else under that name: the marginal
    cross-entropy, averaged for each superclass by itself and then summed; ``balanced_marginal=True`` is that form.

    Args:
        tree: the label tree.
        balanced_marginal: the published code's form, over the nodes that occur in the target.
    """

    def __init__(self, tree: LabelTree, *, balanced_marginal: bool = False) -> None:
        super().__init__(tree)
        self.balanced_marginal = balanced_marginal

    def sums(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Of labelled voxels; in the balanced form one sum and one count for each node of the tree."""
        nodes = self.nodes(target)
        if self.balanced_marginal:
            return self._by_node(logits, nodes)
        outside = ~self.inside(nodes)
        log_rest = _log_one_minus_softmax(logits)
        return sum_and_count(-torch.where(outside, log_rest, log_rest.new_zeros(())).sum(dim=1), nodes >= 0)

    def finish(self, sums: torch.Tensor) -> torch.Tensor:
        """The mean; in the balanced form the sum of one mean for each node that occurs."""
        loss, count = sums.reshape(2, -1)
        return (loss / count.clamp(min=1)).sum()

    def _by_node(self, logits: torch.Tensor, nodes: torch.Tensor) -> torch.Tensor:
        column = nodes.clamp(min=0).flatten()
        zeros = logits.new_zeros(len(self.tree.nodes))
        loss = zeros.index_add(0, column, self.minus_log_probability(logits, nodes).flatten())
        count = zeros.index_add(0, column, (nodes >= 0).flatten().to(logits.dtype))
        return torch.cat([loss, count])


def _log_one_minus_softmax(logits: torch.Tensor) -> torch.Tensor:
    """log(1 − softmax) along dimension 1, exact even where a probability rounds to 1.

    Only the most probable leaf can have more than one half.  For it the other leaves are summed; for all others
    1 − p is far from 0.
    """
    log_p = logits.log_softmax(dim=1)
    if logits.shape[1] == 1:
        return 0.0 * log_p  # one leaf is never outside a voxel's node
    most = torch.zeros_like(logits, dtype=torch.bool).scatter_(1, logits.argmax(dim=1, keepdim=True), True)
    others = logits.masked_fill(most, -torch.inf).logsumexp(dim=1, keepdim=True) - logits.logsumexp(dim=1, keepdim=True)
    small = torch.where(most, log_p.new_tensor(-torch.inf), log_p)
    return torch.where(most, others, torch.log1p(-small.exp()))
