"""What a user does with mouse and keyboard, done with real events on what is really seen.

A click goes to the widget's middle and is refused where a user could not click: hidden, disabled, out of the window, or
under something else.  Runs inside Slicer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import qt
import slicer

SHORT = 0.05


class CannotDoError(Exception):
    """A user could not do this: what is to be clicked is hidden, disabled, covered or absent."""


# -- waiting ----------------------------------------------------------------------------------------------------------


def wait(seconds: float) -> None:
    """Let Slicer live for a while."""
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        slicer.app.processEvents()
        qt.QThread.msleep(2)


def wait_until(condition: Callable[[], bool], seconds: float, what: str = "") -> float:
    """Let Slicer live until something is so.

    Returns:
        how long it took.

    Raises:
        CannotDoError: it is not so after ``seconds``.
    """
    begin = time.perf_counter()
    while not condition():
        if time.perf_counter() - begin > seconds:
            raise CannotDoError(f"waited {seconds:g} s in vain: {what or condition}")
        slicer.app.processEvents()
        qt.QThread.msleep(2)
    return time.perf_counter() - begin


# -- mouse and keys ---------------------------------------------------------------------------------------------------


def click(widget: Any, place: Any = None, *, button: Any = None, twice: bool = False) -> None:
    """Press and release a mouse button on a widget, in its middle or at a place in its own coordinates."""
    show(widget)
    _refuse_what_no_user_can(widget)
    # A check box reacts on its mark and text only, which need not reach its middle.
    point = place or (qt.QPoint(10, widget.height // 2) if _is_check(widget) else widget.rect.center())
    _refuse_what_is_covered(widget, point)
    which = qt.Qt.LeftButton if button is None else button
    send_mouse(widget, qt.QEvent.MouseButtonPress, point, which, which)
    send_mouse(widget, qt.QEvent.MouseButtonRelease, point, which, qt.Qt.NoButton)
    if twice:
        send_mouse(widget, qt.QEvent.MouseButtonDblClick, point, which, which)
        send_mouse(widget, qt.QEvent.MouseButtonRelease, point, which, qt.Qt.NoButton)
    wait(SHORT)


def send_mouse(widget: Any, kind: Any, point: Any, button: Any, buttons: Any) -> None:
    """One mouse event."""
    there = qt.QPointF(float(point.x()), float(point.y()))
    world = widget.mapToGlobal(qt.QPoint(int(point.x()), int(point.y())))
    everywhere = qt.QPointF(float(world.x()), float(world.y()))
    event = qt.QMouseEvent(kind, there, everywhere, button, buttons, qt.Qt.NoModifier)
    qt.QApplication.sendEvent(widget, event)


def type_text(widget: Any, text: str) -> None:
    """Click into a field, replace what it says, letter by letter."""
    click(widget)
    if hasattr(widget, "selectAll"):
        widget.selectAll()
    for letter in text:
        press(widget, 0, letter)


def press(widget: Any, key: int, text: str = "", modifiers: Any = None) -> None:
    """Press and release a key on a widget."""
    held = qt.Qt.NoModifier if modifiers is None else modifiers
    for kind in (qt.QEvent.KeyPress, qt.QEvent.KeyRelease):
        qt.QApplication.sendEvent(widget, qt.QKeyEvent(kind, key, held, text))
    wait(SHORT)


def shortcut(keys: str) -> None:
    """Do what a key combination does in the main window, as Qt would: exactly one enabled shortcut or action has it.

    A key event that a program sends does not pass Qt's table of shortcuts; this looks into what that table is made of.
    """
    wanted = qt.QKeySequence(keys).toString()
    window = slicer.util.mainWindow()
    found = [
        one
        for one in window.findChildren("QShortcut")
        if one.enabled and qt.QKeySequence(one.key).toString() == wanted and one.parent().isVisible()
    ]
    actions = [
        one
        for one in window.findChildren("QAction")
        if one.enabled and any(qt.QKeySequence(each).toString() == wanted for each in one.shortcuts())
    ]
    if len(found) + len(actions) != 1:
        raise CannotDoError(f"{keys} belongs to {len(found)} shortcuts and {len(actions)} actions, not to one")
    for one in found:
        one.activated()
    for one in actions:
        one.trigger()
    wait(SHORT)


# -- controls ---------------------------------------------------------------------------------------------------------


def choose(combo: Any, text: str) -> None:
    """Open a list and take the entry with this text, or one that holds it."""
    texts = [str(combo.itemText(index)) for index in range(combo.count)]
    rows = [index for index, one in enumerate(texts) if one == text]
    rows = rows or [index for index, one in enumerate(texts) if text in one]
    if not rows:
        raise CannotDoError(f"{combo.objectName or 'the list'} has no entry {text!r}; it has {texts}")
    click(combo)
    view = combo.view()
    if not view.isVisible():
        combo.showPopup()
        wait(SHORT)
    view.setCurrentIndex(combo.model().index(rows[0], combo.modelColumn, combo.rootModelIndex()))
    press(view, qt.Qt.Key_Return)
    wait(SHORT)


def click_row(view: Any, item: Any, column: int = 0, *, twice: bool = False) -> None:
    """Click on a row of a tree, in a column."""
    show(view)
    view.scrollToItem(item)
    wait(SHORT)
    rectangle = view.visualItemRect(item)
    if rectangle.isEmpty():
        raise CannotDoError(f"the row {item.text(0)!r} is not in sight")
    header = view.header()
    x = header.sectionViewportPosition(column) + header.sectionSize(column) // 2
    click(view.viewport(), qt.QPoint(x, rectangle.center().y()), twice=twice)


def click_menu(button: Any, text: str) -> None:
    """Open a button's menu and take the entry with this text."""
    taken: list[str] = []

    def take() -> None:
        menu = button.menu()
        for action in menu.actions():
            if str(action.text).replace("&", "").startswith(text) and action.enabled:
                taken.append(text)
                action.trigger()
        menu.close()

    qt.QTimer.singleShot(200, take)
    click(button)
    wait(0.3)
    if not taken:
        raise CannotDoError(f"the menu of {button.objectName or button.text} has no entry {text!r} that can be taken")


