"""The tree view of the hierarchy, which keeps its keys from Slicer's own shortcuts while it has the focus."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt


class HierarchyView(qt.QTreeWidget):
    """A tree widget with keys of its own.

    Attributes:
        keys: what is called for a key (``qt.Qt.Key_Space``, ...).
        recolored: called when the colors of the application have changed (light, dark).
    """

    def __init__(self, parent: Any = None) -> None:
        qt.QTreeWidget.__init__(self, parent)
        self.keys: dict[int, Callable[[], Any]] = {}
        self.recolored: Callable[[], Any] = lambda: None
        self.setMinimumHeight(160)
        self.uniformRowHeights = True
        self.indentation = 16
        self.setSelectionMode(qt.QAbstractItemView.SingleSelection)
        self.setEditTriggers(qt.QAbstractItemView.NoEditTriggers)
        self.setContextMenuPolicy(qt.Qt.CustomContextMenu)
        # Double clicks rename; branches fold by their arrows and the arrow keys.
        self.expandsOnDoubleClick = False

    def event(self, event: Any) -> bool:
        """Slicer's Segment Editor has shortcuts on the same keys; with the focus here they are the tree's."""
        if event.type() == qt.QEvent.ShortcutOverride and int(event.key()) in self.keys:
            event.accept()
            return True
        if event.type() == qt.QEvent.PaletteChange:
            self.recolored()
        return bool(qt.QTreeWidget.event(self, event))

    def keyPressEvent(self, event: Any) -> None:
        """Call what the key is for; the rest (arrows, page keys, letters) is the tree widget's."""
        action = self.keys.get(int(event.key()))
        if action is None:
            qt.QTreeWidget.keyPressEvent(self, event)
        else:
            event.accept()
            action()
