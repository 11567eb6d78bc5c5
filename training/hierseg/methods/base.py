"""What the methods share: the supervised terms of both outputs, the marginal term and knowledge keeping."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from hierseg.data.batches import Batch
from hierseg.labeltree import LabelTree
from hierseg.losses import MarginalCrossEntropy, PartialCrossEntropyDice, SplitCrossEntropy
from hierseg.methods.keeping import KnowledgeKeeping
from hierseg.networks import HierarchicalOutput, HierarchicalSegmenter

if TYPE_CHECKING:
    from hierseg.engine.config import TrainConfig

Terms = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Geometry:
    """What a method may need to know of the patches' axes.

    Attributes:
        spacing: voxel edges, one a patch axis, if they are the same in all cases; else None.
        side_axis: the patch axis between left and right; None if there is none.
    """

    spacing: tuple[float, ...] | None = None
    side_axis: int | None = 0


class Method(nn.Module):
    """Base class: L_c on every labelled voxel, L_f on leaf-labelled ones, and the switchable terms.

    Args:
        tree: of the labels and the model.
        config: weights of the terms.
        start: the model that training started from, for knowledge keeping; None without ``--init``.
        geometry: of the patches.

    Attributes:
        observed: scalars of the last step that are logged but not learned from.
    """

    top_values: torch.Tensor
    is_inner: torch.Tensor

    def __init__(
        self,
        tree: LabelTree,
        config: TrainConfig,
        start: HierarchicalSegmenter | None = None,
        geometry: Geometry | None = None,
    ) -> None:
        super().__init__()
        self.observed: Terms = {}
        self.tree, self.config = tree, config
        self.superclass_loss = PartialCrossEntropyDice(tree.top())
        self.leaf_loss = PartialCrossEntropyDice(tree)
        self.marginal_loss = MarginalCrossEntropy(tree)
        self.split_loss = SplitCrossEntropy(tree)
        self.keeping = KnowledgeKeeping(tree, start) if start is not None and config.losses.keep > 0 else None
        self.register_buffer("top_values", torch.from_numpy(tree.top_value_table), persistent=False)
        inner = (tree.node_index_table >= 0) & (tree.leaf_index_table < 0)
        self.register_buffer("is_inner", torch.from_numpy(np.ascontiguousarray(inner)), persistent=False)

    def step(self, model: HierarchicalSegmenter, batch: Batch) -> Terms:
        """The weighted loss terms of a batch.

        Args:
            model: in training mode.
            batch: on the model's device.
        """
        output: HierarchicalOutput = model(batch.image)
        return self.supervised(output, batch)

    def supervised(self, output: HierarchicalOutput, batch: Batch) -> Terms:
        """The terms that compare the outputs on unchanged images with the labels."""
        weights = self.config.losses
        terms: Terms = {
            # A term of weight 0 would still cost its computation; one of weight > 0 is there in every step, so that
            # all output layers are touched each time.
            "superclass": weights.superclass
            * self.superclass_loss(output.superclass_logits, self.top_values[batch.label]),
            "partial": weights.partial * self.leaf_loss(output.leaf_logits, batch.label),
        }
        if weights.marginal > 0:
            # Leaf-labelled voxels have their term already.
            coarse = torch.where(self.is_inner[batch.label], batch.label, self.tree.unlabelled)
            terms["marginal"] = weights.marginal * self.marginal_loss(output.leaf_logits, coarse)
        if weights.split > 0:
            terms["split"] = weights.split * self.split_loss(output.leaf_logits, batch.label)
        if self.keeping is not None:
            terms["keep"] = weights.keep * self.keeping(output, batch.image, batch.label)
        return terms


def build_method(
    tree: LabelTree, config: TrainConfig, start: HierarchicalSegmenter | None = None, geometry: Geometry | None = None
) -> Method:
    """The method that the configuration names."""
    from hierseg.methods.ess import EfficientSubclassSegmentation
    from hierseg.methods.two_head import TwoHead

    methods: dict[str, type[Method]] = {"ess": EfficientSubclassSegmentation, "two_head": TwoHead}
    return methods[config.method](tree, config, start, geometry)
