"""The hierarchical segmentation network: a trunk and the heads of one label tree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from hierseg.errors import ConfigError
from hierseg.labeltree import LabelTree
from hierseg.networks.arguments import check_arguments
from hierseg.networks.heads import HierarchicalOutput, Part, SeparateHeads, SharedHeads
from hierseg.networks.onednn import use_onednn
from hierseg.networks.single_heads import SINGLE_HEADS
from hierseg.networks.trunks import build_trunk

__all__ = ["HierarchicalOutput", "HierarchicalSegmenter", "build_network"]


class HierarchicalSegmenter(nn.Module):
    """An encoder-decoder whose outputs follow a label tree (paper A, Fig. 1).

    Args:
        tree: R = ``len(tree.top_level)``, K = ``len(tree.leaves)``; background counts if the tree has one.
        in_channels: image channels.
        spatial_dims: 2 or 3.
        head: ``two_heads`` (paper A), or a baseline's output layer: ``leaf``, ``path_softmax`` or ``regions``.
        trunk: one of :data:`hierseg.networks.trunks.TRUNKS`.
        width: channels of the trunk's first level; 32 in 2D and 16 in 3D if None.
        prior_concatenation: the leaf head sees raw superclass logits; ``two_heads`` only.
        separate_normalization: every top-level node has its own branch; ``two_heads`` only.
        trunk_arguments: further arguments of the trunk.

    Raises:
        ConfigError: an argument is unknown or out of range.
    """

    def __init__(
        self,
        tree: LabelTree,
        in_channels: int,
        spatial_dims: int,
        *,
        head: str = "two_heads",
        trunk: str = "unet",
        width: int | None = None,
        prior_concatenation: bool = True,
        separate_normalization: bool = True,
        **trunk_arguments: Any,
    ) -> None:
        super().__init__()
        self.arguments: dict[str, Any] = {
            "in_channels": in_channels,
            "spatial_dims": spatial_dims,
            "head": head,
            "trunk": trunk,
            "width": width,
            "prior_concatenation": prior_concatenation,
            "separate_normalization": separate_normalization,
            **trunk_arguments,
        }
        check_arguments(self.arguments)
        self.tree = tree
        self.spatial_dims = spatial_dims
        self.trunk = build_trunk(trunk, in_channels, spatial_dims, width, **trunk_arguments)
        self.heads: nn.Module
        if head in SINGLE_HEADS:
            self.heads = SINGLE_HEADS[head](tree, self.trunk.out_channels, spatial_dims)
        else:
            heads = SeparateHeads if separate_normalization else SharedHeads
            self.heads = heads(tree, self.trunk.out_channels, spatial_dims, prior_concatenation=prior_concatenation)
        use_onednn(self)

    @property
    def divisor(self) -> int:
        """Sizes of the input must be multiples of it."""
        return self.trunk.divisor

    def forward(self, x: torch.Tensor, present: Sequence[int] | None = None) -> HierarchicalOutput:
        """Logits of an image ``(B, in_channels, *spatial)``; ``present`` as for :class:`SeparateHeads`, the only heads that take it."""
        features = self.trunk(x)
        output: HierarchicalOutput = self.heads(features) if present is None else self.heads(features, present)
        return output

    def parts(self, x: torch.Tensor, present: Sequence[int] | None = None) -> list[Part]:
        """What :meth:`forward` makes its logits of, for heads that say so (:class:`Part`); others raise AttributeError."""
        features = self.trunk(x)
        found: list[Part] = self.heads.parts(features) if present is None else self.heads.parts(features, present)  # type: ignore[operator]
        return found


def build_network(tree: LabelTree, config: Mapping[str, Any]) -> HierarchicalSegmenter:
    """Build a network from ``{"name": "HierarchicalSegmenter", "arguments": {...}}``, as in ``hierseg.json``.

    Raises:
        ConfigError: the name is not in the closed list, or an argument is unknown or out of range.
    """
    if config.get("name") != "HierarchicalSegmenter":
        raise ConfigError(f"the network is {config.get('name')!r}; this program builds 'HierarchicalSegmenter' only.")
    arguments = config.get("arguments", {})
    if not isinstance(arguments, Mapping):
        raise ConfigError(f"the network's arguments are {arguments!r}; give an object of names and values.")
    check_arguments(arguments)
    return HierarchicalSegmenter(tree, **arguments)
