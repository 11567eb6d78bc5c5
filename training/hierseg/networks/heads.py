"""The two ideas of paper A in the output layers: prior concatenation and separate normalization.

Paper A is "Efficient Subclass Segmentation in Medical Images" (MICCAI 2023), sections 2.1 and 2.2, here for any
number of top-level nodes.  All logits are raw: no softmax and no detach lies between the superclass and the leaf
head, so that the subclass loss also teaches the superclass head.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from monai.networks.layers.factories import Conv, Norm
from torch import nn

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
