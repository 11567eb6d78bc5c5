"""Dice of every node of the tree, among the voxels of its parent."""

from __future__ import annotations

import torch

from hierseg.labeltree import LabelTree
from hierseg.losses.base import TreeLoss
from hierseg.losses.known import among_siblings, lies_in
from hierseg.losses.partial import by_channel, dice_loss


class NodeDice(TreeLoss):
    """Dice loss of each node on the voxels known to lie in it or in a sibling, averaged over the nodes that occur.

    After SALT (Koitka et al. 2024), which restricts the Dice loss of a node to the voxels of its parent: how a
    structure is divided is not drowned by the many voxels around it.  The probability of a node is that of its leaves
    together.

    Args:
        tree: the label tree; K = ``len(tree.leaves)``.
    """

    inside_table: torch.Tensor
    counted_table: torch.Tensor

    def __init__(self, tree: LabelTree) -> None:
        super().__init__(tree)
        self.register_buffer("inside_table", torch.from_numpy(lies_in(tree)), persistent=False)
        self.register_buffer("counted_table", torch.from_numpy(among_siblings(tree)), persistent=False)

    def sums(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Dice's three sums of each node."""
        nodes = self.nodes(target)
        member = self.membership[:-1].to(logits.dtype)
        p = torch.einsum("nk,bk...->bn...", member, logits.softmax(dim=1))
        truth = self.inside_table[nodes].movedim(-1, 1)
        counted = self.counted_table[nodes].movedim(-1, 1)
        return torch.cat([by_channel(p * truth), by_channel(p.square() * counted), by_channel(truth).to(logits.dtype)])

    def finish(self, sums: torch.Tensor) -> torch.Tensor:
        """The mean over the nodes that occur."""
        return dice_loss(*sums.reshape(3, -1))
