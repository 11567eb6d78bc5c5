"""The rows of the hierarchy: made once for a tree, then only what has changed is written."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import lru_cache
from typing import Any

import qt
from slicer.i18n import tr as _

from hierseg.labeltree import LabelTree, Node
from HierSubclassSegLib.gui import icons, texts
from HierSubclassSegLib.gui.hierarchy_columns import (
    CONFIDENCE,
    EYE,
    LOCK,
    ML,
    NAME,
    NUMBERS,
    REFINED,
    SOURCE,
    STATUS,
)
from HierSubclassSegLib.scene import colors, marks, matching, tags, tree_store, visibility
from HierSubclassSegLib.scene.measures import Measures
from HierSubclassSegLib.scene.status import Status
from HierSubclassSegLib.scene.status import statuses as node_statuses


class Rows:
    """The rows in a tree view, one a node.

    Args:
        view: a ``qt.QTreeWidget``.
        editable: names can be edited in place.

    Attributes:
        items: the rows by node name.
        shown: how much of each branch is visible (``scene.visibility``), by node name.
        locked: the names of the nodes that are locked themselves.
        statuses: by node name.
    """

    def __init__(self, view: Any, editable: bool) -> None:
        self._view = view
        self._editable = editable
        self._written: dict[tuple[str, int], Any] = {}
        # Drawn once for all rebuilds: a picture takes longer than a row.
        self._pictures: dict[Any, Any] = {}
        self._swatches: dict[Any, Any] = {}
        self.items: dict[str, Any] = {}
        self.shown: dict[str, str | None] = {}
        self.locked: Collection[str] = ()
        self.statuses: dict[str, Status] = {}

    def clear(self) -> None:
        """No rows."""
        self._view.clear()
        self.items, self._written = {}, {}

    def build(self, tree: LabelTree, names: Collection[str], unfolded: Collection[str]) -> None:
        """Make rows for the nodes with these names, and for no others."""
        self.clear()
        for node in tree.top_level:
            self._add(tree, node, self._view.invisibleRootItem(), names)
        for name, item in self.items.items():
            item.setExpanded(name in unfolded)

    def unfolded(self) -> set[str]:
        """The names of the rows whose children are seen."""
        return {name for name, item in self.items.items() if item.isExpanded()}

    def update(self, node: Any, tree: LabelTree, depth: int | None) -> None:
        """Write what the scene says now: names, colors, eyes, sources, status, locks.

        Args:
            node: the segmentation.
            tree: its tree, that of the rows.
            depth: the depth that the tree is shown to, or None.
        """
        ids = tree_store.segments_by_path(node, tree)
        segmentation = node.GetSegmentation()
        self.shown = dict(visibility.states(node, tree, depth))
        self.statuses = node_statuses(node, tree)
        self.locked = marks.locked_nodes(node, tree)
        held = marks.untouchable(node, tree) if self.locked else self.locked
        ink = self._view.palette.color(qt.QPalette.Text).name()
        for name in self.items:
            entry = tree.node(name)
            segment = segmentation.GetSegment(ids[entry.path]) if entry.path in ids else None
            self._name(tree, entry, segment)
            self._source(name, segment)
            self._picture(name, EYE, ("eye", self.shown.get(name), ink))
            self._picture(name, STATUS, ("status", self.statuses[name].name.lower(), ink))
            self._picture(name, LOCK, ("lock", name in held, ink))

    def count(self, names: Iterable[str], measures: Measures) -> None:
        """Write the numbers of some rows."""
        for name in names:
            if name in self.items:
                self._text(name, ML, texts.volume(measures.ml(name)))
                self._text(name, REFINED, _percent(measures.refined(name)))
                self._text(name, CONFIDENCE, _percent(measures.confidence(name)))

    def forget(self, name: str) -> None:
        """Write a row's name again at the next update: the user has typed another one that was refused."""
        self._written.pop((name, NAME), None)

    def search(self, tree: LabelTree, text: str) -> None:
        """Show only the rows whose name or alias holds the text, with what is above and below them."""
        wanted = text.strip().casefold()
        found: set[str] = set()
        for node in tree.nodes:
            words = (node.name, self.items[node.name].text(NAME), *node.aliases) if node.name in self.items else ()
            if wanted and any(wanted in word.casefold() for word in words):
                found.add(node.name)
                found |= {other.name for other in tree.ancestors(node)}
                found |= {other.name for other in tree.descendants(node)}
        for name, item in self.items.items():
            item.setHidden(bool(wanted) and name not in found)
            if wanted and name in found:
                item.setExpanded(True)

    # -- inside -----------------------------------------------------------------------------------------------------

    def _add(self, tree: LabelTree, node: Node, parent: Any, names: Collection[str]) -> None:
        if node.name not in names:
            return
        item = qt.QTreeWidgetItem(parent)
        item.setData(NAME, qt.Qt.UserRole, node.name)
        for column in NUMBERS:
            item.setTextAlignment(column, qt.Qt.AlignRight | qt.Qt.AlignVCenter)
        if self._editable:
            item.setFlags(item.flags() | qt.Qt.ItemIsEditable)
        self.items[node.name] = item
        for child in tree.children(node):
            self._add(tree, child, item, names)

    def _name(self, tree: LabelTree, node: Node, segment: Any) -> None:
        given = segment.GetName() if segment is not None else node.name
        # What another program called it is known by its alias; another name is the user's own.
        name = node.name if _known(node, given) else given
        color = tuple(segment.GetColor()) if segment is not None else colors.node_color(tree, node)
        # A group of segments needs none of its own.
        empty = self.shown.get(node.name) is None
        if self._changed(node.name, NAME, (name, color, empty, node.path)):
            item = self.items[node.name]
            item.setText(NAME, name)
            item.setToolTip(NAME, _("{path} (no segment yet)").format(path=node.path) if empty else node.path)
            if color not in self._swatches:
                self._swatches[color] = icons.swatch(color)
            item.setIcon(NAME, self._swatches[color])
            font = item.font(NAME)
            font.setItalic(empty)
            item.setFont(NAME, font)

    def _source(self, name: str, segment: Any) -> None:
        source = (tags.get_tag(segment, tags.SOURCE) or "") if segment is not None else ""
        if self._changed(name, SOURCE, source):
            item = self.items[name]
            item.setText(SOURCE, _source_word(source))
            item.setToolTip(SOURCE, source.removeprefix("model:"))

    def _picture(self, name: str, column: int, what: tuple[str, Any, str]) -> None:
        if not self._changed(name, column, what):
            return
        if what not in self._pictures:
            self._pictures[what] = _picture(*what)
        icon, tip = self._pictures[what]
        self.items[name].setIcon(column, icon)
        self.items[name].setToolTip(column, tip)

    def _text(self, name: str, column: int, text: str) -> None:
        if self._changed(name, column, text):
            self.items[name].setText(column, text)

    def _changed(self, name: str, column: int, value: Any) -> bool:
        if self._written.get((name, column)) == value:
            return False
        self._written[name, column] = value
        return True


def _picture(kind: str, value: Any, ink_name: str) -> tuple[Any, str]:
    ink = qt.QColor(ink_name)
    if kind == "eye":
        tips = {"on": _("Shown"), "partial": _("Partly shown"), "off": _("Hidden")}
        return (qt.QIcon(), "") if value is None else (icons.eye(value, ink), tips[value])
    if kind == "lock":
        return icons.lock(value, ink), _("Locked") if value else _("Not locked")
    tips = {
        "not_started": _("Not started"),
        "in_progress": _("In progress"),
        "completed": _("Completed"),
        "flagged": _("Flagged"),
    }
    return icons.status(value, ink), tips[value]


@lru_cache(maxsize=64)
def _source_word(source: str) -> str:
    known = {"": "", tags.MANUAL: _("manual"), tags.MIXED: _("mixed")}
    return _("model") if source.startswith("model:") else known.get(source, source)


def _known(node: Node, name: str) -> bool:
    return name == node.name or matching.plain(name) in {matching.plain(word) for word in (node.name, *node.aliases)}


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.0f} %"
