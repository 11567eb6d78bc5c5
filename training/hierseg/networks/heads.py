"""The two ideas of paper A in the output layers: prior concatenation and separate normalization.

Paper A is "Efficient Subclass Segmentation in Medical Images" (MICCAI 2023), sections 2.1 and 2.2, here for any
number of top-level nodes.  All logits are raw: no softmax and no detach lies between the superclass and the leaf
head, so that the subclass loss also teaches the superclass head.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from monai.networks.layers.factories import Conv, Norm
from torch import nn
from torch.nn import functional

from hierseg.labeltree import LabelTree


class HierarchicalOutput(NamedTuple):
    """What a hierarchical network returns.

    Attributes:
        superclass_logits: ``(B, R, *spatial)``, channels in the order of ``tree.top_level``.
        leaf_logits: ``(B, K, *spatial)``, channels in the order of ``tree.leaves``.
    """

    superclass_logits: torch.Tensor
    leaf_logits: torch.Tensor


class RegionsOutput(NamedTuple):
    """What the head ``regions`` returns: as :class:`HierarchicalOutput`, and its own channels.

    Attributes:
        superclass_logits: ``(B, R, *spatial)``.
        leaf_logits: ``(B, K, *spatial)``.
        node_logits: ``(B, nodes, *spatial)`` in the order of ``tree.nodes``.
    """

    superclass_logits: torch.Tensor
    leaf_logits: torch.Tensor
    node_logits: torch.Tensor


class Part(NamedTuple):
    """Logits one step before they are made: at every voxel they are ``weight @ hidden + bias``.

    What comes before looks at a voxel's surroundings and has to see a whole tile.  This last step needs one voxel, and where
    a tree has many leaves its result is what takes the most memory: whoever predicts may take it in pieces.

    Attributes:
        hidden: ``(B, C, *spatial)``.
        weight: ``(rows, C)``: superclass logits first, then leaf logits; None: ``hidden`` are these rows already.
        bias: ``(rows,)``.
        tops: how many of the first rows are superclass logits.
        leaves: how many of the last rows are leaf logits; a top-level leaf's one row is both.
    """

    hidden: torch.Tensor
    weight: torch.Tensor | None
    bias: torch.Tensor | None
    tops: int
    leaves: int


def part_of(hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, tops: int, leaves: int) -> Part:
    """A :class:`Part`; where there are fewer rows than hidden channels these are given up, and the rows kept."""
    if len(weight) >= hidden.shape[1]:
        return Part(hidden, weight, bias, tops, leaves)
    spatial = hidden.ndim - 2
    convolve = functional.conv2d if spatial == 2 else functional.conv3d
    return Part(convolve(hidden, weight.view(*weight.shape, *[1] * spatial), bias), None, None, tops, leaves)


def branch(channels: int, spatial_dims: int) -> nn.Sequential:
    """Norm, ReLU, 3×3 convolution, ReLU: what replaces the trunk's last norm and activation."""
    return nn.Sequential(
        Norm["batch", spatial_dims](channels),
        nn.ReLU(inplace=True),
        Conv["conv", spatial_dims](channels, channels, kernel_size=3, padding=1),
        nn.ReLU(inplace=True),
    )


class SharedHeads(nn.Module):
    """One branch with two 1×1 heads; with prior concatenation the leaf head also sees the superclass logits."""

    def __init__(self, tree: LabelTree, channels: int, spatial_dims: int, *, prior_concatenation: bool) -> None:
        super().__init__()
        conv = Conv["conv", spatial_dims]
        top, leaves = len(tree.top_level), len(tree.leaves)
        self.prior_concatenation = prior_concatenation
        self.branch = branch(channels, spatial_dims)
        self.superclass = conv(channels, top, kernel_size=1)
        self.leaf = conv(channels + (top if prior_concatenation else 0), leaves, kernel_size=1)

    def forward(self, features: torch.Tensor) -> HierarchicalOutput:
        """Logits from the trunk's raw features ``(B, channels, *spatial)``."""
        hidden = self.branch(features)
        superclass = self.superclass(hidden)
        seen = torch.cat([hidden, superclass], dim=1) if self.prior_concatenation else hidden
        return HierarchicalOutput(superclass, self.leaf(seen))

    def parts(self, features: torch.Tensor) -> list[Part]:
        """What :meth:`forward` makes its logits of."""
        weight, bias = _joined(self.superclass, self.leaf, prior_concatenation=self.prior_concatenation)
        tops = self.superclass.out_channels
        return [part_of(self.branch(features), weight, bias, tops, len(bias) - tops)]


