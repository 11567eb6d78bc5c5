"""Structures that are one piece: what lies apart from a node's largest piece goes to what surrounds it.

A heart has one left ventricle; islands of it elsewhere are mistakes.  Which nodes are one piece a bundle says (``one_piece``);
training finds out on validation cases (:mod:`hierseg.engine.one_piece`), as nnU-Net does with its postprocessing
(Isensee et al., Nature Methods 2021).  There removed voxels become background.  In a label tree that would tear holes into
superclasses, so that here they take the label of the nearest voxel that stays: an island of a subclass inside its superclass
becomes a sibling.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from scipy import ndimage

from hierseg.labeltree import LabelTree, Node

TOUCHING = np.ones((3, 3, 3), dtype=bool)
"""Voxels that share a corner touch: thick slices of one structure often do no more than that."""


def join_pieces(
    labels: np.ndarray,
    tree: LabelTree,
    nodes: Iterable[str],
    spacing: Sequence[float],
    *others: np.ndarray,
) -> np.ndarray:
    """Change a label map in place, so that of each node its largest piece alone is left.

    Parents come first: a subclass's largest piece is looked for in what is left of its superclass.

    Args:
        labels: node values ``(x, y, z)``.
        tree: of the labels.
        nodes: names or paths of those that are one piece.
        spacing: of the voxels in mm, for what is nearest.
        others: maps on the same grid that take the nearest voxel's value as well.

    Returns:
        Which voxels were changed, bool ``(x, y, z)``.

    Raises:
        LabelTreeError: a node is not in the tree.
    """
    changed = np.zeros(labels.shape, dtype=bool)
    for node in sorted({tree.node(name) for name in nodes}, key=lambda node: (len(tree.ancestors(node)), node.value)):
        stray = apart(labels, tree, node)
        regions, _ = ndimage.label(stray, TOUCHING)
        for number, found in enumerate(ndimage.find_objects(regions), start=1):
            # The voxels around a region stay: no wider look is needed.
            box = tuple(slice(max(part.start - 1, 0), part.stop + 1) for part in found)
            nearest = ndimage.distance_transform_edt(
                stray[box], sampling=spacing, return_distances=False, return_indices=True
            )
            own = np.nonzero(regions[box] == number)
            source = tuple(nearest[(slice(None), *own)])
            for volume in (labels, *others):
                part = volume[box]
                part[own] = part[source]
        changed |= stray
    return changed


def apart(labels: np.ndarray, tree: LabelTree, node: Node | str) -> np.ndarray:
    """Voxels of a node that its largest piece does not hold, bool ``(x, y, z)``.

    Args:
        labels: node values ``(x, y, z)``.
        tree: of the labels.
        node: its descendants belong to it.
    """
    inside = np.isin(labels, [tree.node(node).value, *(below.value for below in tree.descendants(node))])
    result = np.zeros(labels.shape, dtype=bool)
    box = _box_of(inside)
    if box is None:
        return result
    pieces, count = ndimage.label(inside[box], TOUCHING)
    if count > 1:
        sizes = np.bincount(pieces.ravel())
        sizes[0] = 0
        result[box] = (pieces > 0) & (pieces != sizes.argmax())
    return result


def _box_of(inside: np.ndarray) -> tuple[slice, ...] | None:
    """The smallest box around the True voxels; None without any."""
    box = []
    for axis in range(inside.ndim):
        found = np.flatnonzero(inside.any(axis=tuple(other for other in range(inside.ndim) if other != axis)))
        if found.size == 0:
            return None
        box.append(slice(int(found[0]), int(found[-1]) + 1))
    return tuple(box)
