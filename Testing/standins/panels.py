"""Opens the module's panel as Slicer does, and counts what a user sees of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def dark_application() -> Iterator[None]:
    """An application with dark colors, as Slicer has in its dark style."""
    import qt
    import slicer

    app = slicer.app
    before, style = qt.QPalette(app.palette()), app.style().objectName
    app.setStyle("Fusion")
    dark = qt.QPalette()
    for role, shade in (
        (qt.QPalette.Window, 50),
        (qt.QPalette.Base, 35),
        (qt.QPalette.AlternateBase, 45),
        (qt.QPalette.Button, 60),
        (qt.QPalette.WindowText, 235),
        (qt.QPalette.Text, 235),
        (qt.QPalette.ButtonText, 235),
        (qt.QPalette.PlaceholderText, 150),
    ):
        dark.setColor(role, qt.QColor(shade, shade, shade))
    app.setPalette(dark)
    try:
        yield
    finally:
        app.setPalette(before)
        app.setStyle(style)


def light_share(picture: Path) -> float:
    """The share of a picture's pixels that are lighter than a middle gray."""
    import numpy as np
    from PIL import Image

    return float((np.asarray(Image.open(picture).convert("L")) > 128).mean())


def open_panel(*, known: bool = True) -> Any:
    """The module's widget, set up and entered, in a window of 400 pixels.

    Args:
        known: the worker's Python was found to be complete before; else a child looks, as on a new computer.
    """
    import qt
    import slicer

    from HierSubclassSeg import HierSubclassSegWidget
    from HierSubclassSegLib.gui import setup_section

    qt.QSettings().setValue(setup_section.READY_SETTING, setup_section._identity() if known else "")
    widget = HierSubclassSegWidget()
    widget.parent.resize(400, 900)
    widget.enter()
    slicer.app.processEvents()
    return widget


def visible_controls(widget: Any) -> list[Any]:
    """The widgets that a user can operate and sees now."""
    import ctk
    import qt
    import slicer

    kinds = (
        qt.QAbstractButton,
        qt.QComboBox,
        qt.QLineEdit,
        qt.QAbstractItemView,
        qt.QPlainTextEdit,
        slicer.qMRMLNodeComboBox,
        ctk.ctkCollapsibleButton,
    )
    return [
        child
        for child in widget.findChildren(qt.QWidget)
        if isinstance(child, kinds) and child.isVisibleTo(widget) and not _is_part(child, kinds, widget)
    ]


def _is_part(child: Any, kinds: tuple[type, ...], top: Any) -> bool:
    """Whether a control is a part of another one: the line edit of a combo box, the button of a line edit."""
    above = child.parentWidget()
    while above is not None and above is not top:
        if isinstance(above, kinds) and above.metaObject().className() != "ctkCollapsibleButton":
            return True
        above = above.parentWidget()
    return False
