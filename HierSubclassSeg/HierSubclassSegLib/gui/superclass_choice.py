"""The list from which a user picks what to refine: everything, or an inner node of the tree."""

from __future__ import annotations

from collections.abc import Callable

from slicer.i18n import tr as _

from hierseg.labeltree import LabelTree, Node
from HierSubclassSegLib.gui import layouts


class SuperclassChoice:
    """Lists the inner nodes, each below its parent.

    Args:
        chosen: called when the user has picked one.

    Attributes:
        combo: to be put into the section.
    """

    def __init__(self, chosen: Callable[[], None]) -> None:
        self.combo = layouts.combo("superclassCombo")
        self.combo.toolTip = _("The structure whose subclasses are painted, inside it")
        self.combo.activated.connect(lambda *_arguments: chosen())

    @property
    def name(self) -> str | None:
        """The picked node's; None for the top level, and where nothing is listed."""
        return self.combo.itemData(self.combo.currentIndex) or None

    def pick(self, tree: LabelTree, node: Node) -> None:
        """Pick a node or, where it has no subclasses, the one above it."""
        inner = node if not tree.is_leaf(node) else tree.parent(node)
        self.combo.currentIndex = max(0, self.combo.findData("" if inner is None else inner.name))

    def fill(self, tree: LabelTree | None, refined: str | None) -> None:
        """List what a tree has.

        Args:
            tree: None: nothing.
            refined: the node that is refined, "" for the top level; it is picked.  None: what was picked stays so.
        """
        wanted = [] if tree is None else [("", _("Everything"))]
        if tree is not None:
            wanted += [(node.name, "   " * node.depth + node.name) for node in _inner_nodes(tree, None)]
        self.combo.enabled = tree is not None
        if wanted == [(self.combo.itemData(row), self.combo.itemText(row)) for row in range(self.combo.count)]:
            return
        picked = self.combo.itemData(self.combo.currentIndex) if refined is None else refined
        self.combo.clear()
        for name, text in wanted:
            self.combo.addItem(text, name)
        if picked is None and len(wanted) > 1:
            picked = wanted[1][0]
        self.combo.currentIndex = max(0, self.combo.findData(picked)) if wanted else -1


def _inner_nodes(tree: LabelTree, parent: Node | None) -> list[Node]:
    return [
        node
        for child in tree.children(parent)
        if not tree.is_leaf(child)
        for node in (child, *_inner_nodes(tree, child))
    ]
