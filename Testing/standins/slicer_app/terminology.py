"""Slicer's terminology navigator, as far as a dialog of ours needs it.

Imitates ``qSlicerTerminologyNavigatorWidget`` (``Modules/Loadable/Terminologies/Widgets``) in what its header calls
``Q_INVOKABLE``: an entry is set and read back, and the selection is valid once there is a type.  Left out: the tables,
their search boxes and the loading of terminologies; a test chooses by :meth:`setTerminologyEntry`.
"""

from __future__ import annotations

from typing import Any

import slicer
from PySide6.QtCore import Signal
from PySide6.QtWidgets import QWidget

from standins.slicer_app.pythonqt_style import cplusplus


@cplusplus
class qSlicerTerminologyNavigatorWidget(QWidget):
    """``slicer.qSlicerTerminologyNavigatorWidget``."""

    selectionValidityChanged = Signal(bool)
    typeDoubleClicked = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._standin = {"entry": slicer.vtkSlicerTerminologyEntry(), "override": True, "valid": False}

    @property
    def overrideSectionVisible(self) -> bool:
        return self._standin["override"]

    @overrideSectionVisible.setter
    def overrideSectionVisible(self, visible: bool) -> None:
        self._standin["override"] = visible

    def setTerminologyEntry(self, entry: Any) -> bool:
        self._standin["entry"].Copy(entry)
        valid = bool(entry.GetTypeObject().GetCodeValue())
        if valid != self._standin["valid"]:
            self._standin["valid"] = valid
            self.selectionValidityChanged.emit(valid)
        return valid

    def terminologyEntry(self, entry: Any) -> bool:
        if self._standin["valid"]:
            entry.Copy(self._standin["entry"])
        return self._standin["valid"]
