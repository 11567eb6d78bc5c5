"""Segment: Apply or Cancel, a bar with what is done and how long it takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from hierseg.bundle import Bundle
from hierseg.errors import HiersegError
from HierSubclassSegLib.compute.jobs import PredictionResult, RemoteError
from HierSubclassSegLib.compute.overall import Overall
from HierSubclassSegLib.compute.prepare import copy_steps
from HierSubclassSegLib.compute.segmenter import Segmenter
from HierSubclassSegLib.compute.setup_worker import explain_death
from HierSubclassSegLib.gui import layouts, texts, timings, worker
from HierSubclassSegLib.gui.job import Job
from HierSubclassSegLib.gui.message import Message
from HierSubclassSegLib.gui.run import Run
from HierSubclassSegLib.gui.run_options import RunOptions
from HierSubclassSegLib.scene import geometry
from HierSubclassSegLib.scene.tags import SceneError
from HierSubclassSegLib.ticks import Steps

BUSY_MS = 30
IDLE_MS = 500


class SegmentSection:
    """Runs the chosen model on the chosen volumes.

    Args:
        finished: called with the new segmentation node.
        device_chosen: called with the worker's name of a device.
        lacking: called when a worker says that something is missing.
        set_up: called when the user wants to see the setup.

    Attributes:
        widget: the button, the bar, the stage and a sentence.
        options: what is folded below.
    """

    def __init__(
        self,
        finished: Callable[[Any], None],
        device_chosen: Callable[[str], None],
        lacking: Callable[[], None],
        set_up: Callable[[], None],
    ) -> None:
        self._finished, self._lacking = finished, lacking
        self._bundle: Bundle | None = None
        self._volumes: list[Any] = []
        self._ready = False
        self._run: Run | None = None
        # Images on their way to the worker, or a result on its way into the scene: a large one takes longer than the GUI
        # may be held.
        self._work = Job()
        self._said: list[str] = []
        self._device = ""
        self._logged: tuple[int, str] = (0, "")
        self.options = RunOptions(device_chosen, self._find_devices, set_up)
        self.options.facts = self._facts
        self.segmenter = Segmenter(
            worker.connect,
            on_progress=self._advanced,
            on_result=self._answered,
            on_error=self._failed,
            on_log=self.options.add_line,
            on_worker=self._worker_started,
        )
        self._timer = qt.QTimer()
        self._timer.timeout.connect(self._poll)
        self._make_widgets()
        self._show_state()

    # -- what is to be run ------------------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Whether Apply was pressed and its result is not there yet."""
        return self._run is not None

    def set_case(self, bundle: Bundle | None, volumes: list[Any], runnable: bool) -> None:
        """What Apply works on.

        Args:
            bundle: the model.
            volumes: one a channel.
            runnable: whether they fit.
        """
        self._bundle, self._volumes = bundle, list(volumes)
        self._ready = bundle is not None and runnable
        self.options.set_volume(volumes[0] if volumes else None)
        self._show_state()

    def renew_worker(self) -> None:
        """End the worker: another Python was chosen, or its packages have changed."""
        if self._run is not None:
            self._run.forget()
        self.discard()
        self.segmenter.close()
        self._start_timer()

    def discard(self) -> None:
        """Forget a run and its result; its scene is gone."""
        self.segmenter.discard()
        self._work.cancel()
        self._run = None
        self.message.say("")
        self._show_state()

    def close(self) -> None:
        """End the worker, with the module or the application."""
        self.discard()
        self._timer.stop()
        # The worker ends when its stdin closes; the event loop may be at its end, so this is the place to wait.
        self.segmenter.close(timeout=2.0)
        self.options.close()

    def apply(self) -> None:
        """Start, or cancel what was started."""
        if self._run is not None:
            self._cancel()
            return
        if not self._ready or self._bundle is None:
            return
        self.message.say("")
        self._said, self._logged = [], (0, "")
        try:
            self._run = Run(self._bundle, self._volumes, self.options.roi, self.options.every_frame)
            self._start_frame()
        except HiersegError as error:
            self._run = None
            self.message.say(error.sentence, error=True, tip=error.hint)
        self._show_state()

    # -- a run ------------------------------------------------------------------------------------------------------

    def _start_frame(self) -> None:
        run = self._run
        if run is None:
            return
        images = run.images()
        self._begin(
            run,
            lambda: copy_steps(images),
            lambda copies: self.segmenter.start(copies, run.bundle, device=self.options.device),
            _("The volume was removed; there is no result."),
        )

    def _begin(self, run: Run, make: Callable[[], Steps[Any]], done: Callable[[Any], None], gone: str) -> None:
        """Do a part of a run in small steps; ``gone`` is said if its volume has left the scene."""
        self._work.start(
            make,
            partial(self._or_end, done),
            lambda error: self._ended(error.sentence, error=True, tip=error.hint),
            wanted=lambda: not run.gone,
            gone=lambda: self._ended(gone, error=True),
        )

    def _or_end(self, do: Callable[[Any], None], result: Any) -> None:
        try:
            do(result)
        except HiersegError as error:
            self._ended(error.sentence, error=True, tip=error.hint)

    def _cancel(self) -> None:
        self.stage.text = _("Canceling…")
        if self.segmenter.running:
            self.segmenter.cancel()
        elif self._work.busy:
            self._work.cancel()
            self._ended(_("Canceled; nothing was changed."))
        self._show_state()

    def _advanced(self, state: Overall) -> None:
        run = self._run
        done, count = (run.frame, run.count) if run is not None else (0, 1)
        if (done, state.stage) != self._logged:
            self._logged = (done, state.stage)
            self.options.add_line(f"{time.strftime('%H:%M:%S')} {texts.stage(state.stage)}")
        self.bar.value = round(1000 * (done + state.fraction) / count)
        if not self.segmenter.canceling:
            frame = _("Frame {number} of {count}: ").format(number=done + 1, count=count) if count > 1 else ""
            self.stage.text = frame + texts.progress(state)

    def _answered(self, result: PredictionResult) -> None:
        """The worker has the result; it goes into the scene in small steps."""
        run = self._run
        if run is None:
            return
        self._said += [note for note in result.notes if note not in self._said]
        self._device = result.device
        gone = _("The volume was removed while it was segmented; there is no result.")
        if run.gone:
            self._ended(gone, error=True)
            return
        try:
            self._begin(run, lambda: run.importing(result), self._take, gone)
        except HiersegError as error:
            self._ended(error.sentence, error=True, tip=error.hint)
            return
        self.stage.text = _("Showing the result")
        self._show_state()

    def _take(self, arrived: Any) -> None:
        """What is in the scene is shown, or the next frame is begun."""
        run = self._run
        if run is None:
            return
        node = run.take(arrived)
        if node is not None:
            self._succeeded(run, node)
        else:
            self._start_frame()

    def _succeeded(self, run: Run, node: Any) -> None:
        if run.region is None:
            timings.remember(run.bundle, run.seconds, extent_ml(run.volumes), self._device)
        done = _("Done in {time}.").format(time=texts.duration(run.seconds * run.count))
        self._run = None
        self.message.say(" ".join([done, *self._said]))
        self._show_state()
        self._finished(node)

    def _failed(self, error: RemoteError) -> None:
        if error.canceled:
            self._ended(_("Canceled; nothing was changed."))
            return
        if error.traceback:
            self.options.add_line(error.traceback)
        code = f" ({error.code})" if error.code else ""
        sentence, hint = error.sentence, error.hint
        unknown = error.kind == "WorkerDied" and not self.segmenter.worker
        if unknown:
            sentence, hint = explain_death(error, self.segmenter.diagnostics, _("The worker"))
        self._ended(sentence, error=True, tip=(hint + code).strip())
        if unknown:
            # It never said hello: what it needs may not be there.
            self._lacking()

    def _ended(self, text: str, *, error: bool = False, tip: str = "") -> None:
        """Without a new result, but for frames that were done before."""
        run, self._run = self._run, None
        kept = run.stop() if run is not None else None
        if kept is not None and run is not None:
            text = _("{sentence} The first {count} frames are kept.").format(sentence=text, count=run.frame)
        self.message.say(text, error=error, tip=tip)
        self._show_state()
        if kept is not None:
            self._finished(kept)

    def _find_devices(self) -> None:
        """Which devices there are, only a worker can tell: this half never imports torch."""
        if self.segmenter.worker:
            return
        try:
            self.segmenter.warm_up()
        except HiersegError as error:
            self.message.say(error.sentence, error=True, tip=error.hint)
        self._start_timer()

    def _worker_started(self, fields: Mapping[str, Any]) -> None:
        self.options.set_worker(fields)
        if fields.get("problem"):
            self.message.say(str(fields["problem"]), error=True)
            self._lacking()

    def _poll(self) -> None:
        self.segmenter.poll()
        self._timer.setInterval(BUSY_MS if self._run is not None else IDLE_MS)
        if self._run is None and not self.segmenter.busy:
            self._timer.stop()

    # -- inside -----------------------------------------------------------------------------------------------------

    def _make_widgets(self) -> None:
        self.button = qt.QPushButton()
        self.button.objectName = "applyButton"
        self.button.setMinimumHeight(32)
        self.button.clicked.connect(self.apply)
        self.bar = layouts.thin_bar()
        self.stage = qt.QLabel()
        self.stage.wordWrap = True
        self.message = Message()
        self.widget = qt.QWidget()
        layout = layouts.column(self.widget, 4)
        for part in (self.button, self.bar, self.stage, self.message.widget):
            layout.addWidget(part)

    def _show_state(self) -> None:
        running = self._run is not None
        self.button.text = _("Cancel") if running else _("Apply")
        self.button.enabled = not self.segmenter.canceling if running else self._ready
        self.button.toolTip = _("Stop; the scene stays as it was") if running else _("Segment the volume")
        self.bar.visible = running
        self.stage.visible = running
        if running:
            self._start_timer()
        else:
            self.bar.value = 0

    def _start_timer(self) -> None:
        if self._timer.active:
            self._timer.setInterval(BUSY_MS)
        else:
            self._timer.start(BUSY_MS)

    def _facts(self) -> list[str]:
        return [
            f"model: {self._bundle.id if self._bundle is not None else 'none'}",
            f"last device: {self._device or 'none'}",
            f"message: {self.message.text}",
        ]


def extent_ml(volumes: list[Any]) -> float:
    """How much space the first volume takes; 0 where there is none, or where it cannot be said."""
    if not volumes or volumes[0] is None or not slicer.mrmlScene.IsNodePresent(volumes[0]):
        return 0.0
    try:
        grid = geometry.volume_grid(volumes[0])
    except SceneError:
        return 0.0
    x, y, z = grid.shape
    return float(x * y * z * grid.voxel_ml)
