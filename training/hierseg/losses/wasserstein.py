"""Tree Wasserstein loss: how far probability has to travel along the label tree."""

from __future__ import annotations

import numpy as np
import torch

from hierseg.labeltree import LabelTree
from hierseg.losses.base import TreeLoss, sum_and_count


class TreeWasserstein(TreeLoss):
    """Σ over edges of w·|P − G|, except the edges strictly below the voxel's node, over ``tree.distance_scale``.

    P is the predicted probability of the subtree below an edge and G the true one: 1 on the voxel's node and its
    ancestors, 0 elsewhere.  For a leaf this is the optimal transport from the prediction to that leaf with the
    tree's distance; for an inner node, probability inside it travels nowhere and costs nothing.

    Paper B, "Label tree semantic losses for rich multi-class medical image segmentation", combines such a loss with
    cross-entropy: by itself its gradient is weak where the network is sure and wrong.

    G is 0 or 1, so that the sum is linear in the probabilities: one row of costs a node, looked up for each voxel.
    """

    costs: torch.Tensor

    def __init__(self, tree: LabelTree) -> None:
        super().__init__(tree)
        self.register_buffer("costs", torch.from_numpy(_costs(tree)).float(), persistent=False)

    def sums(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Of labelled voxels."""
        nodes = self.nodes(target)
        cost = self.costs.to(logits.dtype)[nodes].movedim(-1, 1)
        return sum_and_count((logits.softmax(dim=1) * cost).sum(dim=1), nodes >= 0)


def _costs(tree: LabelTree) -> np.ndarray:
    """Float64 ``(nodes + 1, leaves)``: what probability 1 in a leaf costs in a voxel of that node; the last row is 0."""
    weights = np.array([node.edge_weight for node in tree.nodes])
    index = {node.name: row for row, node in enumerate(tree.nodes)}
    costs = np.zeros((len(tree.nodes) + 1, len(tree.leaves)))
    for row, node in enumerate(tree.nodes):
        truth = np.zeros(len(tree.nodes))
        truth[[row, *(index[ancestor.name] for ancestor in tree.ancestors(node))]] = 1.0
        counted = weights.copy()
        counted[[index[below.name] for below in tree.descendants(node)]] = 0.0
        costs[row] = counted @ np.abs(tree.membership - truth[:, None])
    return costs / tree.distance_scale
