"""The menu beside the list of runs."""

from __future__ import annotations

from collections.abc import Callable

import qt
import slicer
from slicer.i18n import tr as _

from HierSubclassSegLib.compute.training import TrainingRun


class TrainRunMenu:
    """What can be done with the list of runs; the button is to be put beside it.

    Args:
        run: gives the chosen run.
        follow: called with the folder of a run to add to the list.
        forget: called to remove the chosen run, after the user agreed.
    """

    def __init__(
        self, run: Callable[[], TrainingRun | None], follow: Callable[[str], None], forget: Callable[[], None]
    ) -> None:
        self._run, self._follow, self._forget = run, follow, forget
        self.button = qt.QToolButton()
        self.button.objectName = "runMenuButton"
        self.button.text = "…"
        self.button.toolTip = _("Open, add or delete runs")
        self.button.popupMode = qt.QToolButton.InstantPopup
        # Kept: a menu that nothing refers to is gone.
        self._menu = qt.QMenu(self.button)
        self._open = self._menu.addAction(_("Open the run's folder"))
        self._open.triggered.connect(self.open_folder)
        self._add = self._menu.addAction(_("Follow a run in another folder…"))
        self._add.triggered.connect(self.ask_folder)
        self._delete = self._menu.addAction(_("Delete this run…"))
        self._delete.triggered.connect(self.ask_delete)
        self._menu.aboutToShow.connect(self._update)
        self.button.setMenu(self._menu)

    def open_folder(self, *_arguments: object) -> None:
        """Show the run's files in the system's file browser."""
        run = self._run()
        if run is not None:
            qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(run.folder)))

    def ask_folder(self, *_arguments: object) -> None:
        """Ask for the folder of a run that was started in a terminal."""
        self._follow(qt.QFileDialog.getExistingDirectory(self.button, _("Follow a run")))

    def ask_delete(self, *_arguments: object) -> None:
        """Delete the run if the user agrees."""
        run = self._run()
        if run is None:
            return
        question = _("Delete the run {name} with its checkpoints? A model that you use already stays.").format(
            name=run.folder.name
        )
        if slicer.util.confirmYesNoDisplay(question):
            self._forget()

    def _update(self) -> None:
        run = self._run()
        self._open.enabled = run is not None
        self._delete.enabled = run is not None and run.status().ended
