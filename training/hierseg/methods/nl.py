"""Negative learning: the baseline "NL" of paper A, a single-head U-Net.

Fine patches teach their leaves; coarse patches teach what a voxel cannot be.  What the paper calls negative learning
is coded there as a class-balanced marginal cross-entropy: ``losses.balanced_marginal`` is that form.
"""

from __future__ import annotations

from hierseg.data.batches import Batch
from hierseg.losses import NegativeLearning
from hierseg.methods.base import Geometry, Method, Terms
from hierseg.networks import HierarchicalSegmenter


class NegativeLearningMethod(Method):
    """L_f on the fine patches, negative learning on every labelled voxel of the coarse ones."""

    def prepare(self, geometry: Geometry) -> None:
        """Make the terms of this method alone."""
        self.negative = NegativeLearning(self.tree, balanced_marginal=self.config.losses.balanced_marginal)

    def step(self, model: HierarchicalSegmenter, batch: Batch) -> Terms:
        """The weighted loss terms of a batch."""
        output, weights = self.see(model, batch.image), self.config.losses
        coarse = batch.coarse
        terms: Terms = {
            "partial": weights.partial * self.leaf_loss(output.leaf_logits, self.fine_only(batch)),
            "negative": weights.negative * self.negative(output.leaf_logits[coarse], batch.label[coarse]),
        }
        return terms | self.added(output, batch)
