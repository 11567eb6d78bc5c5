"""Small pictures drawn in the palette's colors, so that they can be seen in light and dark."""

from __future__ import annotations

import qt

SIZE = 16


def swatch(color: tuple[float, float, float]) -> qt.QIcon:
    """A filled square of a segment's color (red, green, blue in 0..1)."""
    pixmap = _empty()
    painter = qt.QPainter(pixmap)
    painter.setPen(qt.QPen(qt.QColor(128, 128, 128)))
    painter.setBrush(qt.QBrush(qt.QColor(*[round(255 * part) for part in color])))
    painter.drawRoundedRect(2, 2, 11, 11, 2, 2)
    painter.end()
    return qt.QIcon(pixmap)


def eye(shown: str, ink: qt.QColor) -> qt.QIcon:
    """An eye: open for "on", half filled for "partial", struck through for "off"."""
    pixmap = _empty()
    painter = qt.QPainter(pixmap)
    painter.setRenderHint(qt.QPainter.Antialiasing, True)
    color = qt.QColor(ink)
    if shown == "off":
        color.setAlpha(90)
    painter.setPen(qt.QPen(qt.QBrush(color), 1.4))
    painter.drawEllipse(qt.QRectF(1.0, 4.0, 14.0, 8.0))
    if shown == "on":
        painter.setBrush(qt.QBrush(color))
        painter.drawEllipse(qt.QRectF(5.5, 5.5, 5.0, 5.0))
    elif shown == "partial":
        painter.drawEllipse(qt.QRectF(5.5, 5.5, 5.0, 5.0))
    else:
        painter.drawLine(qt.QLineF(2.5, 13.5, 13.5, 2.5))
    painter.end()
    return qt.QIcon(pixmap)


def _empty() -> qt.QPixmap:
    pixmap = qt.QPixmap(SIZE, SIZE)
    pixmap.fill(qt.QColor(0, 0, 0, 0))
    return pixmap
