"""What the hierarchy asks the user: a name, a color, codes, what is to be deleted, a file."""

from __future__ import annotations

from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from hierseg.errors import HiersegError
from hierseg.labeltree import LabelTree, Node
from HierSubclassSegLib.gui.message import Message
from HierSubclassSegLib.scene import terminology, tree_edits

_TREE_FILES = "*.json"


def ask_name(parent: Any, tree: LabelTree, above: str | None) -> str:
    """The name of a new structure; empty if the user thinks better of it.  A name that is taken is not accepted."""
    dialog = qt.QDialog(parent)
    dialog.windowTitle = _("Add a structure") if above is None else _("Add a subclass of {name}").format(name=above)
    layout = qt.QFormLayout(dialog)
    edit = qt.QLineEdit()
    edit.objectName = "nameEdit"
    message = Message()
    buttons = ok_cancel(dialog)
    layout.addRow(_("Name:"), edit)
    layout.addRow(message.widget)
    layout.addRow(buttons)
    accept = buttons.button(qt.QDialogButtonBox.Ok)
    accept.enabled = False

    def check(*_text: object) -> None:
        name, refused = str(edit.text).strip(), ""
        try:
            if name:
                tree_edits.extended(tree, above, name)
        except HiersegError as error:
            refused = error.sentence
        message.say(refused, error=True)
        accept.enabled = bool(name) and not refused

    edit.textChanged.connect(check)
    edit.setFocus()
    return str(edit.text).strip() if dialog.exec_() and accept.enabled else ""


def ask_color(parent: Any, name: str, color: tuple[float, float, float]) -> tuple[float, float, float] | None:
    """A color in 0..1, or None."""
    now = qt.QColor(*[round(255 * part) for part in color])
    chosen = qt.QColorDialog.getColor(now, parent, _("Color of {name}").format(name=name))
    return (chosen.redF(), chosen.greenF(), chosen.blueF()) if chosen.isValid() else None


def ask_codes(parent: Any, tree: LabelTree, node: Node) -> dict[str, tuple[str, str, str]] | None:
    """Codes from Slicer's terminology navigator, by the keys of a label tree's ``terminology``; or None."""
    dialog = qt.QDialog(parent)
    dialog.windowTitle = _("Terminology of {name}").format(name=node.name)
    dialog.resize(460, 480)
    layout = qt.QVBoxLayout(dialog)
    navigator = slicer.qSlicerTerminologyNavigatorWidget()
    # Name and color are the tree's own.
    navigator.overrideSectionVisible = False
    buttons = ok_cancel(dialog)
    layout.addWidget(navigator)
    layout.addWidget(buttons)
    accept = buttons.button(qt.QDialogButtonBox.Ok)
    accept.enabled = False
    navigator.selectionValidityChanged.connect(accept.setEnabled)
    logic, entry = slicer.vtkSlicerTerminologiesModuleLogic, slicer.vtkSlicerTerminologyEntry()
    logic.DeserializeTerminologyEntry(terminology.terminology_entry(tree, node), entry)
    navigator.setTerminologyEntry(entry)
    if not dialog.exec_() or not navigator.terminologyEntry(entry):
        return None
    return terminology.codes_of(logic.SerializeTerminologyEntry(entry))


def ask_delete(parent: Any, name: str, below: int, painted: bool) -> str:
    """``"segments"``: what is painted; ``"node"``: the structure and what is painted; or empty."""
    dialog = qt.QDialog(parent)
    dialog.windowTitle = _("Delete {name}").format(name=name)
    layout = qt.QVBoxLayout(dialog)
    label = qt.QLabel()
    label.wordWrap = True
    label.text = (
        _("Delete '{name}' and the {count} structures below it?").format(name=name, count=below)
        if below
        else _("Delete '{name}'?").format(name=name)
    )
    layout.addWidget(label)
    choices = [("node", _("Remove from the label tree"), _("The structure goes, with all that is painted"))]
    if painted:
        choices.insert(0, ("segments", _("Delete what is painted"), _("The label tree stays as it is")))
    for index, (key, text, tip) in enumerate(choices, start=1):
        button = qt.QPushButton(text)
        button.objectName = f"{key}Button"
        button.toolTip = tip
        button.clicked.connect(lambda *_checked, index=index: dialog.done(index))
        layout.addWidget(button)
    cancel = qt.QPushButton(_("Cancel"))
    cancel.clicked.connect(lambda *_checked: dialog.reject())
    layout.addWidget(cancel)
    chosen = int(dialog.exec_())
    return choices[chosen - 1][0] if chosen else ""


def ask_tree_to_save(parent: Any, name: str) -> str:
    """Where a label tree is to be written; empty if nowhere."""
    path = str(qt.QFileDialog.getSaveFileName(parent, _("Save the label tree as"), f"{name}.json", _TREE_FILES) or "")
    return f"{path}.json" if path and "." not in path.replace("\\", "/").rpartition("/")[2] else path


def ask_tree_to_load(parent: Any) -> str:
    """A label tree's file; empty for none."""
    return str(qt.QFileDialog.getOpenFileName(parent, _("Open a label tree"), "", _TREE_FILES) or "")


def ok_cancel(dialog: Any) -> Any:
    """OK and Cancel for a dialog."""
    buttons = qt.QDialogButtonBox()
    # Not in the constructor: PythonQt takes a number for the orientation.
    buttons.setStandardButtons(qt.QDialogButtonBox.Ok | qt.QDialogButtonBox.Cancel)
    buttons.accepted.connect(dialog.accept)
    buttons.rejected.connect(dialog.reject)
    return buttons
