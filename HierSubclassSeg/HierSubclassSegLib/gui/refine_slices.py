"""This slice is complete: the slice that a view shows, its mark, and the way to the next unfinished one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from hierseg.errors import HiersegError
from hierseg.labeltree import LabelTree, Node
from HierSubclassSegLib.gui import layouts, slice_views
from HierSubclassSegLib.gui.message import Message
from HierSubclassSegLib.scene import marks, prediction, slices

NEXT, PREVIOUS, COMPLETE = "N", "Shift+N", "C"
"""The keys; none of them is used by the slice views or the Segment Editor."""


class RefineSlices:
    """A row about one slice view: the one in which the mouse was last.

    Args:
        refined: gives the tree and the node that is refined, None for the top level.
    """

    def __init__(self, refined: Callable[[], tuple[LabelTree, Node | None]]) -> None:
        self._refined = refined
        self._node: Any = None
        self._observed: list[tuple[Any, int]] = []
        self._shortcuts: list[Any] = []
        self._later = qt.QTimer()
        self._later.setSingleShot(True)
        self._later.setInterval(0)
        self._later.timeout.connect(self.update)
        self._make_widgets()

    # -- when it is there -------------------------------------------------------------------------------------------

    def start(self, annotation: Any) -> None:
        """Follow the slice views."""
        self.stop()
        self._node = annotation
        names = slice_views.names()
        shown = self.view.currentText
        blocked = self.view.blockSignals(True)
        self.view.clear()
        self.view.addItems(names)
        self.view.currentIndex = max(0, self.view.findText(shown))
        self.view.blockSignals(blocked)
        for name in names:
            self._observe(slice_views.slice_node(name), "ModifiedEvent", self._start_later)
        self._observe(annotation, "ModifiedEvent", self._start_later)
        crosshair = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
        if crosshair is not None:
            self._observe(crosshair, slicer.vtkMRMLCrosshairNode.CursorPositionModifiedEvent, self._mouse_moved)
        window = slicer.util.mainWindow()
        for keys, called in ((NEXT, self.next), (PREVIOUS, self.previous), (COMPLETE, self.toggle)):
            shortcut = qt.QShortcut(qt.QKeySequence(keys), window or self.widget)
            shortcut.activated.connect(called)
            self._shortcuts.append(shortcut)
        self.update()

    def stop(self) -> None:
        """Stop following."""
        self._later.stop()
        for source, tag in self._observed:
            source.RemoveObserver(tag)
        for shortcut in self._shortcuts:
            shortcut.setParent(None)
            shortcut.deleteLater()
        self._observed, self._shortcuts, self._node = [], [], None

    # -- what the user does -----------------------------------------------------------------------------------------

    def next(self) -> None:
        """Go to the next unfinished slice, after the last to the first."""
        self._go(1)

    def previous(self) -> None:
        """Go to the previous unfinished slice, before the first to the last."""
        self._go(-1)

    def toggle(self) -> None:
        """Mark the shown slice complete, or take the mark back."""
        if self._node is not None and self.box.enabled:
            self.box.checked = not self.box.checked

    def rotate(self) -> None:
        """Turn the view so that it shows slices of the stored array."""
        volume = self._volume()
        slice_node = slice_views.slice_node(self.view.currentText)
        if slice_node is not None and volume is not None:
            slice_node.RotateToVolumePlane(volume)
        self.update()

    def here(self) -> tuple[int, int] | None:
        """The axis and the index of the slice that the view shows; None if it shows none."""
        slice_node = slice_views.slice_node(self.view.currentText)
        if self._node is None or slice_node is None:
            return None
        try:
            return slices.shown_slice(self._node, slice_node)
        except HiersegError:
            return None

    def update(self) -> None:
        """Say what the view shows."""
        if self._node is None:
            return
        slice_node = slice_views.slice_node(self.view.currentText)
        place = self.here()
        oblique = place is None and slice_node is not None and slices.shown_axis(self._node, slice_node) is None
        self.turn.visible = oblique
        self.box.visible = not oblique
        self.box.enabled = place is not None
        for button in (self.forth, self.back):
            button.enabled = not oblique
        if oblique:
            self.box.toolTip = ""
            return
        own, above = (False, False) if place is None else self._marked(*place)
        blocked = self.box.blockSignals(True)
        self.box.checked = own or above
        self.box.blockSignals(blocked)
        self.box.text = _("Slice complete") if place is None else _("Slice {index} complete").format(index=place[1])
        if above and not own:
            self.box.enabled = False
            self.box.toolTip = _("The slice is marked complete for everything, or for a structure above this one.")
        else:
            self.box.toolTip = _(
                "Everything in this slice is annotated: what is not painted now is not the subclass. Key: {key}"
            ).format(key=COMPLETE)

    # -- inside -----------------------------------------------------------------------------------------------------

    def _make_widgets(self) -> None:
        self.widget = qt.QWidget()
        column = layouts.column(self.widget, 2)
        row = qt.QHBoxLayout()
        column.addLayout(row)
        self.view = qt.QComboBox()
        self.view.objectName = "sliceViewCombo"
        self.view.toolTip = _("The slice view that is meant: the one in which the mouse was last")
        self.view.currentIndexChanged.connect(self._start_later)
        self.box = qt.QCheckBox()
        self.box.objectName = "sliceCompleteBox"
        self.box.toggled.connect(self._marked_by_user)
        self.turn = qt.QPushButton(_("Rotate to the volume"))
        self.turn.objectName = "rotateViewButton"
        self.turn.toolTip = _(
            "The view cuts through many slices of the volume at once, so none can be complete: turn it along the volume"
        )
        self.turn.visible = False
        self.turn.clicked.connect(self.rotate)
        self.back = self._arrow(qt.Qt.LeftArrow, "previousSliceButton", _("Previous unfinished slice"), PREVIOUS)
        self.forth = self._arrow(qt.Qt.RightArrow, "nextSliceButton", _("Next unfinished slice"), NEXT)
        self.back.clicked.connect(self.previous)
        self.forth.clicked.connect(self.next)
        for part in (self.view, self.box, self.turn):
            row.addWidget(part)
        row.addStretch(1)
        row.addWidget(self.back)
        row.addWidget(self.forth)
        self.message = Message()
        column.addWidget(self.message.widget)

    @staticmethod
    def _arrow(arrow: Any, name: str, text: str, key: str) -> Any:
        button = qt.QToolButton()
        button.objectName = name
        button.setArrowType(arrow)
        button.toolTip = _("{what}. Key: {key}").format(what=text, key=key)
        return button

    def _go(self, direction: int) -> None:
        slice_node = slice_views.slice_node(self.view.currentText)
        if self._node is None or slice_node is None:
            return
        axis = slices.shown_axis(self._node, slice_node)
        if axis is None:
            return
        tree, node = self._refined()
        left = slices.unfinished(self._node, tree, axis, node)
        place = self.here()
        if not left:
            self.message.say(_("No slice is left unfinished in this view's direction."))
            return
        index = -1 if place is None else place[1]
        further = [i for i in left if (i - index) * direction > 0]
        target = (further or left)[0 if direction > 0 else -1]
        slice_node.JumpSliceByOffsetting(*slices.center(self._node, axis, target))
        self.message.say(_("Slice {index}; {count} unfinished.").format(index=target, count=len(left)))

    def _marked(self, axis: int, index: int) -> tuple[bool, bool]:
        tree, node = self._refined()
        own, above = slices.complete(self._node, tree, axis, node)
        return index in own, index in above

    def _marked_by_user(self, checked: bool) -> None:
        place = self.here()
        if self._node is not None and place is not None:
            marks.set_slice_complete(self._node, *place, self._refined()[1], bool(checked))

    def _volume(self) -> Any:
        volumes = prediction.volumes_of(self._node) if self._node is not None else []
        return volumes[0] if volumes else None

    def _observe(self, source: Any, event: Any, called: Callable[..., None]) -> None:
        self._observed.append((source, source.AddObserver(event, called)))

    def _start_later(self, *_arguments: object) -> None:
        if self._node is not None:
            self._later.start()

    def _mouse_moved(self, crosshair: Any, _event: str) -> None:
        slice_node = crosshair.GetCursorPositionXYZ([0.0, 0.0, 0.0])
        name = slice_node.GetLayoutName() if slice_node is not None else ""
        if name and name != self.view.currentText and self.view.findText(name) >= 0:
            self.view.currentIndex = self.view.findText(name)
