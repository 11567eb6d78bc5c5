"""What ``label_tree.json`` contains: nodes, and the checks that make a list of them a tree."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hierseg.errors import LabelTreeError

FORMAT_VERSION = 1
MAX_VALUE = 65534
TERMINOLOGY_KEYS = ("category", "type", "modifier", "region", "region_modifier")
_NODE_KEYS = {"name", "parent", "value", "edge_weight", "color", "terminology", "aliases", "opposite"}
TREE_KEYS = {"format_version", "name", "unlabelled", "nodes", "description", "source", "license"}


@dataclass(frozen=True)
class Node:
    """One node of a label tree.

    Attributes:
        name: unique in the whole tree; also the name of the segment in Slicer.
        value: the integer that a voxel of a label map carries, 0 to 65534.
        path: the names from the top level down to this node, joined by ``/``.
        depth: 1 at the top level, 2 for its children, and so on.
        parent: the parent's name, or None at the top level.
        edge_weight: length of the edge to the parent, in the tree distance.
        color: red, green, blue in 0..255, or None.
        terminology: coded meaning: ``category``, ``type``, ``modifier``, ``region``, ``region_modifier``, each
            a triplet (scheme, code, meaning).
        aliases: names that other products give to the same structure.
        opposite: the name of the same structure on the other side of the body, or None.
    """

    name: str
    value: int
    path: str
    depth: int
    parent: str | None = None
    edge_weight: float = 1.0
    color: tuple[int, int, int] | None = None
    terminology: Mapping[str, tuple[str, str, str]] = field(default_factory=dict, hash=False)
    aliases: tuple[str, ...] = ()
    opposite: str | None = None


def parse_nodes(rows: Sequence[Any]) -> list[Node]:
    """The nodes of a tree, in file order, with paths and depths.

    Raises:
        LabelTreeError: names the node at fault and what to do.
    """
    by_name: dict[str, Mapping[str, Any]] = {}
    by_value: dict[int, str] = {}
    for row in rows:
        name = _check_row(row)
        if name in by_name:
            raise LabelTreeError(
                f"node '{name}' is listed twice; names are unique in the whole tree, rename or remove one."
            )
        if row["value"] in by_value:
            raise LabelTreeError(
                f"nodes '{by_value[row['value']]}' and '{name}' both have value {row['value']}; give each node its own value."
            )
        by_name[name] = row
        by_value[row["value"]] = name
    for name, row in by_name.items():
        for key in ("parent", "opposite"):
            other = row.get(key)
            if other is not None and (not isinstance(other, str) or other not in by_name):
                raise LabelTreeError(
                    f"node '{name}' has the {key} {other!r}, which is not in the tree; add that node or correct the name."
                )
        opposite = row.get("opposite")
        if opposite is not None and by_name[opposite].get("opposite") != name:
            raise LabelTreeError(
                f"node '{name}' has the opposite '{opposite}', but not the other way round; give both or neither."
            )
    return [_build_node(name, row, by_name) for name, row in by_name.items()]


def _check_row(row: Any) -> str:
    if not isinstance(row, Mapping):
        raise LabelTreeError(f"a node is a JSON object with 'name' and 'value'; found {row!r}.")
    name = row.get("name")
    if not isinstance(name, str) or not name.strip() or name != name.strip():
        raise LabelTreeError(f"a node has the name {name!r}; give a text without blanks at its ends.")
    if "/" in name or "|" in name:
        raise LabelTreeError(
            f"node '{name}' has '/' or '|' in its name; these separate paths and tags, use another character."
        )
    unknown = sorted(set(row) - _NODE_KEYS)
    if unknown:
        raise LabelTreeError(
            f"node '{name}' has the unknown key {unknown[0]!r}; known keys are {', '.join(sorted(_NODE_KEYS))}."
        )
    value = row.get("value")
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_VALUE:
        raise LabelTreeError(f"node '{name}' has the value {value!r}; give an integer from 0 to {MAX_VALUE}.")
    weight = row.get("edge_weight", 1.0)
    if not isinstance(weight, int | float) or isinstance(weight, bool) or not 0 <= weight < float("inf"):
        raise LabelTreeError(f"node '{name}' has the edge_weight {weight!r}; give a number of 0 or more.")
    color = row.get("color")
    if color is not None and not (
        isinstance(color, Sequence) and len(color) == 3 and all(isinstance(c, int) and 0 <= c <= 255 for c in color)
    ):
        raise LabelTreeError(f"node '{name}' has the color {color!r}; give three integers from 0 to 255.")
    aliases = row.get("aliases", [])
    if (
        not isinstance(aliases, Sequence)
        or isinstance(aliases, str)
        or not all(isinstance(alias, str) for alias in aliases)
    ):
        raise LabelTreeError(f"node '{name}' has the aliases {aliases!r}; give a list of names.")
    _check_terminology(name, row.get("terminology", {}))
    return name


def _check_terminology(name: str, terminology: Any) -> None:
    if not isinstance(terminology, Mapping):
        raise LabelTreeError(
            f"node '{name}' has the terminology {terminology!r}; give an object with {', '.join(TERMINOLOGY_KEYS)}."
        )
    for key, code in terminology.items():
        if key not in TERMINOLOGY_KEYS:
            raise LabelTreeError(
                f"node '{name}' has the terminology key {key!r}; known keys are {', '.join(TERMINOLOGY_KEYS)}."
            )
        good = (
            isinstance(code, Sequence)
            and not isinstance(code, str)
            and len(code) == 3
            and all(isinstance(part, str) for part in code)
        )
        if not good or any(mark in part for part in code for mark in "~^|"):
            raise LabelTreeError(
                f"node '{name}' has the {key} code {code!r}; give [scheme, code, meaning] without '~', '^' and '|'."
            )


def _build_node(name: str, row: Mapping[str, Any], by_name: Mapping[str, Mapping[str, Any]]) -> Node:
    chain = [name]
    parent = row.get("parent")
    while parent is not None:
        if parent in chain:
            raise LabelTreeError(
                f"node '{name}' is its own ancestor ({' < '.join([*chain, parent])}); break this cycle of parents."
            )
        chain.append(parent)
        parent = by_name[parent].get("parent")
    color = row.get("color")
    return Node(
        name=name,
        value=row["value"],
        path="/".join(reversed(chain)),
        depth=len(chain),
        parent=row.get("parent"),
        edge_weight=float(row.get("edge_weight", 1.0)),
        color=None if color is None else (color[0], color[1], color[2]),
        terminology={key: (code[0], code[1], code[2]) for key, code in row.get("terminology", {}).items()},
        aliases=tuple(row.get("aliases", ())),
        opposite=row.get("opposite"),
    )


def unlabelled_for(values: Iterable[int]) -> int:
    """The value of unlabelled voxels that goes with these node values."""
    return 255 if max(values) < 255 else 65535


def check_unlabelled(unlabelled: Any, nodes: Sequence[Node]) -> int:
    """The tree's unlabelled value, if it is the one that goes with its nodes.

    Raises:
        LabelTreeError: it is another.
    """
    expected = unlabelled_for(node.value for node in nodes)
    if unlabelled != expected or isinstance(unlabelled, bool):
        raise LabelTreeError(
            f"'unlabelled' is {unlabelled!r}; it is {expected} for this tree "
            f"({'all values are below 255' if expected == 255 else 'a value is 255 or more'}), write that."
        )
    return expected


def list_names(names: Iterable[Any], most: int = 8) -> str:
    """Names for a sentence; beyond ``most`` only how many there are."""
    listed = [str(name) for name in names]
    return ", ".join(listed[:most]) + (f" and {len(listed) - most} more" if len(listed) > most else "")
