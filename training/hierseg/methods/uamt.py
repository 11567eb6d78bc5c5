"""Uncertainty-aware mean teacher (Yu et al., MICCAI 2019), as the baseline "UAMT" of paper A.

A teacher, the moving average of the network, predicts the coarse patches with noise on them.  Several more passes
with noise and dropout show where it is sure; there the network is drawn to the teacher's probabilities.  The network,
not the teacher, is published.
"""

from __future__ import annotations

import copy
import math

import torch

from hierseg.data.batches import Batch
from hierseg.methods.base import Method, Terms
from hierseg.methods.consistency import consistency_weight, ramp_up
from hierseg.networks import HierarchicalOutput, HierarchicalSegmenter


class UncertaintyAwareMeanTeacher(Method):
    """L_c + L_f + w · the masked squared distance to the teacher's leaf probabilities.

    The threshold on the entropy rises from 0.75 ln 2 to ln 2 whatever the number of leaves, as published: ln 2 is the
    largest entropy of two classes, so that with more leaves the teacher has to be surer.
    """

    @property
    def notes(self) -> list[str]:
        """Without dropout only noise tells how sure the teacher is."""
        if float(self.config.trunk_arguments.get("dropout", 0.0)) > 0:
            return []
        return [
            (
                "The network has no dropout, so that the teacher's uncertainty comes from noise on the images alone; "
                "'trunk_arguments: {dropout: 0.1}' gives it some."
            )
        ]

    def attach(self, model: HierarchicalSegmenter) -> None:
        """The teacher: a copy that no optimizer touches."""
        self.helpers["teacher"] = copy.deepcopy(model).requires_grad_(requires_grad=False)

    def step(self, model: HierarchicalSegmenter, batch: Batch) -> Terms:
        """The weighted loss terms of a batch."""
        output: HierarchicalOutput = self.see(model, batch.image)
        terms = self.supervised(output, batch)
        image, now = batch.image[batch.coarse], output.leaf_logits[batch.coarse].float().softmax(dim=1)
        if len(image) == 0:
            terms["teacher"] = now.sum() * 0.0
            return terms
        wanted, uncertainty = self._ask_teacher(image)
        threshold = (0.75 + 0.25 * ramp_up(batch.iteration / self.config.iterations)) * math.log(2.0)
        mask = uncertainty < threshold
        weight = consistency_weight(self.config, batch.iteration)
        terms["teacher"] = weight * masked_distance(now, wanted, mask)
        self.observed = {"sure_share": mask.float().mean()}
        return terms

    @torch.no_grad()
    def _ask_teacher(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Probabilities ``(B, K, *spatial)`` of one noisy pass, and the entropy ``(B, 1, *spatial)`` of the mean of several."""
        wanted = self._noisy_pass(image)
        mean = torch.zeros_like(wanted)
        for _ in range(self.config.consistency.passes):
            mean += self._noisy_pass(image) / self.config.consistency.passes
        return wanted, entropy(mean)

    def _noisy_pass(self, image: torch.Tensor) -> torch.Tensor:
        size = self.config.consistency.noise
        noise = (torch.randn_like(image) * size).clamp(-2.0 * size, 2.0 * size)
        answer: HierarchicalOutput = self.helpers["teacher"](image + noise)
        return answer.leaf_logits.float().softmax(dim=1)

    @torch.no_grad()
    def after_step(self, model: HierarchicalSegmenter, iteration: int) -> None:
        """The teacher's weights follow; its running statistics are those of the images that it sees itself."""
        decay = min(1.0 - 1.0 / (iteration + 1), self.config.consistency.decay)
        for own, other in zip(self.helpers["teacher"].parameters(), model.parameters(), strict=True):
            own.lerp_(other.detach().to(own.dtype), 1.0 - decay)


def entropy(probabilities: torch.Tensor) -> torch.Tensor:
    """−Σ p log(p + 10⁻⁶) along the channels, kept as one."""
    return -(probabilities * (probabilities + 1e-6).log()).sum(dim=1, keepdim=True)


def masked_distance(now: torch.Tensor, wanted: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Σ over the mask of ‖p − q‖² / (2 · voxels of the mask); 0 where there are none.

    Args:
        now: probabilities ``(B, K, *spatial)``.
        wanted: the same, without gradient.
        mask: bool ``(B, 1, *spatial)``.
    """
    return (mask * (now - wanted).square()).sum() / (2.0 * mask.sum() + 1e-16)
