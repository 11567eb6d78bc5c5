"""Layouts without margins, as the sections of a 400 pixels wide panel are built."""

from __future__ import annotations

from typing import Any

import qt

SPACING = 6


def column(widget: Any = None, spacing: int = SPACING) -> qt.QVBoxLayout:
    """Parts one below the other, in a widget if one is given."""
    layout = qt.QVBoxLayout() if widget is None else qt.QVBoxLayout(widget)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setSpacing(spacing)
    return layout


def row(*parts: Any) -> qt.QWidget:
    """Widgets beside one another, as one widget."""
    widget = qt.QWidget()
    layout = qt.QHBoxLayout(widget)
    layout.setContentsMargins(0, 0, 0, 0)
    for part in parts:
        layout.addWidget(part)
    return widget


def form(widget: Any = None) -> qt.QFormLayout:
    """Rows of a label and a field, which fills what is left of the width whatever its own size policy is."""
    layout = qt.QFormLayout() if widget is None else qt.QFormLayout(widget)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setFieldGrowthPolicy(qt.QFormLayout.AllNonFixedFieldsGrow)
    return layout


def combo(name: str) -> qt.QComboBox:
    """A list of choices that may be narrower than its longest one: long names do not widen the panel."""
    box = qt.QComboBox()
    box.objectName = name
    box.sizeAdjustPolicy = qt.QComboBox.AdjustToMinimumContentsLengthWithIcon
    box.minimumContentsLength = 8
    box.setSizePolicy(qt.QSizePolicy.Expanding, qt.QSizePolicy.Fixed)
    return box


def thin_bar() -> qt.QProgressBar:
    """Progress as a thin line, 0 to 1000, without a number."""
    bar = qt.QProgressBar()
    bar.setRange(0, 1000)
    bar.textVisible = False
    bar.setMaximumHeight(8)
    return bar
