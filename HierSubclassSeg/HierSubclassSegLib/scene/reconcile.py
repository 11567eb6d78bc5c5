"""Reconciling edits made elsewhere: with another module, another masking, or in another program.

A hierarchy promises that children lie inside their parent and exclude their siblings.  Where that does not hold:

* a child outside its parent: the parent grows, or the child is clipped (the caller asks the user once);
* siblings that overlap: the one edited last wins there, and the others lose their descendants with it.

Locked nodes are not changed: siblings give way to them; a locked parent does not grow, so the child is clipped;
a locked child is not clipped, so the parent grows.  Two locked nodes that contradict each other stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import slicer

from hierseg.labeltree import LabelTree, Node
from HierSubclassSegLib.scene import layers, marks, tree_store
from HierSubclassSegLib.scene.lattice import Box, bounds, shifted, size, union_box
from HierSubclassSegLib.scene.undo import UndoSteps

Outside = Literal["grow", "clip"]


@dataclass(frozen=True)
class Repair:
    """What reconciling changed of one node, in voxels."""

    node: str
    gained: int
    lost: int


def conflicts(segmentation_node: slicer.vtkMRMLSegmentationNode) -> tuple[int, int]:
    """How many voxels of children lie outside their parent, and how many lie in two siblings.  Writes nothing."""
    tree = tree_store.read_tree(segmentation_node)
    if tree is None:
        return 0, 0
    outside, overlapping, _ = _find(segmentation_node, tree)
    return outside, overlapping


def reconcile(
    segmentation_node: slicer.vtkMRMLSegmentationNode, outside: Outside = "grow", *, steps: UndoSteps | None = None
) -> list[Repair]:
    """Make the hierarchy consistent again; touches only voxels that contradict it.

    Args:
        segmentation_node: carries a label tree.
        outside: what becomes of a child outside its parent: ``"grow"`` the parent or ``"clip"`` the child.
        steps: saves the state for undo before anything is changed; None: not undoable.

    Returns:
        The nodes that were changed; empty if all was consistent (then no state was saved either).
    """
    tree = tree_store.read_tree(segmentation_node)
    if tree is None:
        return []
    box = _find(segmentation_node, tree)[2]
    if box is None:
        return []
    ids = {tree.node(p).name: i for p, i in tree_store.segments_by_path(segmentation_node, tree).items()}
    masks = {name: layers.read_box(segmentation_node, segment_id, box) for name, segment_id in ids.items()}
    age = {}
    for name, segment_id in ids.items():
        image = layers.label_map(segmentation_node.GetSegmentation().GetSegment(segment_id))
        age[name] = 0 if image is None else image.GetMTime()
    wanted = consistent(tree, masks, age, marks.untouchable(segmentation_node, tree), outside)
    repairs = [
        Repair(name, int((wanted[name] & ~masks[name]).sum()), int((masks[name] & ~wanted[name]).sum()))
        for name in ids
        if not np.array_equal(wanted[name], masks[name])
    ]
    if repairs:
        with (steps or UndoSteps(lambda: None)).step():
            layers.ensure_layout(segmentation_node, tree)
            layers.set_masks(segmentation_node, [(ids[repair.node], wanted[repair.node]) for repair in repairs], box)
            layers.ensure_layout(segmentation_node, tree)
    return repairs


def consistent(
    tree: LabelTree,
    masks: Mapping[str, np.ndarray],
    age: Mapping[str, int],
    locked: frozenset[str],
    outside: Outside,
) -> dict[str, np.ndarray]:
    """The masks of a consistent hierarchy, from those of an inconsistent one.

    Args:
        tree: the label tree.
        masks: bool arrays of one shape by node name; nodes without a segment are missing.
        age: when each node was edited last; the greater number is the later.
        locked: names of the locked nodes and all their descendants.
        outside: what becomes of a child outside its parent.
    """
    found = {name: mask.copy() for name, mask in masks.items()}
    upwards = sorted((tree.node(name) for name in found), key=lambda node: -node.depth)
    for node in upwards:
        parent = _nearest_segment(tree, node, found)
        # Every level above gets its turn later: growing is passed on upwards.
        if parent is not None and parent not in locked and (outside == "grow" or node.name in locked):
            found[parent] |= found[node.name]
    # What is clipped anyway must not win over a sibling first.
    _clip_to_parents(tree, upwards[::-1], found, locked)
    order = {when: rank for rank, when in enumerate(sorted(set(age.values())), start=1)}
    rank = {name: order[when] + (len(order) if name in locked else 0) for name, when in age.items()}
    _exclude_siblings(tree, None, found, rank, locked)
    _clip_to_parents(tree, upwards[::-1], found, locked)
    return found


def _clip_to_parents(
    tree: LabelTree, downwards: list[Node], found: dict[str, np.ndarray], locked: frozenset[str]
) -> None:
    for node in downwards:
        parent = _nearest_segment(tree, node, found)
        if parent is not None and node.name not in locked:
            found[node.name] &= found[parent]


def _exclude_siblings(
    tree: LabelTree, parent: Node | None, found: dict[str, np.ndarray], rank: Mapping[str, int], locked: frozenset[str]
) -> None:
    """Give each voxel that several children claim to the latest claim, from the top level down."""
    children = tree.children(parent)
    claims = {child.name: claim for child in children if (claim := _claim(tree, child, found, rank)) is not None}
    if len(claims) > 1:
        # The first of equals wins, so that every voxel has exactly one winner.
        stack = np.stack(list(claims.values()))
        winner = stack.argmax(axis=0)
        for index, name in enumerate(claims):
            lost = (winner != index) & (stack[index] > 0)
            for node in (tree.node(name), *tree.descendants(name)):
                if node.name in found and node.name not in locked:
                    found[node.name] &= ~lost
    for child in children:
        _exclude_siblings(tree, child, found, rank, locked)


def _claim(tree: LabelTree, node: Node, found: dict[str, np.ndarray], rank: Mapping[str, int]) -> np.ndarray | None:
    """When each voxel was last claimed by the node or a descendant; 0 where it was not."""
    claim: np.ndarray | None = None
    for other in (node, *tree.descendants(node)):
        if other.name in found:
            part = found[other.name] * rank[other.name]
            claim = part if claim is None else np.maximum(claim, part)
    return claim


def _nearest_segment(tree: LabelTree, node: Node, found: Mapping[str, object]) -> str | None:
    """The nearest ancestor that has a segment: those between count as the union of their descendants."""
    return next((above.name for above in tree.ancestors(node) if above.name in found), None)


def _find(segmentation_node: slicer.vtkMRMLSegmentationNode, tree: LabelTree) -> tuple[int, int, Box | None]:
    """Voxels outside their parent, voxels in two siblings, and a box that holds them all."""
    ids = {tree.node(p).name: i for p, i in tree_store.segments_by_path(segmentation_node, tree).items()}
    extents = {name: layers.common_box(segmentation_node, [segment_id]) for name, segment_id in ids.items()}
    outside = overlapping = 0
    boxes: list[Box] = []

    def note(wrong: np.ndarray, box: Box) -> int:
        inner = bounds(wrong)
        if inner is not None:
            boxes.append(shifted(inner, box[0]))
        return int(np.count_nonzero(wrong))

    inside: dict[str, list[str]] = {}
    for name in ids:
        parent = _nearest_segment(tree, tree.node(name), ids)
        if parent is not None:
            inside.setdefault(parent, []).append(name)
    for parent, names in inside.items():
        box = union_box(extent for name in names if (extent := extents[name]) is not None)
        if box is not None:
            children = layers.read_union(segmentation_node, [ids[name] for name in names], box)
            children &= ~layers.read_box(segmentation_node, ids[parent], box)
            outside += note(children, box)
    for group in [None, *(node for node in tree.nodes if not tree.is_leaf(node))]:
        members = [
            [n.name for n in (child, *tree.descendants(child)) if n.name in ids] for child in tree.children(group)
        ]
        box = union_box(extent for names in members for name in names if (extent := extents[name]) is not None)
        if box is None or _share_one_layer(segmentation_node, tree, group, ids):
            continue
        covered, twice = np.zeros(size(box), bool), np.zeros(size(box), bool)
        for names in members:
            own = layers.read_union(segmentation_node, [ids[name] for name in names], box)
            twice |= covered & own
            covered |= own
        overlapping += note(twice, box)
    return outside, overlapping, union_box(boxes)


def _share_one_layer(
    segmentation_node: slicer.vtkMRMLSegmentationNode, tree: LabelTree, group: Node | None, ids: Mapping[str, str]
) -> bool:
    """Whether the children all have segments in one label map: then they cannot overlap."""
    segmentation = segmentation_node.GetSegmentation()
    children = tree.children(group)
    if any(child.name not in ids and any(d.name in ids for d in tree.descendants(child)) for child in children):
        return False
    maps = {layers.address(layers.label_map(segmentation.GetSegment(ids[c.name]))) for c in children if c.name in ids}
    return len(maps) <= 1
