"""From probabilities to nodes: the subclass always lies in the predicted superclass.

``hierarchical``: the superclass head decides on the superclass, the leaf head on the leaf among that superclass's
leaves.  ``leaf``: the leaf head alone decides, as papers score it; the superclass is the leaf's.
Either way a child never lies outside of its parent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch

from hierseg.errors import ConfigError
from hierseg.inference.sliding import Probabilities, top_membership
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
    leaf = torch.zeros_like(superclass)
    best = torch.full_like(probabilities.leaf[0], -1.0)
    for index in range(len(tree.leaves)):  # leaf by leaf: a masked copy of all channels would double the memory
        better = (superclass == top[index]) & (probabilities.leaf[index] > best)
        leaf[better] = index
        best = torch.where(better, probabilities.leaf[index], best)
    return Decoded(leaf, superclass, best)


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
