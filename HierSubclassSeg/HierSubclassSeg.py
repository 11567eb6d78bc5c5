"""The Slicer module HierSubclassSeg: its four classes, which delegate to ``HierSubclassSegLib``."""

import importlib
import sys
import unittest

import qt
import slicer
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin


class HierSubclassSeg(ScriptedLoadableModule):
    """What the application knows of the module before it is opened."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("HierSubclassSeg")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        self.parent.dependencies = ["Segmentations", "SubjectHierarchy", "Volumes"]
        self.parent.contributors = ["The HierSubclassSeg contributors"]
        self.parent.helpText = _(
            "Segments structures and their subclasses with a model, and shows the result as a hierarchy. "
            "For research only, not for diagnosis."
        )
        self.parent.acknowledgementText = _(
            "After “Efficient Subclass Segmentation in Medical Images” and “Label tree semantic losses for rich "
            "multi-class medical image segmentation”."
        )
        slicer.app.connect("startupCompleted()", registerSampleData)
        slicer.app.connect("startupCompleted()", prepare)


def prepare():
    """Import the panel's code in small portions once the application has started, and make the panel: then the module
    opens at once.
    """
    portions = iter(
        (
            "HierSubclassSegLib",
            "hierseg.bundle",
            "HierSubclassSegLib.compute.segmenter",
            "HierSubclassSegLib.scene.prediction",
            "HierSubclassSegLib.scene.measures",
            "HierSubclassSegLib.gui.hierarchy_section",
            "HierSubclassSegLib.gui.panel",
            "HierSubclassSegLib.gui.refine_section",
            "HierSubclassSegLib.gui.cases_section",
            "HierSubclassSegLib.gui.export_section",
            "HierSubclassSegLib.gui.annotate_page",
            "HierSubclassSegLib.gui.train_page",
        )
    )

    def portion():
        name = next(portions, None)
        if name is not None:
            importlib.import_module(name)
            qt.QTimer.singleShot(20, portion)
        else:
            slicer.util.getModuleWidget("HierSubclassSeg")

    if slicer.util.mainWindow() is not None:
        qt.QTimer.singleShot(0, portion)


def registerSampleData():
    """List the tutorial's sample in Sample Data."""
    from HierSubclassSegLib import sample_data

    sample_data.register()


class HierSubclassSegWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """Puts the panel into the module's widget and tells it when the scene closes."""

    def __init__(self, parent=None):
        # Before the base class, which calls setup() if it is given no parent.
        self.logic = None
        self.panel = None
        self.entered = False
        VTKObservationMixin.__init__(self)
        ScriptedLoadableModuleWidget.__init__(self, parent)

    def setup(self):
        """Build the panel."""
        ScriptedLoadableModuleWidget.setup(self)
        from HierSubclassSegLib.gui.panel import Panel

        self.logic = HierSubclassSegLogic()
        self.panel = Panel()
        self.layout.addWidget(self.panel.widget)
        # Before Slicer's own observers, which forget the nodes that leaving Refine still writes to.
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose, priority=10.0)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndImportEvent, self.onSceneEndImport)
        # Slicer does not enter a module again that is reloaded while it is shown.
        if getattr(self.parent, "isEntered", False):
            self.enter()

    def enter(self):
        """Look again: volumes may have been loaded, models imported."""
        self.entered = True
        if self.panel is not None:
            self.panel.set_parameters(self.logic.getParameterNode())
            self.panel.enter()

    def exit(self):
        """A run goes on while another module is open; its result appears in the scene."""
        self.entered = False
        if self.panel is not None:
            self.panel.leave()

    def cleanup(self):
        """End the worker."""
        self.removeObservers()
        if self.panel is not None:
            self.panel.close()
            self.panel = None

    def onReload(self):
        """Reload the library together with the module."""
        for name in [name for name in sys.modules if name.split(".")[0] == "HierSubclassSegLib"]:
            del sys.modules[name]
        ScriptedLoadableModuleWidget.onReload(self)

    def onSceneStartClose(self, _caller, _event):
        """Nothing of the old scene may be used any more."""
        if self.panel is not None:
            self.panel.scene_closes()

    def onSceneEndClose(self, _caller, _event):
        """Begin anew if the module is shown."""
        if self.entered and self.panel is not None:
            self.panel.set_parameters(self.logic.getParameterNode())
            self.panel.enter()

    def onSceneEndImport(self, _caller, _event):
        """A scene was opened: its parameter node has replaced ours, and holds its choices."""
        # Not at once: node selectors know the scene's new nodes only when its batch process has ended.
        qt.QTimer.singleShot(0, self.onSceneOpened)

    def onSceneOpened(self):
        """Look at the parameter node anew."""
        if self.panel is not None:
            self.panel.set_parameters(self.logic.getParameterNode())


class HierSubclassSegLogic(ScriptedLoadableModuleLogic):
    """Gives the parameter node; everything else is in ``HierSubclassSegLib`` and needs no widget."""

    def getParameterNode(self):
        """The panel's choices in this scene."""
        from HierSubclassSegLib.gui.parameters import PanelParameters

        return PanelParameters(super().getParameterNode())


class HierSubclassSegTest(ScriptedLoadableModuleTest):
    """What ``ctest`` and "Reload and Test" run: sample, segment, tags, refine, export, read back."""

    def setUp(self):
        """Start with an empty scene."""
        slicer.mrmlScene.Clear()

    def runTest(self):
        """Run all tests; what cannot be tried here is said and is no failure."""
        self.setUp()
        try:
            self.test_from_a_sample_to_a_dataset_and_back()
        except unittest.SkipTest as reason:
            self.delayDisplay(_("Not tested: {reason}").format(reason=reason))

    def test_from_a_sample_to_a_dataset_and_back(self):
        """The whole way, with the real worker."""
        slicer.util.selectModule("HierSubclassSeg")
        from HierSubclassSegLib.selftest import SelfTest

        SelfTest(slicer.util.getModuleWidget("HierSubclassSeg").panel).run()
