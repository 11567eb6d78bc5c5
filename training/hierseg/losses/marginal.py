"""Marginal cross-entropy: learning from voxels of which only a superclass is known."""

from __future__ import annotations

import torch

from hierseg.losses.base import TreeLoss, mean_over


class MarginalCrossEntropy(TreeLoss):
    """−log of the probability of the node that the voxel carries, its leaves summed.

    Where the node is a leaf this is the ordinary cross-entropy; for an inner node, how its probability is divided
    among its leaves costs nothing.  Up to a constant this is the label-set cross-entropy of Fidon et al. (2021).
    """

    def compute(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Mean over labelled voxels."""
        nodes = self.nodes(target)
        return mean_over(self.minus_log_probability(logits, nodes), nodes >= 0)
