"""Cases: a dataset folder as a work list, the next unfinished case by a key, nothing lost on the way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from hierseg.errors import HiersegError
from HierSubclassSegLib.gui import case_questions, case_texts, layouts
from HierSubclassSegLib.gui.case_desk import RETRIES, CaseDesk
from HierSubclassSegLib.gui.case_table import CaseTable
from HierSubclassSegLib.gui.job import Job
from HierSubclassSegLib.gui.message import Message
from HierSubclassSegLib.gui.parameters import PanelParameters
from HierSubclassSegLib.scene import export, open_case
from HierSubclassSegLib.scene.open_case import OpenCase
from HierSubclassSegLib.scene.status import Status

NEXT_KEY = "Ctrl+Shift+N"


class CasesSection:
    """Opens a dataset and its cases.

    Args:
        desk: the open dataset.
        opened: called with an annotation that was loaded, before the one that was open is taken away.
        save: saves an annotation to its case, then calls the function; not if it was not saved.

    Attributes:
        widget: to be put into the page.
        message: a sentence on what cannot be done.
    """

    def __init__(
        self,
        desk: CaseDesk,
        opened: Callable[[Any], None],
        save: Callable[[OpenCase, Callable[[], None]], None],
    ) -> None:
        self._desk, self._opened, self._save = desk, opened, save
        self._parameters: PanelParameters | None = None
        self._annotation: Any = None
        self._counting = Job()
        desk.follow(self._advanced)
        self._make_widgets()
        self._show_state()

    # -- as a section -----------------------------------------------------------------------------------------------

    def set_parameters(self, parameters: PanelParameters | None) -> None:
        """Open the dataset that another parameter node remembers."""
        self._parameters = parameters
        if parameters is not None and parameters.dataset and self.folder != parameters.dataset:
            self.open_folder(parameters.dataset)

    def set_annotation(self, node: Any) -> None:
        """Show which case is annotated."""
        self._annotation = node
        self.table.show_opened(node.GetAttribute(export.CASE) if node is not None else None)

    def enter(self) -> None:
        """The tab is shown: others may have saved cases, or another tab has chosen another dataset."""
        self._shortcut.enabled = True
        chosen = self._parameters.dataset if self._parameters is not None else ""
        if chosen and chosen != self.folder and not self._desk.job.busy:
            self.open_folder(chosen)
        else:
            self.refresh()

    def leave(self) -> None:
        """Another tab or module is shown; counting waits."""
        self._shortcut.enabled = False
        self._counting.cancel()

    def scene_closes(self) -> None:
        """Nothing may be loaded into the next scene."""
        self._counting.cancel()
        self._desk.forget()
        self._annotation = None

    def close(self) -> None:
        """The module is going."""
        self.leave()
        self._desk.forget()

    # -- the dataset ------------------------------------------------------------------------------------------------

    @property
    def folder(self) -> str:
        """The open dataset's folder; empty without one."""
        return str(self._desk.work.dataset.folder) if self._desk.work is not None else ""

    def open_folder(self, folder: str) -> bool:
        """Open a dataset folder.

        Returns:
            Whether it is one; if not, a sentence says so.
        """
        if not folder:
            return False
        self._counting.cancel()
        if not (Path(folder) / "dataset.json").exists():
            self._desk.work = None
            self.message.say(
                _(
                    "{folder} is no dataset folder; to make one there, choose an annotation and open this folder again."
                ).format(folder=folder),
                error=True,
            )
            self.table.clear()
            self._show_state()
            return False
        try:
            self._desk.open(folder)
        except HiersegError as error:
            self._desk.work = None
            self.message.say(error.sentence, error=True, tip=error.hint)
        except OSError as error:
            self._desk.work = None
            reason = error.strerror or error
            self.message.say(_("{folder} cannot be read: {reason}.").format(folder=folder, reason=reason), error=True)
        else:
            self.message.say("")
            if self._parameters is not None and self._parameters.dataset != folder:
                self._parameters.dataset = folder
        self.table.clear()
        self._show_state()
        self.refresh()
        return self._desk.work is not None

    def refresh(self) -> None:
        """Read the dataset again and count what has changed."""
        work = self._desk.work
        if work is None:
            return
        try:
            work.dataset.reload()
        except HiersegError as error:
            self.message.say(error.sentence, error=True, tip=error.hint)
            return
        except OSError as error:
            self.message.say(
                _("{folder} cannot be read: {reason}.").format(folder=self.folder, reason=error.strerror or error),
                error=True,
            )
            return
        self._show_state()
        self._counting.start(
            lambda: self.table.fill_steps(work),
            lambda _nothing: self._show_state(),
            lambda error: self.message.say(error.sentence, error=True, tip=error.hint),
            wanted=lambda: self._desk.work is work,
        )

    # -- cases ------------------------------------------------------------------------------------------------------

    def open_next(self) -> None:
        """Open the next case that is not completed."""
        work = self._desk.work
        if work is None or self._desk.job.busy:
            return
        here = self._annotation.GetAttribute(export.CASE) if self._annotation is not None else self.table.selected
        case = work.next_unfinished(here)
        if case is None:
            self.message.say(_("No other case is unfinished."))
            return
        self.open_case(case.id)

    def open_case(self, case_id: str | None) -> None:
        """Open a case in the place of the one that is open; unsaved work is asked about first."""
        if case_id and self._desk.work is not None and not self._desk.job.busy:
            self.message.say("")
            self._leave(self._desk.loaded(), lambda: self._load(case_id))

    def set_status(self, case_id: str, status: Status | None) -> None:
        """Say a case's status; None: what the voxels say."""
        work = self._desk.work
        if work is None:
            return
        try:
            work.set_status(case_id, status)
        except HiersegError as error:
            self.message.say(error.sentence, error=True, tip=error.hint)
        else:
            self.table.show(work, work.dataset.case(case_id))
        self._show_state()

    def _leave(self, cases: list[OpenCase], then: Callable[[], None]) -> None:
        """Ask about the unsaved work of each loaded case, one after the other."""
        if not cases:
            then()
            return
        first, rest = cases[0], cases[1:]

        def answer(dirty: bool) -> None:
            if not dirty:
                self._leave(rest, then)
                return
            answered = case_questions.unsaved(self.widget, first.annotation.GetName())
            if answered == case_questions.SAVE:
                self._save(first, lambda: self._leave(rest, then))
            elif answered == case_questions.DISCARD:
                self._leave(rest, then)
            else:
                self.table.show_opened(first.id)

        self._desk.job.start(
            first.dirty_steps,
            answer,
            # What cannot be exported is unsaved in any case.
            lambda _error: answer(True),
            wanted=lambda: first.annotation.GetScene() is slicer.mrmlScene,
        )

    def _load(self, case_id: str) -> None:
        work = self._desk.work
        if work is None:
            return
        self._desk.job.start(
            lambda: OpenCase.load_steps(work.dataset, case_id, slicer.mrmlScene),
            self._loaded,
            self._not_loaded,
            retries=RETRIES,
        )

    def _not_loaded(self, error: HiersegError) -> None:
        """The case that was open stays: nothing was taken away yet."""
        self.message.say(error.sentence, error=True, tip=error.hint)

    def _loaded(self, opened: OpenCase) -> None:
        self._desk.add(opened)
        volumes = export.volumes_for(opened.annotation)
        selection = slicer.app.applicationLogic().GetSelectionNode()
        selection.SetActiveVolumeID(volumes[0].GetID())
        slicer.app.applicationLogic().PropagateVolumeSelection(1)
        # Whoever works on the old annotation goes over to the new one before the old one goes.
        self._opened(opened.annotation)
        open_case.remove_loaded(slicer.mrmlScene, keep=tuple(self._nodes_of(opened)))
        self._desk.forget_gone()
        self.table.show_opened(opened.id)

    @staticmethod
    def _nodes_of(opened: OpenCase) -> list[Any]:
        volumes = export.volumes_for(opened.annotation)
        return [opened.annotation, *volumes, volumes[0].GetParentTransformNode()]

    # -- widgets ----------------------------------------------------------------------------------------------------

    def _make_widgets(self) -> None:
        self.message = Message()
        self.name = qt.QLabel()
        self.name.objectName = "datasetName"
        self.name.setSizePolicy(qt.QSizePolicy.Ignored, qt.QSizePolicy.Preferred)
        self.choose = qt.QPushButton(_("Open dataset…"))
        self.choose.objectName = "openDatasetButton"
        self.choose.toolTip = _("Choose the dataset folder to annotate into")
        self.choose.clicked.connect(lambda *_arguments: self.ask_folder(self._annotation))
        self.head = layouts.row(self.name, self.choose)
        self.head.layout().setStretch(0, 1)
        self.table = CaseTable(self.open_case)
        self.table.widget.customContextMenuRequested.connect(self._menu)
        self.open_button = qt.QPushButton(_("Open case"))
        self.open_button.objectName = "openCaseButton"
        self.open_button.toolTip = _("Load the selected case in the place of the one that is open")
        self.open_button.clicked.connect(lambda *_arguments: self.open_case(self.table.selected))
        self.next_button = qt.QPushButton(_("Next unfinished"))
        self.next_button.objectName = "nextCaseButton"
        self.next_button.toolTip = _("Open the next case that is not completed ({key})").format(key=NEXT_KEY)
        self.next_button.clicked.connect(lambda *_arguments: self.open_next())
        self.buttons = layouts.row(self.open_button, self.next_button)
        self.bar = layouts.thin_bar()
        self.bar.visible = False
        self.widget = qt.QWidget()
        column = layouts.column(self.widget, 4)
        for part in (self.head, self.table.widget, self.buttons, self.bar, self.message.widget):
            column.addWidget(part)
        self._shortcut = qt.QShortcut(qt.QKeySequence(NEXT_KEY), self.widget)
        self._shortcut.context = qt.Qt.ApplicationShortcut
        self._shortcut.enabled = False
        self._shortcut.activated.connect(self.open_next)

    def ask_folder(self, annotation: Any = None) -> bool:
        """Ask for a dataset folder; where there is none, offer to make one for an annotation.

        Returns:
            Whether a dataset is open now.
        """
        title = _("Dataset folder")
        chosen = str(qt.QFileDialog.getExistingDirectory(self.widget, title, self.folder) or "")
        if not chosen:
            return False
        if self.open_folder(chosen):
            return True
        return annotation is not None and self.offer_new(chosen, annotation)

    def offer_new(self, folder: str, annotation: Any) -> bool:
        """Offer to make a dataset in a folder that holds none, with an annotation's tree and channels.

        Returns:
            Whether there is one now.
        """
        from HierSubclassSegLib.gui.new_dataset import make

        sentence = make(self.widget, folder, annotation)
        if sentence is None:
            return False
        if sentence:
            self.message.say(sentence, error=True)
            return False
        return self.open_folder(folder)

    def _menu(self, position: Any) -> None:
        case_id = self.table.selected
        if case_id is None:
            return
        menu = qt.QMenu(self.widget)
        menu.addAction(_("Open")).triggered.connect(lambda *_arguments: self.open_case(case_id))
        menu.addSeparator()
        for status in (Status.COMPLETED, Status.FLAGGED, Status.IN_PROGRESS):
            text = _("Mark as “{status}”").format(status=case_texts.status(status))
            menu.addAction(text).triggered.connect(lambda *_arguments, said=status: self.set_status(case_id, said))
        menu.addAction(_("Status by what is annotated")).triggered.connect(
            lambda *_arguments: self.set_status(case_id, None)
        )
        menu.exec_(self.table.widget.viewport().mapToGlobal(position))

    def _advanced(self, fraction: float | None) -> None:
        self.bar.visible = fraction is not None
        self.bar.value = round(1000 * (fraction or 0.0))
        if fraction is None or self.open_button.enabled:
            self._show_state()

    def _show_state(self) -> None:
        work = self._desk.work
        idle = work is not None and not self._desk.job.busy
        self.open_button.enabled = self.next_button.enabled = idle
        self.table.widget.visible = self.buttons.visible = work is not None
        if work is None:
            self.name.text = _("No dataset is open.")
            return
        self.name.text = _("{name}: {count} cases, {open} unfinished").format(
            name=work.dataset.name, count=len(work.cases), open=work.unfinished()
        )
        self.name.toolTip = self.folder