def when_dialog(do: Callable[[Any], None], seconds: float = 10.0) -> Any:
    """When the next dialog opens, do something in it; the timer that waits for it is returned.

    Args:
        do: called with the dialog; it closes it by a click.
        seconds: for how long to wait.
    """
    # The widgets themselves: what wraps one is gone soon, and another's wrapper gets its id().
    known = [one for one in qt.QApplication.topLevelWidgets() if one.isVisible()]
    timer = qt.QTimer()
    until = time.perf_counter() + seconds

    def look() -> None:
        dialog = qt.QApplication.activeModalWidget()
        if dialog is not None and dialog not in known:
            timer.stop()
            do(dialog)
        elif time.perf_counter() > until:
            timer.stop()

    timer.timeout.connect(look)
    timer.start(50)
    return timer


def dialog_button(dialog: Any, *texts: str) -> Any:
    """The button of a dialog with one of these texts."""
    for button in dialog.findChildren("QAbstractButton"):
        if str(button.text).replace("&", "") in texts:
            return button
    raise CannotDoError(f"the dialog {dialog.windowTitle!r} has no button {' / '.join(texts)}")


# -- looking ----------------------------------------------------------------------------------------------------------


def show(widget: Any) -> None:
    """Scroll the module panel until a widget is in sight."""
    parent = widget.parent()
    while parent is not None:
        if hasattr(parent, "ensureWidgetVisible"):
            parent.ensureWidgetVisible(widget)
        parent = parent.parent()
    wait(SHORT)


