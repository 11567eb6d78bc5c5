"""Tables of what a voxel's node says about every node of the tree."""

from __future__ import annotations

import numpy as np

from hierseg.labeltree import LabelTree


def lies_in(tree: LabelTree) -> np.ndarray:
    """Bool ``(nodes + 1, nodes)``: a voxel that carries the row's node lies in the column's; the last row ("no node") in none."""
    index = {node.name: row for row, node in enumerate(tree.nodes)}
    table = np.zeros((len(tree.nodes) + 1, len(tree.nodes)), dtype=bool)
    for row, node in enumerate(tree.nodes):
        table[row, [row, *(index[above.name] for above in tree.ancestors(node))]] = True
    return table


def undecided(tree: LabelTree) -> np.ndarray:
    """Bool ``(nodes + 1, nodes)``: a voxel that carries the row's node may lie in the column's or not, as that is below it."""
    index = {node.name: row for row, node in enumerate(tree.nodes)}
    table = np.zeros((len(tree.nodes) + 1, len(tree.nodes)), dtype=bool)
    for row, node in enumerate(tree.nodes):
        table[row, [index[below.name] for below in tree.descendants(node)]] = True
    table[-1] = True
    return table


def among_siblings(tree: LabelTree) -> np.ndarray:
    """Bool ``(nodes + 1, nodes)``: the voxel is known to lie in the column's node or in one of its siblings."""
    inside = lies_in(tree)
    index = {node.name: row for row, node in enumerate(tree.nodes)}
    table = np.zeros_like(inside)
    for column, node in enumerate(tree.nodes):
        family = [column, *(index[other.name] for other in tree.siblings(node))]
        table[:, column] = inside[:, family].any(axis=1)
    return table
