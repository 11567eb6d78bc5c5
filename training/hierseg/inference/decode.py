"""From probabilities to nodes: the subclass always lies in the predicted superclass.

``hierarchical``: the superclass head decides on the superclass; from there the leaf head decides level by level, a node
being as probable as its leaves together.  So how a structure is divided into subclasses cannot make it lose to
the structure beside it.  ``leaf``: the leaf head alone decides, as papers score it; the superclass is the leaf's.
Either way a child never lies outside of its parent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch

from hierseg.errors import ConfigError
from hierseg.inference.forward import top_membership
from hierseg.inference.window import Probabilities
from hierseg.labeltree import LabelTree

MODES = ("hierarchical", "leaf")


class Decoded(NamedTuple):
    """One decision a voxel, ``(X, Y, Z)`` each.

    Attributes:
        leaf: int64 index in ``tree.leaves``.
        superclass: int64 index in ``tree.top_level``.
        confidence: float32, the probability of the chosen leaf.
    """

    leaf: torch.Tensor
    superclass: torch.Tensor
    confidence: torch.Tensor


def decode(probabilities: Probabilities, tree: LabelTree, mode: str = "hierarchical") -> Decoded:
    """Decide on the grid of the probabilities (validation does; users get :func:`~hierseg.inference.restore.restore`).

    Raises:
        ConfigError: the mode is unknown.
    """
    check_mode(mode)
    top = torch.from_numpy(leaf_top(tree)).to(probabilities.leaf.device)
    if mode == "leaf":
        confidence, leaf = probabilities.leaf.max(dim=0)
        return Decoded(leaf, top[leaf], confidence)
    superclass = probabilities.superclass.argmax(dim=0)
    node = torch.tensor(top_nodes(tree), device=superclass.device)[superclass]
    confidence = torch.full_like(probabilities.leaf[0], -1.0)
    for level in levels(tree):
        chosen, best = node.clone(), torch.full_like(confidence, -1.0)
        for step in level:  # node by node: a masked copy of all channels would double the memory
            value = step.channel(probabilities.leaf)
            better = (node == step.parent) & (value > best)
            chosen[better] = step.node
            best = torch.where(better, value, best)
        node, confidence = chosen, torch.where(best >= 0, best, confidence)
    return Decoded(torch.from_numpy(leaf_of_node(tree)).to(node.device)[node], superclass, confidence)


class Step(NamedTuple):
    """A node that competes with its siblings where their parent has been chosen.

    Attributes:
        node: index in ``tree.nodes``.
        parent: the same, of its parent; a top-level leaf stands for itself, so that it gets a probability too.
        leaves: indices in ``tree.leaves`` of the leaves below it, or of itself.
    """

    node: int
    parent: int
    leaves: list[int]

    def channel(self, leaf: torch.Tensor) -> torch.Tensor:
        """Its probability ``(X, Y, Z)`` from those of all leaves ``(K, X, Y, Z)``."""
        return leaf[self.leaves[0]] if len(self.leaves) == 1 else leaf[self.leaves].sum(dim=0)


def levels(tree: LabelTree) -> list[list[Step]]:
    """The decisions below the top level, from above: one list a depth; top-level leaves are in the first."""
    row = {node.name: index for index, node in enumerate(tree.nodes)}
    column = {leaf.name: index for index, leaf in enumerate(tree.leaves)}
    found: list[list[Step]] = [[] for _ in range(max(2, *(node.depth for node in tree.nodes)) - 1)]
    for node in tree.nodes:
        leaves = [column[leaf.name] for leaf in tree.leaves_under(node)]
        if node.parent is not None:
            found[node.depth - 2].append(Step(row[node.name], row[node.parent], leaves))
        elif tree.is_leaf(node):
            found[0].append(Step(row[node.name], row[node.name], leaves))
    return found


def top_nodes(tree: LabelTree) -> list[int]:
    """Index in ``tree.nodes`` of each top-level node."""
    row = {node.name: index for index, node in enumerate(tree.nodes)}
    return [row[node.name] for node in tree.top_level]


def leaf_of_node(tree: LabelTree) -> np.ndarray:
    """int64 ``(nodes,)``: index in ``tree.leaves`` of each node; −1 for an inner node."""
    column = {leaf.name: index for index, leaf in enumerate(tree.leaves)}
    return np.array([column.get(node.name, -1) for node in tree.nodes], dtype=np.int64)


def check_mode(mode: str) -> None:
    """Refuse an unknown mode.

    Raises:
        ConfigError: names the modes.
    """
    if mode not in MODES:
        raise ConfigError(f"there is no way of decoding {mode!r}; choose {' or '.join(MODES)}.")


def leaf_top(tree: LabelTree) -> np.ndarray:
    """int64 ``(K,)``: index in ``tree.top_level`` of the top-level node above each leaf."""
    return top_membership(tree).argmax(axis=0).astype(np.int64)


def path_values(tree: LabelTree) -> np.ndarray:
    """Values ``(K, depth + 1)`` of the nodes on the way to each leaf: column 0 is ``unlabelled``, column d the node of depth d.

    Behind a leaf's own depth its own value is repeated.
    """
    deepest = max(leaf.depth for leaf in tree.leaves)
    table = np.full((len(tree.leaves), deepest + 1), tree.unlabelled, dtype=tree.dtype)
    for row, leaf in enumerate(tree.leaves):
        for node in tree.ancestors(leaf):
            table[row, node.depth] = node.value
        table[row, leaf.depth :] = leaf.value
    return table


def node_thresholds(thresholds: Mapping[str, float], tree: LabelTree) -> dict[str, float]:
    """Thresholds by node name, those of 0 left out.

    Raises:
        LabelTreeError: a node is not in the tree.
        ConfigError: a threshold is not between 0 and 1.
    """
    found = {}
    for key, value in thresholds.items():
        node = tree.node(key)
        if not 0.0 <= float(value) <= 1.0:
            raise ConfigError(f"the threshold of node '{node.name}' is {value}; give a number from 0 to 1.")
        if value > 0:
            found[node.name] = float(value)
    return found
