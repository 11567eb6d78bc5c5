"""Matching: which node of a label tree a segment is, by what the segment carries.

In this order, and each only where it leaves no doubt: our own tag (segments that were grouped before), its terminology
codes, its name, an alias, and its name or an alias without regard to case, underscores, hyphens and spaces.
Where codes and name point to different nodes, the finer one is meant if one lies below the other (a code may say
"vertebra" and the name which one); else a person must choose.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

import slicer

from hierseg.labeltree import LabelTree, Node
from HierSubclassSegLib.scene import tags, terminology

#: what a segment was told by, the surest first
By = Literal["choice", "tag", "code", "name", "alias", "similar name"]
RANK: tuple[By, ...] = ("choice", "tag", "code", "name", "alias", "similar name")


class Finder:
    """Finds the nodes of a tree that a segment may be."""

    def __init__(self, tree: LabelTree) -> None:
        self._tree = tree
        self._codes = _by_meaning(tree)
        self._aliases: dict[str, list[Node]] = {}
        self._similar: dict[str, list[Node]] = {}
        for node in tree.nodes:
            for alias in node.aliases:
                _append(self._aliases, alias, node)
            for text in (node.name, *node.aliases):
                _append(self._similar, plain(text), node)

    def find(self, segment: slicer.vtkSegment) -> tuple[By, list[Node]]:
        """The nodes that a segment may be, none or one or several, and what they were told by."""
        path = tags.get_tag(segment, tags.PATH)
        if path is not None and segment.HasTag(tags.TREE) and path in self._tree:
            return "tag", [self._tree.node(path)]
        coded, (by, named) = self._by_code(segment), self._by_name(segment.GetName() or "")
        if coded is None:
            return by, named
        if not named or coded in named:
            return "code", [coded]
        # A code may be less precise than the name ("vertebra") or the other way round: the finer of the two is meant.
        if any(coded in self._tree.ancestors(node) for node in named):
            return by, [node for node in named if coded in self._tree.ancestors(node)]
        if all(node in self._tree.ancestors(coded) for node in named):
            return "code", [coded]
        return "code", [coded, *named]

    def _by_code(self, segment: slicer.vtkSegment) -> Node | None:
        codes = terminology.codes_of(tags.get_tag(segment, tags.TERMINOLOGY) or "")
        if any(code[0] == terminology.PRIVATE_SCHEME for code in codes.values()):
            # Our own codes are values of some tree, and not necessarily of this one.
            return None
        return self._codes.get(_meaning(codes))

    def _by_name(self, name: str) -> tuple[By, list[Node]]:
        exact = [node for node in self._tree.nodes if node.name == name]
        if exact:
            return "name", exact
        if name in self._aliases:
            return "alias", self._aliases[name]
        return "similar name", self._similar.get(plain(name), [])


def _meaning(codes: Mapping[str, tuple[str, str, str]]) -> tuple[tuple[str, str], ...]:
    """What tells two structures apart: scheme and code, not the wording, of everything but the category."""
    return tuple(
        (codes[key][0], codes[key][1]) if key in codes else ("", "")
        for key in ("type", "modifier", "region", "region_modifier")
    )


def _by_meaning(tree: LabelTree) -> dict[tuple[tuple[str, str], ...], Node]:
    """The nodes by what their codes mean, without meanings that two nodes share, and without Slicer's default."""
    found: dict[tuple[tuple[str, str], ...], list[Node]] = {}
    for node in tree.nodes:
        found.setdefault(_meaning(terminology.codes_of(terminology.terminology_entry(tree, node))), []).append(node)
    default = _meaning({"type": terminology.TISSUE})
    return {key: nodes[0] for key, nodes in found.items() if len(nodes) == 1 and key != default}


def plain(text: str) -> str:
    """A name without regard to case, underscores, hyphens and spaces."""
    return re.sub(r"[\s_\-]+", " ", text.casefold()).strip()


def _append(found: dict[str, list[Node]], key: str, node: Node) -> None:
    if node not in found.setdefault(key, []):
        found[key].append(node)
