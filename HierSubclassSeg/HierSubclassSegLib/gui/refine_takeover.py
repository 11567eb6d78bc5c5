"""Take over: what the model predicted becomes annotation, where no human has said anything finer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
from slicer.i18n import tr as _

from HierSubclassSegLib.gui import layouts, slice_views
from HierSubclassSegLib.scene import prediction
from HierSubclassSegLib.scene.annotation import prediction_of
from HierSubclassSegLib.scene.refine_takeover import Component, OneSlice, Scope

EVERYWHERE, SLICE, COMPONENT = range(3)


class RefineTakeOver:
    """A row: how much, above which confidence, and a button.

    Args:
        take: called with the scope and the least confidence (0..1, None for any).
        here: gives the axis and the index of the slice that is looked at, None if none is.
    """

    def __init__(self, take: Callable[[Scope, float | None], None], here: Callable[[], tuple[int, int] | None]) -> None:
        self._take = take
        self._here = here
        self.picker = PlacePicker(lambda place: self._take(Component(place), self._least()), self._picking)
        self._make_widgets()

    def start(self, annotation: Any) -> None:
        """Offer what the annotation's prediction gives; nothing is shown without one."""
        predicted = prediction_of(annotation)
        self.widget.visible = predicted is not None
        self.confidence.enabled = predicted is not None and prediction.confidence_of(predicted) is not None

    def stop(self) -> None:
        """Await no click any more."""
        self.picker.stop()

    def _least(self) -> float | None:
        return self.confidence.value / 100 if self.confidence.enabled and self.confidence.value else None

    def _clicked(self) -> None:
        if self.picker.waiting:
            self.picker.stop()
        elif self.scope.currentIndex == COMPONENT:
            self.picker.start()
        elif self.scope.currentIndex == SLICE:
            place = self._here()
            if place is None:
                self._picking(False, _("Turn the view along the volume first: it shows no single slice."))
            else:
                self._take(OneSlice(*place), self._least())
        else:
            self._take(None, self._least())

    def _picking(self, waiting: bool, hint: str = "") -> None:
        self.button.text = _("Cancel") if waiting else _("Take over")
        self.hint.text = _("Click in a slice view on what is to be taken over.") if waiting else hint
        self.hint.visible = bool(self.hint.text)

    def _make_widgets(self) -> None:
        self.widget = qt.QWidget()
        self.widget.visible = False
        column = layouts.column(self.widget, 2)
        row = qt.QHBoxLayout()
        column.addLayout(row)
        self.scope = qt.QComboBox()
        self.scope.objectName = "takeOverScope"
        for text in (_("everywhere"), _("this slice"), _("one component")):
            self.scope.addItem(text)
        self.scope.setItemData(COMPONENT, _("You will be asked to click on it in a slice view"), qt.Qt.ToolTipRole)
        self.scope.toolTip = _("How much of the prediction becomes annotation, inside the structure that is refined")
        self.confidence = qt.QSpinBox()
        self.confidence.objectName = "takeOverConfidence"
        self.confidence.setRange(0, 99)
        self.confidence.setSingleStep(5)
        self.confidence.suffix = " %"
        self.confidence.specialValueText = _("any")
        self.confidence.toolTip = _("Only where the model was at least this sure")
        self.button = qt.QPushButton(_("Take over"))
        self.button.objectName = "takeOverButton"
        self.button.toolTip = _(
            "Copy what the model predicted into the annotation; what was painted by hand is never overwritten"
        )
        self.button.clicked.connect(self._clicked)
        self.scope.setSizeAdjustPolicy(qt.QComboBox.AdjustToMinimumContentsLengthWithIcon)
        self.scope.setMinimumContentsLength(9)
        row.addWidget(qt.QLabel(_("Predicted")))
        row.addWidget(self.scope, 1)
        row.addWidget(qt.QLabel("≥"))
        row.addWidget(self.confidence)
        row.addWidget(self.button)
        self.hint = qt.QLabel()
        self.hint.wordWrap = True
        self.hint.visible = False
        column.addWidget(self.hint)


class PlacePicker:
    """The next click in a slice view says a place.

    Args:
        picked: called with the place, RAS mm of the world.
        waiting_changed: called when it begins or ends to wait.
    """

    def __init__(
        self, picked: Callable[[tuple[float, float, float]], None], waiting_changed: Callable[[bool], None]
    ) -> None:
        self._picked = picked
        self._waiting_changed = waiting_changed
        self._observed: list[tuple[Any, int]] = []

    @property
    def waiting(self) -> bool:
        """Whether a click is awaited."""
        return bool(self._observed)

    def start(self) -> None:
        """Await a click."""
        self.stop()
        for name in slice_views.names():
            self._watch(name)
        self._waiting_changed(True)

    def stop(self) -> None:
        """Await nothing."""
        if self._observed:
            for source, tag in self._observed:
                source.RemoveObserver(tag)
            self._observed = []
            self._waiting_changed(False)

    def _watch(self, name: str) -> None:
        interactor, slice_node = slice_views.interactor(name), slice_views.slice_node(name)
        if interactor is None:
            return
        tag: list[int] = []

        def clicked(_caller: Any, _event: str) -> None:
            x, y = interactor.GetEventPosition()
            right, anterior, superior, _one = slice_node.GetXYToRAS().MultiplyDoublePoint((x, y, 0.0, 1.0))
            # The click is ours: no effect paints, no view pans.
            interactor.GetCommand(tag[0]).AbortFlagOn()
            # Not from within the event: its observers are about to go.
            qt.QTimer.singleShot(0, lambda: self._done((right, anterior, superior)))

        # Before the Segment Editor's own observers (priority 1).
        tag.append(interactor.AddObserver("LeftButtonPressEvent", clicked, 2.0))
        self._observed.append((interactor, tag[0]))

    def _done(self, place: tuple[float, float, float]) -> None:
        if self.waiting:
            self.stop()
            self._picked(place)
