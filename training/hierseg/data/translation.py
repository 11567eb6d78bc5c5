"""Label maps and predictions of one label tree, read as those of another.

Nodes are the same if their paths are.  A node that the other tree does not have becomes the nearest node above it that the
other tree has: what is told apart more finely is merged.  Where there is none, nothing is known.
"""

from __future__ import annotations

import numpy as np

from hierseg.labeltree import LabelTree


def translation_table(source: LabelTree, target: LabelTree) -> np.ndarray:
    """The target's value of each value of the source; ``unlabelled`` for values that mean nothing there."""
    known = {node.path: node.value for node in target.nodes}
    largest = max(source.unlabelled, *(node.value for node in source.nodes))
    table = np.full(largest + 1, target.unlabelled, dtype=target.dtype)
    for node in source.nodes:
        for above in (node, *source.ancestors(node)):
            if above.path in known:
                table[node.value] = known[above.path]
                break
    return table


def translate(labels: np.ndarray, source: LabelTree, target: LabelTree) -> np.ndarray:
    """A map of the source's node values as one of the target's.

    >>> from hierseg.labeltree import LabelTree
    >>> fine = LabelTree.from_dict({"format_version": 1, "name": "fine", "unlabelled": 255, "nodes": [
    ...     {"name": "tumor", "value": 5}, {"name": "core", "parent": "tumor", "value": 1}, {"name": "cyst", "value": 2}]})
    >>> coarse = LabelTree.from_dict({"format_version": 1, "name": "coarse", "unlabelled": 255, "nodes": [
    ...     {"name": "tumor", "value": 7}]})
    >>> translate(np.array([1, 5, 2, 255]), fine, coarse)
    array([  7,   7, 255, 255], dtype=uint8)
    """
    found: np.ndarray = translation_table(source, target)[labels]
    return found


def coarsened(labels: np.ndarray, tree: LabelTree) -> np.ndarray:
    """The label map with every voxel's top-level node, in the tree's own values and type; unlabelled stays so."""
    table = np.arange(tree.top_value_table.size)
    for node in tree.nodes:
        table[node.value] = tree.top_of(node).value
    result: np.ndarray = table[labels].astype(tree.dtype)
    return result
