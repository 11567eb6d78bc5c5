"""What the user sees of a tree: branches shown, hidden, at a depth, with an opacity, in shades of a color.

A branch is a node and everything below it.  Everything is one change of the display, however many segments it
touches.  While a node is refined all of it goes to the view (``refine.seen_display``) and never to the display node
that steers what a stroke may erase; nothing here touches a voxel or a tag, but :func:`recolor_branch` a color.

Parent and children lie on top of each other.  A node with children in sight is therefore drawn as an outline with a
hint of fill, and not in 3D; its *opacity* is that of its outline, from which the fill follows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

import slicer

from hierseg.labeltree import LabelTree, Node
from HierSubclassSegLib.scene import colors, labelmaps, tree_store
from HierSubclassSegLib.scene.refine import seen_display

#: how much of a branch is visible
Shown = Literal["on", "off", "partial"]
#: share of its opacity that the fill of a node with visible children has
HINT_OF_FILL = 0.15


def states(
    segmentation_node: slicer.vtkMRMLSegmentationNode, tree: LabelTree, depth: int | None = None
) -> dict[str, Shown | None]:
    """How much of each branch is visible, by node name; None for a branch without segments.

    Args:
        segmentation_node: carries the tree.
        tree: its tree.
        depth: the depth that the tree is shown to (:func:`show_depth`): what is finer does not count in the branches
            above it, so that a branch which is shown as it should be is "on"; None: every segment counts.
    """
    display = seen_display(segmentation_node)
    ids = tree_store.segments_by_path(segmentation_node, tree)
    visible = {path: bool(display.GetSegmentVisibility(segment_id)) for path, segment_id in ids.items()}
    found: dict[str, Shown | None] = {}

    def look(node: Node) -> list[bool]:
        """What counts of a branch: one pass over the tree, a list for each node."""
        below = [one for child in tree.children(node) for one in look(child)]
        own = [visible[node.path]] if node.path in ids else []
        counted = own + below
        if depth is not None and node.depth <= depth:
            counted = [visible[other.path] for other in _cut(tree, node, depth, ids)]
        found[node.name] = _state(counted)
        return own + below

    for top in tree.top_level:
        look(top)
    return found


def state(
    segmentation_node: slicer.vtkMRMLSegmentationNode, tree: LabelTree, node: Node | str, depth: int | None = None
) -> Shown | None:
    """How much of a branch is visible; see :func:`states`."""
    return states(segmentation_node, tree, depth)[tree.node(node).name]


def set_visible(
    segmentation_node: slicer.vtkMRMLSegmentationNode,
    tree: LabelTree,
    node: Node | str,
    visible: bool,
    depth: int | None = None,
) -> None:
    """Show or hide a branch.

    Args:
        segmentation_node: carries the tree.
        tree: its tree.
        node: the branch's topmost node.
        visible: False hides all of it.
        depth: when showing, only to this depth of the tree; None: all of it.
    """
    node = tree.node(node)
    ids = tree_store.segments_by_path(segmentation_node, tree)
    branch = [other for other in _branch(tree, node) if other.path in ids]
    shown = branch if depth is None or node.depth > depth else _cut(tree, node, depth, ids)
    _show(segmentation_node, tree, branch, shown if visible else [])


def show_only(segmentation_node: slicer.vtkMRMLSegmentationNode, tree: LabelTree, node: Node | str) -> None:
    """Show a branch and hide all others."""
    ids = tree_store.segments_by_path(segmentation_node, tree)
    shown = [other for other in _branch(tree, tree.node(node)) if other.path in ids]
    _show(segmentation_node, tree, [tree.node(path) for path in ids], shown)


def show_depth(segmentation_node: slicer.vtkMRMLSegmentationNode, tree: LabelTree, depth: int) -> None:
    """Show the tree to a depth: 1 for the top level.

    A node at that depth is shown by its own segment, or by what is below it if it has none.  What is above stays as an
    outline: it shows what is not refined yet.

    Raises:
        ValueError: the depth is below 1.
    """
    if depth < 1:
        raise ValueError(f"depth is {depth}; the top level is 1")
    ids = tree_store.segments_by_path(segmentation_node, tree)
    shown = [node for top in tree.top_level for node in _cut(tree, top, depth, ids)]
    _show(segmentation_node, tree, [tree.node(path) for path in ids], shown)


def opacity(segmentation_node: slicer.vtkMRMLSegmentationNode, tree: LabelTree, node: Node | str) -> float | None:
    """The opacity (0..1) of a branch: its node's, or its first descendant's with a segment; None without any."""
    ids = tree_store.segments_by_path(segmentation_node, tree)
    first = next((ids[other.path] for other in _branch(tree, tree.node(node)) if other.path in ids), None)
    return None if first is None else float(seen_display(segmentation_node).GetSegmentOpacity2DOutline(first))


def set_opacity(
    segmentation_node: slicer.vtkMRMLSegmentationNode, tree: LabelTree, node: Node | str, value: float
) -> None:
    """Give every segment of a branch an opacity, 0..1, in 2D and 3D."""
    display = seen_display(segmentation_node)
    ids = tree_store.segments_by_path(segmentation_node, tree)
    value = min(1.0, max(0.0, float(value)))
    with labelmaps.modifying(display):
        for other in _branch(tree, tree.node(node)):
            if other.path in ids:
                display.SetSegmentOpacity2DOutline(ids[other.path], value)
                display.SetSegmentOpacity3D(ids[other.path], value)
        restyle(segmentation_node, tree)


def restyle(segmentation_node: slicer.vtkMRMLSegmentationNode, tree: LabelTree) -> None:
    """Fill what has no child in sight; draw the rest as outlines with a hint of fill, and not in 3D."""
    display = seen_display(segmentation_node)
    ids = tree_store.segments_by_path(segmentation_node, tree)
    with labelmaps.modifying(display):
        for path, segment_id in ids.items():
            covered = any(
                display.GetSegmentVisibility(ids[other.path]) for other in tree.descendants(path) if other.path in ids
            )
            fill = float(display.GetSegmentOpacity2DOutline(segment_id)) * (HINT_OF_FILL if covered else 1.0)
            if display.GetSegmentOpacity2DFill(segment_id) != fill:
                display.SetSegmentOpacity2DFill(segment_id, fill)
            if bool(display.GetSegmentVisibility3D(segment_id)) == covered:
                display.SetSegmentVisibility3D(segment_id, not covered)


def recolor_branch(
    segmentation_node: slicer.vtkMRMLSegmentationNode,
    tree: LabelTree,
    node: Node | str,
    color: tuple[float, float, float] | None = None,
    *,
    save_state: Callable[[], Any] | None = None,
) -> None:
    """Color what is below a node in shades of its color.

    Args:
        segmentation_node: carries the tree.
        tree: its tree.
        node: keeps its color, or gets ``color``.
        color: red, green, blue in 0..1; None: the color that the node's segment has now.
        save_state: saves the state for undo (the embedded Segment Editor's ``saveStateForUndo``), called once, before.
    """
    node = tree.node(node)
    ids = tree_store.segments_by_path(segmentation_node, tree)
    segmentation = segmentation_node.GetSegmentation()
    if color is None:
        own = segmentation.GetSegment(ids[node.path]).GetColor() if node.path in ids else None
        color = own or colors.node_color(tree, node)
    if save_state is not None:
        save_state()
    with labelmaps.modifying(segmentation_node):
        for name, shade in colors.shades(tree, node, color).items():
            segment_id = ids.get(tree.node(name).path)
            if segment_id is not None:
                segmentation.GetSegment(segment_id).SetColor(*shade)


# -- inside --------------------------------------------------------------------------------------------------------


def _branch(tree: LabelTree, node: Node) -> Iterator[Node]:
    yield node
    yield from tree.descendants(node)


def _cut(tree: LabelTree, node: Node, depth: int, ids: dict[str, str]) -> list[Node]:
    """The nodes with segments that show a branch to a depth: down to it, and below where a node there has none."""
    own = [node] if node.path in ids else []
    if node.depth >= depth and own:
        return own
    return own + [found for child in tree.children(node) for found in _cut(tree, child, depth, ids)]


def _show(
    segmentation_node: slicer.vtkMRMLSegmentationNode, tree: LabelTree, among: list[Node], shown: list[Node]
) -> None:
    display = seen_display(segmentation_node)
    ids = tree_store.segments_by_path(segmentation_node, tree)
    wanted = {node.path for node in shown}
    with labelmaps.modifying(display):
        for node in among:
            segment_id, visible = ids[node.path], node.path in wanted
            if bool(display.GetSegmentVisibility(segment_id)) != visible:
                display.SetSegmentVisibility(segment_id, visible)
        restyle(segmentation_node, tree)


def _state(visible: list[bool]) -> Shown | None:
    if not visible:
        return None
    return "on" if all(visible) else "partial" if any(visible) else "off"