class SeparateHeads(nn.Module):
    """A branch of its own for every top-level node (separate normalization).

    A top-level *leaf* has one logit, which both outputs share.  A top-level node with several leaves has its
    superclass logit and a leaf head on the same branch; with prior concatenation the leaf head also sees that
    one raw logit.
    """

    channel_order: torch.Tensor

    def __init__(self, tree: LabelTree, channels: int, spatial_dims: int, *, prior_concatenation: bool) -> None:
        super().__init__()
        conv = Conv["conv", spatial_dims]
        self.prior_concatenation = prior_concatenation
        self.branches = nn.ModuleList()
        self.superclass = nn.ModuleList()
        self.leaf = nn.ModuleList()
        column = {leaf.name: index for index, leaf in enumerate(tree.leaves)}
        order: list[int] = []
        for node in tree.top_level:
            below = tree.leaves_under(node)
            order += [column[leaf.name] for leaf in below]
            self.branches.append(branch(channels, spatial_dims))
            self.superclass.append(conv(channels, 1, kernel_size=1))
            seen = channels + (1 if prior_concatenation else 0)
            self.leaf.append(nn.Identity() if tree.is_leaf(node) else conv(seen, len(below), kernel_size=1))
        # Heads speak in the order of the top level; the fine channels follow the order of the leaves in the file.
        inverse = torch.empty(len(order), dtype=torch.long)
        inverse[torch.tensor(order)] = torch.arange(len(order))
        self.register_buffer("channel_order", inverse, persistent=False)
        self._in_order = order == sorted(order)

    def forward(self, features: torch.Tensor, present: Sequence[int] | None = None) -> HierarchicalOutput:
        """Logits from the trunk's raw features ``(B, channels, *spatial)``.

        With ``present``, rows of ``tree.top_level``, only these nodes' branches are computed: their superclass logits, and
        the logits of their leaves, one node's after the other's.
        """
        superclass, leaves = [], []
        for row in range(len(self.branches)) if present is None else present:
            branch_, superclass_head, leaf_head = self.branches[row], self.superclass[row], self.leaf[row]
            hidden = branch_(features)
            logit = superclass_head(hidden)
            superclass.append(logit)
            if isinstance(leaf_head, nn.Identity):
                leaves.append(logit)
            else:
                leaves.append(leaf_head(torch.cat([hidden, logit], dim=1) if self.prior_concatenation else hidden))
        leaf_logits = torch.cat(leaves, dim=1)
        if present is None and not self._in_order:
            leaf_logits = leaf_logits.index_select(1, self.channel_order)
        return HierarchicalOutput(torch.cat(superclass, dim=1), leaf_logits)

    def parts(self, features: torch.Tensor, present: Sequence[int] | None = None) -> list[Part]:
        """What :meth:`forward` makes its logits of; leaves one node's after the other's, whatever ``present`` is."""
        found = []
        for row in range(len(self.branches)) if present is None else present:
            superclass_head, leaf_head = cast("nn.Conv3d", self.superclass[row]), self.leaf[row]
            hidden = self.branches[row](features)
            if isinstance(leaf_head, nn.Identity):
                assert superclass_head.bias is not None  # made with one
                found.append(part_of(hidden, superclass_head.weight.flatten(1), superclass_head.bias, 1, 1))
            else:
                weight, bias = _joined(superclass_head, leaf_head, prior_concatenation=self.prior_concatenation)
                found.append(part_of(hidden, weight, bias, 1, len(bias) - 1))
        return found


def _joined(superclass: Any, leaf: Any, *, prior_concatenation: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight and bias of both heads' 1×1 convolutions, one below the other, as functions of the hidden channels alone.

    With prior concatenation the leaf head also sees the superclass logits; these are affine functions of the hidden
    channels, too: W (h, V h + v) + w = (W_h + W_s V) h + W_s v + w.
    """
    above, offset = superclass.weight.flatten(1), superclass.bias
    weight, bias = leaf.weight.flatten(1), leaf.bias
    if prior_concatenation:
        own, seen = weight.split([above.shape[1], len(above)], dim=1)
        weight, bias = own + seen @ above, bias + seen @ offset
    return torch.cat([above, weight]), torch.cat([offset, bias])
