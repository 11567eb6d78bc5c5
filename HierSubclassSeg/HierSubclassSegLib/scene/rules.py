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
from dataclasses import dataclass

import numpy as np

from hierseg.labeltree import LabelTree, Node

#: voxels by node name; nodes without a segment are missing; all arrays have one shape
Masks = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Change:
    """What a stroke with ``node`` adds to it and takes from it: bool arrays of one shape."""

    node: Node
    added: np.ndarray
    removed: np.ndarray


def region(tree: LabelTree, node: Node, masks: Masks) -> np.ndarray | None:
    """The voxels that count as the node: its segment's, or else the union of its descendants'.

    Returns:
        A bool array (maybe the given one: do not change it), or None if neither it nor a descendant has a segment.
    """
    if node.name in masks:
        return masks[node.name]
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
    if node.name in before:
        allowed &= ~before[node.name]
    parent = tree.parent(node)
    if parent is not None:
        inside = region(tree, parent, before)
        allowed &= inside if inside is not None else False
    _leave_out_locked(tree, erasable(tree, node), allowed, before, locked)
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
    _leave_out_locked(tree, tree.descendants(node), allowed, before, locked)
    return allowed


def clip(tree: LabelTree, node: Node, before: Masks, painted: np.ndarray, locked: Collection[str]) -> Change:
    """What a stroke that left ``node`` as ``painted`` changes once it has come to rest."""
    own = before[node.name]
    return Change(
        node,
        clip_addition(tree, node, painted & ~own, before, locked),
        clip_removal(tree, node, own & ~painted, before, locked),
    )


def settled(tree: LabelTree, change: Change, name: str, before: np.ndarray) -> np.ndarray:
    """The voxels of the node ``name`` after a change, from those before it."""
    node = change.node
    if name == node.name:
        return (before | change.added) & ~change.removed
    other = tree.node(name)
    if other.path.startswith(node.path + "/"):
        return before & ~change.removed
    above = node.path.rpartition("/")[0]
    # Below the parent but not below the node: a sibling or a sibling's descendant.
    if not above or other.path.startswith(above + "/"):
        return before & ~change.added
    return before


def _leave_out_locked(
    tree: LabelTree, nodes: Collection[Node], allowed: np.ndarray, before: Masks, locked: Collection[str]
) -> None:
    for other in nodes:
        if other.name in locked:
            kept = region(tree, other, before)
            if kept is not None:
                allowed &= ~kept
