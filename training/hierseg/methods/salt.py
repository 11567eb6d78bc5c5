"""A softmax among siblings, after SALT (Koitka et al. 2024, arXiv 2407.08878).

Cross-entropy of P(child | parent) at every level that is known adds up to −log P of the node that the voxel carries,
which is the marginal cross-entropy; beside it, Dice of every node among the voxels of its parent.
"""

from __future__ import annotations

from hierseg.data.batches import Batch
from hierseg.methods.base import Method, Terms
from hierseg.networks import HierarchicalSegmenter


class SiblingSoftmax(Method):
    """−log P(node) on every labelled voxel, and the nodes' Dice within their parents."""

    def step(self, model: HierarchicalSegmenter, batch: Batch) -> Terms:
        """The weighted loss terms of a batch."""
        output, losses = self.see(model, batch.image), self.config.losses
        terms: Terms = {
            "path": losses.partial * losses.cross_entropy * self.tree_terms.marginal(output.leaf_logits, batch.label),
            "node_dice": losses.partial * losses.dice * self.tree_terms.node_dice(output.leaf_logits, batch.label),
        }
        return terms | {name: term for name, term in self.added(output, batch).items() if name != "node_dice"}
