"""The columns of the hierarchy, and which of them are shown."""

from __future__ import annotations

from typing import Any

import qt
from slicer.i18n import tr as _

NAME, ML, REFINED, CONFIDENCE, SOURCE, STATUS, LOCK, EYE = range(8)
COUNT = 8
#: columns of a small picture
PICTURES = (STATUS, LOCK, EYE)
NUMBERS = (ML, REFINED, CONFIDENCE)
_PICTURE_WIDTH = 26
_ALWAYS = (NAME, EYE)
_VIEWING = {NAME, ML, EYE}
_EDITING = {NAME, ML, REFINED, STATUS, LOCK, EYE}


def titles() -> list[str]:
    """The headers; a picture's is empty."""
    return [_("Structure"), _("ml"), _("refined"), _("sure"), _("source"), "", "", ""]


def descriptions() -> list[str]:
    """What a column shows, for its tool tip and the header's menu."""
    return [
        _("Structure"),
        _("Volume in milliliters"),
        _("Share of the structure in which a subclass is known"),
        _("Mean confidence of the model"),
        _("Source: model, manual, or mixed"),
        _("Status; click to change it"),
        _("Lock: a locked structure cannot be painted or erased"),
        _("Shown or hidden"),
    ]


class Columns:
    """Widths, headers and the header's context menu of a tree view; the choice is kept in the user's settings.

    Args:
        view: a ``qt.QTreeWidget``.
        editable: the hierarchy of an annotation, which begins with other columns than that of a result.
    """

    def __init__(self, view: Any, editable: bool) -> None:
        self._view = view
        self._key = "HierSubclassSeg/AnnotationColumns" if editable else "HierSubclassSeg/ResultColumns"
        self._default = _EDITING if editable else _VIEWING
        view.setColumnCount(COUNT)
        view.setHeaderLabels(titles())
        head, header = view.headerItem(), view.header()
        header.stretchLastSection = False
        header.minimumSectionSize = _PICTURE_WIDTH
        for column, text in enumerate(descriptions()):
            head.setToolTip(column, text)
            if column in NUMBERS:
                head.setTextAlignment(column, qt.Qt.AlignRight | qt.Qt.AlignVCenter)
                header.setSectionResizeMode(column, qt.QHeaderView.ResizeToContents)
            elif column in PICTURES:
                header.setSectionResizeMode(column, qt.QHeaderView.Fixed)
                header.resizeSection(column, _PICTURE_WIDTH)
            else:
                mode = qt.QHeaderView.Stretch if column == NAME else qt.QHeaderView.ResizeToContents
                header.setSectionResizeMode(column, mode)
        header.setContextMenuPolicy(qt.Qt.CustomContextMenu)
        header.customContextMenuRequested.connect(self._ask)
        self.show(self._remembered())

    @property
    def shown(self) -> set[int]:
        """The columns that are shown."""
        return {column for column in range(COUNT) if not self._view.isColumnHidden(column)}

    def show(self, columns: set[int]) -> None:
        """Show these columns, the name and the eye; the others are hidden."""
        for column in range(COUNT):
            self._view.setColumnHidden(column, column not in columns and column not in _ALWAYS)

    def fill_menu(self, menu: Any) -> None:
        """One checkable entry a column."""
        for column, text in enumerate(descriptions()):
            if column not in _ALWAYS:
                action = menu.addAction(text)
                action.checkable = True
                action.checked = column in self.shown
                action.toggled.connect(lambda on, column=column: self._chosen(column, on))

    def _chosen(self, column: int, on: bool) -> None:
        self.show(self.shown | {column} if on else self.shown - {column})
        qt.QSettings().setValue(self._key, ",".join(str(shown) for shown in sorted(self.shown)))

    def _remembered(self) -> set[int]:
        text = qt.QSettings().value(self._key) or ""
        found = {int(part) for part in str(text).split(",") if part.isdigit() and int(part) < COUNT}
        return found or self._default

    def _ask(self, position: Any) -> None:
        menu = qt.QMenu(self._view)
        self.fill_menu(menu)
        menu.exec_(self._view.header().mapToGlobal(position))
