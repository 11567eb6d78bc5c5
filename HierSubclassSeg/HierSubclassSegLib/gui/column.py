"""A column of widgets in a tab that is as high as its wrapped texts make it."""

from __future__ import annotations

from typing import Any

import qt


class Column(qt.QWidget):
    """The content of a tab.

    A tab widget does not ask its pages how high they are at their present width: where texts wrap, it would give them the
    height of unwrapped ones, and rows would be drawn over each other.  So the column itself asks for that height, when it
    is resized and when :meth:`fit` is called after texts have changed.
    """

    def __init__(self) -> None:
        qt.QWidget.__init__(self)
        # Its child: what Qt sends while it takes the panel apart must not wake it.
        self._fitting = qt.QTimer(self)
        self._fitting.setSingleShot(True)
        self._fitting.setInterval(0)
        self._fitting.timeout.connect(self._fit)

    def resizeEvent(self, event: Any) -> None:
        """Wrapped texts need another height now."""
        self._fitting.start()

    def fit(self) -> None:
        """Texts have changed: look at the height again, once for many changes."""
        self._fitting.start()

    def _fit(self) -> None:
        layout = self.layout()
        if layout is None:
            return
        layout.activate()
        needed = layout.heightForWidth(self.width) if layout.hasHeightForWidth() else layout.sizeHint().height()
        if needed != self.minimumHeight:
            self.setMinimumHeight(needed)