def controls(widget: Any) -> list[str]:
    """The controls in sight, by class and text: what a user counts as one thing to click or fill in."""
    kinds = ("QAbstractButton", "QComboBox", "QLineEdit", "QAbstractSpinBox", "QAbstractSlider", "QTabBar", "QTextEdit")
    found: list[Any] = []
    for kind in (*kinds, "qMRMLNodeComboBox", "ctkCollapsibleButton", "QAbstractItemView", "QPlainTextEdit"):
        found += [one for one in widget.findChildren(kind) if one.isVisible() and not one.visibleRegion().isEmpty()]
    outer: list[Any] = []
    for one in found:
        parents = _parents(one, widget)
        # A part of a larger control (the list of a selector, the header of a tree, a scroll bar) is no control.
        if one in outer or any(other in found and "Collapsible" not in other.className() for other in parents):
            continue
        if one.className() in ("QScrollBar", "QHeaderView"):
            continue
        outer.append(one)
    return [f"{one.className()} {one.objectName or getattr(one, 'text', '')}".strip() for one in outer]


def _parents(widget: Any, top: Any) -> list[Any]:
    found = []
    parent = widget.parent()
    while parent is not None and parent != top:
        found.append(parent)
        parent = parent.parent()
    return found


def _is_check(widget: Any) -> bool:
    return bool(widget.className() in ("QCheckBox", "QRadioButton"))


def _refuse_what_no_user_can(widget: Any) -> None:
    name = widget.objectName or getattr(widget, "text", "") or widget.className()
    if not widget.isVisible():
        raise CannotDoError(f"{name} is not shown")
    if not widget.isEnabled():
        raise CannotDoError(f"{name} is disabled")


def _refuse_what_is_covered(widget: Any, point: Any) -> None:
    name = widget.objectName or getattr(widget, "text", "") or widget.className()
    window = widget.window()
    there = widget.mapTo(window, qt.QPoint(int(point.x()), int(point.y()))) if window != widget else point
    if not window.rect.contains(there):
        raise CannotDoError(f"{name} is outside its window")
    top = window.childAt(there)
    while top is not None and top != widget:
        top = top.parent()
    if top is None and window != widget:
        raise CannotDoError(f"{name} is covered by something else")


# -- slice views ------------------------------------------------------------------------------------------------------


def to_view(view: str, ras: Sequence[float]) -> tuple[float, float]:
    """Where a point in the patient lies in a slice view: pixels from its lower left corner."""
    import vtk

    node = slicer.app.layoutManager().sliceWidget(view).mrmlSliceNode()
    inverse = vtk.vtkMatrix4x4()
    vtk.vtkMatrix4x4.Invert(node.GetXYToRAS(), inverse)
    x, y, _depth, _one = inverse.MultiplyPoint((*ras, 1.0))
    return x, y


def stroke(view: str, points: Sequence[Sequence[float]]) -> float:
    """Drag the left mouse button through points of the patient in a slice view.

    Returns:
        the longest time that one of the mouse events took, in seconds.
    """
    interactor = slicer.app.layoutManager().sliceWidget(view).sliceView().interactor()
    places = [to_view(view, point) for point in points]
    width, height = interactor.GetSize()
    for x, y in places:
        if not (0 <= x < width and 0 <= y < height):
            raise CannotDoError(f"the stroke leaves the {view} view at {x:.0f}, {y:.0f} of {width} × {height}")
    longest = 0.0
    events = ["EnterEvent", "MouseMoveEvent", "LeftButtonPressEvent"]
    events += ["MouseMoveEvent"] * len(places) + ["LeftButtonReleaseEvent"]
    track = [places[0]] * 3 + places + [places[-1]]
    for name, (x, y) in zip(events, track, strict=True):
        interactor.SetEventInformation(round(x), round(y), 0, 0)
        begin = time.perf_counter()
        interactor.InvokeEvent(name)
        longest = max(longest, time.perf_counter() - begin)
        wait(0.01)
    wait(SHORT)
    return longest
