"""Tree cross-entropy: the known node and all its ancestors are supervised."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from hierseg.errors import ConfigError
from hierseg.labeltree import LabelTree
from hierseg.losses.base import TreeLoss, sum_and_count


class TreeCrossEntropy(TreeLoss):
    """−Σ over the known node and its ancestors of w·log P, P being the node's probability (its leaves summed).

    With a flat tree and weights of 1 this is the cross-entropy.  The weight w of a node is its ``edge_weight``, or
    with ``level_weights`` that of its depth, the top level first.  Paper B reports that the weight of the top level
    matters most with sparse labels.

    Args:
        tree: the label tree.
        level_weights: one weight for each depth of the tree; None takes the nodes' edge weights.

    Raises:
        ConfigError: the number of level weights is not the tree's depth, or one is negative.
    """

    lineage: torch.Tensor
    weights: torch.Tensor

    def __init__(self, tree: LabelTree, level_weights: Sequence[float] | None = None) -> None:
        super().__init__(tree)
        depth = max(node.depth for node in tree.nodes)
        if level_weights is not None and (len(level_weights) != depth or min(level_weights) < 0):
            raise ConfigError(
                f"level_weights is {list(level_weights)}; the tree '{tree.name}' needs {depth} numbers of 0 or more, the top level first."
            )
        index = {node.name: row for row, node in enumerate(tree.nodes)}
        # Node at each depth on the way down to a node, −1 below it; the last row stands for "no node".
        lineage = np.full((len(tree.nodes) + 1, depth), -1, dtype=np.int64)
        weights = np.zeros(len(tree.nodes) + 1)
        for row, node in enumerate(tree.nodes):
            for other in (node, *tree.ancestors(node)):
                lineage[row, other.depth - 1] = index[other.name]
            weights[row] = node.edge_weight if level_weights is None else level_weights[node.depth - 1]
        self.register_buffer("lineage", torch.from_numpy(lineage), persistent=False)
        self.register_buffer("weights", torch.from_numpy(weights).float(), persistent=False)

    def sums(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Of labelled voxels."""
        nodes = self.nodes(target)
        total = logits.new_zeros(nodes.shape)
        for level in range(self.lineage.shape[1]):
            here = self.lineage[nodes, level]
            total = total + self.weights.to(logits.dtype)[here] * self.minus_log_probability(logits, here)
        return sum_and_count(total, nodes >= 0)
