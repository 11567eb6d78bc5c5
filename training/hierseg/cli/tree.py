"""``hierseg tree``: check, show and convert label trees."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from hierseg import resources
from hierseg.errors import LabelTreeError, ResourceError
from hierseg.exporters import label_trees as exporters
from hierseg.importers import label_trees as importers
from hierseg.labeltree import LabelTree, Node

_ENDINGS = {".json": "json", ".csv": "table", ".txt": "paths"}


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser("tree", help="check, show and convert label trees", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    check = actions.add_parser("check", help="read label trees and say whether they are sound")
    check.add_argument("trees", nargs="+", metavar="TREE", help="a label_tree.json, or the name of a shipped tree")
    check.add_argument("--json", action="store_true", help="print JSON")
    check.set_defaults(run=_check)

    show = actions.add_parser("show", help="print a tree with its values")
    show.add_argument("tree", nargs="?", metavar="TREE", help="a file, or a shipped tree; without it, list those")
    show.add_argument("--json", action="store_true", help="print JSON")
    show.set_defaults(run=_show)

    convert = actions.add_parser("convert", help="turn a tree or list of labels into another format")
    convert.add_argument("source", help="label tree, nnU-Net dataset.json, class map, CSV, color table or comma paths")
    convert.add_argument("target", type=Path, help="the file to write; .json, .csv and .txt choose its format")
    convert.add_argument("--from", dest="from_format", choices=importers.FORMATS, help="default: seen from the content")
    convert.add_argument("--to", dest="to_format", choices=exporters.FORMATS, help="default: from the target's ending")
    convert.add_argument("--name", help="the tree's name (default: the source file's)")
    convert.set_defaults(run=_convert)


def find_tree(given: str) -> Path:
    """The file of that path, else the shipped tree of that name.

    Raises:
        LabelTreeError: there is neither.
    """
    path = Path(given)
    # A folder of that name, a data set for example, is no tree.
    if path.is_file() or path.suffix or len(path.parts) > 1:
        return path
    try:
        return resources.path("label_trees", given)
    except ResourceError as error:
        raise LabelTreeError(f"'{given}' is neither a file nor a shipped tree; {error.sentence}") from error


def _check(arguments: argparse.Namespace) -> int:
    rows: list[dict[str, Any]] = []
    for given in arguments.trees:
        try:
            tree = LabelTree.load(find_tree(given))
        except LabelTreeError as error:
            rows.append({"tree": given, "ok": False, "problem": error.sentence})
        else:
            rows.append({"tree": given, "ok": True, **_facts(tree)})
    if arguments.json:
        print(json.dumps(rows, indent=1))
    else:
        for row in rows:
            print(f"ok: {row['tree']}: {row['sentence']}" if row["ok"] else f"wrong: {row['problem']}")
    return 0 if all(row["ok"] for row in rows) else 2


def _facts(tree: LabelTree) -> dict[str, Any]:
    depth = max(node.depth for node in tree.nodes)
    return {
        "name": tree.name,
        "fingerprint": tree.fingerprint,
        "nodes": len(tree.nodes),
        "leaves": len(tree.leaves),
        "top_level": len(tree.top_level),
        "depth": depth,
        "unlabelled": tree.unlabelled,
        "sentence": f"'{tree.name}', {len(tree.nodes)} nodes, {len(tree.leaves)} leaves, {len(tree.top_level)} at the top, "
        f"{depth} level{'s' if depth > 1 else ''}, unlabelled {tree.unlabelled}",
    }


def _show(arguments: argparse.Namespace) -> int:
    if arguments.tree is None:
        names = resources.names("label_trees")
        print(json.dumps(names) if arguments.json else "\n".join(names))
        return 0
    tree = importers.read_label_tree(find_tree(arguments.tree))
    if arguments.json:
        print(json.dumps(tree.to_dict(), indent=1, ensure_ascii=False))
        return 0
    print(_facts(tree)["sentence"])
    for node in tree.top_level:
        _print_branch(tree, node, "")
    return 0


def _print_branch(tree: LabelTree, node: Node, indent: str) -> None:
    sides = f"  (opposite: {node.opposite})" if node.opposite else ""
    print(f"{indent}{node.name}  {node.value}{sides}")
    for child in tree.children(node):
        _print_branch(tree, child, indent + "  ")


def _convert(arguments: argparse.Namespace) -> int:
    tree = importers.read_label_tree(find_tree(arguments.source), arguments.from_format, arguments.name)
    kind = arguments.to_format or _ENDINGS.get(arguments.target.suffix.lower())
    if kind is None:
        raise LabelTreeError(
            f"{arguments.target}: its ending does not tell the format; give '--to' ({', '.join(exporters.FORMATS)})."
        )
    exporters.write_label_tree(tree, arguments.target, kind)
    print(f"{arguments.target}: {_facts(tree)['sentence']}")
    return 0
