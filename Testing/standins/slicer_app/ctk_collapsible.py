"""The Common Toolkit's two widgets that fold, with what they share: children that are hidden while it is collapsed."""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import QEvent, QObject, QRect, QSize, Qt, Signal
from PySide6.QtGui import QPainter, QPaintEvent
from PySide6.QtWidgets import (
    QAbstractButton,
    QGroupBox,
    QSizePolicy,
    QStyle,
    QStyleOptionButton,
    QWidget,
)

from standins.slicer_app.pythonqt_style import cplusplus


class _HidesChildren:
    """A child that the user's code hid stays hidden when the widget opens again (``visibilityToParent`` in CTK)."""

    def _follow(self: Any, child: QObject) -> None:
        if isinstance(child, QWidget) and not child.isWindow():
            child.installEventFilter(self)
            if self._standin["collapsed"]:
                self._hide(child)

    def _hide(self: Any, child: QWidget) -> None:
        self._standin["forcing"] = True
        self._standin["hidden"].add(child) if not child.isHidden() else None
        child.hide()
        self._standin["forcing"] = False

    def _collapse(self: Any, collapsed: bool) -> None:
        self._standin["collapsed"] = collapsed
        if collapsed:
            for child in self.findChildren(QWidget, options=Qt.FindDirectChildrenOnly):
                if not child.isWindow():
                    self._hide(child)
        else:
            hidden, self._standin["hidden"] = self._standin["hidden"], set()
            self._standin["forcing"] = True
            for child in hidden:
                if child.parent() is self:
                    child.show()
            self._standin["forcing"] = False
        self.updateGeometry()

    @property
    def collapsed(self: Any) -> bool:
        return self._standin["collapsed"]

    @collapsed.setter
    def collapsed(self: Any, collapsed: bool) -> None:
        self.setChecked(not collapsed)

    def setCollapsed(self: Any, collapsed: bool) -> None:
        self.setChecked(not collapsed)

    def childEvent(self: Any, event: Any) -> None:
        # A group box gets children before this class's own part of it is made.
        if event.type() == QEvent.ChildAdded and hasattr(self, "_standin"):
            self._follow(event.child())
        super().childEvent(event)

    def eventFilter(self: Any, child: QObject, event: QEvent) -> bool:
        folded = self._standin["collapsed"] and not self._standin["forcing"] and isinstance(child, QWidget)
        if folded and event.type() == QEvent.ShowToParent:
            self._hide(child)
        elif folded and event.type() == QEvent.HideToParent:
            self._standin["hidden"].discard(child)
        return False


@cplusplus
class ctkCollapsibleButton(_HidesChildren, QAbstractButton):
    """``ctkCollapsibleButton``: a button over contents that it hides; checked is the opposite of collapsed.

    Left out: frames, alignment, ``flat`` drawing and ``collapsedHeight`` (the 14 pixels of CTK's default are kept).
    """

    contentsCollapsed = Signal(bool)

    def __init__(self, *arguments: Any) -> None:
        text = next((a for a in arguments if isinstance(a, str)), "")
        super().__init__(next((a for a in arguments if isinstance(a, QWidget)), None))
        self._standin = {"collapsed": False, "forcing": False, "hidden": set(), "flat": False, "maximum": 16777215}
        self.setText(text)
        self.setCheckable(True)
        self.setChecked(True)
        self.setSizePolicy(QSizePolicy.Minimum, QSizePolicy.Preferred)
        self.setContentsMargins(0, self._head(), 0, 0)
        self.toggled.connect(self._toggle)

    def _head(self) -> int:
        return self.fontMetrics().height() + 8

    def _toggle(self, checked: bool) -> None:
        if checked == self._standin["collapsed"]:
            if not checked:
                self._standin["maximum"] = self.maximumHeight
                self._collapse(True)
                self.setMaximumHeight(self._head() + 14)
            else:
                self.setMaximumHeight(self._standin["maximum"])
                self._collapse(False)
            self.contentsCollapsed.emit(not checked)

    @property
    def flat(self) -> bool:
        return self._standin["flat"]

    @flat.setter
    def flat(self, flat: bool) -> None:
        self._standin["flat"] = flat

    def sizeHint(self) -> QSize:
        inner = QSize(0, 14)
        if not self._standin["collapsed"] and self.layout() is not None:
            return self.layout().totalSizeHint().expandedTo(QSize(self.fontMetrics().horizontalAdvance(self.text), 0))
        return QSize(self.fontMetrics().horizontalAdvance(self.text) + 40, self._head() + inner.height())

    def minimumSizeHint(self) -> QSize:
        return self.sizeHint()

    def hitButton(self, position: Any) -> bool:
        return QRect(0, 0, self.width, self._head()).contains(position)

    def paintEvent(self, _event: QPaintEvent) -> None:
        painter, option = QPainter(self), QStyleOptionButton()
        option.initFrom(self)
        option.rect = QRect(0, 0, self.width, self._head())
        option.state |= QStyle.State_Raised
        self.style().drawControl(QStyle.CE_PushButtonBevel, option, painter, self)
        arrow = QStyleOptionButton()
        arrow.initFrom(self)
        arrow.rect = QRect(6, 4, 12, self._head() - 8)
        collapsed = self._standin["collapsed"]
        primitive = QStyle.PE_IndicatorArrowRight if collapsed else QStyle.PE_IndicatorArrowDown
        self.style().drawPrimitive(primitive, arrow, painter, self)
        text = QRect(24, 0, self.width - 28, self._head())
        painter.drawText(text, int(Qt.AlignVCenter | Qt.AlignLeft | Qt.TextShowMnemonic), self.text)


@cplusplus
class ctkCollapsibleGroupBox(_HidesChildren, QGroupBox):
    """``ctkCollapsibleGroupBox``: a checkable group box that hides its contents; checked is the opposite of collapsed.

    Left out: the arrow in place of the check mark and ``collapsedHeight``.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._standin = {"collapsed": False, "forcing": False, "hidden": set(), "maximum": 16777215}
        self.setCheckable(True)
        self.toggled.connect(self._toggle)

    def _toggle(self, checked: bool) -> None:
        if not checked:
            self._standin["maximum"] = self.maximumHeight
        self._collapse(not checked)
        self.setMaximumHeight(self._standin["maximum"] if checked else self.fontMetrics().height() + 22)
