"""The embedded Segment Editor of the Annotate tab, with its own editor node and a reduced set of effects.

It owns the undo history of the annotation.  Slicer tells nobody that a stroke has ended; what is heard here is that
voxels have changed, and the owner is called once when the effect has done with them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import qt
import slicer
from slicer.i18n import translate

#: effects that honor the editable area and the erasable segments, and fit the panel
EFFECTS = ("Paint", "Draw", "Erase", "Level tracing", "Threshold")
#: options of the brush that change what is selected, or what else is erased
_OPTIONS_LEFT_OUT = ("Color smudge", "Erase all segments", "Edit in 3D views")
_TAG = "HierSubclassSeg"
_UNDO_STATES = 30
#: at least, for the editor: less than what any of its effects needs
_WIDTH = 200
#: at least, for the effects' explanations, which else are as wide as their first line
_TEXT_WIDTH = 120
#: Slicer's table makes the buttons of new rows a moment later, by row number: rows hidden before would go without
_LIST_MILLISECONDS = 50


class RefineEditor:
    """Edits one segmentation at a time.

    Args:
        stroke_ended: called after voxels have changed, when the event loop is reached again.

    Attributes:
        widget: the ``qMRMLSegmentEditorWidget``; hidden until :meth:`start`.
        node: its own ``vtkMRMLSegmentEditorNode``.
        quiet: says whether voxels are changed by a write of ours, which ends no stroke.
    """

    def __init__(self, stroke_ended: Callable[[], None]) -> None:
        self._stroke_ended = stroke_ended
        self.quiet: Callable[[], bool] = lambda: False
        self._observed: tuple[Any, list[int]] | None = None
        self._shortcuts = False
        self.widget = slicer.qMRMLSegmentEditorWidget()
        self.widget.objectName = "refineEditor"
        self.widget.visible = False
        # While an effect is taken its options ask for more width than they need, and Slicer's panel does not shrink again.
        self.widget.setMinimumWidth(_WIDTH)
        # Before anything that makes it look for its node.
        self.node = self._own_node()
        self.widget.setMRMLSegmentEditorNode(self.node)
        self.widget.setMaximumNumberOfUndoStates(_UNDO_STATES)
        for part in ("segmentationNodeSelector", "sourceVolumeNodeSelector", "maskingSection", "specifyGeometryButton"):
            setattr(self.widget, f"{part}Visible", False)
        for part in ("show3DButton", "addRemoveSegmentButtons", "switchToSegmentationsButton"):
            setattr(self.widget, f"{part}Visible", False)
        # What is in the slice views is the user's, not ours.
        self.widget.autoShowSourceVolumeNode = False
        self.widget.jumpToSelectedSegmentEnabled = False
        self.widget.unorderedEffectsVisible = False
        self.widget.setEffectNameOrder(list(EFFECTS))
        self.widget.setMRMLScene(slicer.mrmlScene)
        self._later = qt.QTimer()
        self._later.setSingleShot(True)
        self._later.setInterval(0)
        self._later.timeout.connect(self.settle)
        self._listed: frozenset[str] = frozenset()
        self._list_later = qt.QTimer()
        self._list_later.setSingleShot(True)
        self._list_later.setInterval(_LIST_MILLISECONDS)
        self._list_later.timeout.connect(self._list)

    def attach(self, segmentation_node: Any, volume_node: Any) -> None:
        """Edit a segmentation on a volume; its undo history begins."""
        self.detach()
        if self.node.GetScene() is None:
            # The scene was closed since.
            self.node = self._own_node()
            self.widget.setMRMLSegmentEditorNode(self.node)
        self.widget.setSegmentationNode(segmentation_node)
        self.widget.setSourceVolumeNode(volume_node)
        segmentation = segmentation_node.GetSegmentation()
        events = (slicer.vtkSegmentation.SourceRepresentationModified, slicer.vtkSegmentation.RepresentationModified)
        self._observed = segmentation, [segmentation.AddObserver(event, self._voxels_changed) for event in events]

    def detach(self) -> None:
        """Let go of the segmentation, with its undo history."""
        self._later.stop()
        self._list_later.stop()
        if self._observed is not None:
            segmentation, observations = self._observed
            for observation in observations:
                segmentation.RemoveObserver(observation)
            self._observed = None
        self.stop()
        self.keys(False)
        if self.widget.mrmlScene() is not None and self.widget.mrmlSegmentEditorNode() is not None:
            self.widget.setSegmentationNode(None)

    def start(self) -> None:
        """Strokes can be made in the views."""
        self._trim()
        self.widget.visible = True
        self.widget.readOnly = False
        self.widget.setupViewObservations()

    def stop(self) -> None:
        """No stroke can be made; undo goes on to work."""
        # An active effect when the scene closes or Slicer quits is a crash.
        self.widget.setActiveEffect(None)
        self.widget.removeViewObservations()
        self.widget.readOnly = True
        self.widget.visible = False

    def keys(self, on: bool) -> None:
        """Slicer's own keys: undo, redo, effects, the next and previous segment."""
        if on and not self._shortcuts:
            self.widget.installKeyboardShortcuts()
        elif not on and self._shortcuts:
            self.widget.uninstallKeyboardShortcuts()
        self._shortcuts = on

    def show_only(self, segment_ids: Collection[str]) -> None:
        """List only these segments; the keys for the next and previous segment go through them."""
        self._listed = frozenset(segment_ids)
        self._list_later.start()

    def settle(self) -> None:
        """End what is pending of a stroke, now."""
        if self._later.isActive():
            self._later.stop()
        self._stroke_ended()

    def save_state(self) -> None:
        """Save the state for undo; a stroke whose end was not yet seen to belongs before it."""
        if self._later.isActive():
            self.settle()
        self.widget.saveStateForUndo()

    def close(self) -> None:
        """The widget is about to go."""
        self.detach()
        self.widget.setMRMLScene(None)

    def _trim(self) -> None:
        """Leave out options that do not belong here, and let the others fit a narrow panel."""
        left_out = [translate("qSlicerSegmentEditorPaintEffect", text) for text in _OPTIONS_LEFT_OUT]
        for box in self.widget.findChildren(qt.QCheckBox):
            if box.text in left_out:
                box.visible = False
                # An effect may show it again when it is taken.
                box.setMaximumSize(0, 0)
        for text in self.widget.findChildren(qt.QTextBrowser):
            text.setMinimumWidth(_TEXT_WIDTH)
        for form in self.widget.findChildren(qt.QFormLayout):
            form.setRowWrapPolicy(qt.QFormLayout.WrapLongRows)

    def _list(self) -> None:
        table = next(iter(self.widget.findChildren(slicer.qMRMLSegmentsTableView)), None)
        segmentation_node = self.widget.segmentationNode()
        if table is None or segmentation_node is None:
            return
        # Its eyes would show what a stroke may erase, not what is seen: the hierarchy has the eyes.
        for column in ("visibility", "opacity", "status"):
            setattr(table, f"{column}ColumnVisible", False)
        table.filterBarVisible = False
        every = segmentation_node.GetSegmentation().GetSegmentIDs()
        hidden = [segment_id for segment_id in every if segment_id not in self._listed]
        if list(table.hideSegments()) != hidden:
            table.setHideSegments(hidden)

    def _voxels_changed(self, *_arguments: object) -> None:
        if not self.quiet():
            self._later.start()

    @staticmethod
    def _own_node() -> Any:
        scene = slicer.mrmlScene
        node = scene.GetSingletonNode(_TAG, "vtkMRMLSegmentEditorNode")
        if node is None:
            node = slicer.vtkMRMLSegmentEditorNode()
            node.SetSingletonTag(_TAG)
            node.SetSaveWithScene(False)
            node = scene.AddNode(node)
        return node
