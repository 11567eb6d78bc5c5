"""The widgets of the Common Toolkit that a module's panel may use, as the module ``ctk``.

Imitates the classes of the same name in CTK's ``Libs/Widgets``.  Left out of each: what its docstring says, and every
class that is not here.  ``ctkCheckBox``, ``ctkDoubleSpinBox``, ``ctkComboBox`` and ``ctkMessageBox`` only add to Qt's own
widgets what is named in their docstrings.
"""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import QDir, Qt, Signal
from PySide6.QtGui import QColor
from PySide6.QtWidgets import (
    QCheckBox,
    QColorDialog,
    QComboBox,
    QDoubleSpinBox,
    QFileDialog,
    QHBoxLayout,
    QLineEdit,
    QMessageBox,
    QPushButton,
    QSlider,
    QToolButton,
    QWidget,
)

from standins.slicer_app.ctk_collapsible import ctkCollapsibleButton, ctkCollapsibleGroupBox  # noqa: F401 -- of ctk, too
from standins.slicer_app.pythonqt_style import cplusplus


@cplusplus
class ctkCheckBox(QCheckBox):
    """``ctkCheckBox``: left out, ``indicatorIcon``."""


@cplusplus
class ctkDoubleSpinBox(QDoubleSpinBox):
    """``ctkDoubleSpinBox``: here a subclass of Qt's spin box, in CTK a widget around one.  Left out: all that it adds."""


@cplusplus
class ctkComboBox(QComboBox):
    """``ctkComboBox``: a text while nothing is selected.  Left out: icons, elision, wheel and context-menu options."""

    @property
    def defaultText(self) -> str:
        return self.placeholderText

    @defaultText.setter
    def defaultText(self, text: str) -> None:
        self.setPlaceholderText(text)

    def setDefaultText(self, text: str) -> None:
        self.setPlaceholderText(text)


@cplusplus
class ctkMessageBox(QMessageBox):
    """``ctkMessageBox``: left out, the "don't show again" check box."""


@cplusplus
class ctkDirectoryButton(QPushButton):
    """``ctkDirectoryButton``: a folder and a dialog to choose it.  Left out: icon, options, acceptance."""

    directoryChanged = Signal(str)
    directorySelected = Signal(str)

    def __init__(self, *arguments: Any) -> None:
        super().__init__(next((a for a in arguments if isinstance(a, QWidget)), None))
        self._standin = {"directory": next((a for a in arguments if isinstance(a, str)), "."), "caption": ""}
        self.clicked.connect(lambda *_: self.browse())

    @property
    def directory(self) -> str:
        return self._standin["directory"]

    @directory.setter
    def directory(self, directory: str) -> None:
        self.setDirectory(directory)

    def setDirectory(self, directory: str) -> None:
        self.directorySelected.emit(directory)
        if directory != self._standin["directory"]:
            self._standin["directory"] = directory
            self.setText(directory)
            self.directoryChanged.emit(directory)

    @property
    def caption(self) -> str:
        return self._standin["caption"]

    @caption.setter
    def caption(self, caption: str) -> None:
        self._standin["caption"] = caption

    def browse(self) -> None:
        chosen = QFileDialog.getExistingDirectory(self, self._standin["caption"], self._standin["directory"])
        if chosen:
            self.setDirectory(chosen)


