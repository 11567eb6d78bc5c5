"""New fine-tuning: what is learned from what, how long, and Start."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ctk
import qt
from slicer.i18n import tr as _

from hierseg.bundle import Bundle
from hierseg.dataset import Dataset
from hierseg.errors import HiersegError
from HierSubclassSegLib.compute import models, presets, runs
from HierSubclassSegLib.compute.launch import train_command
from HierSubclassSegLib.compute.training import TrainingRun
from HierSubclassSegLib.gui import layouts, texts, train_texts, worker
from HierSubclassSegLib.gui.job import Job
from HierSubclassSegLib.gui.message import Message, note_label
from HierSubclassSegLib.scene.work_list import WorkList

LOOK_MS = 300
"""A path that is being typed is looked at when the typing pauses."""


class TrainSetupSection:
    """The choices of a new run; none of them asks for more than the shipped defaults.

    Args:
        started: called with the run.
        changed: called when a choice that is remembered in the scene was made by the user.
        devices: what the worker found, if it has said so.
        resized: called when texts have changed that may wrap.
    """

    def __init__(
        self,
        started: Callable[[TrainingRun], None],
        changed: Callable[[], None],
        devices: Callable[[], Sequence[Mapping[str, Any]]],
        resized: Callable[[], None] = lambda: None,
    ) -> None:
        self._started, self._changed, self._find_devices, self._resized = started, changed, devices, resized
        self._models = models.Models({}, ())
        self._dataset: Dataset | None = None
        self._counting = Job()
        self._filling = self._by_user = False
        self._make_widgets()
        self._later = qt.QTimer()
        self._later.setSingleShot(True)
        self._later.setInterval(LOOK_MS)
        self._later.timeout.connect(self.look)

    @property
    def bundle(self) -> Bundle | None:
        """The starting model."""
        return self._models.bundles.get(self.start.itemData(self.start.currentIndex) or "")

    @property
    def preset(self) -> str:
        """quick, standard or thorough."""
        return str(self.presets.itemData(self.presets.currentIndex) or "standard")

    @property
    def device(self) -> str:
        """As the command line names it."""
        return str(self.devices.itemData(self.devices.currentIndex) or "auto")

    def refresh(self, wanted: str = "") -> None:
        """List models and devices again, and look at the dataset folder again.

        Args:
            wanted: id of the model to start from where none was chosen yet.
        """
        self._filling = True
        chosen = self.bundle.id if self.bundle is not None else wanted
        self._models = models.find_models()
        self.start.clear()
        for bundle in self._models.bundles.values():
            self.start.addItem(f"{bundle.name} {bundle.version}", bundle.id)
        found = models.default_model(self._models, chosen)
        if found is not None:
            self.start.currentIndex = self.start.findData(found.id)
        device = self.device
        self.devices.clear()
        self.devices.addItem(_("Automatic"), "auto")
        for entry in [dict(entry) for entry in self._find_devices()] or [{"name": "cpu"}]:
            self.devices.addItem(texts.device(entry), str(entry["name"]))
        self.devices.currentIndex = max(0, self.devices.findData(device))
        self._filling = False
        self.look()

    def set_dataset(self, path: str) -> None:
        """Choose a dataset folder; what is chosen by the program is not remembered as the user's choice."""
        if path and str(self.folder.currentPath) != path:
            self._filling = True
            self.folder.currentPath = path
            self._filling = False
            self._later.stop()
            self.look()

    def look(self) -> None:
        """See whether a run can be started with what is chosen, and say what stands against it."""
        self._dataset, sentence, hint = None, "", ""
        path = str(self.folder.currentPath).strip()
        try:
            if path:
                self._dataset = Dataset.open(path)
                sentence = self._objection(self._dataset)
        except HiersegError as error:
            sentence, hint = error.sentence, error.hint
        except OSError as error:
            sentence = _("{path} cannot be read ({reason}); choose another dataset folder.").format(
                path=path, reason=error.strerror or error
            )
        if not self._models.bundles and not sentence:
            sentence = _("There is no model to start from: import one on the Segment tab.")
        self.message.say(sentence, error=True, tip=hint)
        tree = self.bundle.tree if self.bundle is not None else None
        self.facts.text = (
            train_texts.dataset(self._dataset, tree)
            if self._dataset is not None
            else ("" if path else _("Choose the dataset folder that you annotated into."))
        )
        self.facts.visible = bool(self.facts.text)
        self.button.enabled = self._dataset is not None and self.bundle is not None and not sentence
        self._counting.cancel()
        if self.button.enabled and self._dataset is not None:
            self._look_for_subclasses(self._dataset)
        self._say_time()
        self._resized()
        if self._by_user and self._dataset is not None:
            self._by_user = False
            self._changed()

    def begin(self) -> None:
        """Start a training that outlives Slicer."""
        self.look()
        bundle, dataset = self.bundle, self._dataset
        if not self.button.enabled or bundle is None or dataset is None:
            return
        if self._is_taken(self.device):
            self.message.say(_("A training is running on this device: stop it, or wait until it is done."), error=True)
            self._resized()
            return
        arguments = ["--quiet", "--background", "--device", self.device]
        if not self.keep.checked:
            arguments += ["--set", "losses.keep=0"]
        if self.trees.itemData(self.trees.currentIndex) == "start":
            arguments += ["--set", "tree=start"]
        try:
            run = TrainingRun.start(
                train_command(worker.python()),
                dataset.folder,
                runs.new_run_folder(dataset.name),
                config=presets.preset(self.preset).config,
                init=bundle.folder,
                arguments=arguments,
                env=worker.startup_environment(),
                info={
                    "dataset": dataset.name,
                    "folder": str(dataset.folder.resolve()),
                    "preset": self.preset,
                    "start": bundle.id,
                    "device": self.device,
                },
            )
        except HiersegError as error:
            self.message.say(error.sentence, error=True, tip=error.hint)
            self._resized()
            return
        self._started(run)

    def close(self) -> None:
        """The module is going."""
        self._later.stop()
        self._counting.cancel()

    # -- inside -----------------------------------------------------------------------------------------------------

    def _is_taken(self, device: str) -> bool:
        """Whether a run that the module started is alive on a device."""
        live = [run for known in runs.find_runs() if not (run := TrainingRun(known.folder)).status().ended]
        taken = {str((run.launch.get("info") or {}).get("device")) for run in live}
        # Automatic may be any.
        return bool(taken & {device, "auto"}) or (device == "auto" and bool(taken))

    def _objection(self, dataset: Dataset) -> str:
        """Why nothing can be learned from a dataset; empty if something can."""
        if not any(case.label is not None for case in dataset.cases("training")):
            return _("{folder}: no case is annotated yet; annotate one and save it to the dataset.").format(
                folder=dataset.folder
            )
        if self.bundle is None:
            return ""
        wanted = models.channel_names(self.bundle)
        if len(wanted) != len(dataset.channels) or (
            sorted(wanted) == sorted(dataset.channels) and wanted != dataset.channels
        ):
            return _("The dataset's images are {given}, but the model expects {wanted}: choose another model.").format(
                given=", ".join(dataset.channels), wanted=", ".join(wanted)
            )
        return ""

    def _look_for_subclasses(self, dataset: Dataset) -> None:
        """Say before Start what the training would refuse after it: without one voxel of a subclass it has no aim."""
        work = WorkList(dataset)

        def counted(_result: None) -> None:
            shares = [work.shares.get(case.id) for case in dataset.cases("training") if case.label is not None]
            # A case that cannot be read is the training's to tell.
            if all(share is not None and share.fine == 0 for share in shares):
                self.button.enabled = False
                sentence = _(
                    "No case shows a subclass yet: refine a structure in some slices and save it to the dataset."
                )
                self.message.say(sentence, error=True)
                self._resized()

        # An error here is none of the user's: Start will tell.
        self._counting.start(work.count_steps, counted, lambda _error: None, wanted=lambda: self._dataset is dataset)

    def _say_time(self, *_arguments: object) -> None:
        if self._filling:
            return
        try:
            chosen = presets.preset(self.preset)
        except HiersegError as error:
            self.message.say(error.sentence, error=True, tip=error.hint)
            return
        seconds = presets.estimate(chosen, self.bundle, self.device) if self.bundle is not None else None
        self.time.text = train_texts.work(chosen.iterations, seconds)

    def _path_changed(self, *_arguments: object) -> None:
        self._later.start()
        self._by_user = not self._filling

    def _start_chosen(self, *_arguments: object) -> None:
        if not self._filling:
            self.look()

    def _make_widgets(self) -> None:
        self.message = Message()
        self.widget = qt.QWidget()
        layout = layouts.column(self.widget, 4)
        form = qt.QFormLayout()
        form.setContentsMargins(0, 0, 0, 0)
        form.setFieldGrowthPolicy(qt.QFormLayout.ExpandingFieldsGrow)
        self.folder = ctk.ctkPathLineEdit()
        self.folder.objectName = "trainDatasetPath"
        self.folder.filters = qt.QDir.Dirs | qt.QDir.Readable
        self.folder.toolTip = _("The dataset folder that annotations were saved to")
        self.folder.currentPathChanged.connect(self._path_changed)
        self.facts = note_label()
        self.start = self._combo("trainStartCombo", _("The model whose knowledge the training begins with"))
        self.start.currentIndexChanged.connect(self._start_chosen)
        self.presets = self._combo("presetCombo", _("How much is trained"))
        for name in presets.NAMES:
            self.presets.addItem(train_texts.preset(name), name)
        self.presets.currentIndex = 0
        self.presets.currentIndexChanged.connect(self._say_time)
        self.time = note_label()
        form.addRow(_("Dataset:"), self.folder)
        form.addRow(self.facts)
        form.addRow(_("Start from:"), self.start)
        form.addRow(_("Length:"), self.presets)
        form.addRow(self.time)
        layout.addLayout(form)
        self.options = ctk.ctkCollapsibleButton()
        self.options.objectName = "trainOptionsButton"
        self.options.text = _("Options")
        self.options.collapsed = True
        self.options.contentsCollapsed.connect(lambda _folded: self._resized())
        more = qt.QFormLayout(self.options)
        self.trees = self._combo("treeCombo", _("Which structures the new model tells apart"))
        self.trees.addItem(_("The dataset's"), "dataset")
        self.trees.addItem(_("The starting model's"), "start")
        self.devices = self._combo("trainDeviceCombo", _("Where the training computes"))
        self.devices.addItem(_("Automatic"), "auto")
        self.devices.currentIndexChanged.connect(self._say_time)
        self.keep = qt.QCheckBox(_("Replay what the starting model knows"))
        self.keep.objectName = "keepCheck"
        self.keep.toolTip = _(
            "Where no subclass was drawn, the model goes on learning the starting model's own answers. "
            "Without it, a few strokes can make it forget the rest."
        )
        self.keep.checked = True
        more.addRow(_("Label tree:"), self.trees)
        more.addRow(_("Device:"), self.devices)
        more.addRow(self.keep)
        self.button = qt.QPushButton(_("Start fine-tuning"))
        self.button.objectName = "startTrainingButton"
        self.button.setMinimumHeight(32)
        self.button.enabled = False
        self.button.toolTip = _("Train in the background; it goes on when Slicer is closed")
        self.button.clicked.connect(self.begin)
        for part in (self.options, self.message.widget, self.button):
            layout.addWidget(part)

    def _combo(self, name: str, tip: str) -> qt.QComboBox:
        combo = qt.QComboBox()
        combo.objectName = name
        combo.toolTip = tip
        # Long names must not make the panel wider than it is.
        combo.setSizeAdjustPolicy(qt.QComboBox.AdjustToMinimumContentsLengthWithIcon)
        combo.setMinimumContentsLength(12)
        combo.setSizePolicy(qt.QSizePolicy.Expanding, qt.QSizePolicy.Fixed)
        return combo
