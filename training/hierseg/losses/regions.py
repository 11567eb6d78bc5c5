"""Binary cross-entropy and Dice of every node by itself: nnU-Net's loss for regions with an ignore label."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from hierseg.labeltree import LabelTree
from hierseg.losses.base import TreeLoss
from hierseg.losses.known import lies_in, undecided
from hierseg.losses.partial import by_channel

_SMOOTH = 1e-5


class RegionLoss(TreeLoss):
    """Mean binary cross-entropy + Dice loss of sigmoids, one a node, each over the voxels where it is known.

    Takes node logits ``(B, nodes, *spatial)`` in the order of ``tree.nodes`` instead of leaf logits.  Dice has linear
    denominators over the whole batch and counts the nodes that are known anywhere, as nnU-Net's does.

    Args:
        tree: the label tree.
        shared_ignore: one mask for all nodes, as in nnU-Net: a voxel counts if its leaf is known.  Otherwise a voxel
            that carries an inner node is left out for the nodes below that alone.
    """

    inside_table: torch.Tensor
    known_table: torch.Tensor

    def __init__(self, tree: LabelTree, *, shared_ignore: bool = False) -> None:
        super().__init__(tree)
        self.channels = len(tree.nodes)
        known = ~undecided(tree)
        if shared_ignore:
            known[:] = known.all(axis=1, keepdims=True)
        self.register_buffer("inside_table", torch.from_numpy(lies_in(tree)), persistent=False)
        self.register_buffer("known_table", torch.from_numpy(known), persistent=False)

    def sums(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Cross-entropy and number of known (voxel, node) pairs; overlap, sizes and known voxels of each node."""
        nodes = self.nodes(target)
        truth = self.inside_table[nodes].movedim(-1, 1).to(logits.dtype)
        known = self.known_table[nodes].movedim(-1, 1).to(logits.dtype)
        ce = (F.binary_cross_entropy_with_logits(logits, truth, reduction="none") * known).sum()
        p, truth = logits.sigmoid() * known, truth * known
        dice = [by_channel(p * truth), by_channel(p) + by_channel(truth), by_channel(known)]
        return torch.cat([torch.stack([ce, known.sum()]), *dice])

    def finish(self, sums: torch.Tensor) -> torch.Tensor:
        """Cross-entropy + Dice; 0 where nothing is known."""
        overlap, sizes, known = sums[2:].reshape(3, -1)
        dice = 1.0 - (2.0 * overlap + _SMOOTH) / (sizes + _SMOOTH)
        counted = known > 0
        missed = torch.where(counted, dice, dice.new_zeros(())).sum() / counted.sum().clamp(min=1)
        return sums[0] / sums[1].clamp(min=1) + missed
