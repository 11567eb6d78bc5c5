"""The panel: one tab a task."""

from __future__ import annotations

from typing import Any, cast

import qt
from slicer.i18n import tr as _

from HierSubclassSegLib.gui.lazy_page import LazyPage
from HierSubclassSegLib.gui.page import Page
from HierSubclassSegLib.gui.parameters import PanelParameters
from HierSubclassSegLib.gui.segment_page import SegmentPage


class Panel:
    """What the module's widget shows.

    While there is one tab, no tab bar is drawn.  A tab is entered when it is seen and left when it is not: pages need
    not know whether a click on another tab or another module took them away.  The pages after the first are made when
    they are first shown; one more is a :class:`LazyPage` in ``pages`` with a function that imports and makes it.
    What happens between two pages is connected here, by callbacks.

    Attributes:
        widget: to be put into the module's layout.
        segment_page: the tab for clinicians.
        annotate: stands for the tab for annotators; ``annotate.page`` makes it.
        train: stands for the tab that fine-tunes.
    """

    def __init__(self) -> None:
        self.segment_page = SegmentPage(self.edit)
        self.annotate = LazyPage(_("Annotate"), _make_annotate_page)
        self.train = LazyPage(_("Train"), self._make_train_page)
        self.pages: list[Page] = [self.segment_page, self.annotate, self.train]
        self._parameters: PanelParameters | None = None
        self._inside = False
        self._seen: Page | None = None
        self.widget = qt.QTabWidget()
        self.widget.objectName = "taskTabs"
        self.widget.tabBarAutoHide = True
        self.widget.documentMode = True
        for page in self.pages:
            self.widget.addTab(page.widget, page.title)
        self.widget.currentChanged.connect(self._tab_changed)

    def show(self, page: Page) -> None:
        """Bring a tab to the front; it is entered if the module is shown."""
        self.widget.currentIndex = self.pages.index(page)

    def edit(self, prediction: Any) -> None:
        """Begin an annotation from a prediction, in its own tab."""
        self.show(self.annotate)
        cast(Any, self.annotate.page).start_from(prediction)

    def set_parameters(self, parameters: PanelParameters | None) -> None:
        """Show and remember choices in another parameter node; None lets go of the present one."""
        self._parameters = parameters
        for page in self.pages:
            page.set_parameters(parameters)

    def enter(self) -> None:
        """The module comes into sight."""
        self._inside = True
        self._tab_changed()

    def leave(self) -> None:
        """Another module is shown."""
        self._inside = False
        self._tab_changed()

    def scene_closes(self) -> None:
        """The scene is about to go: nothing of it may be used after this call."""
        self._let_go()
        for page in self.pages:
            page.scene_closes()
        self._parameters = None

    def close(self) -> None:
        """The module is going: stop processes, timers and observers."""
        self.leave()
        for page in self.pages:
            page.close()

    # -- inside -----------------------------------------------------------------------------------------------------

    def _make_train_page(self) -> Page:
        from HierSubclassSegLib.gui.train_page import TrainPage

        segmenter = self.segment_page.segment.segmenter
        return TrainPage(self._use_model, lambda: segmenter.worker.get("devices", ()))

    def _use_model(self, bundle_id: str) -> None:
        """A fine-tuned model is to segment."""
        self.segment_page.model.refresh(bundle_id)
        self.show(self.segment_page)

    def _tab_changed(self, *_arguments: object) -> None:
        wanted = self.pages[self.widget.currentIndex] if self._inside else None
        if wanted is not self._seen:
            self._let_go()
            self._seen = wanted
            if wanted is not None:
                wanted.enter()

    def _let_go(self) -> None:
        seen, self._seen = self._seen, None
        if seen is not None:
            seen.leave()


def _make_annotate_page() -> Page:
    from HierSubclassSegLib.gui.annotate_page import AnnotatePage

    return cast(Page, AnnotatePage())
