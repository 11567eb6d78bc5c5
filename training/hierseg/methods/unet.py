"""A U-Net that learns from subclass labels alone: the lower and the upper bound of paper A.

On the n finely annotated cases it is what the others have to beat, on all cases annotated finely what they may hope
for.  Coarse cases are not even looked at: the sampler draws from the fine stream only.
"""

from __future__ import annotations

from hierseg.data.batches import Batch
from hierseg.methods.base import Method, Terms
from hierseg.networks import HierarchicalSegmenter


class UNet(Method):
    """Cross-entropy and Dice of the leaf output on leaf-labelled voxels."""

    def step(self, model: HierarchicalSegmenter, batch: Batch) -> Terms:
        """The weighted loss terms of a batch."""
        output = self.see(model, batch.image)
        terms: Terms = {"partial": self.config.losses.partial * self.leaf_loss(output.leaf_logits, batch.label)}
        return terms | self.added(output, batch)
