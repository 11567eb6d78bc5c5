"""Dialogs that would wait for a user: here a test answers them beforehand and reads afterwards what was asked.

A box that only tells something (one button) is closed at once and remembered; every other dialog needs an answer in ``answers``, in
the order in which they come, or the test fails.  An answer is what the call returns: a button
(``qt.QMessageBox.Yes``), a path, a text, a ``QColor``, the text of a menu's action, or a function that is given the
dialog and returns one of these.  ``QDialog.exec_`` answered by 0 is Cancel, by 1 is OK.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from PySide6 import QtGui, QtWidgets

from standins.slicer_app import pythonqt_style  # noqa: F401  (before any class is changed here)


@dataclasses.dataclass
class Asked:
    """One dialog that was shown: its kind (the name of the class, or of the static method), title and text."""

    kind: str
    title: str
    text: str


seen: list[Asked] = []
answers: list[Any] = []


def forget() -> None:
    """Between two tests."""
    seen.clear()
    answers.clear()


def texts() -> str:
    """All that was said, for a message or a search."""
    return "\n".join(asked.text for asked in seen)


def _answer(kind: str, title: str, text: str, shown: Any = None) -> Any:
    seen.append(Asked(kind, title, text))
    if not answers:
        raise AssertionError(f"{kind} waits for an answer that the test does not give: {title!r} {text!r}")
    given = answers.pop(0)
    return given(shown) if callable(given) and not isinstance(given, type) else given


def _run_dialog(self: Any) -> int:
    if isinstance(self, QtWidgets.QMessageBox):
        text = self.text + (f"\n{self.informativeText}" if self.informativeText else "")
        if len(self.buttons()) < 2 and not answers:
            seen.append(Asked(type(self).__name__, self.windowTitle, text))
            return int(QtWidgets.QMessageBox.Ok)
    else:
        text = " ".join(label.text for label in self.findChildren(QtWidgets.QLabel))
    result = _answer(type(self).__name__, self.windowTitle, text, self)
    if not isinstance(self, QtWidgets.QMessageBox):
        self.setResult(int(result))
        (self.accepted if result else self.rejected).emit()
        self.finished.emit(int(result))
    return int(result)


def _run_menu(self: Any, *_arguments: Any) -> Any:
    texts_of = {action.text: action for action in self.actions()}
    chosen = _answer(type(self).__name__, self.title, ", ".join(texts_of), self)
    if chosen is None:
        return None
    texts_of[chosen].trigger()
    return texts_of[chosen]


def _static(kind: str) -> staticmethod:
    def ask(*arguments: Any, **_named: Any) -> Any:
        words = [argument for argument in arguments if isinstance(argument, str)]
        return _answer(kind, *(words + ["", ""])[:2])

    return staticmethod(ask)


def _open_url(url: Any) -> bool:
    seen.append(Asked("QDesktopServices.openUrl", "", url.toString()))
    return True


def install() -> None:
    """Put the answers in the place of Qt's own event loops."""
    for cls in (QtWidgets.QDialog, QtWidgets.QMessageBox, QtWidgets.QFileDialog, QtWidgets.QColorDialog):
        cls.exec = cls.exec_ = _run_dialog  # type: ignore[attr-defined, assignment, method-assign]
    QtWidgets.QMenu.exec = QtWidgets.QMenu.exec_ = _run_menu  # type: ignore[attr-defined, assignment, method-assign]
    QtGui.QDesktopServices.openUrl = staticmethod(_open_url)  # type: ignore[method-assign]
    for cls, names in (
        (QtWidgets.QMessageBox, ("question", "warning", "information", "critical")),
        (QtWidgets.QFileDialog, ("getOpenFileName", "getOpenFileNames", "getSaveFileName", "getExistingDirectory")),
        (QtWidgets.QInputDialog, ("getText", "getInt", "getDouble", "getItem")),
        (QtWidgets.QColorDialog, ("getColor",)),
    ):
        for name in names:
            setattr(cls, name, _static(f"{cls.__name__}.{name}"))
