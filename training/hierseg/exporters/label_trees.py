"""Label trees for other programs: nnU-Net's regions, a table of values, comma paths."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

from hierseg.atomic import write_text
from hierseg.errors import LabelTreeError
from hierseg.labeltree import LabelTree

FORMATS = ("json", "nnunet", "table", "paths")


def write_label_tree(tree: LabelTree, path: str | Path, kind: str) -> None:
    """Write a tree in one of :data:`FORMATS`, atomically.

    Raises:
        LabelTreeError: the format is not known.
    """
    if kind == "json":
        tree.save(path)
        return
    writers = {"nnunet": to_nnunet, "table": to_table, "paths": to_paths}
    if kind not in writers:
        raise LabelTreeError(f"{path}: the format {kind!r} is not known; formats are {', '.join(FORMATS)}.")
    write_text(path, writers[kind](tree))


def to_nnunet(tree: LabelTree) -> str:
    """``"labels"`` and ``"regions_class_order"`` of nnU-Net's ``dataset.json``, for label maps of leaf values.

    An inner node becomes a region, the list of its leaves' values.  nnU-Net pairs the regions, in the order of
    "labels", with the entries of "regions_class_order" and paints them one over the other, so both go from the coarse
    to the fine.  Unlabelled voxels become nnU-Net's ``ignore``, whose value must be
    the highest one: change the label maps accordingly.  Values are kept; nnU-Net wants them without gaps.
    """
    labels: dict[str, int | list[int]] = {}
    ordered = sorted(tree.nodes, key=lambda node: (node.value != 0, node.depth))
    for node in ordered:
        leaves = [leaf.value for leaf in tree.leaves_under(node)]
        labels[node.name] = node.value if tree.is_leaf(node) else leaves
    labels["ignore"] = int(max(tree.leaf_values)) + 1
    content: dict[str, object] = {"labels": labels}
    if len(tree.leaves) < len(tree.nodes):
        painted = [node for node in ordered if node.value != 0]
        content["regions_class_order"] = [tree.leaves_under(node)[0].value for node in painted]
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def to_table(tree: LabelTree) -> str:
    """A CSV with the columns value, name, parent, red, green, blue."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["value", "name", "parent", "red", "green", "blue"])
    for node in tree.nodes:
        writer.writerow([node.value, node.name, node.parent or "", *(node.color or ("", "", ""))])
    return text.getvalue()


def to_paths(tree: LabelTree) -> str:
    """One comma path a line with its value, from the top down.

    Raises:
        LabelTreeError: a name holds a comma or an equals sign, which separate here.
    """
    for node in tree.nodes:
        if "," in node.name or "=" in node.name:
            raise LabelTreeError(
                f"node '{node.name}' has ',' or '=' in its name, which comma paths cannot hold; rename it, or write a table."
            )
    return "".join(f"{node.path.replace('/', ',')} = {node.value}\n" for node in tree.nodes)