@cplusplus
class ctkPathLineEdit(QWidget):
    """``ctkPathLineEdit``: a path typed or chosen.  Left out: history, validation, completion, name filters' effect.

    Its enumeration of filters is not reachable in Slicer built with Qt 6; ``filters`` takes ``QDir``'s values, which are the same.
    """

    currentPathChanged = Signal(str)
    validInputChanged = Signal(bool)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        edit, button = QLineEdit(self), QToolButton(self)
        button.setText("...")
        row.addWidget(edit)
        row.addWidget(button)
        self._standin = {
            "edit": edit,
            "filters": int(QDir.Files) | int(QDir.Readable),
            "names": [],
            "key": "",
        }
        edit.textChanged.connect(self.currentPathChanged)
        button.clicked.connect(lambda *_: self.browse())

    @property
    def currentPath(self) -> str:
        return self._standin["edit"].text

    @currentPath.setter
    def currentPath(self, path: str) -> None:
        self.setCurrentPath(path)

    def setCurrentPath(self, path: str) -> None:
        self._standin["edit"].setText(path)

    @property
    def filters(self) -> int:
        return self._standin["filters"]

    @filters.setter
    def filters(self, filters: int) -> None:
        self._standin["filters"] = int(filters)

    @property
    def nameFilters(self) -> list[str]:
        return self._standin["names"]

    @nameFilters.setter
    def nameFilters(self, names: list[str]) -> None:
        self._standin["names"] = list(names)

    @property
    def settingKey(self) -> str:
        return self._standin["key"]

    @settingKey.setter
    def settingKey(self, key: str) -> None:
        self._standin["key"] = key

    def addCurrentPathToHistory(self) -> None:
        """Does nothing: there is no history here."""

    def browse(self) -> None:
        if self._standin["filters"] & int(QDir.Dirs) and not self._standin["filters"] & int(QDir.Files):
            chosen = QFileDialog.getExistingDirectory(self, "", self.currentPath)
        else:
            chosen = QFileDialog.getOpenFileName(self, "", self.currentPath, ";;".join(self._standin["names"]))
        if chosen:
            self.setCurrentPath(chosen)


@cplusplus
class ctkColorPickerButton(QPushButton):
    """``ctkColorPickerButton``: a button that shows a color.  Left out: options of the dialog, the accepted-color signal."""

    colorChanged = Signal(QColor)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._standin = {"color": QColor("black"), "name": True}
        self.clicked.connect(lambda *_: self.changeColor())

    @property
    def color(self) -> QColor:
        return self._standin["color"]

    @color.setter
    def color(self, color: QColor) -> None:
        self.setColor(color)

    def setColor(self, color: QColor) -> None:
        if color != self._standin["color"]:
            self._standin["color"] = QColor(color)
            self.setText(color.name() if self._standin["name"] else "")
            self.colorChanged.emit(color)

    @property
    def displayColorName(self) -> bool:
        return self._standin["name"]

    @displayColorName.setter
    def displayColorName(self, shown: bool) -> None:
        self._standin["name"] = shown

    def changeColor(self) -> None:
        chosen = QColorDialog.getColor(self._standin["color"], self)
        if chosen.isValid():
            self.setColor(chosen)


@cplusplus
class ctkSliderWidget(QWidget):
    """``ctkSliderWidget``: a slider and a spin box of one number.  Left out: ticks, proxies, pages, synchronization."""

    valueChanged = Signal(float)
    valueIsChanging = Signal(float)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        slider, box = QSlider(Qt.Horizontal, self), QDoubleSpinBox(self)
        row.addWidget(slider)
        row.addWidget(box)
        self._standin = {"slider": slider, "box": box, "tracking": True}
        slider.setRange(0, 1000)
        box.setRange(0.0, 99.0)
        box.valueChanged.connect(self._boxed)
        slider.valueChanged.connect(self._slid)

    def _boxed(self, value: float) -> None:
        box, slider = self._standin["box"], self._standin["slider"]
        span = box.maximum - box.minimum
        slider.blockSignals(True)
        slider.setValue(round(1000 * (value - box.minimum) / span) if span else 0)
        slider.blockSignals(False)
        self.valueIsChanging.emit(value)
        self.valueChanged.emit(value)

    def _slid(self, position: int) -> None:
        box = self._standin["box"]
        box.setValue(box.minimum + (box.maximum - box.minimum) * position / 1000)

    def setValue(self, value: float) -> None:
        self._standin["box"].setValue(value)

    def setRange(self, minimum: float, maximum: float) -> None:
        self._standin["box"].setRange(minimum, maximum)


def _forward(name: str) -> property:
    def write(self: Any, value: Any) -> None:
        setattr(self._standin["box"], name, value)

    return property(lambda self: getattr(self._standin["box"], name), write)


for _name in ("value", "minimum", "maximum", "decimals", "singleStep", "suffix", "prefix"):
    setattr(ctkSliderWidget, _name, _forward(_name))
for _name in ("setMinimum", "setMaximum", "setDecimals", "setSingleStep", "setSuffix"):
    setattr(ctkSliderWidget, _name, lambda self, value, _name=_name: getattr(self._standin["box"], _name)(value))
