"""Loading, entering, leaving, reloading and unloading a scripted module, as the application does it.

Imitates ``Base/QTGUI/qSlicerScriptedLoadableModule.cxx``, ``qSlicerScriptedLoadableModuleWidget.cxx``,
``qSlicerAbstractModuleWidget.cxx`` and ``Base/QTCore/qSlicerModuleManager.cxx`` of Slicer.  Left out: file dialogs and readers
of a module, dependencies between modules, the title and the help section around a panel.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import slicer
from PySide6.QtCore import QObject, Signal
from PySide6.QtGui import QIcon
from PySide6.QtWidgets import QVBoxLayout

from standins.slicer_app.mrml_widgets import qMRMLWidget
from standins.slicer_app.pythonqt_style import cplusplus

_WRITABLE: dict[str, Any] = {
    "title": "",
    "categories": [],
    "contributors": [],
    "associatedNodeTypes": [],
    "helpText": "",
    "acknowledgementText": "",
    "extensions": {},
    "icon": None,
    "hidden": False,
    "dependencies": [],
    "index": -1,
}


def _module_class(path: str, suffix: str = "") -> Any:
    name = Path(path).stem
    module = sys.modules.get(name)
    if module is None or not hasattr(module, name + suffix):
        if str(Path(path).parent) not in sys.path:
            sys.path.insert(0, str(Path(path).parent))
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return getattr(module, name + suffix)


@cplusplus
class qSlicerScriptedLoadableModule(QObject):
    """A module: what it says about itself, its file, and its panel, which is made when it is first asked for."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._standin = dict(_WRITABLE, path=path, representation=None, self=None, icon=QIcon())
        self.setObjectName(Path(path).stem)
        self._standin["self"] = _module_class(path)(self)
        setattr(slicer.modules, f"{self.objectName}Instance", self._standin["self"])

    @property
    def path(self) -> str:
        return self._standin["path"]

    @property
    def name(self) -> str:
        return self.objectName

    def widgetRepresentation(self) -> Any:
        if self._standin["representation"] is None:
            widget = qSlicerScriptedLoadableModuleWidget()
            self._standin["representation"] = widget
            widget.setPythonSource(self._standin["path"])
            widget.setMRMLScene(slicer.mrmlScene)
            widget.setup()
        return self._standin["representation"]


def _property(name: str) -> property:
    return property(lambda self: self._standin[name], lambda self, value: self._standin.__setitem__(name, value))


for _name in _WRITABLE:
    setattr(qSlicerScriptedLoadableModule, _name, _property(_name))


@cplusplus
class qSlicerScriptedLoadableModuleWidget(qMRMLWidget):
    """The widget that a module's Python widget class fills."""

    def __init__(self) -> None:
        super().__init__()
        self._standin |= {"self": None, "path": "", "entered": False}
        QVBoxLayout(self)

    @property
    def isEntered(self) -> bool:
        return self._standin["entered"]

    def self(self) -> Any:
        return self._standin["self"]

    def setPythonSource(self, path: str) -> bool:
        kind = _module_class(path, "Widget")
        self._standin["path"] = path
        self._standin["self"] = kind(self)
        setattr(slicer.modules, kind.__name__, self._standin["self"])
        return True

    def reload(self) -> None:
        self.setPythonSource(self._standin["path"])
        self.setup()

    def setup(self) -> None:
        self._standin["self"].setup()

    def enter(self) -> None:
        assert not self._standin["entered"]
        self._standin["entered"] = True
        getattr(self._standin["self"], "enter", lambda: None)()

    def exit(self) -> None:
        assert self._standin["entered"]
        self._standin["entered"] = False
        getattr(self._standin["self"], "exit", lambda: None)()


@cplusplus
class qSlicerModuleManager(QObject):
    """The modules that are loaded."""

    moduleLoaded = Signal(str)
    moduleAboutToBeUnloaded = Signal(str)
    moduleUnloaded = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self._standin = {"modules": {}, "selected": ""}

    def module(self, name: str) -> Any:
        return self._standin["modules"].get(name)

    def modulesNames(self) -> list[str]:
        return list(self._standin["modules"])


def load(path: str | Path) -> Any:
    """Load a scripted module from its file, as at the application's start; returns the module object."""
    manager = slicer.app.moduleManager()
    module = qSlicerScriptedLoadableModule(str(path))
    manager._standin["modules"][module.name] = module
    setattr(slicer.modules, module.name.lower(), module)
    manager.moduleLoaded.emit(module.name)
    return module


def select(name: str | Any) -> None:
    """What choosing a module in the application's list does: the old one is left, the new one entered; "" is none."""
    manager = slicer.app.moduleManager()
    chosen = name if isinstance(name, str) else name.name
    before = manager._standin["selected"]
    if chosen == before:
        return
    if chosen and manager.module(chosen) is None:
        raise RuntimeError(f"Could not find module with name '{chosen}'")
    if before:
        manager.module(before).widgetRepresentation().exit()
        manager.module(before).widgetRepresentation().hide()
    manager._standin["selected"] = chosen
    if chosen:
        representation = manager.module(chosen).widgetRepresentation()
        representation.enter()
        representation.show()


def unload(name: str) -> None:
    """What quitting the application does with a module: it is left, told, and its panel destroyed."""
    manager = slicer.app.moduleManager()
    if manager._standin["selected"] == name:
        select("")
    module = manager.module(name)
    manager.moduleAboutToBeUnloaded.emit(name)
    representation = module._standin["representation"]
    del manager._standin["modules"][name]
    for attribute in (name.lower(), f"{name}Instance", f"{name}Widget"):
        if hasattr(slicer.modules, attribute):
            delattr(slicer.modules, attribute)
    if representation is not None:
        representation.close()
        representation.deleteLater()
    # The next test loads the file anew, as the next start of the application does.
    sys.modules.pop(name, None)
    slicer.app.processEvents()
    manager.moduleUnloaded.emit(name)
