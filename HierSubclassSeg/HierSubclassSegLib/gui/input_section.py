"""Input: one selector a channel, named as the model names it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from HierSubclassSegLib.gui import layouts, texts
from HierSubclassSegLib.gui.message import Message
from HierSubclassSegLib.gui.parameters import PanelParameters, input_role
from HierSubclassSegLib.scene.inputs import InputCheck, check_inputs, input_volumes


class InputSection:
    """Selectors for a model's channels, remembered in the parameter node, and a sentence on what does not fit.

    Args:
        changed: called when a volume is chosen, or no longer fits.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._parameters: PanelParameters | None = None
        self._channels: list[str] = []
        self._writing = False
        self._observed: list[tuple[Any, int]] = []
        # A volume that is being loaded gets its voxels after it has come; many events make one look.
        self._later = qt.QTimer()
        self._later.setSingleShot(True)
        self._later.setInterval(0)
        self._later.timeout.connect(self._look_again)
        self.selectors: list[slicer.qMRMLNodeComboBox] = []
        self.widget = qt.QWidget()
        self.form = layouts.form(self.widget)
        self.message = Message()
        self.check = InputCheck()

    @property
    def volumes(self) -> list[slicer.vtkMRMLScalarVolumeNode | None]:
        """The chosen volumes, one a channel."""
        return [selector.currentNode() for selector in self.selectors]

    def set_parameters(self, parameters: PanelParameters | None) -> None:
        """Remember choices in another parameter node, and show its own."""
        self._parameters = parameters
        self._restore()

    def set_channels(self, channels: list[str]) -> None:
        """Make a selector for each channel."""
        if channels == self._channels:
            self.update()
            return
        while self.selectors:
            self.selectors.pop()
            self.form.removeRow(len(self.selectors))
        self._channels = list(channels)
        for channel in channels:
            selector = slicer.qMRMLNodeComboBox()
            selector.objectName = f"input {channel}"
            selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
            # Label maps and color images are scalar volumes to Slicer, and no input for a model.
            selector.showChildNodeTypes = False
            selector.addEnabled = False
            selector.removeEnabled = False
            selector.noneEnabled = True
            selector.noneDisplay = _("Choose a volume")
            selector.toolTip = _("The {channel} image").format(channel=channel)
            selector.setMRMLScene(slicer.mrmlScene)
            selector.currentNodeIDChanged.connect(self._chosen)
            selector.nodeAdded.connect(self._start_later)
            self.form.addRow(f"{channel}:", selector)
            self.selectors.append(selector)
        self._restore()

    def update(self) -> None:
        """Look again at whether the volumes fit."""
        self.check = check_inputs(self._channels, self.volumes)
        no_volume = self.check.missing and not any(self.volumes) and not input_volumes(slicer.mrmlScene)
        text = _("Load a volume to segment.") if no_volume else texts.inputs(self.check)
        self.message.say(text, error=bool(self.check.hardening or self.check.empty))
        self._changed()

    def close(self) -> None:
        """Stop following the scene."""
        self._later.stop()
        self._observe([])
        for selector in self.selectors:
            selector.setMRMLScene(None)

    # -- choosing ---------------------------------------------------------------------------------------------------

    def _restore(self) -> None:
        """Choose what the parameter node remembers, else what is likely."""
        if self._parameters is None:
            self.update()
            return
        node = self._parameters.parameterNode
        self._writing = True
        for channel, selector in zip(self._channels, self.selectors, strict=True):
            selector.setCurrentNode(node.GetNodeReference(input_role(channel)) or self._likely(channel))
        self._writing = False
        self._chosen()

    def _likely(self, channel: str) -> slicer.vtkMRMLScalarVolumeNode | None:
        """The volume that is shown, if the model has one channel; else one whose name holds the channel's."""
        volumes = input_volumes(slicer.mrmlScene)
        if len(self._channels) == 1:
            active = slicer.app.applicationLogic().GetSelectionNode().GetActiveVolumeID()
            shown = [volume for volume in volumes if volume.GetID() == active]
            return next(iter(shown + volumes), None)
        return next((volume for volume in volumes if channel.lower() in volume.GetName().lower()), None)

    def _chosen(self, *_arguments: object) -> None:
        if self._writing:
            return
        if self._parameters is not None:
            for channel, volume in zip(self._channels, self.volumes, strict=True):
                role, id_ = input_role(channel), volume.GetID() if volume is not None else None
                if self._parameters.parameterNode.GetNodeReferenceID(role) != id_:
                    self._parameters.parameterNode.SetNodeReferenceID(role, id_)
        self.update()
        self._observe([volume for volume in self.volumes if volume is not None])

    # -- following --------------------------------------------------------------------------------------------------

    def _observe(self, volumes: list[Any]) -> None:
        for source, tag in self._observed:
            source.RemoveObserver(tag)
        self._observed = [
            (volume, volume.AddObserver(event, self._start_later))
            for volume in volumes
            for event in (volume.TransformModifiedEvent, volume.ImageDataModifiedEvent)
        ]

    def _start_later(self, *_arguments: object) -> None:
        self._later.start()

    def _look_again(self) -> None:
        if self._parameters is None:
            return
        if all(volume is None for volume in self.volumes):
            self._restore()
        else:
            self.update()
