"""Cross pseudo supervision (Chen et al., CVPR 2021), as the baseline "CPS" of paper A.

Two networks that begin with different weights learn from the labels, and each from what the other one takes for the
most probable leaf on the coarse patches.  The first one is published.
"""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn import functional as F

from hierseg.data.batches import Batch
from hierseg.methods.base import Method, Terms
from hierseg.methods.consistency import consistency_weight
from hierseg.networks import HierarchicalOutput, HierarchicalSegmenter

_SUPERVISED = 0.5
"""The published code takes half of L_c + L_f here, and not in the other methods."""


class CrossPseudoSupervision(Method):
    """½ (L_c + L_f) of each network + w (CE(f₁, argmax f₂) + CE(f₂, argmax f₁)) on the coarse patches."""

    def attach(self, model: HierarchicalSegmenter) -> None:
        """The second network: the same layers with random weights of another distribution, whatever the first starts from."""
        self.helpers["other"] = drawn_anew(model, self.config.seed + 1)

    @property
    def learners(self) -> list[HierarchicalSegmenter]:
        """The second network."""
        return [self.helpers["other"]]  # type: ignore[list-item]

    def step(self, model: HierarchicalSegmenter, batch: Batch) -> Terms:
        """The weighted loss terms of a batch."""
        outputs: list[HierarchicalOutput] = [self.see(model, batch.image), self.helpers["other"](batch.image)]
        terms: Terms = {}
        for output in outputs:
            for name, value in self.supervised(output, batch).items():
                terms[name] = terms.get(name, 0.0) + _SUPERVISED * value
        weight = consistency_weight(self.config, batch.iteration)
        terms["cross"] = weight * cross_pseudo_loss(*(output.leaf_logits[batch.coarse].float() for output in outputs))
        return terms


def cross_pseudo_loss(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """CE(f₁, argmax f₂) + CE(f₂, argmax f₁), the mean over all voxels; 0 without any.

    Args:
        one: leaf logits ``(B, K, *spatial)``.
        other: the same of the second network.
    """
    if one.shape[0] == 0:
        return (one.sum() + other.sum()) * 0.0
    return F.cross_entropy(one, other.argmax(dim=1)) + F.cross_entropy(other, one.argmax(dim=1))


def drawn_anew(model: HierarchicalSegmenter, seed: int) -> HierarchicalSegmenter:
    """A copy with fresh weights: convolutions by Xavier's normal distribution, as the published code's second network."""
    other = copy.deepcopy(model).requires_grad_(requires_grad=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in other.modules():
            reset = getattr(module, "reset_parameters", None)
            if callable(reset):
                reset()
            if isinstance(module, nn.modules.conv._ConvNd):
                nn.init.xavier_normal_(module.weight)
    return other
