"""Refine: the subclasses of one node become paintable, with the right masking, in an embedded Segment Editor."""

from __future__ import annotations

from typing import Any

import qt

from HierSubclassSegLib.gui.message import Message


class RefineSection:
    """Paints the annotation that the page shows.

    Attributes:
        widget: to be put into the page.
        message: a sentence about what was done or cannot be done.
    """

    def __init__(self) -> None:
        self.annotation: Any = None
        self.message = Message()
        self.widget = qt.QWidget()
        layout = qt.QVBoxLayout(self.widget)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.message.widget)

    def set_annotation(self, node: Any) -> None:
        """Paint another annotation, or none."""
        self.annotation = node

    def enter(self) -> None:
        """The tab is shown."""

    def leave(self) -> None:
        """The tab goes out of sight: what the user saw before comes back."""

    def scene_closes(self) -> None:
        """The scene is about to go."""
        self.annotation = None

    def close(self) -> None:
        """The module is going."""
        self.scene_closes()
