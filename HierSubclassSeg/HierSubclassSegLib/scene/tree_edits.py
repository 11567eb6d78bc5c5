"""Edits of the tree that an annotation carries: a node renamed, a node added.

The functions that end in *ed* give a new tree and touch nothing; trees are immutable.
"""

from __future__ import annotations

import slicer

from hierseg.labeltree import MAX_VALUE, LabelTree, Node
from HierSubclassSegLib.scene import tags, terminology, tree_store


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


def write_renamed(
    segmentation_node: slicer.vtkMRMLSegmentationNode, old_tree: LabelTree, tree: LabelTree, node: Node | str, name: str
) -> None:
    """Bring segments and tags in line with a tree in which ``node`` is now called ``name``."""
    old = old_tree.node(node)
    paths = {other.path: tree.by_value(other.value).path for other in (old, *old_tree.descendants(old))}
    for _, segment in tree_store.segments(segmentation_node):
        path = tags.get_tag(segment, tags.PATH)
        if path not in paths or not segment.HasTag(tags.TREE):
            continue
        tags.set_tag(segment, tags.PATH, paths[path])
        if path == old.path:
            segment.SetName(name)
        entry = terminology.terminology_entry(old_tree, old_tree.node(path))
        if tags.get_tag(segment, tags.TERMINOLOGY) == entry:
            # Ours, not one that the user chose; it may hold the name.
            tags.set_tag(segment, tags.TERMINOLOGY, terminology.terminology_entry(tree, tree.node(paths[path])))
    tree_store.write_tree(segmentation_node, tree)
