"""The list of labels of a data set: which tree it makes, or how it fits into one that is given."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hierseg.errors import DatasetError, LabelTreeError
from hierseg.importers.label_trees import rows_of_labels, tree_of
from hierseg.labeltree import LabelTree, Node

UNKNOWN_NAMES = ("ignore", "unlabelled")
"""Labels of these names mean that nothing is known: nnU-Net's word, and that of our own export."""
TREE_BESIDE = "label_tree.json"


def read_json(path: Path, what: str) -> dict[str, Any]:
    """An object from a JSON file.

    Args:
        path: the file.
        what: half a sentence on what was expected, for the message.

    Raises:
        DatasetError: it cannot be read, or is no object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise DatasetError(f"{path}: there is no such file; {what}.") from None
    except json.JSONDecodeError as error:
        raise DatasetError(f"{path}: not valid JSON (line {error.lineno}: {error.msg}); correct that line.") from error
    except (OSError, UnicodeDecodeError, RecursionError) as error:
        raise DatasetError(f"{path}: cannot be read ({error}); {what}.") from error
    if not isinstance(content, dict):
        raise DatasetError(f"{path}: must be a JSON object; {what}.")
    return content


def tree_and_values(
    path: Path, labels: Mapping[str, Any], tree: LabelTree | None, name: str
) -> tuple[LabelTree, dict[int, int], list[str]]:
    """The tree of a data set, and what each number in its label maps is in it.

    Without a tree, that of a ``label_tree.json`` beside the list is taken, else one is made of the labels.  Labels are
    matched with the nodes of a given tree by name; if none of the names is known there, by value.

    Args:
        path: of the ``dataset.json``.
        labels: its ``labels``: ``name: value``, ``name: [values]``, or ``value: name``.
        tree: given by the user, or None.
        name: of a tree that is made.

    Returns:
        The tree, the values, and sentences for the report.

    Raises:
        LabelTreeError: the labels make no tree, or do not fit into the one given.
    """
    notes = []
    beside = path.parent / TREE_BESIDE
    if tree is None and beside.is_file():
        tree = LabelTree.load(beside)
        notes.append(f"The labels are nodes of the label tree beside them, {beside.name}.")
    singles = _singles(labels, path)
    unknown = {value for label, value in singles.items() if label in UNKNOWN_NAMES}
    if tree is None:
        known = {
            label: value for label, value in labels.items() if label not in UNKNOWN_NAMES and value not in UNKNOWN_NAMES
        }
        try:
            tree = tree_of(rows_of_labels(known), re.sub("[@|]", " ", name))
        except LabelTreeError as error:
            raise LabelTreeError(f"{path}: {error.sentence}", hint=error.hint) from error
        values = {node.value: node.value for node in tree.leaves}
    else:
        values = _fitted(path, singles, tree)
    return tree, {**values, **dict.fromkeys(unknown, tree.unlabelled)}, notes


def _singles(labels: Mapping[str, Any], path: Path) -> dict[str, int]:
    """Labels with one value each, whichever way round they are listed; regions are left out."""
    found = {}
    for key, value in labels.items():
        label, number = (value, key) if isinstance(value, str) else (key, value)
        if isinstance(number, list):
            if len(number) != 1:
                continue
            number = number[0]
        try:
            found[str(label)] = int(number)
        except (TypeError, ValueError):
            raise LabelTreeError(
                f"{path}: the label {key!r}: {value!r} is no name and whole number; correct it."
            ) from None
        if found[str(label)] < 0:
            raise LabelTreeError(f"{path}: the label '{label}' has the value {number}; give 0 or more.")
    return found


def _fitted(path: Path, singles: Mapping[str, int], tree: LabelTree) -> dict[int, int]:
    wanted = {label: value for label, value in singles.items() if label not in UNKNOWN_NAMES}
    found = {label: _named(tree, label) for label in wanted}
    if any(node is not None for label, node in found.items() if label != "background"):
        missing = [label for label, node in found.items() if node is None and label != "background"]
        if missing:
            raise LabelTreeError(
                f"{path}: the label '{missing[0]}' is no node of the label tree '{tree.name}', others are; rename it, or correct the tree."
            )
        # Without a background in the tree nothing is known outside of the structures.
        return {wanted[label]: tree.unlabelled if node is None else node.value for label, node in found.items()}
    values = set(tree.values.tolist())
    foreign = [label for label, value in wanted.items() if value not in values]
    if foreign:
        raise LabelTreeError(
            f"{path}: neither the name nor the value of the label '{foreign[0]}' ({wanted[foreign[0]]}) is in the label tree '{tree.name}'; give another tree."
        )
    return {value: value for value in wanted.values()}


def _named(tree: LabelTree, label: str) -> Node | None:
    for node in tree.nodes:
        if label in (node.name, *node.aliases):
            return node
    return tree.background if label == "background" else None
