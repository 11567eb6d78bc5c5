"""A sentence near the control that it is about."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt


class _Label(qt.QLabel):
    """A label that is never cut: in a narrow panel Qt's own gives lines away that do not fit below one another.

    Args:
        repaint: called when the application has become dark or light.
    """

    def __init__(self, repaint: Callable[[], None] = lambda: None) -> None:
        qt.QLabel.__init__(self)
        self._changed = repaint
        self._fitted = ""
        self.wordWrap = True

    def fit(self) -> None:
        """Claim the height of all lines at the present width."""
        self._fitted = self.text
        claimed = self.minimumHeight
        # What a label asks for is never less than what it was given as its least.
        self.setMinimumHeight(0)
        height = int(self.heightForWidth(self.width))
        self.setMinimumHeight(height if height > 0 else claimed)

    def event(self, event: Any) -> bool:
        """A color that was chosen for the old palette may not be seen on the new one."""
        known = bool(qt.QLabel.event(self, event))
        if event.type() == qt.QEvent.Resize or (event.type() == qt.QEvent.Paint and self.text != self._fitted):
            self.fit()
        if event.type() in (qt.QEvent.ApplicationPaletteChange, qt.QEvent.PaletteChange, qt.QEvent.StyleChange):
            self._changed()
        return known


class Message:
    """A label that is there only while it says something; errors are in red, notes in the palette's own color."""

    def __init__(self) -> None:
        self._error = self._coloring = False
        self.widget = _Label(self._color)
        self.widget.visible = False
        self.widget.setTextFormat(qt.Qt.PlainText)
        self.widget.setTextInteractionFlags(qt.Qt.TextSelectableByMouse)

    @property
    def text(self) -> str:
        """What it says now."""
        return str(self.widget.text)

    def say(self, text: str, *, error: bool = False, tip: str = "") -> None:
        """Show a sentence; an empty one hides the label."""
        self.widget.text = text
        self.widget.toolTip = tip
        self.widget.visible = bool(text)
        self.widget.fit()
        self._error = error
        self._color()

    def _color(self) -> None:
        if self._coloring:
            # A color that is set is a palette that changes.
            return
        self._coloring = True
        palette = qt.QPalette()
        if self._error:
            # Red that can be read on the palette's own background.
            dark = palette.color(qt.QPalette.Window).lightness() < 128
            palette.setColor(qt.QPalette.WindowText, qt.QColor(255, 130, 120) if dark else qt.QColor(176, 0, 32))
        self.widget.setPalette(palette)
        self._coloring = False


def note_label() -> qt.QLabel:
    """A label for a line of facts, smaller than the rest."""
    label = _Label()
    font = label.font
    font.setPointSizeF(max(6.0, font.pointSizeF() * 0.9))
    label.font = font
    return label
