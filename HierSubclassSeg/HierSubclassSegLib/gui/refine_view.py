"""What is shown for painting only, and hidden again afterwards."""

from __future__ import annotations

from collections.abc import Sequence

from HierSubclassSegLib.scene import tree_store
from HierSubclassSegLib.scene.painting import RefineSession


class SeenWhileRefining:
    """The refined node and its children are seen while they are painted; leaving hides again what was hidden before.

    Made as soon as a node has been entered; children that come later are the user's and stay as they are.

    Args:
        session: refines a node.
        children: the names of its children.
    """

    def __init__(self, session: RefineSession, children: Sequence[str]) -> None:
        self._session = session
        refined = session.refined
        self._names = [*children] if refined is None else [refined.name, *children]
        there = {tree_store.node_of(session.segmentation_node, segment_id, session.tree) for segment_id in self._ids()}
        self._hidden = [name for name in self._names if session.tree.node(name) in there and not session.is_seen(name)]

    def show(self) -> None:
        """Show them."""
        for name in self._names:
            self._session.set_seen(name, True)

    def restore(self) -> None:
        """Hide what was hidden; nodes that are gone by now are left out."""
        if self._session.refining and not self._session.scene.IsClosing():
            for name in self._hidden:
                if name in self._session.tree:
                    self._session.set_seen(name, False)

    def _ids(self) -> list[str]:
        return [segment_id for segment_id, _segment in tree_store.segments(self._session.segmentation_node)]
