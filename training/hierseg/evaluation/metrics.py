"""Dice of every node of a label tree, from label maps that may be sparse and coarse.

A voxel belongs to a node if it carries the node or one of its descendants.  Which voxels count for a node N follows
from the reference alone:

* a voxel that carries a leaf says of every node whether it belongs to it, and counts for all;
* a voxel that carries an inner node counts for that node and its ancestors, and for nothing else: whether a
  subclass is right there is not known;
* an unlabelled voxel counts for nothing.

>>> from hierseg.labeltree import LabelTree
>>> tree = LabelTree.from_dict({"format_version": 1, "name": "example", "unlabelled": 255, "nodes": [
...     {"name": "background", "value": 0}, {"name": "tumor", "value": 5},
...     {"name": "core", "parent": "tumor", "value": 1}, {"name": "edema", "parent": "tumor", "value": 2}]})
>>> node_scores(np.array([0, 1, 2, 2]), np.array([0, 5, 2, 255]), tree)
{'background': 1.0, 'tumor': 1.0, 'core': None, 'edema': 1.0}
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from hierseg.errors import ImageError
from hierseg.labeltree import LabelTree


@dataclass(frozen=True)
class Overlap:
    """Voxel counts of one node; counts of several cases may be added.

    Attributes:
        both: voxels of the node in prediction and reference.
        predicted: voxels of the node in the prediction, among those that count for it.
        reference: voxels of the node in the reference.
        counted: all voxels that count for the node.
    """

    both: int
    predicted: int
    reference: int
    counted: int = 0

    def __add__(self, other: Overlap) -> Overlap:
        return Overlap(
            self.both + other.both,
            self.predicted + other.predicted,
            self.reference + other.reference,
            self.counted + other.counted,
        )

    @property
    def dice(self) -> float | None:
        """Dice's coefficient; None if the reference does not show the node, which is never a 0."""
        return None if self.reference == 0 else 2.0 * self.both / (self.predicted + self.reference)

    @property
    def sensitivity(self) -> float | None:
        """True-positive rate: the share of the node's voxels that were found; None if the reference shows none."""
        return None if self.reference == 0 else self.both / self.reference

    @property
    def balanced_accuracy(self) -> float | None:
        """The mean of sensitivity and specificity; None if the reference shows only the node, or none of it."""
        others = self.counted - self.reference
        if self.reference == 0 or others <= 0:
            return None
        return 0.5 * (self.both / self.reference + 1.0 - (self.predicted - self.both) / others)


def node_overlaps(prediction_map: np.ndarray, reference_map: np.ndarray, tree: LabelTree) -> dict[str, Overlap]:
    """Voxel counts of every node, by name.

    Args:
        prediction_map: node values, any shape; a voxel that is predicted ``unlabelled`` belongs to no node.
        reference_map: node values, the same shape.
        tree: of both.

    Raises:
        ImageError: the shapes differ.
        LabelTreeError: a map carries a value that is not in the tree.
    """
    return overlaps_of(confusion(prediction_map, reference_map, tree), tree)


def overlaps_of(table: np.ndarray, tree: LabelTree) -> dict[str, Overlap]:
    """:func:`node_overlaps` from the table of :func:`confusion`."""
    names = [node.name for node in tree.nodes]
    place = {name: row for row, name in enumerate(names)}
    result = {}
    for node in tree.nodes:
        inside = np.zeros(len(names) + 1, dtype=bool)
        inside[[place[node.name], *(place[below.name] for below in tree.descendants(node))]] = True
        # What counts: every leaf, and the inner nodes of which this node is an ancestor, or itself.
        counts = np.array([tree.is_leaf(other) for other in tree.nodes] + [False]) | inside
        result[node.name] = Overlap(
            both=int(table[inside][:, inside].sum()),
            predicted=int(table[inside][:, counts].sum()),
            reference=int(table[:, inside].sum()),
            counted=int(table[:, counts].sum()),
        )
    return result


def node_scores(prediction_map: np.ndarray, reference_map: np.ndarray, tree: LabelTree) -> dict[str, float | None]:
    """Dice of every node, by name; None where the reference does not show the node (see :func:`node_overlaps`)."""
    return {name: overlap.dice for name, overlap in node_overlaps(prediction_map, reference_map, tree).items()}


def mean_score(scores: Mapping[str, float | None], names: Iterable[str]) -> float | None:
    """The mean of the named nodes' scores, those without one left out; None if none has one."""
    found = [score for name in names if (score := scores.get(name)) is not None]
    return sum(found) / len(found) if found else None


def confusion(prediction: np.ndarray, reference: np.ndarray, tree: LabelTree) -> np.ndarray:
    """Voxels by (predicted node, reference node), int64; the last row and column stand for unlabelled.

    Raises:
        ImageError: the shapes differ.
        LabelTreeError: a map carries a value that is not in the tree.
    """
    if prediction.shape != reference.shape:
        raise ImageError(
            f"the prediction has the size {prediction.shape}, the reference {reference.shape}; compare maps on the same grid."
        )
    tree.check_values(prediction, "the prediction")
    tree.check_values(reference, "the reference")
    size = len(tree.nodes) + 1
    indices = [
        np.where(found < 0, size - 1, found)
        for found in (tree.node_index_table[prediction], tree.node_index_table[reference])
    ]
    return np.bincount((indices[0] * size + indices[1]).ravel(), minlength=size * size).reshape(size, size)
