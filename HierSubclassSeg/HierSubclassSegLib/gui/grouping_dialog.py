"""Asks by which label tree a segmentation is grouped, and which structure a segment is where that is not plain."""

from __future__ import annotations

from typing import Any

import qt
from slicer.i18n import tr as _

from hierseg.errors import HiersegError
from hierseg.labeltree import LabelTree
from HierSubclassSegLib.gui import hierarchy_dialogs
from HierSubclassSegLib.gui.message import Message
from HierSubclassSegLib.scene import grouping
from HierSubclassSegLib.scene.grouping import Plan, Unmatched


class GroupingDialog:
    """A dialog over one segmentation.

    Args:
        parent: a widget.
        node: the segmentation.
        trees: label trees by name.
        plan: what it begins with; its tree may be none of ``trees``.

    Attributes:
        plan: what the user has chosen so far; None: no tree yet.
    """

    def __init__(self, parent: Any, node: Any, trees: dict[str, LabelTree], plan: Plan | None) -> None:
        self._node = node
        self._trees = dict(trees)
        self.plan = plan
        self.dialog = qt.QDialog(parent)
        self.dialog.windowTitle = _("Group '{name}' by a label tree").format(name=node.GetName())
        self.dialog.resize(460, 480)
        layout = qt.QVBoxLayout(self.dialog)
        row = qt.QHBoxLayout()
        self.choice = qt.QComboBox()
        self.choice.objectName = "treeCombo"
        self.choice.setSizePolicy(qt.QSizePolicy.Expanding, qt.QSizePolicy.Fixed)
        self.file_button = qt.QPushButton(_("From a file…"))
        self.file_button.clicked.connect(self._open_file)
        row.addWidget(self.choice)
        row.addWidget(self.file_button)
        self.message = Message()
        self.table = qt.QTreeWidget()
        self.table.setColumnCount(2)
        self.table.setHeaderLabels([_("Segment"), _("Structure")])
        self.table.rootIsDecorated = False
        self.table.header().setSectionResizeMode(0, qt.QHeaderView.ResizeToContents)
        buttons = hierarchy_dialogs.ok_cancel(self.dialog)
        self._accept = buttons.button(qt.QDialogButtonBox.Ok)
        self._accept.text = _("Group")
        layout.addLayout(row)
        layout.addWidget(self.message.widget)
        layout.addWidget(self.table, 1)
        layout.addWidget(buttons)
        self._fill_choice()
        self.choice.activated.connect(self._tree_chosen)
        self._show_plan()

    def ask(self) -> Plan | None:
        """The plan that the user accepts; None if none."""
        return self.plan if self.dialog.exec_() else None

    # -- inside -----------------------------------------------------------------------------------------------------

    def _fill_choice(self) -> None:
        if self.plan is not None and self.plan.tree.fingerprint not in {t.fingerprint for t in self._trees.values()}:
            # An edited tree has the name of the one that it was made of.
            name = self.plan.tree.name
            name = _("{tree} (as it is now)").format(tree=name) if name in self._trees else name
            self._trees = {name: self.plan.tree, **self._trees}
        self.choice.clear()
        self.choice.addItems(list(self._trees))
        fingerprint = self.plan.tree.fingerprint if self.plan is not None else None
        here = [index for index, tree in enumerate(self._trees.values()) if tree.fingerprint == fingerprint]
        self.choice.currentIndex = here[0] if here else -1

    def _tree_chosen(self, *_index: object) -> None:
        tree = list(self._trees.values())[self.choice.currentIndex]
        self.plan = grouping.plan_grouping(self._node, tree)
        self._show_plan()

    def _open_file(self, *_checked: object) -> None:
        path = hierarchy_dialogs.ask_tree_to_load(self.dialog)
        if not path:
            return
        try:
            tree = LabelTree.load(path)
        except HiersegError as error:
            self.message.say(error.sentence, error=True)
            return
        self.plan = grouping.plan_grouping(self._node, tree)
        self._fill_choice()
        self._show_plan()

    def _show_plan(self) -> None:
        self.table.clear()
        plan = self.plan
        self._accept.enabled = plan is not None and bool(plan.matched or not self._has_segments())
        if plan is None:
            self.message.say(_("Choose a label tree."))
            return
        self.message.say(plan.summary if self._has_segments() else "")
        open_rows = [*plan.ambiguous, *plan.unmatched]
        paths = [node.path for node in plan.tree.nodes]
        for row in open_rows:
            item = qt.QTreeWidgetItem(self.table)
            item.setText(0, row.segment_name)
            item.setToolTip(0, row.reason)
            self.table.setItemWidget(item, 1, self._choices(plan, row, paths))
        for match in plan.matched:
            item = qt.QTreeWidgetItem(self.table)
            item.setText(0, match.segment_name)
            item.setText(1, match.node.path)
            item.setToolTip(1, match.node.path)

    def _choices(self, plan: Plan, row: Unmatched, paths: list[str]) -> Any:
        first = [node.path for node in row.candidates]
        combo = qt.QComboBox()
        combo.addItems([_("leave as it is"), *first, *(path for path in paths if path not in first)])
        combo.toolTip = row.reason
        combo.setSizePolicy(qt.QSizePolicy.Expanding, qt.QSizePolicy.Fixed)
        combo.minimumContentsLength = 12
        combo.sizeAdjustPolicy = qt.QComboBox.AdjustToMinimumContentsLengthWithIcon
        combo.activated.connect(lambda index, combo=combo, row=row: self._assign(row.segment_id, index, combo))
        return combo

    def _assign(self, segment_id: str, index: int, combo: Any) -> None:
        if self.plan is not None:
            self.plan = self.plan.assigned(segment_id, str(combo.itemText(index)) if index > 0 else None)
            self.message.say(self.plan.summary)
            self._accept.enabled = bool(self.plan.matched)

    def _has_segments(self) -> bool:
        return bool(self._node.GetSegmentation().GetNumberOfSegments())
