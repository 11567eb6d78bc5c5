"""The table of a training's result: each structure before and after."""

from __future__ import annotations

import qt
from slicer.i18n import tr as _

from hierseg.labeltree import LabelTree
from HierSubclassSegLib.compute.history import History
from HierSubclassSegLib.gui import train_texts
from HierSubclassSegLib.gui.message import Message, note_label

NAME, BEFORE, AFTER, CHANGE = 0, 1, 2, 3
_ROWS_SHOWN = 14


class TrainScores:
    """Dice of the starting model and of the fine-tuned one by node, with a warning where one lost."""

    def __init__(self) -> None:
        self.widget = qt.QWidget()
        layout = qt.QVBoxLayout(self.widget)
        layout.setContentsMargins(0, 0, 0, 0)
        self.warning = Message()
        self.about = note_label()
        self.about.toolTip = _("What was taken over from the starting model counts as reference too.")
        self.view = qt.QTreeWidget()
        self.view.objectName = "scoresTree"
        self.view.setColumnCount(4)
        self.view.setHeaderLabels([_("Dice, %"), _("before"), _("after"), _("change")])
        self.view.uniformRowHeights = True
        self.view.setSelectionMode(qt.QAbstractItemView.NoSelection)
        header = self.view.header()
        header.stretchLastSection = False
        header.setSectionResizeMode(NAME, qt.QHeaderView.Stretch)
        for column in (BEFORE, AFTER, CHANGE):
            header.setSectionResizeMode(column, qt.QHeaderView.ResizeToContents)
            self.view.headerItem().setTextAlignment(column, qt.Qt.AlignRight | qt.Qt.AlignVCenter)
        for part in (self.warning.widget, self.view, self.about):
            layout.addWidget(part)
        self._shown: tuple[object, ...] = ()

    def show(self, history: History | None, tree: LabelTree | None) -> None:
        """Fill the table; it is hidden while nothing was measured, and says why once that is known."""
        changes = history.changes(tree) if history is not None and tree is not None else []
        about = train_texts.reference(history) if history is not None else ""
        if self._shown == (changes, about):
            return
        self._shown = (changes, about)
        self.widget.visible = bool(changes or about)
        self.about.text = about
        self.about.visible = bool(about)
        self.warning.say(train_texts.losers(changes), error=True)
        self.view.visible = bool(changes)
        self.view.clear()
        red = self.warning.widget.palette.color(qt.QPalette.WindowText)
        parents = {0: self.view.invisibleRootItem()}
        for change in changes:
            # A node whose parent has no score hangs below the nearest one that has.
            above = parents[max(depth for depth in parents if depth < change.depth)]
            parents = {depth: item for depth, item in parents.items() if depth < change.depth}
            row = qt.QTreeWidgetItem(above)
            parents[change.depth] = row
            row.setText(NAME, change.name)
            row.setText(BEFORE, train_texts.percent(change.before) if change.before is not None else _("new"))
            row.setText(AFTER, train_texts.percent(change.after))
            row.setText(CHANGE, "" if change.points is None else f"{change.points:+.1f}")
            for column in (BEFORE, AFTER, CHANGE):
                row.setTextAlignment(column, qt.Qt.AlignRight | qt.Qt.AlignVCenter)
            if change.lost:
                row.setForeground(CHANGE, qt.QBrush(red))
        self.view.expandAll()
        if changes:
            height = self.view.sizeHintForRow(0) * min(len(changes), _ROWS_SHOWN) + self.view.header().sizeHint.height()
            self.view.setFixedHeight(height + 8)
