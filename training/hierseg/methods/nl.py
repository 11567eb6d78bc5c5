"""Negative learning: the baseline "NL" of paper A, a single-head U-Net.

Fine patches teach their leaves; coarse patches teach what a voxel cannot be.  What the paper calls negative learning
is coded there as a class-balanced marginal cross-entropy: ``losses.balanced_marginal`` is that form.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hierseg.data.batches import Batch
from hierseg.labeltree import LabelTree
from hierseg.losses import NegativeLearning
from hierseg.methods.base import Geometry, Method, Terms
from hierseg.networks import HierarchicalSegmenter

if TYPE_CHECKING:
    from hierseg.engine.config import TrainConfig


class NegativeLearningMethod(Method):
    """L_f on the fine patches, negative learning on every labelled voxel of the coarse ones."""

    def __init__(
        self,
        tree: LabelTree,
        config: TrainConfig,
        start: HierarchicalSegmenter | None = None,
        geometry: Geometry | None = None,
    ) -> None:
        super().__init__(tree, config, start, geometry)
        self.negative = NegativeLearning(tree, balanced_marginal=config.losses.balanced_marginal)

    def step(self, model: HierarchicalSegmenter, batch: Batch) -> Terms:
        """The weighted loss terms of a batch."""
        output, weights = self.see(model, batch.image), self.config.losses
        coarse = batch.coarse
        terms: Terms = {
            "partial": weights.partial * self.leaf_loss(output.leaf_logits, self.fine_only(batch)),
            "negative": weights.negative * self.negative(output.leaf_logits[coarse], batch.label[coarse]),
        }
        return terms | self.added(output, batch)
