"""The Annotate tab: an annotation, its hierarchy, and what is done with it, one section below the other."""

from __future__ import annotations

from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from HierSubclassSegLib.gui import layouts
from HierSubclassSegLib.gui.annotation_start import AnnotationStart
from HierSubclassSegLib.gui.case_desk import CaseDesk
from HierSubclassSegLib.gui.cases_section import CasesSection
from HierSubclassSegLib.gui.export_section import ExportSection
from HierSubclassSegLib.gui.hierarchy_section import HierarchySection
from HierSubclassSegLib.gui.message import Message
from HierSubclassSegLib.gui.parameters import PanelParameters
from HierSubclassSegLib.gui.refine_section import RefineSection
from HierSubclassSegLib.scene import prediction, tree_store


class AnnotatePage:
    """Makes and edits annotations; see :class:`~HierSubclassSegLib.gui.page.Page`.

    Attributes:
        cases, hierarchy, refine, export: the sections.
        sections: all that follow the annotation, in the order in which they are told of another one.
        begin: the box for a new annotation.
        selector: the annotations of the scene.
        message: a sentence about the choice of the annotation.
    """

    def __init__(self) -> None:
        self.title = _("Annotate")
        self._annotation: Any = None
        self._parameters: PanelParameters | None = None
        self._gui_tag: int | None = None
        self.hierarchy = HierarchySection(editable=True, on_selected=self._node_picked)
        self.refine = RefineSection(self._session_changed, self.hierarchy.select)
        desk = CaseDesk()
        self.export = ExportSection(desk, self._find_dataset, self._case_saved, self.reconcile)
        self.cases = CasesSection(desk, self.set_annotation, self.export.save_case)
        # Refine first: it restores what the user saw before a case goes.
        self.sections: list[Any] = [self.refine, self.cases, self.export]
        self.begin = AnnotationStart(self._created, self.set_annotation)
        self.selector = slicer.qMRMLNodeComboBox()
        self.message = Message()
        self._make_widgets()

    # -- what other sections and pages use ---------------------------------------------------------------------------

    @property
    def annotation(self) -> Any:
        """The segmentation node that is annotated, or None."""
        return self._annotation

    def set_annotation(self, node: Any) -> None:
        """Annotate another segmentation, or none."""
        if self.selector.currentNode() is not node:
            # Comes back here by the selector's signal.
            self.selector.setCurrentNode(node)
            return
        if node is self._annotation:
            return
        self._annotation = node
        self.message.say("")
        self.hierarchy.set_node(node)
        for section in self.sections:
            section.set_annotation(node)

    def volumes(self) -> list[Any]:
        """The volumes of the annotation, the first channel first."""
        return [] if self._annotation is None else prediction.volumes_of(self._annotation)

    def start_from(self, source: Any) -> None:
        """Ask how an annotation is to begin from a prediction, or from any segmentation."""
        self.begin.ask(source)

    def reconcile(self) -> bool:
        """Bring edits made elsewhere in line before an export; False if the user would rather not go on."""
        return self.refine.reconcile()

    # -- as a page --------------------------------------------------------------------------------------------------

    def set_parameters(self, parameters: PanelParameters | None) -> None:
        """Show and remember choices in another parameter node; None lets go of the present one."""
        if self._parameters is not None and self._gui_tag is not None:
            self._parameters.disconnectGui(self._gui_tag)
        self._parameters, self._gui_tag = parameters, None
        self.refine.set_parameters(parameters)
        self.cases.set_parameters(parameters)
        if parameters is None:
            self._let_go()
            return
        self._gui_tag = parameters.connectGui(self.widget)
        self._chosen()

    def enter(self) -> None:
        """The tab is shown."""
        self._chosen()
        for section in self.sections:
            section.enter()

    def leave(self) -> None:
        """Another tab or module is shown."""
        for section in self.sections:
            section.leave()

    def scene_closes(self) -> None:
        """The scene is about to go."""
        for section in self.sections:
            section.scene_closes()
        self.begin.hide()
        self.set_parameters(None)

    def close(self) -> None:
        """The module is going."""
        self.set_parameters(None)
        for section in self.sections:
            section.close()
        self.hierarchy.close()
        self.begin.close()
        # A selector that outlives the module would go on listening to the scene.
        self.selector.setMRMLScene(None)

    # -- inside -----------------------------------------------------------------------------------------------------

    def _make_widgets(self) -> None:
        self.widget = qt.QWidget()
        layout = layouts.column(self.widget)
        self.selector.objectName = "annotationSelector"
        self.selector.nodeTypes = ["vtkMRMLSegmentationNode"]
        self.selector.addAttribute("vtkMRMLSegmentationNode", tree_store.ROLE, "annotation")
        self.selector.addEnabled = False
        self.selector.removeEnabled = False
        self.selector.renameEnabled = True
        self.selector.noneEnabled = True
        # Not as wide as the longest name.
        self.selector.setMinimumWidth(120)
        self.selector.noneDisplay = _("No annotation yet")
        self.selector.toolTip = _("The annotation that is edited here")
        self.selector.setProperty("SlicerParameterName", "annotation")
        self.selector.setMRMLScene(slicer.mrmlScene)
        self.selector.currentNodeIDChanged.connect(self._chosen)
        self.new = qt.QPushButton(_("New…"))
        self.new.objectName = "newAnnotationButton"
        self.new.toolTip = _("Begin an annotation from a prediction, from a segmentation, or empty")
        self.new.clicked.connect(lambda *_arguments: self._new_clicked())
        row = qt.QHBoxLayout()
        row.addWidget(qt.QLabel(_("Annotation:")))
        row.addWidget(self.selector, 1)
        row.addWidget(self.new)
        layout.addWidget(self.cases.widget)
        layout.addLayout(row)
        layout.addWidget(self.message.widget)
        layout.addWidget(self.begin.widget)
        layout.addWidget(self.hierarchy.widget, 1)
        layout.addWidget(self.refine.widget)
        layout.addWidget(self.export.widget)

    def _find_dataset(self, node: Any) -> bool:
        """Ask for a dataset to save an annotation to, or make one."""
        return self.cases.ask_folder(node)

    def _case_saved(self) -> None:
        # It may have become another case.
        self.cases.set_annotation(self._annotation)
        self.cases.refresh()

    def _new_clicked(self) -> None:
        if self.begin.asking:
            self.begin.hide()
        else:
            self.begin.ask(self._parameters.result if self._parameters is not None else None)

    def _created(self, node: Any) -> None:
        self.set_annotation(node)
        left_out, self.begin.left_out = self.begin.left_out, []
        if left_out:
            self.message.say(
                _("No node of the label tree fits these segments, which were left out: {names}.").format(
                    names=", ".join(left_out)
                )
            )

    def _chosen(self, *_arguments: object) -> None:
        if self._parameters is not None:
            self.set_annotation(self.selector.currentNode())

    def _node_picked(self, name: str) -> None:
        self.refine.pick(name)

    def _session_changed(self, session: Any) -> None:
        self.hierarchy.session = session

    def _let_go(self) -> None:
        self._annotation = None
        self.hierarchy.set_node(None)
        for section in self.sections:
            section.set_annotation(None)
