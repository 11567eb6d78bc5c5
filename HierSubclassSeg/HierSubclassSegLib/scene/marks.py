"""Lock, folding and complete marks: what undo must not take back.

They live in the state of the segmentation node (``tree_store.read_state``), keyed by node *values*: a value outlives
a rename and its undo, which a path does not.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import slicer

from hierseg.labeltree import LabelTree, Node
from HierSubclassSegLib.scene import rules, tree_store

_LOCKED = "locked"
_FOLDED = "folded"
_COMPLETE = "complete"


def locked_nodes(segmentation_node: slicer.vtkMRMLSegmentationNode, tree: LabelTree) -> frozenset[str]:
    """The names of the nodes that are locked themselves."""
    return _names(segmentation_node, tree, _LOCKED)


def untouchable(segmentation_node: slicer.vtkMRMLSegmentationNode, tree: LabelTree) -> frozenset[str]:
    """The names of the locked nodes and all their descendants: none of them can gain or lose a voxel."""
    return rules.with_descendants(tree, locked_nodes(segmentation_node, tree))


def set_locked(segmentation_node: slicer.vtkMRMLSegmentationNode, node: Node, locked: bool) -> None:
    """Lock or unlock a node."""
    state = tree_store.read_state(segmentation_node)
    values = set(state.get(_LOCKED, []))
    state[_LOCKED] = sorted(values | {node.value} if locked else values - {node.value})
    tree_store.write_state(segmentation_node, state)


def folding(segmentation_node: slicer.vtkMRMLSegmentationNode, tree: LabelTree) -> frozenset[str] | None:
    """The names of the nodes whose children are folded away in the panel; None if nobody has folded or unfolded any yet."""
    known = _FOLDED in tree_store.read_state(segmentation_node)
    return _names(segmentation_node, tree, _FOLDED) if known else None


def set_folding(segmentation_node: slicer.vtkMRMLSegmentationNode, folded: Iterable[Node]) -> None:
    """Fold exactly these nodes."""
    state = tree_store.read_state(segmentation_node)
    values = sorted({node.value for node in folded})
    if state.get(_FOLDED) != values:
        state[_FOLDED] = values
        tree_store.write_state(segmentation_node, state)


def set_slice_complete(
    segmentation_node: slicer.vtkMRMLSegmentationNode,
    axis: int,
    index: int,
    node: Node | None = None,
    complete: bool = True,
) -> None:
    """Mark a slice as completely annotated (or take the mark back).

    Args:
        segmentation_node: the annotation.
        axis: 0, 1 or 2 of the first channel's stored array (i, j, k).
        index: the slice's index along that axis.
        node: complete within this node only; None: within everything.
        complete: False takes the mark back.

    Raises:
        ValueError: the axis is none of the three.
    """
    if axis not in (0, 1, 2):
        raise ValueError(f"axis is {axis!r}; give 0, 1 or 2 of the stored array")
    state = tree_store.read_state(segmentation_node)
    marks = {(m["axis"], i, m["node"]) for m in state.get(_COMPLETE, []) for i in m["indices"]}
    mark = (axis, int(index), None if node is None else node.value)
    marks = marks | {mark} if complete else marks - {mark}
    rows: dict[tuple[int, int | None], list[int]] = {}
    for row_axis, row_index, value in marks:
        rows.setdefault((row_axis, value), []).append(row_index)
    state[_COMPLETE] = [
        {"axis": row_axis, "indices": sorted(indices), "node": value}
        for (row_axis, value), indices in sorted(
            rows.items(), key=lambda row: (row[0][0], -1 if row[0][1] is None else row[0][1])
        )
    ]
    tree_store.write_state(segmentation_node, state)


def slices_complete(segmentation_node: slicer.vtkMRMLSegmentationNode, tree: LabelTree) -> list[dict[str, Any]]:
    """The complete slices as the dataset folder writes them: ``[{"axis", "indices", "node": path or None}]``.

    Marks of nodes that the tree no longer has are left out.
    """
    paths: dict[int | None, str | None] = {node.value: node.path for node in tree.nodes}
    paths[None] = None
    marks = tree_store.read_state(segmentation_node).get(_COMPLETE, [])
    return [{"axis": m["axis"], "indices": m["indices"], "node": paths[m["node"]]} for m in marks if m["node"] in paths]


def _names(segmentation_node: slicer.vtkMRMLSegmentationNode, tree: LabelTree, key: str) -> frozenset[str]:
    values = set(tree_store.read_state(segmentation_node).get(key, []))
    return frozenset(node.name for node in tree.nodes if node.value in values)
