"""Edits of the tree that an annotation carries: nodes renamed, added, removed, recolored, given codes.

They give a new tree and touch nothing (trees are immutable), but :func:`write_edited`, which brings the segments in line.
"""

from __future__ import annotations

from collections.abc import Mapping

import slicer

from hierseg.labeltree import MAX_VALUE, LabelTree, Node
from HierSubclassSegLib.scene import colors, tags, terminology, tree_store


def renamed(tree: LabelTree, node: Node | str, name: str) -> LabelTree:
    """The tree with one node renamed.

    Raises:
        LabelTreeError: the name is taken or not allowed.
    """
    old = tree.node(node).name
    content = tree.to_dict()
    for row in content["nodes"]:
        for key in ("name", "parent", "opposite"):
            if row.get(key) == old:
                row[key] = name
    return LabelTree.from_dict(content)


def extended(
    tree: LabelTree,
    parent: Node | str | None,
    name: str,
    color: tuple[int, int, int] | None = None,
    value: int | None = None,
) -> LabelTree:
    """The tree with one more node, below ``parent`` or at the top level, by default with the smallest free value.

    Raises:
        LabelTreeError: the name or the value is taken or not allowed.
        SceneError: no value is free.
    """
    content = tree.to_dict()
    if value is None:
        taken = {row["value"] for row in content["nodes"]} | {255}
        # 0 is the background's in every tree that has one; 255 would turn the meaning of "unlabelled" around.
        value = next((free for free in range(1, MAX_VALUE + 1) if free not in taken), None)
        if value is None:
            raise tags.SceneError(f"the label tree '{tree.name}' has no free value for '{name}'; remove a node first.")
    row = {"name": name, "value": value}
    if parent is not None:
        row["parent"] = tree.node(parent).name
    if color is not None:
        row["color"] = list(color)
    content["nodes"].append(row)
    content["unlabelled"] = 255 if max(other["value"] for other in content["nodes"]) < 255 else 65535
    return LabelTree.from_dict(content)


def recolored(tree: LabelTree, new_colors: Mapping[str, tuple[float, float, float]]) -> LabelTree:
    """The tree with other colors (red, green, blue in 0..1) for some nodes, by name."""
    content = tree.to_dict()
    for row in content["nodes"]:
        if row["name"] in new_colors:
            row["color"] = [round(255 * min(1.0, max(0.0, part))) for part in new_colors[row["name"]]]
    return LabelTree.from_dict(content)


def coded(tree: LabelTree, node: Node | str, codes: Mapping[str, tuple[str, str, str]]) -> LabelTree:
    """The tree with other codes for one node, by the keys of a tree's ``terminology``; without any: none of its own."""
    name = tree.node(node).name
    content = tree.to_dict()
    for row in content["nodes"]:
        if row["name"] == name:
            row.pop("terminology", None)
            if codes:
                row["terminology"] = {key: list(code) for key, code in codes.items()}
    return LabelTree.from_dict(content)


def without(tree: LabelTree, node: Node | str) -> LabelTree:
    """The tree without a node and what is below it.

    Raises:
        SceneError: nothing would be left.
    """
    gone = {tree.node(node).name, *(other.name for other in tree.descendants(node))}
    content = tree.to_dict()
    content["nodes"] = [row for row in content["nodes"] if row["name"] not in gone]
    if not content["nodes"]:
        raise tags.SceneError(f"'{tree.node(node).name}' is all that the label tree has; a tree needs a node.")
    for row in content["nodes"]:
        if row.get("opposite") in gone:
            row.pop("opposite")
    content["unlabelled"] = 255 if max(row["value"] for row in content["nodes"]) < 255 else 65535
    return LabelTree.from_dict(content)


def write_edited(segmentation_node: slicer.vtkMRMLSegmentationNode, old_tree: LabelTree, tree: LabelTree) -> None:
    """Bring segments and tags in line with an edited tree; a node is the one that had its value before.

    What the user gave a segment elsewhere (a name, a color, a terminology) stays unless the edit is about just that.
    """
    values = {node.value: node for node in tree.nodes}
    for _, segment in tree_store.segments(segmentation_node):
        path = tags.get_tag(segment, tags.PATH)
        if path is None or path not in old_tree or not segment.HasTag(tags.TREE):
            continue
        old = old_tree.node(path)
        new = values.get(old.value)
        if new is None:
            continue
        tags.set_tag(segment, tags.PATH, new.path)
        if new.name != old.name:
            segment.SetName(new.name)
        if new.color is not None and new.color != old.color:
            segment.SetColor(*colors.node_color(tree, new))
        before, after = terminology.terminology_entry(old_tree, old), terminology.terminology_entry(tree, new)
        ours = terminology.same_codes(tags.get_tag(segment, tags.TERMINOLOGY) or "", before)
        if new.terminology != old.terminology or (ours and not terminology.same_codes(before, after)):
            # A name alone is worded anew when a file is written (``tree_store.mirror_state``): where name and
            # terminology change at once, as they would in undo, qMRMLSegmentsModel::onItemChanged writes the old
            # terminology back, and that write costs what could be undone and redone.
            tags.set_tag(segment, tags.TERMINOLOGY, after)
    tree_store.write_tree(segmentation_node, tree)
