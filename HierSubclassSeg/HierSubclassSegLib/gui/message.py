"""A sentence near the control that it is about."""

from __future__ import annotations

import qt


class Message:
    """A label that is there only while it says something; errors are in red, notes in the palette's muted color."""

    def __init__(self) -> None:
        self.widget = qt.QLabel()
        self.widget.wordWrap = True
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
        palette = qt.QPalette()
        if error:
            # Red that can be read on the palette's own background.
            dark = palette.color(qt.QPalette.Window).lightness() < 128
            palette.setColor(qt.QPalette.WindowText, qt.QColor(255, 130, 120) if dark else qt.QColor(176, 0, 32))
        self.widget.setPalette(palette)


def note_label() -> qt.QLabel:
    """A label for a line of facts, smaller than the rest."""
    label = qt.QLabel()
    label.wordWrap = True
    font = label.font
    font.setPointSizeF(max(6.0, font.pointSizeF() * 0.9))
    label.font = font
    return label
