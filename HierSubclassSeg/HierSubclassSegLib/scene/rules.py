"""What a stroke may change: the painting rules on plain arrays, at any depth of the tree.

A stroke with node N adds voxels to N or takes voxels from it.  Then

* N's siblings and their descendants lose what N gained (children of one parent exclude each other);
* N's own descendants lose what N lost (children lie inside their parent);
* everything else, ancestors first of all, stays as it was;
* N gains only inside its parent; a parent without a segment is the union of its descendants;
* locked nodes and their descendants neither gain nor lose: the stroke is clipped there.

The implied root is the parent of the top-level nodes: it is everywhere and has no segment.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
from hierseg.labeltree import LabelTree, Node

#: voxels by node name; nodes without a segment are missing; all arrays have one shape
Masks = Mapping[str, np.ndarray]


def region(tree: LabelTree, node: Node, masks: Masks) -> np.ndarray | None:
    """The voxels that count as the node: its segment's, or else the union of its descendants'.

    Returns:
        A bool array (maybe the given one: do not change it), or None if neither it nor a descendant has a segment.
    """
    own = masks.get(node.name)
    if own is not None:
        return own
    found: np.ndarray | None = None
    for child in tree.children(node):
        part = region(tree, child, masks)
        if part is not None:
            found = part if found is None else found | part
    return found


def erasable(tree: LabelTree, node: Node) -> tuple[Node, ...]:
    """The nodes that a stroke with ``node`` may erase: its siblings and their descendants."""
    return tuple(found for sibling in tree.siblings(node) for found in (sibling, *tree.descendants(sibling)))


def with_descendants(tree: LabelTree, names: Collection[str]) -> frozenset[str]:
    """The named nodes and everything below them; names that the tree does not know are left out."""
    known = [tree.node(name) for name in names if name in tree]
    return frozenset(below.name for node in known for below in (node, *tree.descendants(node)))


def clip_addition(tree: LabelTree, node: Node, added: np.ndarray, before: Masks, locked: Collection[str]) -> np.ndarray:
    """The part of ``added`` that ``node`` may gain.

    Args:
        tree: the label tree.
        node: the node that is painted.
        added: bool, the voxels of the stroke.
        before: voxels by node name before the stroke.
        locked: names of the locked nodes and all their descendants.
    """
    if node.name in locked:
        return np.zeros_like(added)
    allowed = added.copy()
    own = before.get(node.name)
    if own is not None:
        allowed &= ~own
    parent = tree.parent(node)
    if parent is not None:
        inside = region(tree, parent, before)
        allowed &= inside if inside is not None else False
    for other in erasable(tree, node):
        if other.name in locked:
            kept = region(tree, other, before)
            if kept is not None:
                allowed &= ~kept
    return allowed


def clip_removal(
    tree: LabelTree, node: Node, removed: np.ndarray, before: Masks, locked: Collection[str]
) -> np.ndarray:
    """The part of ``removed`` that ``node`` may lose; arguments as in :func:`clip_addition`."""
    if node.name in locked:
        return np.zeros_like(removed)
    allowed = removed.copy()
    own = region(tree, node, before)
    allowed &= own if own is not None else False
    for below in tree.descendants(node):
        if below.name in locked:
            kept = region(tree, below, before)
            if kept is not None:
                allowed &= ~kept
    return allowed


def settle(tree: LabelTree, node: Node, before: Masks, after: Masks, locked: Collection[str]) -> dict[str, np.ndarray]:
    """The voxels of every node once a stroke with ``node`` has come to rest.

    Args:
        tree: the label tree.
        node: the node that was painted or erased.
        before: voxels by node name before the stroke.
        after: voxels by node name as the stroke left them; only ``node``'s are looked at.
        locked: names of the locked nodes and all their descendants.

    Returns:
        Voxels by name, for the names of ``before``.
    """
    own = before[node.name]
    painted = after[node.name]
    added = clip_addition(tree, node, painted & ~own, before, locked)
    removed = clip_removal(tree, node, own & ~painted, before, locked)
    settled = dict(before)
    settled[node.name] = (own | added) & ~removed
    for other in erasable(tree, node):
        if other.name in settled:
            settled[other.name] = before[other.name] & ~added
    for below in tree.descendants(node):
        if below.name in settled:
            settled[below.name] = before[below.name] & ~removed
    return settled
