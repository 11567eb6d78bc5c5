"""What is asked before something is lost, or made."""

from __future__ import annotations

from typing import Any

import qt
from slicer.i18n import tr as _

SAVE, DISCARD, STAY = "save", "discard", "stay"
OVERWRITE, AS_NEW = "overwrite", "new"


def unsaved(parent: Any, name: str) -> str:
    """Save, Discard or Stay."""
    box = _box(
        parent, _("Unsaved annotation"), _("'{name}' has changes that are not in the dataset.").format(name=name)
    )
    box.setStandardButtons(qt.QMessageBox.Save | qt.QMessageBox.Discard | qt.QMessageBox.Cancel)
    box.button(qt.QMessageBox.Cancel).setText(_("Stay"))
    box.setDefaultButton(qt.QMessageBox.Save)
    answers = {int(qt.QMessageBox.Save): SAVE, int(qt.QMessageBox.Discard): DISCARD}
    return answers.get(int(box.exec_()), STAY)


def changed_elsewhere(parent: Any, name: str) -> str:
    """Overwrite, save as a new case, or stay."""
    text = _(
        "The case '{name}' in the dataset is not the one that was opened here: it was changed elsewhere. "
        "Overwrite it, or keep both?"
    ).format(name=name)
    box = _box(parent, _("Changed elsewhere"), text)
    box.setStandardButtons(qt.QMessageBox.Yes | qt.QMessageBox.No | qt.QMessageBox.Cancel)
    box.button(qt.QMessageBox.Yes).setText(_("Overwrite"))
    box.button(qt.QMessageBox.No).setText(_("Save as new case"))
    box.button(qt.QMessageBox.Cancel).setText(_("Stay"))
    box.setDefaultButton(qt.QMessageBox.Cancel)
    answers = {int(qt.QMessageBox.Yes): OVERWRITE, int(qt.QMessageBox.No): AS_NEW}
    return answers.get(int(box.exec_()), STAY)


def not_there(parent: Any, name: str) -> bool:
    """Whether to save a case that this dataset does not have."""
    text = _("The case '{name}' is not in this dataset (any more). Save it as a new case?").format(name=name)
    return _yes(parent, _("Save to dataset"), text, _("Save as new case"))


def other_tree(parent: Any, theirs: str, ours: str) -> bool:
    """Whether the dataset is to get the annotation's tree."""
    text = _(
        "The dataset uses the label tree '{theirs}', this annotation '{ours}'. Give the dataset this annotation's tree? "
        "It then holds for all its cases."
    ).format(theirs=theirs, ours=ours)
    return _yes(parent, _("Another label tree"), text, _("Update the dataset"))


def make_dataset(parent: Any, folder: str, tree: str, channels: list[str]) -> list[str]:
    """The channels' names for a new dataset; none if there is to be no new one."""
    text = _(
        "{folder}\nholds no dataset. To make one there, with the label tree\n'{tree}', name its image channels, "
        "separated by commas:"
    ).format(folder=folder, tree=tree)
    dialog = qt.QInputDialog(parent)
    dialog.setWindowTitle(_("New dataset"))
    dialog.setLabelText(text)
    dialog.setTextValue(", ".join(channels))
    if not dialog.exec_():
        return []
    return [part.strip() for part in str(dialog.textValue()).split(",") if part.strip()]


def _yes(parent: Any, title: str, text: str, button: str) -> bool:
    box = _box(parent, title, text)
    box.setStandardButtons(qt.QMessageBox.Yes | qt.QMessageBox.Cancel)
    box.button(qt.QMessageBox.Yes).setText(button)
    return int(box.exec_()) == int(qt.QMessageBox.Yes)


def _box(parent: Any, title: str, text: str) -> qt.QMessageBox:
    box = qt.QMessageBox(parent)
    box.setIcon(qt.QMessageBox.Question)
    box.setWindowTitle(title)
    box.setText(text)
    return box
