"""A tab whose content is made when it is first looked at: opening the module costs what the user sees, and no more."""

from __future__ import annotations

from collections.abc import Callable

import qt

from HierSubclassSegLib.gui.page import Page
from HierSubclassSegLib.gui.parameters import PanelParameters


class LazyPage:
    """Stands for a page in the tab bar; see :class:`~HierSubclassSegLib.gui.page.Page`.

    Args:
        title: the tab's text.
        make: makes the page; called once, when the tab is first shown or another page wants something of it.
    """

    def __init__(self, title: str, make: Callable[[], Page]) -> None:
        self.title = title
        self._make = make
        self._page: Page | None = None
        self._parameters: PanelParameters | None = None
        self.widget = qt.QWidget()
        self._layout = qt.QVBoxLayout(self.widget)
        self._layout.setContentsMargins(0, 0, 0, 0)

    @property
    def made(self) -> Page | None:
        """The page if it has been made."""
        return self._page

    @property
    def page(self) -> Page:
        """The page, made now if need be."""
        if self._page is None:
            self._page = self._make()
            self._layout.addWidget(self._page.widget)
            self._page.set_parameters(self._parameters)
        return self._page

    def set_parameters(self, parameters: PanelParameters | None) -> None:
        """Remembered for the page that is not there yet."""
        self._parameters = parameters
        if self._page is not None:
            self._page.set_parameters(parameters)

    def enter(self) -> None:
        """The tab comes into sight: now it needs its content."""
        self.page.enter()

    def leave(self) -> None:
        """The tab goes out of sight."""
        if self._page is not None:
            self._page.leave()

    def scene_closes(self) -> None:
        """The scene is about to go."""
        self._parameters = None
        if self._page is not None:
            self._page.scene_closes()

    def close(self) -> None:
        """The module is going."""
        if self._page is not None:
            self._page.close()
