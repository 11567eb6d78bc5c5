"""The Annotate tab: an annotation, its hierarchy, and what is done with it, one section below the other."""

from __future__ import annotations

from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from HierSubclassSegLib.gui.hierarchy_section import HierarchySection
from HierSubclassSegLib.gui.message import Message
from HierSubclassSegLib.gui.parameters import PanelParameters
from HierSubclassSegLib.gui.refine_section import RefineSection
from HierSubclassSegLib.scene import prediction, tree_store


class AnnotatePage:
    """Makes and edits annotations; see :class:`~HierSubclassSegLib.gui.page.Page`.

    Attributes:
        hierarchy, refine: the sections.
        sections: all that follow the annotation, in the order in which they are told of another one.
        selector: the annotations of the scene.
        message: a sentence about the choice of the annotation.
    """

    def __init__(self) -> None:
        self.title = _("Annotate")
        self.hierarchy = HierarchySection()
        self.refine = RefineSection()
        self.sections: list[Any] = [self.refine]
        self.selector = slicer.qMRMLNodeComboBox()
        self.message = Message()
        self._annotation: Any = None
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
        self.hierarchy.set_node(node)
        for section in self.sections:
            section.set_annotation(node)

    def volumes(self) -> list[Any]:
        """The volumes of the annotation, the first channel first."""
        return [] if self._annotation is None else prediction.volumes_of(self._annotation)

    # -- as a page --------------------------------------------------------------------------------------------------

    def set_parameters(self, parameters: PanelParameters | None) -> None:
        """Show and remember choices in another parameter node; None lets go of the present one."""
        if parameters is None:
            self._let_go()

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
        self._let_go()

    def close(self) -> None:
        """The module is going."""
        self._let_go()
        for section in self.sections:
            section.close()
        self.hierarchy.close()
        # A selector that outlives the module would go on listening to the scene.
        self.selector.setMRMLScene(None)

    # -- inside -----------------------------------------------------------------------------------------------------

    def _make_widgets(self) -> None:
        self.widget = qt.QWidget()
        layout = qt.QVBoxLayout(self.widget)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        self.selector.objectName = "annotationSelector"
        self.selector.nodeTypes = ["vtkMRMLSegmentationNode"]
        self.selector.addAttribute("vtkMRMLSegmentationNode", tree_store.ROLE, "annotation")
        self.selector.addEnabled = False
        self.selector.removeEnabled = False
        self.selector.renameEnabled = True
        self.selector.noneEnabled = True
        self.selector.noneDisplay = _("No annotation yet")
        self.selector.toolTip = _("The annotation that is edited here")
        self.selector.setMRMLScene(slicer.mrmlScene)
        self.selector.currentNodeIDChanged.connect(self._chosen)
        form = qt.QFormLayout()
        form.setContentsMargins(0, 0, 0, 0)
        form.setFieldGrowthPolicy(qt.QFormLayout.ExpandingFieldsGrow)
        form.addRow(_("Annotation:"), self.selector)
        layout.addLayout(form)
        layout.addWidget(self.message.widget)
        layout.addWidget(self.hierarchy.widget, 1)
        layout.addWidget(self.refine.widget)

    def _chosen(self, *_arguments: object) -> None:
        self.set_annotation(self.selector.currentNode())

    def _let_go(self) -> None:
        self._annotation = None
        self.hierarchy.set_node(None)
        for section in self.sections:
            section.set_annotation(None)
