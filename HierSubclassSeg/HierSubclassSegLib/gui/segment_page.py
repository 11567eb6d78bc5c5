"""The Segment tab: model, input, Apply and the result's hierarchy, one below the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from HierSubclassSegLib.compute import models
from HierSubclassSegLib.gui import layouts
from HierSubclassSegLib.gui.hierarchy_section import HierarchySection
from HierSubclassSegLib.gui.input_section import InputSection
from HierSubclassSegLib.gui.model_section import ModelSection
from HierSubclassSegLib.gui.parameters import PanelParameters
from HierSubclassSegLib.gui.segment_section import SegmentSection, extent_ml
from HierSubclassSegLib.gui.setup_section import SetupSection
from HierSubclassSegLib.scene import tree_store


class SegmentPage:
    """Runs a model on volumes and shows what came of it; see :class:`~HierSubclassSegLib.gui.page.Page`.

    Args:
        edit: called with a prediction that the user wants to edit.

    Attributes:
        setup: the banner that is there while something is missing.
        model, inputs, segment, hierarchy: the sections.
        result: which segmentation the hierarchy shows.
        edit_button: makes an annotation of the result.
    """

    def __init__(self, edit: Callable[[Any], None]) -> None:
        self.title = _("Segment")
        self._edit = edit
        self._parameters: PanelParameters | None = None
        self._gui_tag: int | None = None
        self.model = ModelSection(self._model_changed)
        self.inputs = InputSection(self._inputs_changed)
        self.segment = SegmentSection(self._segmented, self._device_chosen, self._worker_lacks, self._show_setup)
        self.setup = SetupSection(self.segment.renew_worker, self.segment.options.set_hint)
        self.segment.options.more_facts = self.setup.diagnostics
        self.result = slicer.qMRMLNodeComboBox()
        self.hierarchy = HierarchySection(on_imported=self.result.setCurrentNode)
        self.edit_button = qt.QPushButton(_("Edit"))
        self._make_widgets()

    def set_parameters(self, parameters: PanelParameters | None) -> None:
        """Show and remember choices in another parameter node; None lets go of the present one."""
        if self._parameters is not None and self._gui_tag is not None:
            self._parameters.disconnectGui(self._gui_tag)
        self._parameters, self._gui_tag = parameters, None
        if parameters is None:
            self.inputs.set_parameters(None)
            self.hierarchy.set_node(None)
            return
        self.model.refresh(parameters.model)
        self.segment.options.set_device(parameters.device)
        self.inputs.set_parameters(parameters)
        self._gui_tag = parameters.connectGui(self.widget)
        self._result_chosen()

    def enter(self) -> None:
        """The tab is shown."""
        self.setup.enter()

    def leave(self) -> None:
        """Another tab or module is shown; a run goes on, and its result appears in the scene."""

    def scene_closes(self) -> None:
        """The scene is about to go: nothing of a run may appear in the next one."""
        self.segment.discard()
        self.set_parameters(None)

    def close(self) -> None:
        """End the worker and stop following anything."""
        self.set_parameters(None)
        self.model.close()
        self.segment.close()
        self.setup.close()
        self.hierarchy.close()
        # A selector that outlives the module would go on listening to the scene.
        self.inputs.close()
        self.result.setMRMLScene(None)

    # -- inside -----------------------------------------------------------------------------------------------------

    def _make_widgets(self) -> None:
        self.widget = qt.QWidget()
        layout = layouts.column(self.widget)
        layout.addWidget(self.setup.widget)
        model_form = layouts.form()
        model_form.addRow(_("Model:"), self.model.row)
        layout.addLayout(model_form)
        for part in (
            self.model.about,
            self.model.message.widget,
            self.inputs.widget,
            self.inputs.message.widget,
            self.segment.widget,
            self.segment.options.widget,
        ):
            layout.addWidget(part)
        self.result.objectName = "resultSelector"
        self.result.nodeTypes = ["vtkMRMLSegmentationNode"]
        self.result.addEnabled = False
        self.result.removeEnabled = False
        self.result.renameEnabled = True
        self.result.noneEnabled = True
        self.result.noneDisplay = _("No result yet")
        self.result.toolTip = _("The segmentation whose hierarchy is shown")
        self.result.setSizePolicy(qt.QSizePolicy.Expanding, qt.QSizePolicy.Fixed)
        self.result.setProperty("SlicerParameterName", "result")
        self.result.setMRMLScene(slicer.mrmlScene)
        self.result.currentNodeIDChanged.connect(self._result_chosen)
        self.edit_button.objectName = "editButton"
        self.edit_button.toolTip = _(
            "Make an annotation of this result and correct it; the result itself stays as it is"
        )
        self.edit_button.enabled = False
        self.edit_button.clicked.connect(self._edit_clicked)
        result_form = layouts.form()
        result_form.addRow(_("Result:"), layouts.row(self.result, self.edit_button))
        layout.addLayout(result_form)
        layout.addWidget(self.hierarchy.widget, 1)

    def _worker_lacks(self) -> None:
        """A worker has said that something is missing, whatever was found before."""
        self.setup.look()

    def _show_setup(self) -> None:
        self.setup.show()

    def _model_changed(self) -> None:
        bundle = self.model.bundle
        if self._parameters is not None and bundle is not None and self._parameters.model != bundle.id:
            self._parameters.model = bundle.id
        self.inputs.set_channels(models.channel_names(bundle) if bundle is not None else [])

    def _inputs_changed(self) -> None:
        check = self.inputs.check
        self.model.set_extent(extent_ml(self.inputs.volumes))
        self.segment.set_case(self.model.bundle, self.inputs.volumes, check.runnable)

    def _device_chosen(self, device: str) -> None:
        if self._parameters is not None:
            self._parameters.device = device

    def _result_chosen(self, *_arguments: object) -> None:
        node = self.result.currentNode()
        self.edit_button.enabled = node is not None and node.GetAttribute(tree_store.ROLE) == "prediction"
        if node is not self.hierarchy.node:
            self.hierarchy.set_node(node)

    def _edit_clicked(self, *_arguments: object) -> None:
        node = self.result.currentNode()
        if node is not None:
            node.SetDisplayVisibility(False)
            self._edit(node)

    def _segmented(self, node: Any) -> None:
        """Show the new prediction and hide those before it, which would lie under it."""
        self.model.set_extent(extent_ml(self.inputs.volumes))
        scene = slicer.mrmlScene
        for index in range(scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode")):
            other = scene.GetNthNodeByClass(index, "vtkMRMLSegmentationNode")
            if other is not node and other.GetAttribute(tree_store.ROLE) == "prediction":
                other.SetDisplayVisibility(False)
        if self._parameters is not None:
            self._parameters.result = node
        self.result.setCurrentNode(node)
