"""Knowledge keeping: where nobody drew a subclass, the model should go on saying what it said before.

Fine-tuning on a few strokes teaches what the strokes show and lets go of everything else.  This term is the
cross-entropy between the probabilities of the model that training started from and those of the model now, minus
its smallest possible value (so that 0 means "says the same"), on the voxels that carry no leaf.  The two label trees
may differ: both models' leaf probabilities are summed to the nodes that the trees have in common, so that how a
superclass is divided into new subclasses costs nothing.  Compare learning without forgetting (Li and Hoiem, 2016).
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import nn

from hierseg.labeltree import LabelTree, Node
from hierseg.networks import HierarchicalOutput, HierarchicalSegmenter


class KnowledgeKeeping(nn.Module):
    """The distance to a start model's probabilities.

    Args:
        tree: of the model being trained.
        start: the model that training started from; a copy is kept, in evaluation mode.
    """

    leaf_index: torch.Tensor

    def __init__(self, tree: LabelTree, start: HierarchicalSegmenter) -> None:
        super().__init__()
        self.start = copy.deepcopy(start).eval().requires_grad_(requires_grad=False)
        for name, new, old in (("leaf", tree, start.tree), ("superclass", tree.top(), start.tree.top())):
            to_new, to_old = common_groups(new, old)
            self.register_buffer(f"{name}_new", torch.from_numpy(to_new).float(), persistent=False)
            self.register_buffer(f"{name}_old", torch.from_numpy(to_old).float(), persistent=False)
        self.register_buffer("leaf_index", torch.from_numpy(tree.leaf_index_table), persistent=False)

    def train(self, mode: bool = True) -> KnowledgeKeeping:
        """The start model stays in evaluation mode."""
        super().train(mode)
        self.start.eval()
        return self

    def forward(self, output: HierarchicalOutput, image: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """The distance, averaged over the voxels without a leaf label; 0 if there are none.

        Args:
            output: of the model being trained, on ``image``.
            image: ``(B, C, *spatial)``.
            label: node values ``(B, *spatial)``.
        """
        with torch.no_grad():
            before: HierarchicalOutput = self.start(image)
        open_voxels = self.leaf_index[label] < 0
        with torch.autocast(device_type=image.device.type, enabled=False):
            distance = self._distance("leaf", output.leaf_logits, before.leaf_logits)
            distance = distance + self._distance("superclass", output.superclass_logits, before.superclass_logits)
            return torch.where(open_voxels, distance, distance.new_zeros(())).sum() / open_voxels.sum().clamp(min=1)

    def _distance(self, name: str, now: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
        to_new, to_old = getattr(self, f"{name}_new"), getattr(self, f"{name}_old")
        kept = torch.einsum("gk,bk...->bg...", to_old, before.float().softmax(dim=1))
        mine = torch.einsum("gk,bk...->bg...", to_new, now.float().softmax(dim=1)).clamp(min=1e-6)
        # Kullback-Leibler divergence; 0 log 0 is 0.
        return (kept * (kept.clamp(min=1e-6).log() - mine.log())).sum(dim=1)


def common_groups(new: LabelTree, old: LabelTree) -> tuple[np.ndarray, np.ndarray]:
    """Groups of leaves that mean the same in two trees, as bool ``(groups, new leaves)`` and ``(groups, old leaves)``.

    A group is a node that both trees have (by path), as deep as possible; the last group takes all leaves that
    have no counterpart.
    """
    groups: list[Node] = []
    for leaf in old.leaves:
        shared = next((node for node in (leaf, *old.ancestors(leaf)) if node.path in new), None)
        if shared is not None and shared.path not in {group.path for group in groups}:
            groups.append(shared)
    # A node under another group's node would be counted twice: the higher one speaks for both.
    groups = [group for group in groups if not any(group.path.startswith(f"{other.path}/") for other in groups)]
    to_new = np.zeros((len(groups) + 1, len(new.leaves)), dtype=bool)
    to_old = np.zeros((len(groups) + 1, len(old.leaves)), dtype=bool)
    for table, tree in ((to_new, new), (to_old, old)):
        for row, group in enumerate(groups):
            below = {leaf.path for leaf in tree.leaves_under(group.path)}
            table[row] = [leaf.path in below for leaf in tree.leaves]
        table[-1] = ~table[:-1].any(axis=0)
    return to_new, to_old
