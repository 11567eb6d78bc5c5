"""Marginal cross-entropy: learning from voxels of which only a superclass is known."""

from __future__ import annotations

import torch

from hierseg.losses.base import TreeLoss, sum_and_count


class MarginalCrossEntropy(TreeLoss):
    """−log of the probability of the node that the voxel carries, its leaves summed.

    Where the node is a leaf this is the ordinary cross-entropy; for an inner node, how its probability is divided
    among its leaves costs nothing.  Up to a constant this is the label-set cross-entropy of Fidon et al. (2021).
    """

    def sums(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Of labelled voxels."""
        nodes = self.nodes(target)
        return sum_and_count(self.minus_log_probability(logits, nodes), nodes >= 0)
