"""Output layers that speak of every voxel once: plain leaves, siblings, and regions.

They are the baselines' (``docs/methods.md``).  Each is what a U-Net has at its end: normalization, ReLU and one 1×1
convolution; superclass and leaf logits are derived from its channels, so that everything behind the network (losses,
decoding, thresholds) works as with two heads.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from monai.networks.layers.factories import Conv, Norm
from torch import nn
from torch.nn import functional as F

from hierseg.labeltree import LabelTree
from hierseg.networks.heads import HierarchicalOutput, Part, RegionsOutput, part_of


class SingleHead(nn.Module):
    """The trunk's last normalization and activation, and one 1×1 convolution."""

    def __init__(self, channels: int, spatial_dims: int, outputs: int) -> None:
        super().__init__()
        self.activation = nn.Sequential(Norm["batch", spatial_dims](channels), nn.ReLU(inplace=True))
        self.score = Conv["conv", spatial_dims](channels, outputs, kernel_size=1)

    def scores(self, features: torch.Tensor) -> torch.Tensor:
        """Raw channels ``(B, outputs, *spatial)``."""
        result: torch.Tensor = self.score(self.activation(features))
        return result


class LeafHead(SingleHead):
    """A plain U-Net's head: K logits; a superclass is as probable as its leaves together."""

    def __init__(self, tree: LabelTree, channels: int, spatial_dims: int) -> None:
        super().__init__(channels, spatial_dims, len(tree.leaves))
        self._groups = [_columns(tree, node.name) for node in tree.top_level]

    def forward(self, features: torch.Tensor) -> HierarchicalOutput:
        """Logits from the trunk's raw features ``(B, channels, *spatial)``."""
        leaf = self.scores(features)
        # The softmax of these sums is exactly the sum of the leaves' softmax.
        top = torch.cat([_log_sum(leaf[:, group]) for group in self._groups], dim=1)
        return HierarchicalOutput(top, leaf)

    def parts(self, features: torch.Tensor) -> list[Part]:
        """What :meth:`forward` makes the leaf logits of; there is no superclass logit that says more than they do."""
        bias = self.score.bias
        return [part_of(self.activation(features), self.score.weight.flatten(1), bias, 0, len(bias))]


class PathSoftmaxHead(SingleHead):
    """A channel for every node and a softmax among siblings: P(node) is the product down its path.

    After SALT (Koitka et al. 2024, arXiv 2407.08878).  The leaf logits are log P(leaf), so that their softmax is
    P(leaf) itself; an only child has the probability of its parent.
    """

    def __init__(self, tree: LabelTree, channels: int, spatial_dims: int) -> None:
        super().__init__(channels, spatial_dims, len(tree.nodes))
        row = {node.name: index for index, node in enumerate(tree.nodes)}
        self._top = [row[node.name] for node in tree.top_level]
        self._families = [
            (row[node.name], [row[child.name] for child in tree.children(node)])
            for node in sorted(tree.nodes, key=lambda node: node.depth)
            if not tree.is_leaf(node)
        ]
        self._leaves = [row[leaf.name] for leaf in tree.leaves]

    def forward(self, features: torch.Tensor) -> HierarchicalOutput:
        """Logits from the trunk's raw features ``(B, channels, *spatial)``."""
        scores = self.scores(features).float()  # logarithms of small probabilities are added up
        top = scores[:, self._top].log_softmax(dim=1)
        log_p = {row: top[:, index] for index, row in enumerate(self._top)}
        for parent, children in self._families:
            among = scores[:, children].log_softmax(dim=1)
            log_p |= {row: log_p[parent] + among[:, index] for index, row in enumerate(children)}
        return HierarchicalOutput(top, torch.stack([log_p[row] for row in self._leaves], dim=1))


class RegionsHead(SingleHead):
    """A sigmoid for every node, as nnU-Net's region-based training has it.

    Sigmoids of siblings need not add up to 1.  For decoding, a node is scored by the product of the sigmoids on its
    path, and these scores are normalized: the best region is the same as without.
    """

    def __init__(self, tree: LabelTree, channels: int, spatial_dims: int) -> None:
        super().__init__(channels, spatial_dims, len(tree.nodes))
        row = {node.name: index for index, node in enumerate(tree.nodes)}
        self._top = [row[node.name] for node in tree.top_level]
        self._paths = [[row[node.name] for node in (leaf, *tree.ancestors(leaf))] for leaf in tree.leaves]

    def forward(self, features: torch.Tensor) -> RegionsOutput:
        """Logits from the trunk's raw features ``(B, channels, *spatial)``."""
        scores = self.scores(features).float()
        log_p = F.logsigmoid(scores)
        leaf = torch.stack([log_p[:, path].sum(dim=1) for path in self._paths], dim=1)
        return RegionsOutput(log_p[:, self._top], leaf, scores)


def _columns(tree: LabelTree, node: str) -> list[int]:
    """Columns of the leaves at or below a node."""
    below = {leaf.name for leaf in tree.leaves_under(node)}
    return [index for index, leaf in enumerate(tree.leaves) if leaf.name in below]


def _log_sum(logits: torch.Tensor) -> torch.Tensor:
    return logits if logits.shape[1] == 1 else logits.logsumexp(dim=1, keepdim=True)


SINGLE_HEADS: dict[str, Callable[[LabelTree, int, int], SingleHead]] = {
    "leaf": LeafHead,
    "path_softmax": PathSoftmaxHead,
    "regions": RegionsHead,
}
"""Output layers beside the two heads of paper A."""
