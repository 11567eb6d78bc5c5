"""nnU-Net's way with nested classes: a sigmoid for every node, and voxels that are ignored.

nnU-Net trains such regions with binary cross-entropy and Dice and leaves out the voxels of one ignore mask that all
regions share (Isensee et al., Nature Methods 2021, and the documentation of nnU-Net v2).
"""

from __future__ import annotations

from typing import cast

from hierseg.data.batches import Batch
from hierseg.losses import RegionLoss
from hierseg.methods.base import Geometry, Method, Terms
from hierseg.networks import HierarchicalSegmenter
from hierseg.networks.heads import RegionsOutput


class Regions(Method):
    """Binary cross-entropy and Dice of every node where it is known."""

    def prepare(self, geometry: Geometry) -> None:
        """Make the terms of this method alone."""
        self.regions = RegionLoss(self.tree, shared_ignore=self.config.losses.shared_ignore)

    def step(self, model: HierarchicalSegmenter, batch: Batch) -> Terms:
        """The weighted loss terms of a batch."""
        output = self.see(model, batch.image)
        terms: Terms = {
            "regions": self.config.losses.partial * self.regions(cast(RegionsOutput, output).node_logits, batch.label)
        }
        return terms | self.added(output, batch)
