"""Tree triplets: features of a subclass nearer to its siblings' than to those of another superclass."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from hierseg.labeltree import LabelTree


class TreeTriplet(nn.Module):
    """max(0, d(a, p) − d(a, n) + margin) with d = 1 − cosine, the mean over triplets, then over the anchors' leaves.

    The anchor a carries a leaf, p another leaf of the same superclass, n a leaf of another one.  After HSSN (Li et al.,
    CVPR 2022), which takes features of a projection layer of its own; here they are the trunk's.  Voxels that carry an
    inner node or nothing are in no triplet.

    Args:
        tree: the label tree.
        margin: in units of 1 − cosine.
        most: triplets of one leaf.
    """

    leaf_index: torch.Tensor
    top_of_leaf: torch.Tensor

    def __init__(self, tree: LabelTree, *, margin: float = 0.6, most: int = 200) -> None:
        super().__init__()
        self.margin, self.most = margin, most
        tops = [node.name for node in tree.top_level]
        self.register_buffer("leaf_index", torch.from_numpy(tree.leaf_index_table), persistent=False)
        self.register_buffer(
            "top_of_leaf", torch.tensor([tops.index(tree.top_of(leaf).name) for leaf in tree.leaves]), persistent=False
        )

    def forward(self, features: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """The loss; 0, still connected to the graph, where no triplet can be made.

        Args:
            features: ``(B, C, *spatial)``.
            target: node values ``(B, *spatial)``.
        """
        leaves = self.leaf_index[target].flatten()
        vectors = features.float().movedim(1, -1).flatten(end_dim=-2)
        tops = torch.where(leaves >= 0, self.top_of_leaf[leaves.clamp(min=0)], -1)
        losses = []
        for leaf in leaves.unique().tolist():
            if leaf < 0:
                continue
            top = int(self.top_of_leaf[leaf])
            groups = (leaves == leaf, (tops == top) & (leaves != leaf), (tops >= 0) & (tops != top))
            places = [group.nonzero().flatten() for group in groups]
            count = min(self.most, *(len(place) for place in places))
            if count == 0:
                continue
            anchor, near, far = (
                F.normalize(vectors[place[torch.randperm(len(place))[:count].to(place.device)]], dim=1)
                for place in places
            )
            gap = (anchor * far).sum(dim=1) - (anchor * near).sum(dim=1)
            losses.append((gap + self.margin).clamp(min=0).mean())
        return torch.stack(losses).mean() if losses else features.sum() * 0.0
