"""The question that edits made elsewhere raise: does the superclass grow, or is the subclass clipped?"""

from __future__ import annotations

from typing import Any, cast

import qt
from slicer.i18n import tr as _

from HierSubclassSegLib.gui.parameters import PanelParameters
from HierSubclassSegLib.scene import reconcile
from HierSubclassSegLib.scene.reconcile import Outside


class OutsideQuestion:
    """Asks once a scene, and remembers the answer in it.

    Args:
        parent: the widget over which the question appears.
    """

    def __init__(self, parent: Any) -> None:
        self._parent = parent
        self.parameters: PanelParameters | None = None

    def answer(self, annotation: Any) -> Outside | None:
        """What becomes of voxels of a subclass outside its superclass; None if the user would rather not go on."""
        known = self.parameters.outside if self.parameters is not None else ""
        outside, _overlapping = reconcile.conflicts(annotation)
        if known in ("grow", "clip") or not outside:
            return cast(Outside, known) if known in ("grow", "clip") else "grow"
        chosen = self._ask(outside)
        if chosen is not None and self.parameters is not None:
            self.parameters.outside = chosen
        return chosen

    def _ask(self, count: int) -> Outside | None:
        box = qt.QMessageBox(self._parent)
        box.setWindowTitle(_("Subclasses outside their superclass"))
        box.text = _("{count} voxels of subclasses lie outside their superclass, by edits made elsewhere.").format(
            count=count
        )
        box.informativeText = _("The answer is remembered in the scene. Undo takes the change back.")
        grow = box.addButton(_("Grow the superclass"), qt.QMessageBox.AcceptRole)
        clip = box.addButton(_("Clip the subclasses"), qt.QMessageBox.AcceptRole)
        box.addButton(qt.QMessageBox.Cancel)
        box.setDefaultButton(grow)
        box.exec_()
        clicked = box.clickedButton()
        if clicked is not None and clicked.text == clip.text:
            return "clip"
        return "grow" if clicked is not None and clicked.text == grow.text else None
