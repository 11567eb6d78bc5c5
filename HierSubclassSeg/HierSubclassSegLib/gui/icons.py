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


def lock(locked: bool, ink: qt.QColor) -> qt.QIcon:
    """A padlock; only a hint of it where nothing is locked."""
    pixmap = _empty()
    painter = qt.QPainter(pixmap)
    painter.setRenderHint(qt.QPainter.Antialiasing, True)
    color = qt.QColor(ink)
    color.setAlpha(255 if locked else 60)
    painter.setPen(qt.QPen(qt.QBrush(color), 1.4))
    painter.drawArc(qt.QRectF(5.0 if locked else 8.0, 2.5, 6.0, 8.0), 0, 180 * 16)
    painter.setBrush(qt.QBrush(color))
    painter.drawRect(qt.QRectF(3.5, 7.5, 9.0, 6.0))
    painter.end()
    return qt.QIcon(pixmap)


def status(name: str, ink: qt.QColor) -> qt.QIcon:
    """Slicer's four: an empty circle ("not_started"), a half one, a check mark, a flag."""
    pixmap = _empty()
    painter = qt.QPainter(pixmap)
    painter.setRenderHint(qt.QPainter.Antialiasing, True)
    color = qt.QColor({"in_progress": "#d98a00", "completed": "#2e9e4f", "flagged": "#d0342c"}.get(name, ink))
    if name == "not_started":
        color.setAlpha(90)
    painter.setPen(qt.QPen(qt.QBrush(color), 1.4))
    if name == "completed":
        painter.setPen(qt.QPen(qt.QBrush(color), 2.2))
        painter.drawLine(qt.QLineF(3.0, 8.5, 6.5, 12.0))
        painter.drawLine(qt.QLineF(6.5, 12.0, 13.0, 4.0))
    elif name == "flagged":
        painter.drawLine(qt.QLineF(4.5, 2.5, 4.5, 14.0))
        painter.setBrush(qt.QBrush(color))
        painter.drawRect(qt.QRectF(4.5, 3.0, 8.0, 5.0))
    else:
        painter.drawEllipse(qt.QRectF(3.0, 3.0, 10.0, 10.0))
        if name == "in_progress":
            painter.setBrush(qt.QBrush(color))
            painter.drawPie(qt.QRectF(3.0, 3.0, 10.0, 10.0), 90 * 16, 180 * 16)
    painter.end()
    return qt.QIcon(pixmap)


def _empty() -> qt.QPixmap:
    pixmap = qt.QPixmap(SIZE, SIZE)
    pixmap.fill(qt.QColor(0, 0, 0, 0))
    return pixmap
