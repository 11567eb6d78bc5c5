"""What a tab of the panel is to the panel."""

from __future__ import annotations

from typing import Any, Protocol

from HierSubclassSegLib.gui.parameters import PanelParameters


class Page(Protocol):
    """A tab: one task with its sections.

    Attributes:
        title: the tab's text.
        widget: what the tab shows.
    """

    title: str
    widget: Any

    def set_parameters(self, parameters: PanelParameters | None) -> None:
        """Show and remember choices in another parameter node; None lets go of the present one."""

    def enter(self) -> None:
        """The tab comes into sight, by itself or with the module."""

    def leave(self) -> None:
        """The tab goes out of sight: another tab, another module, or the end."""

    def scene_closes(self) -> None:
        """The scene is about to go: nothing of it may be used after this call."""

    def close(self) -> None:
        """The module is going: stop processes, timers and observers."""
