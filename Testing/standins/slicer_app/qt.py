"""The module ``qt`` of Slicer: every class of Qt's core, GUI and widgets modules under one name.

Imitates what ``Base/QTGUI`` and ``Base/Python/qt.py`` of Slicer make of PythonQt.  See ``pythonqt_style`` for how its
objects behave.  Left out: ``QtNetwork``, ``QtSql``, ``QtMultimedia``, ``QtWebEngine`` and ``QUiLoader``; ``Signal``,
``Slot`` and ``Property``, which PythonQt spells and treats in its own way.
"""

from __future__ import annotations

from typing import Any

from standins.slicer_app import pythonqt_style

_HIDDEN = {"Signal", "Slot", "Property", "ClassInfo", "SignalInstance", "SIGNAL", "SLOT"}


def __getattr__(name: str) -> Any:
    if not name.startswith("_") and name not in _HIDDEN:
        for module in pythonqt_style.MODULES:
            if hasattr(module, name):
                return getattr(module, name)
    raise AttributeError(f"module 'qt' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(name for module in pythonqt_style.MODULES for name in dir(module) if name not in _HIDDEN)
