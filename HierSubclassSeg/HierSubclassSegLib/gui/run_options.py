"""What is folded under Apply: device, region, frames, the log and what a report needs."""

from __future__ import annotations

import platform
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import ctk
import qt
import slicer
from slicer.i18n import tr as _

import hierseg
from HierSubclassSegLib.gui import layouts, texts
from HierSubclassSegLib.gui.message import Message
from HierSubclassSegLib.scene.frames import browser_of

LOG_LINES = 2000


class RunOptions:
    """Options and log, folded at first sight; what is inside is made when it is first unfolded.

    Args:
        device_chosen: called with the worker's name of a device.
        unfolded: called when the section is opened: devices are to be found.
        set_up: called by the button that shows Setup.

    Attributes:
        widget: the collapsible section.
        facts, more_facts: give further lines for a report.
    """

    def __init__(
        self, device_chosen: Callable[[str], None], unfolded: Callable[[], None], set_up: Callable[[], None]
    ) -> None:
        self._device_chosen, self._unfolded, self._set_up = device_chosen, unfolded, set_up
        self.device = "auto"
        self.facts: Callable[[], list[str]] = list
        self.more_facts: Callable[[], list[str]] = list
        self._worker: Mapping[str, Any] = {}
        self._volume: Any = None
        self._hint = ""
        self._lines: deque[str] = deque(maxlen=LOG_LINES)
        self._made = False
        self._filling = False
        self.widget = ctk.ctkCollapsibleButton()
        self.widget.objectName = "optionsButton"
        self.widget.text = _("Options and log")
        self.widget.collapsed = True
        self.widget.contentsCollapsed.connect(self._folded)

    @property
    def roi(self) -> Any:
        """The region to segment, or None."""
        return self.region.currentNode() if self._made else None

    @property
    def every_frame(self) -> bool:
        """Whether all frames of a sequence are wanted."""
        return self._made and bool(self.frames.checked) and not self.frames.isHidden()

    def set_device(self, device: str) -> None:
        """Choose a device by the worker's name; one that is not there (yet) is kept and shown."""
        self.device = device or "auto"
        self._show()

    def set_worker(self, facts: Mapping[str, Any]) -> None:
        """What a worker says of itself: the devices to choose from, versions for a report."""
        self._worker = dict(facts)
        self._show()

    def set_hint(self, hint: str) -> None:
        """What keeps a graphics card from being used."""
        self._hint = hint
        self._show()

    def set_volume(self, volume: Any) -> None:
        """Offer the frames of the first volume if it has some."""
        self._volume = volume
        self._show()

    def add_line(self, line: str) -> None:
        """One more line of the log."""
        self._lines.append(line)
        if self._made:
            self.log.appendPlainText(line)

    def copy_diagnostics(self) -> None:
        """Put versions, devices and the log on the clipboard; the volumes' names stay out of it."""
        slicer.app.clipboard().setText("\n".join(self.diagnostics()))
        self.copied.text = _("Copied")
        self._back.start(1500)

    def diagnostics(self) -> list[str]:
        """What a report needs, a line each."""
        said = self._worker
        facts = {key: said.get(key) for key in ("python", "hierseg", "torch", "cuda", "monai", "cores", "problem")}
        return [
            f"HierSubclassSeg {hierseg.__version__}, Slicer {slicer.app.applicationVersion}, {platform.platform()}",
            "worker: " + ", ".join(f"{key} {value}" for key, value in facts.items() if value),
            *[f"device: {dict(entry)}" for entry in said.get("devices", ())],
            f"device chosen: {self.device}",
            *self.facts(),
            *self.more_facts(),
            *self._lines,
        ]

    def close(self) -> None:
        """Stop listening to the scene."""
        self._volume = None
        if self._made:
            self._back.stop()
            self.region.setMRMLScene(None)

    # -- inside -----------------------------------------------------------------------------------------------------

    def _make(self) -> None:
        column = qt.QVBoxLayout(self.widget)
        form = layouts.form()
        column.addLayout(form)
        self.devices = layouts.combo("deviceCombo")
        self.devices.toolTip = _("Where the model computes")
        self.devices.currentIndexChanged.connect(self._device_picked)
        self.hint = Message()
        self.region = slicer.qMRMLNodeComboBox()
        self.region.objectName = "regionSelector"
        self.region.nodeTypes = ["vtkMRMLMarkupsROINode"]
        self.region.noneEnabled = True
        self.region.noneDisplay = _("Whole volume")
        self.region.removeEnabled = False
        self.region.toolTip = _("Segment only inside a region: quicker, and nothing appears outside it")
        self.region.setMRMLScene(slicer.mrmlScene)
        self.frames = qt.QCheckBox()
        self.frames.objectName = "framesCheck"
        self.frames.toolTip = _("The result follows the images of the sequence")
        self.frames.visible = False
        self.log = qt.QPlainTextEdit()
        self.log.readOnly = True
        self.log.maximumBlockCount = LOG_LINES
        self.log.setFixedHeight(120)
        self.log.placeholderText = _("What the worker says appears here.")
        self.copied = qt.QPushButton(_("Copy diagnostics"))
        self.copied.objectName = "diagnosticsButton"
        self.copied.toolTip = _("Versions, devices and the log, without names of volumes, for a report")
        self.copied.clicked.connect(self.copy_diagnostics)
        self.setup = qt.QPushButton(_("Setup…"))
        self.setup.objectName = "setupButton"
        self.setup.toolTip = _("Which Python or computer does the work")
        self.setup.clicked.connect(lambda *_arguments: self._set_up())
        form.addRow(_("Device:"), self.devices)
        form.addRow(_("Region:"), self.region)
        for part in (self.hint.widget, self.frames, self.log, layouts.row(self.copied, self.setup)):
            column.addWidget(part)
        self._back = qt.QTimer()
        self._back.setSingleShot(True)
        self._back.timeout.connect(self._show_copy)
        self.log.plainText = "\n".join(self._lines)
        self._made = True
        self._show()

    def _folded(self, folded: bool) -> None:
        if folded:
            return
        if not self._made:
            self._make()
        # The volume may have become a frame of a sequence since.
        self._show()
        self._unfolded()

    def _show(self) -> None:
        """Show what is known, if anybody has looked inside."""
        if not self._made:
            return
        self._fill_devices()
        self.hint.say(self._hint)
        browser = browser_of(self._volume)
        self.frames.visible = browser is not None
        if browser is not None:
            self.frames.text = _("All {count} frames of the sequence").format(count=browser.GetNumberOfItems())

    def _show_copy(self) -> None:
        self.copied.text = _("Copy diagnostics")

    def _fill_devices(self) -> None:
        self._filling = True
        self.devices.clear()
        self.devices.addItem(_("Automatic"), "auto")
        known = [dict(entry) for entry in self._worker.get("devices", ())] or [{"name": "cpu"}]
        for entry in known:
            self.devices.addItem(texts.device(entry), str(entry["name"]))
        if self.devices.findData(self.device) < 0:
            self.devices.addItem(self.device, self.device)
        self.devices.currentIndex = self.devices.findData(self.device)
        self._filling = False

    def _device_picked(self, *_arguments: object) -> None:
        if not self._filling:
            self.device = str(self.devices.itemData(self.devices.currentIndex) or "auto")
            self._device_chosen(self.device)
