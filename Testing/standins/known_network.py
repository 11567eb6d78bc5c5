"""A tree and a network whose answer is known beforehand: what it sees in a voxel is the voxel's intensity."""

from __future__ import annotations

import torch
from torch import nn

from hierseg.labeltree import LabelTree
from hierseg.networks import HierarchicalOutput


def brain_tree() -> LabelTree:
    """Two superclasses with subclasses at different depths, a top-level leaf, leaves not in the order of the top level."""
    return LabelTree.from_dict(
        {
            "format_version": 1,
            "name": "test",
            "unlabelled": 255,
            "nodes": [
                {"name": "background", "value": 0},
                {"name": "tumor", "value": 5},
                {"name": "core", "parent": "tumor", "value": 1},
                {"name": "healthy", "value": 6},
                {"name": "gray", "parent": "healthy", "value": 7},
                {"name": "cortex", "parent": "gray", "value": 8},
                {"name": "nuclei", "parent": "gray", "value": 9},
                {"name": "white", "parent": "healthy", "value": 10},
                {"name": "edema", "parent": "tumor", "value": 2},
            ],
        }
    )


class Threshold(nn.Module):
    """An intensity from 0 to 1 is the probability of 'core' against 'background'; above 1.5 it is 'edema'."""

    divisor = 1

    def __init__(self, tree: LabelTree) -> None:
        super().__init__()
        self.tree = tree
        self.columns = {leaf.name: index for index, leaf in enumerate(tree.leaves)}

    def forward(self, x: torch.Tensor) -> HierarchicalOutput:
        """Logits of ``(B, 1, *spatial)``."""
        value = x[:, :1]
        far = torch.full_like(value, -30.0)
        inside = torch.log(value.clamp(1e-6, 1.0))
        outside = torch.log((1.0 - value).clamp(1e-6, 1.0))
        top = {"background": outside, "tumor": inside}
        leaf = {"background": outside, "core": inside, "edema": torch.where(value > 1.5, 20.0, -30.0)}
        return HierarchicalOutput(
            torch.cat([top.get(node.name, far) for node in self.tree.top_level], dim=1),
            torch.cat([leaf.get(node.name, far) for node in self.tree.leaves], dim=1),
        )
