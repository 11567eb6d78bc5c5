"""The application around the scene: ``slicer.app``, ``slicer.modules`` and the rest of the package ``slicer``.

Imitates, for what is here, ``Base/QTGUI/qSlicerApplication.cxx``, ``Base/QTCore/qSlicerCoreApplication.cxx``,
and ``Base/Python/slicer/__init__.py`` of Slicer.  ``slicer.util`` is Slicer's own file, which
comes with the package ``slicer-core``; so are all MRML classes and logics.

Left out: main window, layout and views (``layoutManager()`` is None, as in Slicer without a main window), all modules but the
logics of ``HierSubclassSegLib.scene.session``, input and output dialogs, extensions, languages.
"""

from __future__ import annotations

import os
import sys
import tempfile
from typing import Any

import slicer
import slicer.util
from PySide6.QtCore import QProcessEnvironment, QSettings, Signal
from PySide6.QtWidgets import QApplication

from standins.slicer_app.pythonqt_style import cplusplus


@cplusplus
class qSlicerApplication(QApplication):
    """``slicer.app``; ``startupCompleted`` is never emitted here."""

    startupCompleted = Signal()

    def connect(self, signature: str, called: Any) -> bool:
        """As PythonQt's: the signal by its C++ signature."""
        name, _, arguments = signature.partition("(")
        if not arguments.endswith(")"):
            raise ValueError(f"{signature!r} is no signature of a signal")
        getattr(self, name).connect(called)
        return True

    def __init__(self) -> None:
        super().__init__(["Slicer"])
        folder = tempfile.mkdtemp(prefix="standin-settings-")
        QSettings.setDefaultFormat(QSettings.IniFormat)
        QSettings.setPath(QSettings.IniFormat, QSettings.UserScope, folder)
        self.setApplicationName("Slicer")
        self.setOrganizationName("slicer.org")
        self.setApplicationVersion("5.12.3")
        self._standin = {"modules": None, "session": None, "testing": False, "folder": folder}

    @property
    def temporaryPath(self) -> str:
        return self._standin["folder"]

    @property
    def slicerHome(self) -> str:
        return self._standin["folder"]

    @property
    def majorVersion(self) -> int:
        return 5

    @property
    def minorVersion(self) -> int:
        return 12

    @property
    def revision(self) -> str:
        return "0"

    def settings(self) -> QSettings:
        return QSettings()

    def userSettings(self) -> QSettings:
        return QSettings()

    def revisionUserSettings(self) -> QSettings:
        return QSettings()

    def startupEnvironment(self) -> QProcessEnvironment:
        return QProcessEnvironment.systemEnvironment()

    def moduleManager(self) -> Any:
        return self._standin["modules"]

    def applicationLogic(self) -> Any:
        return self._standin["session"].application_logic if self._standin["session"] is not None else None

    def mrmlScene(self) -> Any:
        return slicer.mrmlScene

    def layoutManager(self) -> None:
        return None

    def mainWindow(self) -> None:
        return None

    def testingEnabled(self) -> bool:
        return self._standin["testing"]

    def pauseRender(self) -> None:
        """Does nothing: there are no views."""

    def resumeRender(self) -> None:
        """Does nothing: there are no views."""


class _LoadableModule:
    """A C++ module of which only the logic is here."""

    def __init__(self, name: str) -> None:
        self.name = name

    def logic(self) -> Any:
        return slicer.app._standin["session"].logics[self.name]


class _Modules:
    """``slicer.modules``: a module is an attribute of its name in lower case."""


def use(session: Any) -> None:
    """Make a session of ``HierSubclassSegLib.scene.session`` the application's, or none.

    Slicer has one scene for all its life; here each test gets its own.
    """
    slicer.mrmlScene = session.scene if session is not None else None
    slicer.app._standin["session"] = session
    for name in ("Segmentations", "SubjectHierarchy", "Volumes", "Transforms", "Colors"):
        setattr(slicer.modules, name.lower(), _LoadableModule(name))


def install() -> qSlicerApplication:
    """Complete the package ``slicer``, once a process, and return ``slicer.app``."""
    if hasattr(slicer, "app"):
        return slicer.app  # type: ignore[no-any-return]
    folder = os.path.dirname(__file__)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    from standins.slicer_app import dialogs, i18n, mrml_widgets, packages

    dialogs.install()
    existing = QApplication.instance()
    if existing is not None:
        raise RuntimeError("There is a QApplication already that is not the stand-in's.")
    slicer.app = qSlicerApplication()
    slicer.modules = _Modules()
    slicer.mrmlScene = None
    slicer.qMRMLWidget, slicer.qMRMLNodeComboBox = mrml_widgets.qMRMLWidget, mrml_widgets.qMRMLNodeComboBox
    _submodule("i18n", i18n)
    _submodule("packaging", packages)
    from standins.slicer_app import modules, parameters, plot_widgets, scripted, segment_editor, terminology

    slicer.qSlicerScriptedLoadableModule = modules.qSlicerScriptedLoadableModule
    slicer.qSlicerScriptedLoadableModuleWidget = modules.qSlicerScriptedLoadableModuleWidget
    slicer.app._standin["modules"] = modules.qSlicerModuleManager()
    slicer.util.selectModule = modules.select
    slicer.qMRMLPlotWidget = plot_widgets.qMRMLPlotWidget
    slicer.qMRMLSegmentEditorWidget = segment_editor.qMRMLSegmentEditorWidget
    slicer.qMRMLSegmentsTableView = segment_editor.qMRMLSegmentsTableView
    slicer.qSlicerTerminologyNavigatorWidget = terminology.qSlicerTerminologyNavigatorWidget
    _submodule("ScriptedLoadableModule", scripted)
    _submodule("parameterNodeWrapper", parameters)
    return slicer.app  # type: ignore[no-any-return]


def _submodule(name: str, module: Any) -> None:
    sys.modules[f"slicer.{name}"] = module
    setattr(slicer, name, module)
