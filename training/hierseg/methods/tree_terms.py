"""The losses on the label tree that any method may add, each with its own weight."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from hierseg.labeltree import LabelTree
from hierseg.losses import MarginalCrossEntropy, NodeDice, SplitCrossEntropy, TreeCrossEntropy, TreeWasserstein

if TYPE_CHECKING:
    from hierseg.engine.settings import Losses


class TreeTerms(nn.Module):
    """Terms by name, already weighted; those of weight 0 are not computed.

    Args:
        tree: of the labels.
        weights: which terms there are.
    """

    def __init__(self, tree: LabelTree, weights: Losses) -> None:
        super().__init__()
        self.tree, self.weights = tree, weights
        self.marginal = MarginalCrossEntropy(tree)
        self.split = SplitCrossEntropy(tree)
        self.wasserstein = TreeWasserstein(tree)
        self.tree_cross_entropy = TreeCrossEntropy(tree, weights.level_weights)
        self.node_dice = NodeDice(tree)

    def forward(self, leaf_logits: torch.Tensor, label: torch.Tensor) -> dict[str, torch.Tensor]:
        """The terms of a batch.

        Args:
            leaf_logits: ``(B, K, *spatial)``.
            label: node values ``(B, *spatial)``.
        """
        weights = self.weights
        terms: dict[str, torch.Tensor] = {}
        for name, loss in (
            ("marginal", self.marginal),
            ("split", self.split),
            ("wasserstein", self.wasserstein),
            ("tree_cross_entropy", self.tree_cross_entropy),
            ("node_dice", self.node_dice),
        ):
            weight = getattr(weights, name)
            if weight > 0:
                terms[name] = weight * loss(leaf_logits, label)
        return terms
