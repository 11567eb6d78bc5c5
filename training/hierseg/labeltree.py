"""The label tree: superclasses, subclasses and everything derived from them.

A label tree names every structure that a voxel can be, from coarse to fine.  Its *leaves* are the subclasses;
an *inner node* is a superclass; the implied root, "anything", is not listed.  One integer a voxel then says all
that is known about it: a leaf's value ("edema"), an inner node's value ("tumor, kind unknown"), or
:attr:`LabelTree.unlabelled` ("nothing is known").

>>> tree = LabelTree.from_dict({
...     "format_version": 1, "name": "example", "unlabelled": 255,
...     "nodes": [{"name": "background", "value": 0},
...               {"name": "tumor", "value": 5},
...               {"name": "core", "parent": "tumor", "value": 1},
...               {"name": "edema", "parent": "tumor", "value": 2}]})
>>> [leaf.name for leaf in tree.leaves]
['background', 'core', 'edema']
>>> tree.node("edema").path
'tumor/edema'
>>> [node.name for node in tree.top_level]
['background', 'tumor']
>>> tree.leaves_under("tumor") == tree.children("tumor")
True

Only the standard library and numpy are imported: the Slicer half uses this module as it is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from hierseg.errors import LabelTreeError
from hierseg.labeltree_format import (
    FORMAT_VERSION,
    MAX_VALUE,
    TERMINOLOGY_KEYS,
    TREE_KEYS,
    Node,
    check_unlabelled,
    list_names,
    parse_nodes,
    unlabelled_for,
)

__all__ = ["FORMAT_VERSION", "MAX_VALUE", "TERMINOLOGY_KEYS", "LabelTree", "Node"]


class LabelTree:
    """An immutable label tree.  Build it with :meth:`load` or :meth:`from_dict`.

    Methods that take a node accept a :class:`Node`, its name or its path.
    """

    def __init__(
        self, name: str, unlabelled: int, nodes: Sequence[Node], extra: Mapping[str, Any] | None = None
    ) -> None:
        self.name = name
        self.unlabelled = unlabelled
        self.nodes = tuple(nodes)
        self._extra = dict(extra or {})
        self._by_name = {node.name: node for node in self.nodes}
        self._by_path = {node.path: node for node in self.nodes}
        self._by_value = {node.value: node for node in self.nodes}
        children: dict[str | None, list[Node]] = {None: []}
        for node in self.nodes:
            children.setdefault(node.parent, []).append(node)
        self._children = {key: tuple(value) for key, value in children.items()}
        self.leaves = tuple(node for node in self.nodes if node.name not in self._children)
        self.top_level = self._children[None]

    # -- reading and writing ------------------------------------------------------------------------------------

    @classmethod
    def load(cls, path: str | Path) -> LabelTree:
        """Read a ``label_tree.json``.

        Raises:
            LabelTreeError: the file is missing, is not JSON, or does not describe a tree.
        """
        path = Path(path)
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise LabelTreeError(
                f"{path}: there is no such label tree file; give the path of a label_tree.json."
            ) from None
        except (OSError, UnicodeDecodeError) as error:
            raise LabelTreeError(f"{path}: the label tree cannot be read ({error}); give a UTF-8 JSON file.") from error
        try:
            content = json.loads(text)
        except json.JSONDecodeError as error:
            raise LabelTreeError(
                f"{path}: not valid JSON (line {error.lineno}: {error.msg}); correct that line."
            ) from error
        except RecursionError:
            raise LabelTreeError(f"{path}: nested too deeply to be a label tree; give a label_tree.json.") from None
        try:
            return cls.from_dict(content)
        except LabelTreeError as error:
            raise LabelTreeError(f"{path}: {error.sentence}", hint=error.hint) from error

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> LabelTree:
        """Build a tree from the content of a ``label_tree.json`` (``docs/label-tree.md``).

        Raises:
            LabelTreeError: names the node at fault and what to do.
        """
        if not isinstance(content, Mapping):
            raise LabelTreeError(
                "a label tree is a JSON object with 'name', 'unlabelled' and 'nodes'; found something else."
            )
        version = content.get("format_version")
        if version != FORMAT_VERSION:
            raise LabelTreeError(
                f"format_version is {version!r}, this program reads {FORMAT_VERSION}; convert or update."
            )
        unknown = sorted(set(content) - TREE_KEYS)
        if unknown:
            raise LabelTreeError(
                f"unknown key {unknown[0]!r} in the label tree; known keys are {', '.join(sorted(TREE_KEYS))}."
            )
        name = content.get("name")
        if not isinstance(name, str) or not name.strip() or "@" in name or "|" in name:
            raise LabelTreeError(f"the label tree's name is {name!r}; give a text without '@' and '|'.")
        rows = content.get("nodes")
        if not isinstance(rows, Sequence) or isinstance(rows, str) or not rows:
            raise LabelTreeError("the label tree has no nodes; list at least one under 'nodes'.")
        nodes = parse_nodes(rows)
        unlabelled = check_unlabelled(content.get("unlabelled"), nodes)
        extra = {key: content[key] for key in ("description", "source", "license") if key in content}
        return cls(name, unlabelled, nodes, extra)

    def to_dict(self) -> dict[str, Any]:
        """The content of ``label_tree.json``; optional keys only where they are set."""
        rows = []
        for node in self.nodes:
            row: dict[str, Any] = {"name": node.name}
            if node.parent is not None:
                row["parent"] = node.parent
            row["value"] = node.value
            if node.edge_weight != 1.0:
                row["edge_weight"] = node.edge_weight
            if node.color is not None:
                row["color"] = list(node.color)
            if node.terminology:
                row["terminology"] = {
                    key: list(node.terminology[key]) for key in TERMINOLOGY_KEYS if key in node.terminology
                }
            if node.aliases:
                row["aliases"] = list(node.aliases)
            if node.opposite is not None:
                row["opposite"] = node.opposite
            rows.append(row)
        return {
            "format_version": FORMAT_VERSION,
            "name": self.name,
            **self._extra,
            "unlabelled": self.unlabelled,
            "nodes": rows,
        }

    def save(self, path: str | Path) -> None:
        """Write ``label_tree.json`` atomically, one node a line so that changes can be read as differences."""
        from hierseg.atomic import write_text

        content = self.to_dict()
        rows = ",\n  ".join(json.dumps(row, ensure_ascii=False) for row in content.pop("nodes"))
        head = json.dumps(content, ensure_ascii=False, indent=1)[:-2]
        write_text(path, f'{head},\n "nodes": [\n  {rows}\n ]\n}}\n')

    @cached_property
    def canonical_json(self) -> str:
        """The tree as JSON with sorted keys and no spaces: equal trees give equal text."""
        return json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"), ensure_ascii=True)

    @cached_property
    def fingerprint(self) -> str:
        """``<name>@<first 12 digits of the SHA-256 of the canonical JSON>``."""
        return f"{self.name}@{hashlib.sha256(self.canonical_json.encode()).hexdigest()[:12]}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LabelTree) and self.canonical_json == other.canonical_json

    def __hash__(self) -> int:
        return hash(self.canonical_json)

    def __repr__(self) -> str:
        return f"LabelTree({self.name!r}, {len(self.nodes)} nodes, {len(self.leaves)} leaves)"

    # -- walking ------------------------------------------------------------------------------------------------

    @cached_property
    def background(self) -> Node | None:
        """The top-level leaf that means background, by its name, an alias or DICOM's code; None in a tree without one."""
        for node in self.top_level:
            names = {name.casefold() for name in (node.name, *node.aliases)}
            coded = node.terminology.get("type", ("", "", ""))[:2] == ("DCM", "125040")
            if self.is_leaf(node) and (coded or "background" in names):
                return node
        return None

    def node(self, key: Node | str) -> Node:
        """The node of that name or path.

        Raises:
            LabelTreeError: there is none.
        """
        name = key.name if isinstance(key, Node) else key
        found = self._by_name.get(name) or self._by_path.get(name)
        if found is None:
            raise LabelTreeError(
                f"the label tree '{self.name}' has no node {name!r}; its nodes are {list_names(self._by_name)}."
            )
        return found

    def __contains__(self, key: object) -> bool:
        name = key.name if isinstance(key, Node) else key
        return name in self._by_name or name in self._by_path

    def by_value(self, value: int) -> Node:
        """The node that carries the value.

        Raises:
            LabelTreeError: no node does.
        """
        found = self._by_value.get(int(value))
        if found is None:
            raise LabelTreeError(
                f"the label tree '{self.name}' has no node of value {value}; its values are {list_names(sorted(self._by_value))}."
            )
        return found

    def parent(self, key: Node | str) -> Node | None:
        """The parent, or None at the top level."""
        name = self.node(key).parent
        return None if name is None else self._by_name[name]

    def children(self, key: Node | str | None) -> tuple[Node, ...]:
        """The children in file order; those of the implied root for None."""
        return self.top_level if key is None else self._children.get(self.node(key).name, ())

    def siblings(self, key: Node | str) -> tuple[Node, ...]:
        """The other children of the node's parent."""
        node = self.node(key)
        return tuple(other for other in self._children[node.parent] if other.name != node.name)

    def ancestors(self, key: Node | str) -> tuple[Node, ...]:
        """The nodes above, from the parent up to the top level."""
        found = []
        node = self.parent(key)
        while node is not None:
            found.append(node)
            node = self.parent(node)
        return tuple(found)

    def descendants(self, key: Node | str) -> tuple[Node, ...]:
        """All nodes below, in file order."""
        node = self.node(key)
        return tuple(other for other in self.nodes if other.path.startswith(node.path + "/"))

    def leaves_under(self, key: Node | str) -> tuple[Node, ...]:
        """The leaves at or below the node, in file order."""
        node = self.node(key)
        return tuple(leaf for leaf in self.leaves if leaf.path == node.path or leaf.path.startswith(node.path + "/"))

    def is_leaf(self, key: Node | str) -> bool:
        """Whether the node has no children."""
        return self.node(key).name not in self._children

    def top_of(self, key: Node | str) -> Node:
        """The top-level node at or above the node."""
        return self._by_name[self.node(key).path.split("/", 1)[0]]

    def top(self) -> LabelTree:
        """The tree cut to its top level, values kept."""
        rows = [dict(row, opposite=None) for row in self.to_dict()["nodes"] if "parent" not in row]
        names = {row["name"] for row in rows}
        for row in rows:
            opposite = self._by_name[row["name"]].opposite
            if opposite in names:
                row["opposite"] = opposite
            else:
                row.pop("opposite", None)
        return LabelTree.from_dict(
            {
                "format_version": FORMAT_VERSION,
                "name": f"{self.name} top level",
                "unlabelled": unlabelled_for(n["value"] for n in rows),
                "nodes": rows,
            }
        )

    # -- arrays -------------------------------------------------------------------------------------------------

    @cached_property
    def values(self) -> np.ndarray:
        """Node values in file order, int64 ``(nodes,)``."""
        return np.array([node.value for node in self.nodes], dtype=np.int64)

    @cached_property
    def leaf_values(self) -> np.ndarray:
        """Leaf values in the order of the fine channels, int64 ``(leaves,)``."""
        return np.array([leaf.value for leaf in self.leaves], dtype=np.int64)

    @cached_property
    def membership(self) -> np.ndarray:
        """Bool ``(nodes, leaves)``: whether the leaf lies at or below the node."""
        column = {leaf.name: index for index, leaf in enumerate(self.leaves)}
        matrix = np.zeros((len(self.nodes), len(self.leaves)), dtype=bool)
        for row, node in enumerate(self.nodes):
            for leaf in self.leaves_under(node):
                matrix[row, column[leaf.name]] = True
        return matrix

    @cached_property
    def distance(self) -> np.ndarray:
        """Float64 ``(leaves, leaves)``: edge weights summed along the path between two leaves, over their maximum (1 if that is 0)."""
        raw = self._raw_distance
        return raw / (raw.max() or 1.0)

    @cached_property
    def distance_scale(self) -> float:
        """What the summed edge weights were divided by in :attr:`distance`; tree losses divide by the same."""
        return float(self._raw_distance.max() or 1.0)

    @cached_property
    def _raw_distance(self) -> np.ndarray:
        member = self.membership.astype(np.float64)
        weights = np.array([node.edge_weight for node in self.nodes])
        # The edge above a node lies between two leaves exactly if one of the two is below that node.
        total = (weights[:, None] * member).sum(axis=0)
        return total[:, None] + total[None, :] - 2.0 * (member * weights[:, None]).T @ member

    @property
    def dtype(self) -> np.dtype:
        """The integer type of a label map of this tree: uint8 if every value fits, else uint16."""
        return np.dtype(np.uint8 if self.unlabelled == 255 else np.uint16)

    def lookup(self, mapping: Mapping[int, int], default: int) -> np.ndarray:
        """An int64 table with one entry for each value of :attr:`dtype`, for ``table[label_map]``."""
        table = np.full(256 if self.dtype == np.uint8 else 65536, default, dtype=np.int64)
        for value, result in mapping.items():
            table[value] = result
        return table

    @cached_property
    def node_index_table(self) -> np.ndarray:
        """Table from voxel value to index in :attr:`nodes`; −1 where unlabelled or unknown."""
        return self.lookup({node.value: index for index, node in enumerate(self.nodes)}, -1)

    @cached_property
    def leaf_index_table(self) -> np.ndarray:
        """Table from voxel value to index in :attr:`leaves`; −1 for inner nodes and unlabelled voxels."""
        return self.lookup({leaf.value: index for index, leaf in enumerate(self.leaves)}, -1)

    @cached_property
    def top_value_table(self) -> np.ndarray:
        """Table from voxel value to the value of its top-level node; unlabelled of :meth:`top` elsewhere."""
        return self.lookup({node.value: self.top_of(node).value for node in self.nodes}, self.top().unlabelled)

    def check_values(self, label_map: np.ndarray, where: str) -> None:
        """Refuse a label map that carries a value which is neither a node's nor :attr:`unlabelled`.

        Raises:
            LabelTreeError: names ``where`` and the first foreign value.
        """
        present = np.unique(label_map)
        known = set(self._by_value) | {self.unlabelled}
        foreign = [value.item() for value in present if value.item() not in known]
        if foreign:
            raise LabelTreeError(
                f"{where}: label value {foreign[0]} is not in the label tree '{self.name}' ({len(foreign)} such values); "
                "correct the label map or add the node to the tree."
            )

    @cached_property
    def opposites(self) -> bool:
        """Whether the tree tells sides apart: mirroring must then swap them."""
        return any(node.opposite for node in self.nodes)

    @cached_property
    def opposite_value_table(self) -> np.ndarray:
        """Table from voxel value to the value of the opposite side's node; unchanged where there is none."""
        table = np.arange(256 if self.dtype == np.uint8 else 65536, dtype=np.int64)
        for node in self.nodes:
            if node.opposite is not None:
                table[node.value] = self._by_name[node.opposite].value
        return table
