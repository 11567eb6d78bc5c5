"""The table of a dataset's cases: what each holds and whether it is finished."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
from slicer.i18n import tr as _

from hierseg.dataset import Case
from HierSubclassSegLib.gui import case_texts, icons
from HierSubclassSegLib.scene.status import Status
from HierSubclassSegLib.scene.work_list import WorkList
from HierSubclassSegLib.ticks import Steps

CASE, FINE, COARSE, NONE, STATUS = range(5)
_AT_ONCE = 100
ROWS = 6


class CaseTable:
    """Rows that are made and filled in small steps.

    Args:
        chosen: called with a case's id when its row is double-clicked, or Return is pressed on it.

    Attributes:
        widget: the table.
    """

    def __init__(self, chosen: Callable[[str], None]) -> None:
        self._chosen = chosen
        self._items: dict[str, Any] = {}
        self._opened: str | None = None
        self.widget = qt.QTreeWidget()
        self.widget.objectName = "caseTable"
        self.widget.rootIsDecorated = False
        self.widget.uniformRowHeights = True
        self.widget.alternatingRowColors = True
        self._fit()
        self.widget.setSelectionMode(qt.QAbstractItemView.SingleSelection)
        self.widget.setContextMenuPolicy(qt.Qt.CustomContextMenu)
        self.widget.setColumnCount(5)
        self.widget.setHeaderLabels([_("Case"), _("Fine %"), _("Coarse %"), _("None %"), _("Status")])
        head = self.widget.headerItem()
        for column in (FINE, COARSE, NONE):
            head.setTextAlignment(column, qt.Qt.AlignRight | qt.Qt.AlignVCenter)
            head.setToolTip(column, _("Of all voxels that are not background"))
        header = self.widget.header()
        header.stretchLastSection = False
        header.setSectionResizeMode(CASE, qt.QHeaderView.Stretch)
        # Not by contents: Qt would measure a thousand rows at each change of one.
        measure = self.widget.fontMetrics()
        longest = max((case_texts.status(status) for status in Status), key=len)
        for column, text in ((FINE, _("Fine %")), (COARSE, _("Coarse %")), (NONE, _("None %")), (STATUS, longest)):
            header.setSectionResizeMode(column, qt.QHeaderView.Fixed)
            space = 36 if column == STATUS else 14
            header.resizeSection(column, _width(measure, text) + space)
        self.widget.itemActivated.connect(lambda item, _column: self._chosen(_id_of(item)))

    @property
    def selected(self) -> str | None:
        """The id of the row that is selected."""
        item = self.widget.currentItem()
        return None if item is None else _id_of(item)

    def clear(self) -> None:
        """Show nothing."""
        self._items = {}
        self.widget.clear()
        self._fit()

    def fill_steps(self, work: WorkList) -> Steps[None]:
        """Show a work list's cases, then what is counted meanwhile, in small steps."""
        cases = {case.id: case for case in work.cases}
        wanted = list(cases)
        if wanted != list(self._items):
            self.clear()
            for index, case_id in enumerate(wanted):
                item = qt.QTreeWidgetItem(self.widget)
                item.setText(CASE, case_id)
                item.setData(CASE, qt.Qt.UserRole, case_id)
                for column in (FINE, COARSE, NONE):
                    item.setTextAlignment(column, qt.Qt.AlignRight | qt.Qt.AlignVCenter)
                self._items[case_id] = item
                if index % _AT_ONCE == _AT_ONCE - 1:
                    yield 0.0
            self._fit()
            self.show_opened(self._opened)
        for index, case in enumerate(cases.values()):
            self.show(work, case)
            if index % _AT_ONCE == _AT_ONCE - 1:
                yield 0.0
        for fraction in work.count_steps():
            while work.news:
                case_id = work.news.pop()
                if case_id in cases:
                    self.show(work, cases[case_id])
            yield fraction

    def show(self, work: WorkList, case: Case) -> None:
        """Show what is known of a case now."""
        case_id = case.id
        item = self._items.get(case_id)
        if item is None:
            return
        share, status = work.shares.get(case_id), work.status(case)
        problem = work.problems.get(case_id, "")
        if case.label is None:
            parts, tip = ("0", "0", "100"), _("No annotation yet")
        elif share is not None:
            counts = (share.fine, share.coarse, share.unlabelled)
            parts = tuple(case_texts.percent(count, share.counted) for count in counts)  # type: ignore[assignment]
            tip = case_texts.share(share)
        else:
            parts, tip = ("", "", ""), problem
        for column, text in zip((FINE, COARSE, NONE), parts, strict=True):
            item.setText(column, text)
        ink = self.widget.palette.color(qt.QPalette.Text)
        item.setIcon(STATUS, icons.status(status.name.lower(), ink) if status is not None else qt.QIcon())
        item.setText(STATUS, _("Unreadable") if problem else case_texts.status(status))
        group = "\n" + _("Group: {name}").format(name=case.group) if case.group else ""
        for column in range(5):
            item.setToolTip(column, f"{case_id}\n{tip}{group}")

    def _fit(self) -> None:
        """As high as its rows, up to a handful: what is below it stays in sight."""
        line = self.widget.fontMetrics().height() + 5
        rows = min(max(len(self._items), 2), ROWS)
        self.widget.setFixedHeight(line * (rows + 1) + 8)

    def show_opened(self, case_id: str | None) -> None:
        """Show which case is open, in bold."""
        for known in (self._opened, case_id):
            item = self._items.get(known or "")
            if item is not None:
                font = qt.QFont(self.widget.font)
                font.setBold(known == case_id)
                item.setFont(CASE, font)
        self._opened = case_id
        item = self._items.get(case_id or "")
        if item is not None:
            self.widget.setCurrentItem(item)
            self.widget.scrollToItem(item)


def _width(measure: Any, text: str) -> int:
    return int(measure.boundingRect(text).width())


def _id_of(item: Any) -> str:
    return str(item.data(CASE, qt.Qt.UserRole))
