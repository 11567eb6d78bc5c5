"""Segment: Apply or Cancel, a bar with what is done and how long it takes, and, folded, the device and the log."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from typing import Any

import ctk
import qt
import slicer
from slicer.i18n import tr as _

import hierseg
from hierseg.bundle import Bundle
from hierseg.errors import HiersegError
from HierSubclassSegLib.compute.jobs import PredictionResult, RemoteError
from HierSubclassSegLib.compute.overall import Overall
from HierSubclassSegLib.compute.segmenter import Segmenter
from HierSubclassSegLib.gui import texts, worker
from HierSubclassSegLib.gui.message import Message
from HierSubclassSegLib.scene import prediction
from HierSubclassSegLib.scene.inputs import images_of

BUSY_MS = 50
IDLE_MS = 500
LOG_LINES = 2000


class SegmentSection:
    """Runs the chosen model on the chosen volumes.

    Args:
        finished: called with the new segmentation node.
        device_chosen: called with the worker's name of a device.
    """

    def __init__(self, finished: Callable[[Any], None], device_chosen: Callable[[str], None]) -> None:
        self._finished, self._device_chosen = finished, device_chosen
        self._bundle: Bundle | None = None
        self._volumes: list[Any] = []
        self._running_on: list[Any] = []
        self._device = "auto"
        self._filling = False
        self.segmenter = Segmenter(
            worker.connect,
            on_progress=self._advanced,
            on_result=self._succeeded,
            on_error=self._failed,
            on_log=self._logged,
            on_worker=self._worker_started,
        )
        self._timer = qt.QTimer()
        self._timer.timeout.connect(self._poll)
        self._make_widgets()
        self._show_state()

    # -- what is to be run ------------------------------------------------------------------------------------------

    def set_case(self, bundle: Bundle | None, volumes: list[Any], runnable: bool) -> None:
        """What Apply works on.

        Args:
            bundle: the model.
            volumes: one a channel.
            runnable: whether they fit.
        """
        self._bundle, self._volumes = bundle, list(volumes)
        self._ready = bundle is not None and runnable
        self._show_state()

    def set_device(self, device: str) -> None:
        """Choose a device by the worker's name; one that is not there (yet) is kept and shown."""
        self._device = device or "auto"
        self._fill_devices(self.segmenter.worker.get("devices", ()))

    def discard(self) -> None:
        """Forget the run: the scene that it belongs to is going."""
        self._running_on = []
        self.segmenter.discard()
        self._show_state()

    def close(self) -> None:
        """End the worker; the module, or Slicer, is going."""
        self._timer.stop()
        self.segmenter.close(timeout=1.0)

    # -- the buttons ------------------------------------------------------------------------------------------------

    def apply(self) -> None:
        """Start a run, or cancel the one that is going on."""
        if self.segmenter.running:
            self.segmenter.cancel()
            self.stage.text = _("Canceling…")
            self._show_state()
            return
        if not self._ready or self._bundle is None:
            return
        self.message.say("")
        try:
            self.segmenter.start(images_of(self._volumes), self._bundle, device=self._device)
        except HiersegError as error:
            self.message.say(error.sentence, error=True, tip=error.hint)
        else:
            self._running_on = list(self._volumes)
        self._show_state()

    def copy_diagnostics(self) -> None:
        """Put versions, devices and the log on the clipboard; the volumes' names stay out of it."""
        slicer.app.clipboard().setText("\n".join(self._diagnostics()))
        self.copied.text = _("Copied")
        qt.QTimer.singleShot(1500, lambda: self.copied.setText(_("Copy diagnostics")))

    # -- the segmenter's calls --------------------------------------------------------------------------------------

    def _advanced(self, state: Overall) -> None:
        self.bar.value = round(1000 * state.fraction)
        if not self.segmenter.canceling:
            self.stage.text = texts.progress(state)

    def _succeeded(self, result: PredictionResult) -> None:
        volumes, self._running_on = self._running_on, []
        self._show_state()
        gone = next((volume for volume in volumes if not slicer.mrmlScene.IsNodePresent(volume)), None)
        if gone is not None or not volumes:
            self.message.say(_("The volume was removed while it was segmented; there is no result."), error=True)
            return
        try:
            node = prediction.create_prediction(
                volumes,
                result.tree,
                result.labels,
                result.superclass,
                result.confidence,
                bundle_id=result.bundle,
                affine=result.affine,
            )
        except HiersegError as error:
            self.message.say(error.sentence, error=True, tip=error.hint)
            return
        seconds = texts.duration(sum(result.stages.values()))
        self.message.say(" ".join([_("Done in {time}.").format(time=seconds), *result.notes]))
        self._finished(node)

    def _failed(self, error: RemoteError) -> None:
        self._running_on = []
        if error.canceled:
            self.message.say(_("Canceled; nothing was changed."))
        else:
            self.message.say(error.sentence, error=True, tip=error.hint)
            if error.traceback:
                self._logged(error.traceback)
        self._show_state()

    def _logged(self, line: str) -> None:
        self.log.appendPlainText(line)

    def _worker_started(self, fields: Mapping[str, Any]) -> None:
        self._fill_devices(fields.get("devices", ()))
        if fields.get("problem"):
            self.message.say(str(fields["problem"]), error=True)

    def _poll(self) -> None:
        self.segmenter.poll()
        self._timer.setInterval(BUSY_MS if self.segmenter.running else IDLE_MS)
        if not self.segmenter.busy:
            self._timer.stop()

    # -- inside -----------------------------------------------------------------------------------------------------

    def _make_widgets(self) -> None:
        self._ready = False
        self.button = qt.QPushButton()
        self.button.objectName = "applyButton"
        self.button.setMinimumHeight(32)
        self.button.clicked.connect(self.apply)
        self.bar = qt.QProgressBar()
        self.bar.setRange(0, 1000)
        self.bar.textVisible = False
        self.bar.setMaximumHeight(8)
        self.stage = qt.QLabel()
        self.message = Message()
        self.widget = qt.QWidget()
        layout = qt.QVBoxLayout(self.widget)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        for part in (self.button, self.bar, self.stage, self.message.widget):
            layout.addWidget(part)
        self.options = ctk.ctkCollapsibleButton()
        self.options.objectName = "optionsButton"
        self.options.text = _("Options and log")
        self.options.collapsed = True
        form = qt.QFormLayout(self.options)
        self.devices = qt.QComboBox()
        self.devices.objectName = "deviceCombo"
        self.devices.toolTip = _("Where the model computes")
        self.devices.setSizePolicy(qt.QSizePolicy.Ignored, qt.QSizePolicy.Fixed)
        self._fill_devices(())
        self.devices.currentIndexChanged.connect(self._device_picked)
        self.log = qt.QPlainTextEdit()
        self.log.readOnly = True
        self.log.maximumBlockCount = LOG_LINES
        self.log.setFixedHeight(120)
        self.log.placeholderText = _("What the worker says appears here.")
        self.copied = qt.QPushButton(_("Copy diagnostics"))
        self.copied.clicked.connect(self.copy_diagnostics)
        form.addRow(_("Device:"), self.devices)
        form.addRow(self.log)
        form.addRow(self.copied)
        self.options.contentsCollapsed.connect(self._options_folded)

    def _options_folded(self, folded: bool) -> None:
        if folded or self.segmenter.worker:
            return
        # Which devices there are, only a worker can tell: this half never imports torch.
        try:
            self.segmenter.warm_up()
        except HiersegError as error:
            self.message.say(error.sentence, error=True, tip=error.hint)
        self._start_timer()

    def _fill_devices(self, devices: Any) -> None:
        self._filling = True
        self.devices.clear()
        self.devices.addItem(_("Automatic"), "auto")
        known = [dict(entry) for entry in devices] or [{"name": "cpu"}]
        for entry in known:
            self.devices.addItem(texts.device(entry), str(entry["name"]))
        if self.devices.findData(self._device) < 0:
            self.devices.addItem(self._device, self._device)
        self.devices.currentIndex = self.devices.findData(self._device)
        self._filling = False

    def _device_picked(self, *_arguments: object) -> None:
        if not self._filling:
            self._device = str(self.devices.itemData(self.devices.currentIndex) or "auto")
            self._device_chosen(self._device)

    def _show_state(self) -> None:
        running, canceling = self.segmenter.running, self.segmenter.canceling
        self.button.text = _("Cancel") if running else _("Apply")
        self.button.enabled = not canceling if running else self._ready
        self.button.toolTip = _("Stop; the scene stays as it was") if running else _("Segment the volume")
        self.bar.visible = running
        self.stage.visible = running
        if running:
            self._start_timer()
        else:
            self.bar.value = 0

    def _start_timer(self) -> None:
        if not self._timer.active:
            self._timer.start(BUSY_MS)
        else:
            self._timer.setInterval(BUSY_MS)

    def _diagnostics(self) -> list[str]:
        said = self.segmenter.worker
        facts = {key: said.get(key) for key in ("python", "hierseg", "torch", "cuda", "monai", "cores", "problem")}
        return [
            f"HierSubclassSeg {hierseg.__version__}, Slicer {slicer.app.applicationVersion}, {platform.platform()}",
            f"model: {self._bundle.id if self._bundle is not None else 'none'}; device: {self._device}",
            "worker: " + ", ".join(f"{key} {value}" for key, value in facts.items() if value),
            *[f"device: {dict(entry)}" for entry in said.get("devices", ())],
            str(self.log.plainText),
        ]
