"""Save and export: an annotation into its dataset by one button, and into other formats."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from hierseg.errors import HiersegError
from HierSubclassSegLib.gui import case_questions, case_texts, dicom_seg, layouts
from HierSubclassSegLib.gui.case_desk import RETRIES, CaseDesk
from HierSubclassSegLib.gui.message import Message, note_label
from HierSubclassSegLib.gui.save_preview import SavePreview
from HierSubclassSegLib.scene import annotation, export, level_maps, model_folders
from HierSubclassSegLib.scene.export_summary import ExportSummary
from HierSubclassSegLib.scene.open_case import Elsewhere, OpenCase


class ExportSection:
    """Says what will be written, and writes it.

    Args:
        desk: the open dataset.
        find_dataset: asks for a dataset to save an annotation to; False if there is none.
        saved: called when a case was saved.
        reconcile: brings edits made elsewhere in line before an export; False if the user would rather not go on.

    Attributes:
        widget: to be put into the page.
        message: a sentence on what was done or cannot be done.
    """

    def __init__(
        self,
        desk: CaseDesk,
        find_dataset: Callable[[Any], bool],
        saved: Callable[[], None] = lambda: None,
        reconcile: Callable[[], bool] = lambda: True,
    ) -> None:
        self._desk, self._find_dataset, self._saved, self._reconcile = desk, find_dataset, saved, reconcile
        self._annotation: Any = None
        self._summary: ExportSummary | None = None
        self._preview = SavePreview(self._summed_up)
        desk.follow(self._advanced)
        self._make_widgets()
        self._show_state()

    # -- as a section -----------------------------------------------------------------------------------------------

    def set_annotation(self, node: Any) -> None:
        """Save another annotation, or none."""
        self._annotation, self._summary = node, None
        self.message.say("")
        self.group.text = (node.GetAttribute(export.GROUP) or "") if node is not None else ""
        self._preview.set_node(node)
        self._show_state()

    def enter(self) -> None:
        """The tab is shown."""
        self._preview.start()
        self._show_state()

    def leave(self) -> None:
        """Another tab or module is shown; a save goes on."""
        self._preview.stop()

    def scene_closes(self) -> None:
        """The scene is about to go."""
        self._preview.set_node(None)
        self._annotation = None

    def close(self) -> None:
        """The module is going."""
        self._preview.stop()
        self._preview.set_node(None)

    # -- saving to the dataset --------------------------------------------------------------------------------------

    def save(self) -> None:
        """Save the annotation that is shown, as its case or as a new one."""
        if self._annotation is None:
            self.message.say(_("There is no annotation to save."), error=True)
        elif not self._desk.job.busy:
            self.save_case(self._desk.case_of(self._annotation), lambda: None)

    def save_case(self, case: OpenCase, then: Callable[[], None]) -> None:
        """Save a case, asking what has to be asked; ``then`` is called if it was saved."""
        self.message.say("")
        try:
            if self._nothing_in(case) or not self._reconcile():
                return
            if self._desk.work is None and not self._find_dataset(case.annotation):
                self.message.say(_("Nothing was saved: no dataset is open."))
                return
            self._ask_and_write(case, then)
        except HiersegError as error:
            self.message.say(error.sentence, error=True, tip=error.hint)
        except OSError as error:
            self.message.say(
                _("The case cannot be saved: {reason}.").format(reason=error.strerror or error), error=True
            )

    def _nothing_in(self, case: OpenCase) -> bool:
        segments = case.annotation.GetSegmentation().GetNumberOfSegments()
        if segments or case.annotation.GetAttribute(export.CASE):
            return False
        self.message.say(
            _("Nothing is annotated yet in '{name}': paint something first.").format(name=case.annotation.GetName()),
            error=True,
        )
        return True

    def _ask_and_write(self, case: OpenCase, then: Callable[[], None]) -> None:
        dataset = self._desk.work.dataset  # type: ignore[union-attr]
        elsewhere, as_new = case.elsewhere(dataset), False
        if elsewhere is Elsewhere.CHANGED:
            answer = case_questions.changed_elsewhere(self.widget, str(case.id))
            if answer == case_questions.STAY:
                return
            as_new = answer == case_questions.AS_NEW
        elif elsewhere is Elsewhere.REMOVED:
            if not case_questions.not_there(self.widget, str(case.id)):
                return
            as_new = True
        tree, update = annotation.tree_of(case.annotation), False
        if dataset.tree != tree:
            theirs, ours = dataset.tree.name, tree.name
            if theirs == ours:
                theirs, ours = dataset.tree.fingerprint, tree.fingerprint
            if not case_questions.other_tree(self.widget, theirs, ours):
                self.message.say(_("Nothing was saved: the dataset keeps its label tree."))
                return
            update = True
        group = str(self.group.text).strip() or None
        user = str(self.user.text).strip() or None
        self._desk.job.start(
            lambda: case.save_steps(dataset, as_new=as_new, group=group, user=user, update_tree=update),
            lambda saved: self._was_saved(saved, then),
            lambda error: self.message.say(error.sentence, error=True, tip=error.hint),
            wanted=lambda: case.annotation.GetScene() is slicer.mrmlScene,
            retries=RETRIES,
        )

    def _was_saved(self, case: Any, then: Callable[[], None]) -> None:
        self.message.say(_("Saved as {case}.").format(case=case.id))
        self._show_state()
        self._saved()
        then()

    # -- other formats ----------------------------------------------------------------------------------------------

    def export_levels(self, folder: str) -> None:
        """Write a label map a level into a folder."""
        node = self._annotation
        if folder and node is not None and self._reconcile():
            self._start(
                lambda: level_maps.file_steps(node, folder),
                lambda files: _("{count} files are in {folder}: {names}.").format(
                    count=len(files), folder=folder, names=", ".join(Path(file).name for file in files)
                ),
            )

    def export_models(self) -> None:
        """Make models, in one folder of the subject hierarchy a superclass."""
        node = self._annotation
        if node is not None:
            self._start(
                lambda: model_folders.model_steps(node),
                lambda models: _("{count} models are in the folder '{name} models' of the Data module.").format(
                    count=len(models), name=node.GetName()
                ),
            )

    def export_dicom(self) -> None:
        """Show Slicer's DICOM export."""
        if self._annotation is None:
            return
        try:
            volume = export.volumes_for(self._annotation)[0]
            sentence = dicom_seg.export(self._annotation, volume)
        except HiersegError as error:
            sentence = error.sentence
        self.message.say(sentence, error=bool(sentence))

    def _start(self, make: Callable[[], Any], words: Callable[[Any], str]) -> None:
        node = self._annotation
        if self._desk.job.busy:
            return
        self.message.say("")
        try:
            self._desk.job.start(
                make,
                lambda result: self.message.say(words(result)),
                lambda error: self.message.say(error.sentence, error=True, tip=error.hint),
                wanted=lambda: node.GetScene() is slicer.mrmlScene,
            )
        except HiersegError as error:
            self.message.say(error.sentence, error=True, tip=error.hint)

    # -- widgets ----------------------------------------------------------------------------------------------------

    def _make_widgets(self) -> None:
        self.message = Message()
        self.summary = note_label()
        self.summary.objectName = "saveSummary"
        self.button = qt.QPushButton(_("Save to dataset"))
        self.button.objectName = "saveCaseButton"
        self.button.setMinimumHeight(28)
        self.button.clicked.connect(lambda *_arguments: self.save())
        self.more = qt.QPushButton(_("Export"))
        self.more.objectName = "exportMenuButton"
        self.more.toolTip = _("Label maps, models, DICOM")
        # Kept: a menu that nothing refers to is gone.
        self._menu = qt.QMenu(self.more)
        for text, called in (
            (_("Label map of each level…"), self._ask_levels),
            (_("Models by superclass"), self.export_models),
            (_("DICOM SEG…"), self.export_dicom),
        ):
            self._menu.addAction(text).triggered.connect(lambda *_arguments, call=called: call())
        self._menu.addSeparator()
        self.about = self._menu.addAction(_("Group and annotator"))
        self.about.checkable = True
        self.about.toggled.connect(lambda *_arguments: self._show_state())
        self.more.setMenu(self._menu)
        self.buttons = layouts.row(self.button, self.more)
        self.buttons.layout().setStretch(0, 1)
        self.group = qt.QLineEdit()
        self.group.objectName = "caseGroupEdit"
        self.group.placeholderText = _("Group")
        self.group.toolTip = _(
            "Cases of one group (one person, with a code, not a name) never lie on both sides of training and validation"
        )
        self.user = qt.QLineEdit()
        self.user.objectName = "annotatorEdit"
        self.user.placeholderText = _("Annotated by")
        self.user.toolTip = _("Written into the dataset with the case; leave it empty to write nothing")
        self.options = layouts.row(self.group, self.user)
        self.bar = layouts.thin_bar()
        self.bar.visible = False
        self.widget = qt.QWidget()
        column = layouts.column(self.widget, 4)
        for part in (self.summary, self.options, self.buttons, self.bar, self.message.widget):
            column.addWidget(part)

    def _ask_levels(self) -> None:
        title = _("Folder for the label maps")
        self.export_levels(str(qt.QFileDialog.getExistingDirectory(self.widget, title) or ""))

    def _summed_up(self, told: ExportSummary | str) -> None:
        self._summary = told if isinstance(told, ExportSummary) else None
        self._show_state(told if isinstance(told, str) else "")

    def _advanced(self, fraction: float | None) -> None:
        self.bar.visible = fraction is not None
        self.bar.value = round(1000 * (fraction or 0.0))
        if fraction is None or self.button.enabled:
            self._show_state()

    def _show_state(self, problem: str = "") -> None:
        node, idle = self._annotation, not self._desk.job.busy
        self.button.enabled = self.more.enabled = node is not None and idle
        known = node is not None and bool(node.GetAttribute(export.CASE))
        self.button.text = _("Update the case") if known else _("Save to dataset")
        self.button.toolTip = (
            _("Replace the case {name} in the dataset").format(name=node.GetAttribute(export.CASE))
            if known
            else _("Make a case of this annotation in the dataset")
        )
        self.options.visible = node is not None and bool(self.about.checked)
        self.summary.visible = node is not None
        if node is None:
            return
        if self._summary is not None:
            said = _("Saved: {what}") if self._desk.case_of(node).surely_clean() else _("Will be saved: {what}")
            lines = [said.format(what=case_texts.will_be_saved(self._summary)), *self._summary.notes]
            self.summary.text = "\n".join(lines)
            self.summary.toolTip = case_texts.nodes(self._summary)
        else:
            self.summary.text = problem or _("Looking at what will be saved…")
            self.summary.toolTip = ""
