"""Offers to make a hierarchy of a segmentation or label map that has none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import qt
import slicer
from slicer.i18n import tr as _

from hierseg.errors import HiersegError
from HierSubclassSegLib.gui.grouping_dialog import GroupingDialog
from HierSubclassSegLib.gui.label_trees import known_trees
from HierSubclassSegLib.scene import grouping, tree_store
from HierSubclassSegLib.scene.grouping import Plan
from HierSubclassSegLib.scene.tags import SceneError

if TYPE_CHECKING:
    from HierSubclassSegLib.gui.hierarchy_section import HierarchySection


class GroupingOffer:
    """A sentence and two buttons over the hierarchy: group by the tree that fits best, or by another one.

    Args:
        section: whose segmentation.

    Attributes:
        widget: seen while there is something to offer.
        plan: by the tree that fits best; None if none fits.
    """

    def __init__(self, section: HierarchySection) -> None:
        self._section = section
        self._node: Any = None
        self._seen: object = None
        self.plan: Plan | None = None
        self.widget = qt.QWidget()
        self.widget.visible = False
        layout = qt.QVBoxLayout(self.widget)
        layout.setContentsMargins(0, 0, 0, 0)
        self.label = qt.QLabel()
        self.label.wordWrap = True
        self.group_button = qt.QPushButton()
        self.group_button.objectName = "groupButton"
        self.group_button.clicked.connect(self.group)
        self.other_button = qt.QPushButton(_("Group by label tree…"))
        self.other_button.objectName = "groupByButton"
        self.other_button.clicked.connect(self.ask)
        for part in (self.label, self.group_button, self.other_button):
            layout.addWidget(part)
        layout.addStretch(1)

    def offer(self, node: Any) -> None:
        """Offer to group a segmentation or label map that has no label tree; None takes the offer back."""
        self._node = node
        if node is None:
            self.widget.visible = False
            self._seen = self.plan = None
            return
        if node.IsA("vtkMRMLLabelMapVolumeNode"):
            self.label.text = _("'{name}' is a label map.").format(name=node.GetName())
            self.group_button.text = _("Make a segmentation of it and group it")
            self.group_button.visible, self.other_button.visible = True, False
            self.widget.visible = True
            return
        names = [(segment_id, segment.GetName()) for segment_id, segment in tree_store.segments(node)]
        if self._seen != (node, names):
            # Painting in it changes no name: the plan stays.
            self._seen = node, names
            self.plan = grouping.best_tree(node, known_trees().values())
        self.label.text = self._sentence(node, bool(names))
        self.group_button.visible = self.plan is not None
        if self.plan is not None:
            self.group_button.text = _("Group by '{tree}'").format(tree=self.plan.tree.name)
        self.other_button.visible = bool(names) or self._section.editable
        self.widget.visible = True

    def group(self, *_checked: object) -> None:
        """Group by the tree that fits best; ask only where a choice is needed."""
        if self._node is not None and self._node.IsA("vtkMRMLLabelMapVolumeNode"):
            self.import_label_map(self._node)
        elif self.plan is not None and self.plan.ambiguous:
            self._ask(self.plan)
        elif self.plan is not None:
            self._apply(self.plan)

    def ask(self, *_checked: object) -> None:
        """Ask for the tree, and for the segments that fit none of its structures."""
        section = self._section
        if section.tree is not None:
            self._ask(grouping.plan_grouping(section.node, section.tree))
        elif section.node is not None:
            self._ask(self.plan)

    def import_label_map(self, node: Any) -> None:
        """Make a segmentation of a label map by Slicer's own import, and group it."""
        section = self._section
        try:
            made = grouping.segmentation_of_label_map(node)
        except HiersegError as error:
            section.message.say(error.sentence, error=True)
            return
        (section.on_imported or section.set_node)(made)
        if section.node is made and section.tree is None:
            self.group()

    # -- inside -----------------------------------------------------------------------------------------------------

    def _sentence(self, node: Any, has_segments: bool) -> str:
        name = node.GetName()
        if not has_segments:
            return _("'{name}' has no segments yet.").format(name=name)
        if self.plan is None:
            return _("'{name}' has no label tree, and none of those here fits its segments.").format(name=name)
        return _("'{name}' has no label tree yet. {what}").format(name=name, what=self.plan.summary)

    def _ask(self, plan: Plan | None) -> None:
        section = self._section
        if getattr(section.session, "refining", False):
            section.message.say(_("Finish refining before you change the label tree."), error=True)
            return
        chosen = GroupingDialog(section.view, section.node, known_trees(), plan).ask()
        if chosen is not None:
            self._apply(chosen)

    def _apply(self, plan: Plan) -> None:
        section = self._section
        try:
            if section.node.GetScene() is not slicer.mrmlScene:
                raise SceneError("the segmentation has gone; choose another one.")
            section.edits().regroup(plan)
        except HiersegError as error:
            section.message.say(error.sentence, error=True, tip=error.hint)
            return
        section.follow()
        left = len(plan.unmatched)
        if left:
            section.message.say(
                _("{count} segments fit no structure of '{tree}' and stay as they are: {names}").format(
                    count=left, tree=plan.tree.name, names=", ".join(row.segment_name for row in plan.unmatched[:5])
                )
            )
