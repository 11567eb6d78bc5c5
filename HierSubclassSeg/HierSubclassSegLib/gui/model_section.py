"""Model: which bundle is used, what is known of it, and import, export, delete."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from hierseg.bundle import Bundle, export_bundle, import_bundle
from hierseg.errors import HiersegError
from hierseg.resources import models_folder
from HierSubclassSegLib.compute import models
from HierSubclassSegLib.gui import layouts, texts, timings
from HierSubclassSegLib.gui.background import Background
from HierSubclassSegLib.gui.message import Message, note_label


class ModelSection:
    """A list of bundles, a line about the chosen one, a menu.

    Args:
        changed: called when another bundle is chosen.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._models = models.Models({}, ())
        self._filling = False
        self._ml = 0.0
        self._background = Background()
        self.combo = layouts.combo("modelCombo")
        self.combo.currentIndexChanged.connect(self._chosen)
        self.button = qt.QToolButton()
        self.button.objectName = "modelMenuButton"
        self.button.text = "…"
        self.button.toolTip = _("Import, export or delete a model")
        self.button.popupMode = qt.QToolButton.InstantPopup
        self.about = note_label()
        self.about.objectName = "modelAbout"
        self.message = Message()
        self.row = layouts.row(self.combo, self.button)
        self._make_menu()

    @property
    def bundle(self) -> Bundle | None:
        """The chosen bundle."""
        return self._models.bundles.get(self.combo.itemData(self.combo.currentIndex) or "")

    def refresh(self, wanted: str = "") -> None:
        """List the bundles again and choose ``wanted``, or keep the choice, or take the first."""
        wanted = wanted or (self.bundle.id if self.bundle is not None else "")
        self._models = models.find_models()
        chosen = models.default_model(self._models, wanted)
        self._filling = True
        self.combo.clear()
        for bundle in self._models.bundles.values():
            self.combo.addItem(f"{bundle.name} {bundle.version}", bundle.id)
        if chosen is not None:
            self.combo.currentIndex = self.combo.findData(chosen.id)
        self._filling = False
        self.combo.enabled = bool(self._models.bundles)
        problem = self._models.problems[0] if self._models.problems else ""
        if not self._models.bundles:
            problem = problem or _("There is no model yet: import one with the … button.")
        self.message.say(problem, error=bool(problem))
        self._chosen()

    def choose(self, bundle_id: str) -> None:
        """Choose a bundle by its id; nothing happens if it is not there."""
        index = self.combo.findData(bundle_id)
        if index >= 0:
            self.combo.currentIndex = index

    def set_extent(self, ml: float) -> None:
        """How large the volume is: it decides how long the model will take."""
        self._ml = ml
        self._show_about()

    def import_from(self, path: str) -> None:
        """Import a bundle from a folder or a zip archive; hashes are checked, which takes its time: in a thread."""
        if not path or self._background.busy:
            return

        def imported(bundle: Bundle | None, error: BaseException | None) -> None:
            if bundle is None:
                self._refused(_("The model cannot be imported: {reason}."), error)
            else:
                self.refresh(bundle.id)

        self._begin(_("Importing…"), lambda: import_bundle(path), imported)

    def export_to(self, path: str) -> None:
        """Write the chosen bundle as a zip archive, in a thread."""
        bundle = self.bundle
        if not path or bundle is None or self._background.busy:
            return

        def exported(written: Path | None, error: BaseException | None) -> None:
            if written is None:
                self._refused(_("The model cannot be exported: {reason}."), error)
            else:
                self.message.say(_("Exported to {path}.").format(path=written))

        self._begin(_("Exporting…"), lambda: export_bundle(bundle, path), exported)

    def close(self) -> None:
        """Tell nobody of an import that is going on."""
        self._background.forget()

    def delete(self) -> None:
        """Delete the chosen bundle if it is the user's own."""
        if self.bundle is None:
            return
        try:
            models.delete_model(self.bundle)
        except HiersegError as error:
            self.message.say(error.sentence, error=True, tip=error.hint)
            return
        self.refresh()

    def _begin(self, text: str, work: Callable[[], Any], done: Callable[[Any, BaseException | None], None]) -> None:
        self.message.say(text)
        self.button.enabled = False

        def ended(result: Any, error: BaseException | None) -> None:
            self.button.enabled = True
            done(result, error)

        self._background.start(work, ended)

    def _refused(self, text: str, error: BaseException | None) -> None:
        if isinstance(error, HiersegError):
            self.message.say(error.sentence, error=True, tip=error.hint)
        elif isinstance(error, OSError):
            self.message.say(text.format(reason=error.strerror or error), error=True)
        else:
            self.message.say(text.format(reason=error), error=True)

    # -- menu -------------------------------------------------------------------------------------------------------

    def _make_menu(self) -> None:
        # Kept: a menu that nothing refers to is gone.
        self._menu = qt.QMenu(self.button)
        for text, called in (
            (_("Import from zip…"), self._ask_zip),
            (_("Import from folder…"), self._ask_folder),
            (_("Export as zip…"), self._ask_target),
            (_("Delete this model…"), self._ask_delete),
            (_("Open models folder"), self._open_folder),
        ):
            self._menu.addAction(text).triggered.connect(called)
        self._menu.aboutToShow.connect(self._update_menu)
        self.button.setMenu(self._menu)

    def _update_menu(self) -> None:
        export, delete = self._menu.actions()[2:4]
        export.enabled = self.bundle is not None
        delete.enabled = self.bundle is not None and models.is_own(self.bundle)

    def _ask_zip(self) -> None:
        title = _("Import a model")
        self.import_from(qt.QFileDialog.getOpenFileName(self.row, title, "", _("Model archives") + " (*.zip)"))

    def _ask_folder(self) -> None:
        self.import_from(qt.QFileDialog.getExistingDirectory(self.row, _("Import a model")))

    def _ask_target(self) -> None:
        if self.bundle is not None:
            title, name = _("Export the model"), f"{self.bundle.name}-{self.bundle.version}.zip"
            self.export_to(qt.QFileDialog.getSaveFileName(self.row, title, name, _("Model archives") + " (*.zip)"))

    def _ask_delete(self) -> None:
        if self.bundle is not None:
            question = _("Delete the model {name}? This cannot be undone.").format(name=self.bundle.id)
            if slicer.util.confirmYesNoDisplay(question):
                self.delete()

    def _open_folder(self) -> None:
        folder: Path = self.bundle.folder.parent if self.bundle is not None else models_folder()
        folder.mkdir(parents=True, exist_ok=True)
        qt.QDesktopServices.openUrl(qt.QUrl("file:///" + str(folder).lstrip("/"), qt.QUrl.TolerantMode))

    def _chosen(self, *_arguments: object) -> None:
        if self._filling:
            return
        self._show_about()
        self._changed()

    def _show_about(self) -> None:
        bundle = self.bundle
        self.about.visible = bundle is not None
        if bundle is not None:
            self.about.text = texts.about_model(bundle, timings.expected(bundle, self._ml))
            self.about.toolTip = texts.model_tip(bundle)
            self.about.fit()
