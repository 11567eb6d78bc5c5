"""Runs: which are there, where the chosen one stands, and what came of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt
from slicer.i18n import tr as _

from hierseg.bundle import Bundle, import_bundle
from hierseg.errors import HiersegError
from hierseg.labeltree import LabelTree
from hierseg.resources import models_folder
from HierSubclassSegLib.compute import presets, runs
from HierSubclassSegLib.compute.history import History
from HierSubclassSegLib.compute.models import find_models
from HierSubclassSegLib.compute.training import TrainingRun, TrainingStatus
from HierSubclassSegLib.gui import layouts, train_texts, worker
from HierSubclassSegLib.gui.message import Message
from HierSubclassSegLib.gui.train_curve import TrainCurve
from HierSubclassSegLib.gui.train_run_menu import TrainRunMenu
from HierSubclassSegLib.gui.train_scores import TrainScores

FOLLOW_MS = 1000
ELSEWHERE_SETTING = "HierSubclassSeg/TrainingRuns"
"""In Slicer's settings: folders of runs that were started outside the module."""


class TrainRunSection:
    """Follows a run by the files in its folder; nothing of the run depends on the panel.

    Args:
        use_model: called with the id of a bundle that was put among the user's models.
        resized: called when texts have changed that may wrap.
    """

    def __init__(self, use_model: Callable[[str], None], resized: Callable[[], None] = lambda: None) -> None:
        self._use_model, self._resized = use_model, resized
        self.run: TrainingRun | None = None
        self.status: TrainingStatus | None = None
        self.history: History | None = None
        self._known: list[runs.KnownRun] = []
        self._tree: LabelTree | None = None
        self._start: Bundle | None = None
        self._filling = False
        self.curve = TrainCurve()
        self.scores = TrainScores()
        self.menu = TrainRunMenu(lambda: self.run, self.follow_elsewhere, self.forget)
        self._make_widgets()
        self._timer = qt.QTimer()
        self._timer.setInterval(FOLLOW_MS)
        self._timer.timeout.connect(self.poll)

    # -- which run --------------------------------------------------------------------------------------------------

    def refresh(self, wanted: Path | None = None) -> None:
        """List the runs again; choose ``wanted``, or keep the choice, or take one that lives, or the newest."""
        self._known = runs.find_runs(self._elsewhere())
        wanted = wanted or (self.run.folder if self.run is not None else None)
        states = [TrainingRun(known.folder).status() for known in self._known]
        index = next((i for i, known in enumerate(self._known) if wanted is not None and known.folder == wanted), -1)
        if index < 0:
            index = next((i for i, status in enumerate(states) if not status.ended), 0 if states else -1)
        self._filling = True
        self.choice.clear()
        for known, status in zip(self._known, states, strict=True):
            self.choice.addItem(train_texts.run_title(known, status), str(known.folder))
        self.choice.currentIndex = index
        self._filling = False
        self.widget.visible = bool(self._known)
        self._chosen()

    def latest_dataset(self) -> str:
        """The dataset folder of the newest run that the module started; empty if it is not there any more."""
        for known in runs.find_runs():
            info = TrainingRun(known.folder).launch.get("info")
            folder = str(info.get("folder") or "") if isinstance(info, dict) else ""
            if folder and Path(folder, "dataset.json").is_file():
                return folder
        return ""

    def follow(self, run: TrainingRun) -> None:
        """Show a run that was just started."""
        self.refresh(run.folder)

    def follow_elsewhere(self, folder: str) -> None:
        """Show a run that was started in a terminal, and remember where it lies."""
        if not folder:
            return
        try:
            run = TrainingRun.attach(folder)
        except HiersegError as error:
            self.message.say(error.sentence, error=True, tip=error.hint)
            return
        listed = [entry for entry in self._elsewhere() if entry != str(run.folder)]
        qt.QSettings().setValue(ELSEWHERE_SETTING, "\n".join([str(run.folder), *listed]))
        self.refresh(run.folder)

    def forget(self) -> None:
        """Delete the chosen run if it is the module's own, else take it out of the list."""
        if self.run is None:
            return
        folder = self.run.folder
        if str(folder) in self._elsewhere():
            left = [entry for entry in self._elsewhere() if entry != str(folder)]
            qt.QSettings().setValue(ELSEWHERE_SETTING, "\n".join(left))
        else:
            try:
                runs.delete_run(folder)
            except HiersegError as error:
                self.message.say(error.sentence, error=True, tip=error.hint)
                return
        self.run = None
        self.refresh()

    # -- following --------------------------------------------------------------------------------------------------

    def enter(self) -> None:
        """The tab is shown: look for runs, and follow."""
        self.refresh()

    def leave(self) -> None:
        """The tab is not shown: the run goes on without being looked at, and the scene is left without the curve."""
        self._timer.stop()
        self.curve.remove()

    def close(self) -> None:
        """The module is going; the run is not."""
        self._timer.stop()
        self.curve.close()

    def poll(self) -> None:
        """Look once."""
        if self.run is None or self.history is None:
            self._timer.stop()
            return
        # Events first: they are written before the status that goes with them.
        self.status = self.run.status()
        self.history.refresh()
        self._learn_pace()
        self._show()
        self._rename()
        if self.status.ended:
            self._timer.stop()
        elif not self._timer.active:
            self._timer.start()

    # -- the buttons ------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """End the run after its current iteration; its best model is kept."""
        if self.run is None:
            return
        try:
            self.run.stop()
        except OSError as error:
            self.message.say(
                _("The run cannot be told to stop ({reason}); free some space.").format(reason=error.strerror or error),
                error=True,
            )
            return
        self.stop_button.enabled = False
        self.stage.text = _("Stopping; the best model is kept")

    def go_on(self) -> None:
        """Start a run that was killed, or failed, again from its last checkpoint."""
        if self.run is None:
            return
        try:
            self.run.go_on(worker.startup_environment())
        except HiersegError as error:
            self.message.say(error.sentence, error=True, tip=error.hint)
            return
        self.refresh(self.run.folder)

    def use_model(self) -> None:
        """Put the run's model among the user's models and choose it for segmenting."""
        folder = self.run.bundle if self.run is not None else None
        if folder is None:
            return
        try:
            bundle = Bundle.open(folder)
            if bundle.id not in find_models(models_folder()).bundles:
                bundle = import_bundle(folder)
        except HiersegError as error:
            self.message.say(error.sentence, error=True, tip=error.hint)
            return
        except OSError as error:
            self.message.say(
                _("The model cannot be imported: {reason}.").format(reason=error.strerror or error), error=True
            )
            return
        self._use_model(bundle.id)

    # -- inside -----------------------------------------------------------------------------------------------------

    def _chosen(self, *_arguments: object) -> None:
        if self._filling:
            return
        index = int(self.choice.currentIndex)
        folder = self._known[index].folder if 0 <= index < len(self._known) else None
        if folder is None:
            self.run = self.history = self.status = None
            self.curve.show(None)
            return
        self.run = TrainingRun(folder)
        self.history = History(self.run)
        self._tree = self._start = None
        self.poll()

    def _show(self) -> None:
        assert self.run is not None
        assert self.status is not None
        status, bundle = self.status, self.run.bundle
        live = not status.ended
        self.bar.visible = self.stage.visible = self.stop_button.visible = live
        self.bar.value = round(1000 * status.fraction)
        if not (self.run.stop_file.exists() and live):
            self.stage.text = train_texts.stage(status)
            self.stop_button.enabled = status.state in ("starting", "running")
        self.use_button.visible = bundle is not None and not live
        self.go_on_button.visible = not live and bundle is None and bool(self.run.launch.get("command"))
        self._say(status)
        self.curve.show(self.history)
        if self._tree is None:
            self._tree = self._read_tree()
        self.scores.show(self.history, self._tree)
        self._resized()

    def _say(self, status: TrainingStatus) -> None:
        assert self.history is not None
        if status.state == "failed":
            self.message.say(_sentence(status.message), error=True, tip="\n".join(status.log_tail))
        elif status.stalled:
            self.message.say(
                _("The training has not said anything for two minutes; it may hang. Stop it, or wait."), error=True
            )
        elif status.ended:
            self.message.say(_sentence(status.message))
        else:
            self.message.say(train_texts.warning(self.history), tip="\n".join(self.history.notes))

    def _read_tree(self) -> LabelTree | None:
        """The tree that the run learns, as it wrote it down."""
        assert self.run is not None
        try:
            return LabelTree.load(self.run.folder / "label_tree.json")
        except HiersegError:
            return None

    def _learn_pace(self) -> None:
        """What an iteration takes here is remembered for the next estimate."""
        assert self.run is not None
        assert self.history is not None
        seconds = self.history.seconds_per_iteration
        info = self.run.launch.get("info")
        if seconds is None or not isinstance(info, dict) or self.status is None or self.status.ended:
            return
        if self._start is None:
            self._start = find_models().bundles.get(str(info.get("start")))
        if self._start is not None:
            batch = presets.preset(str(info.get("preset"))).batch_size
            presets.remember(self._start.config, str(info.get("device") or "auto"), seconds / batch)

    def _rename(self) -> None:
        """The list says where the run stands."""
        index = int(self.choice.currentIndex)
        if 0 <= index < len(self._known) and self.status is not None:
            title = train_texts.run_title(self._known[index], self.status)
            if str(self.choice.itemText(index)) != title:
                self.choice.setItemText(index, title)

    def _elsewhere(self) -> list[str]:
        stored = qt.QSettings().value(ELSEWHERE_SETTING) or ""
        return [line for line in str(stored).split("\n") if line]

    def _make_widgets(self) -> None:
        self.message = Message()
        self.widget = qt.QWidget()
        layout = qt.QVBoxLayout(self.widget)
        layout.setContentsMargins(0, 8, 0, 0)
        layout.setSpacing(4)
        self.choice = qt.QComboBox()
        self.choice.objectName = "runCombo"
        self.choice.toolTip = _("Trainings on this computer, also those that began before Slicer was closed")
        self.choice.setSizeAdjustPolicy(qt.QComboBox.AdjustToMinimumContentsLengthWithIcon)
        self.choice.setMinimumContentsLength(12)
        self.choice.currentIndexChanged.connect(self._chosen)
        top = qt.QHBoxLayout()
        top.addWidget(qt.QLabel(_("Run:")))
        top.addWidget(self.choice, 1)
        top.addWidget(self.menu.button)
        layout.addLayout(top)
        self.bar = layouts.thin_bar()
        self.stage = qt.QLabel()
        self.stop_button = self._button("stopTrainingButton", _("Stop and keep the best"), self.stop)
        self.go_on_button = self._button("resumeTrainingButton", _("Go on from the last checkpoint"), self.go_on)
        self.use_button = self._button("useModelButton", _("Use this model"), self.use_model)
        self.use_button.toolTip = _("Add it to your models and choose it on the Segment tab")
        parts = (self.bar, self.stage, self.stop_button, self.message.widget, self.go_on_button, self.use_button)
        for part in (*parts, self.scores.widget, self.curve.widget):
            layout.addWidget(part)

    def _button(self, name: str, text: str, called: Callable[[], None]) -> Any:
        button = qt.QPushButton(text)
        button.objectName = name
        button.setMinimumHeight(28)
        button.clicked.connect(called)
        return button


def _sentence(text: str) -> str:
    """A message as a sentence on its own."""
    return text[:1].upper() + text[1:]
