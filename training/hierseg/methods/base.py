"""What the methods share: the supervised terms of both outputs, the terms of the label tree, and knowledge keeping."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from hierseg.data.batches import Batch
from hierseg.labeltree import LabelTree
from hierseg.losses import PartialCrossEntropyDice, TreeTriplet
from hierseg.methods.keeping import KnowledgeKeeping
from hierseg.methods.tree_terms import TreeTerms
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
        helpers: networks beside the model that is published, by name: they are part of a checkpoint.
    """

    top_values: torch.Tensor

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
        parts = {"cross_entropy": config.losses.cross_entropy, "dice": config.losses.dice}
        self.superclass_loss = PartialCrossEntropyDice(tree.top(), **parts)
        self.leaf_loss = PartialCrossEntropyDice(tree, **parts)
        self.tree_terms = TreeTerms(tree, config.losses)
        self.triplet = TreeTriplet(tree)
        self._features: torch.Tensor | None = None
        self.keeping = KnowledgeKeeping(tree, start) if start is not None and config.losses.keep > 0 else None
        self.helpers = nn.ModuleDict()
        self.register_buffer("top_values", torch.from_numpy(tree.top_value_table), persistent=False)
        self.prepare(geometry or Geometry())

    def prepare(self, geometry: Geometry) -> None:
        """Make the terms of this method alone; ``tree`` and ``config`` are there.

        Args:
            geometry: of the patches.
        """

    @property
    def notes(self) -> list[str]:
        """What the user should know of these settings, in sentences."""
        return []

    @property
    def learners(self) -> list[HierarchicalSegmenter]:
        """The helpers that the optimizer trains, too."""
        return []

    def attach(self, model: HierarchicalSegmenter) -> None:
        """Make the helpers, once the model has its first weights."""

    def step(self, model: HierarchicalSegmenter, batch: Batch) -> Terms:
        """The weighted loss terms of a batch.

        Args:
            model: in training mode.
            batch: on the model's device.
        """
        return self.supervised(self.see(model, batch.image), batch)

    def see(self, model: HierarchicalSegmenter, image: torch.Tensor) -> HierarchicalOutput:
        """The model's output; where a term looks at the trunk's features, these are kept for it."""
        if self.config.losses.triplet <= 0:
            output: HierarchicalOutput = model(image)
            return output
        handle = model.trunk.register_forward_hook(self._keep)
        try:
            output = model(image)
        finally:
            handle.remove()
        return output

    def _keep(self, _module: nn.Module, _inputs: object, features: torch.Tensor) -> None:
        self._features = features

    def after_step(self, model: HierarchicalSegmenter, iteration: int) -> None:
        """What follows when the optimizer has changed the model in this iteration (from 0)."""

    def supervised(self, output: HierarchicalOutput, batch: Batch) -> Terms:
        """The terms that compare the outputs on unchanged images with the labels."""
        weights = self.config.losses
        leaves = self.fine_only(batch) if weights.fine_patches_only else batch.label
        terms: Terms = {
            # A term of weight 0 would still cost its computation; one of weight > 0 is there in every step, so that
            # all output layers are touched each time.
            "superclass": weights.superclass
            * self.superclass_loss(output.superclass_logits, self.top_values[batch.label]),
            "partial": weights.partial * self.leaf_loss(output.leaf_logits, leaves),
        }
        return terms | self.added(output, batch)

    def added(self, output: HierarchicalOutput, batch: Batch) -> Terms:
        """The terms that any method may have beside its own."""
        terms: Terms = self.tree_terms(output.leaf_logits, batch.label)
        if self._features is not None:
            terms["triplet"] = self._triplet_weight(batch.iteration) * self.triplet(self._features, batch.label)
            self._features = None
        if self.keeping is not None:
            terms["keep"] = self.config.losses.keep * self.keeping(output, batch.image, batch.label)
        return terms

    def _triplet_weight(self, iteration: int) -> float:
        """From 0 to the setting, along half a cosine, as HSSN (Li et al., CVPR 2022) has it."""
        done = min(1.0, iteration / self.config.iterations)
        return self.config.losses.triplet * (1.0 - math.cos(math.pi * done)) / 2.0

    def fine_only(self, batch: Batch) -> torch.Tensor:
        """The batch's labels with all coarse patches unlabelled: what the paper's methods call the labelled half."""
        label = batch.label.clone()
        label[batch.coarse] = self.tree.unlabelled
        return label


def build_method(
    tree: LabelTree, config: TrainConfig, start: HierarchicalSegmenter | None = None, geometry: Geometry | None = None
) -> Method:
    """The method that the configuration names."""
    from hierseg.methods.cps import CrossPseudoSupervision
    from hierseg.methods.ess import EfficientSubclassSegmentation
    from hierseg.methods.nl import NegativeLearningMethod
    from hierseg.methods.regions import Regions
    from hierseg.methods.salt import SiblingSoftmax
    from hierseg.methods.two_head import TwoHead
    from hierseg.methods.uamt import UncertaintyAwareMeanTeacher
    from hierseg.methods.unet import UNet

    methods: dict[str, type[Method]] = {
        "ess": EfficientSubclassSegmentation,
        "two_head": TwoHead,
        "unet": UNet,
        "nl": NegativeLearningMethod,
        "cps": CrossPseudoSupervision,
        "uamt": UncertaintyAwareMeanTeacher,
        "regions": Regions,
        "salt": SiblingSoftmax,
    }
    return methods[config.method](tree, config, start, geometry)
