"""Efficient subclass segmentation (paper A): L_c + L_f + L_p, with HierarchicalMix for the coarse half of a batch."""

from __future__ import annotations

import numpy as np

from hierseg.data.batches import Batch
from hierseg.methods.base import Geometry, Method, Terms
from hierseg.mix import HierarchicalMix
from hierseg.networks import HierarchicalOutput, HierarchicalSegmenter


class EfficientSubclassSegmentation(Method):
    """The two supervised terms, and the loss on mixed images with pseudo labels (sections 2.3 and 2.4).

    L_p is 0 in a batch without coarse patches, and in a run without subclass labels to mix in.
    """

    def prepare(self, geometry: Geometry) -> None:
        """Make the terms of this method alone."""
        self.mix = HierarchicalMix(
            self.tree,
            self.config.iterations,
            mode=self.config.mix.mode,
            threshold=(self.config.mix.tau_start, self.config.mix.tau_end),
            spacing=geometry.spacing,
            left_right_axis=geometry.side_axis,
            ramp=self.config.mix.ramp,
        )

    def step(self, model: HierarchicalSegmenter, batch: Batch) -> Terms:
        """The weighted loss terms of a batch."""
        output: HierarchicalOutput = self.see(model, batch.image)
        terms = self.supervised(output, batch)
        if self.config.losses.mix <= 0 or self.mix.mode == "off":
            return terms
        if len(batch.rows) == 0:
            terms["mix"] = output.leaf_logits.new_zeros(())
            return terms
        found = self.mix(
            model,
            batch.image[batch.rows],
            batch.label[batch.rows],
            batch.mixed_image,
            batch.mixed_label,
            batch.mixed_weight,
            iteration=batch.iteration,
            rng=np.random.default_rng([self.config.seed, 4, batch.iteration]),
            # f(x) has been computed; only where it is the prediction that learns (mode "pseudo") is its gradient used.
            leaf_logits=output.leaf_logits[batch.rows],
        )
        terms["mix"] = self.config.losses.mix * found.loss
        self.observed = {"pseudo_share": found.pseudo_share, "mixed_share": found.mixed_share}
        return terms
