"""How each inner node is divided among its children: one cross-entropy a node, all of equal weight."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from hierseg.labeltree import LabelTree
from hierseg.losses.base import TreeLoss


class SplitCrossEntropy(TreeLoss):
    """−log P(child | parent), averaged first over the voxels of each parent, then over the parents.

    A leaf's probability is a product of such conditional probabilities on the way down to it.  Averaging them by
    parent makes the few strokes of a new subclass count as much as the many voxels of a structure beside it,
    and does not move voxels between the new subclasses' parent and its siblings: that is another parent's split.
    Voxels that carry an inner node teach the splits above it.  The split of the root is left out: it has
    the superclass head.

    Args:
        tree: the label tree; K = ``len(tree.leaves)``.
    """

    def __init__(self, tree: LabelTree) -> None:
        super().__init__(tree)
        columns = {leaf.name: column for column, leaf in enumerate(tree.leaves)}
        self._parents: list[list[list[int]]] = []
        child_of_node: list[torch.Tensor] = []
        for parent in tree.nodes:
            children = tree.children(parent)
            if not children:
                continue
            self._parents.append([[columns[leaf.name] for leaf in tree.leaves_under(child)] for child in children])
            # By index in tree.nodes, with a last entry for "no node": the child at or above the node, else −1.
            rows = [
                next((i for i, child in enumerate(children) if child in (node, *tree.ancestors(node))), -1)
                for node in tree.nodes
            ]
            child_of_node.append(torch.tensor([*rows, -1]))
        for number, table in enumerate(child_of_node):
            self.register_buffer(f"child_{number}", table, persistent=False)

    def sums(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """For each parent the cross-entropy of its voxels and their number; before them a 0."""
        nodes = self.nodes(target)
        # The sum of nothing: 0, and still connected to the graph where the tree has no inner node.
        found = [logits[:0].sum()]
        for number, groups in enumerate(self._parents):
            child = self.get_buffer(f"child_{number}")[nodes]
            mass = torch.stack([logits[:, columns].logsumexp(dim=1) for columns in groups], dim=1)
            found.append(F.cross_entropy(mass, child, ignore_index=-1, reduction="sum"))
            found.append((child >= 0).sum().to(logits.dtype))
        return torch.stack(found)

    def finish(self, sums: torch.Tensor) -> torch.Tensor:
        """Mean over the parents that have a labelled voxel at or below a child; 0 if there are none."""
        loss, known = sums[1::2], sums[2::2]
        return sums[0] + (loss / known.clamp(min=1)).sum() / (known > 0).sum().clamp(min=1)
