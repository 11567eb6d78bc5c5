"""The embedded Segment Editor, ``qMRMLSegmentEditorWidget``, without its look and without mouse strokes.

Imitates ``Modules/Loadable/Segmentations/Widgets/qMRMLSegmentEditorWidget.cxx`` of Slicer over the real
``vtkSlicerSegmentEditorLogic``: which calls reach the logic and the editor node, who owns the undo history, that changing the
segmentation ends the effect, and that effects need a source volume.  An effect here is a name and its parameters:
``segmentation strokes`` are made by a test through an own logic on the same editor node, as ``Testing/scene`` does.

Left out: buttons of effects and of masking, the segments table (a list stands for it), effects' own options, views.
The logic object cannot be reached, as in Slicer.
"""

from __future__ import annotations

from typing import Any

import slicer
import vtk
from PySide6.QtCore import QObject, Qt, Signal
from PySide6.QtGui import QKeySequence, QShortcut
from PySide6.QtWidgets import QListWidget, QListWidgetItem, QVBoxLayout, QWidget

from standins.slicer_app.mrml_widgets import qMRMLWidget
from standins.slicer_app.pythonqt_style import cplusplus

#: the effects that Slicer itself brings (``Modules/Loadable/Segmentations`` and ``Modules/Scripted/SegmentEditor*``)
EFFECTS = (
    "Paint",
    "Draw",
    "Erase",
    "Level tracing",
    "Grow from seeds",
    "Fill between slices",
    "Threshold",
    "Margin",
    "Hollow",
    "Smoothing",
    "Scissors",
    "Islands",
    "Logical operators",
    "Mask volume",
)

_COLUMNS = ("visibility", "color", "opacity", "status", "layer")


@cplusplus
class qSlicerSegmentEditorEffect(QObject):
    """One effect: its name, and its parameters in the editor node.  Left out: everything that it does."""

    def __init__(self, name: str, editor: Any) -> None:
        super().__init__(editor)
        self._standin = {"editor": editor}
        self.setObjectName(name)

    @property
    def name(self) -> str:
        return self.objectName

    def parameterSetNode(self) -> Any:
        return self._standin["editor"].mrmlSegmentEditorNode()

    def setParameter(self, name: str, value: Any) -> None:
        self.parameterSetNode().SetAttribute(f"{self.objectName}.{name}", str(value))

    def parameter(self, name: str) -> str:
        return self.parameterSetNode().GetAttribute(f"{self.objectName}.{name}") or ""

    def setCommonParameter(self, name: str, value: Any) -> None:
        self.parameterSetNode().SetAttribute(name, str(value))


@cplusplus
class qMRMLSegmentsTableView(qMRMLWidget):
    """The table of segments inside the editor: a list, of which rows can be hidden.

    Imitates ``qMRMLSegmentsTableView.h``; left out: columns (whether they are visible is kept), names edited in it, filter.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        self._standin |= {"list": QListWidget(self), "hidden": [], "filterBarVisible": False}
        self._standin |= {f"{name}ColumnVisible": True for name in _COLUMNS}
        column.addWidget(self._standin["list"])

    def setHideSegments(self, segment_ids: list[str]) -> None:
        self._standin["hidden"] = list(segment_ids)
        self._hide_rows()

    def hideSegments(self) -> list[str]:
        return list(self._standin["hidden"])

    def displayedSegmentIDs(self) -> list[str]:
        rows = self._standin["list"]
        every = [rows.item(row).data(Qt.UserRole) for row in range(rows.count)]
        return [segment_id for segment_id in every if segment_id not in self._standin["hidden"]]

    def _hide_rows(self) -> None:
        rows = self._standin["list"]
        for row in range(rows.count):
            rows.setRowHidden(row, rows.item(row).data(Qt.UserRole) in self._standin["hidden"])


@cplusplus
class qMRMLSegmentEditorWidget(qMRMLWidget):
    """The editor of one segmentation, driven by its ``vtkMRMLSegmentEditorNode``."""

    currentSegmentIDChanged = Signal(str)
    sourceVolumeNodeChanged = Signal(object)
    segmentationNodeChanged = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        view = qMRMLSegmentsTableView(self)
        column.addWidget(view)
        table = view._standin["list"]
        self._standin |= {
            "logic": slicer.vtkSlicerSegmentEditorLogic(),
            "node": None,
            "tags": [],
            "node_tag": None,
            "view": view,
            "table": table,
            "effects": {name: qSlicerSegmentEditorEffect(name, self) for name in EFFECTS},
            "order": [],
            "active": None,
            "told": {"segment": "", "segmentation": None, "volume": None},
            "watched": None,
            "shortcuts": [],
            "filling": False,
        } | dict(_FLAGS)
        table.currentRowChanged.connect(self._picked)

    def setMRMLScene(self, scene: Any) -> None:
        if scene is self.mrmlScene():
            return
        state = self._standin
        for watched, tag in state["tags"]:
            watched.RemoveObserver(tag)
        state["tags"] = []
        if scene is None and state["node"] is not None:
            self.setActiveEffect(None)
        super().setMRMLScene(scene)
        state["logic"].SetMRMLApplicationLogic(slicer.app.applicationLogic())
        state["logic"].SetMRMLScene(scene)
        if scene is not None:
            for event in (slicer.vtkMRMLScene.EndCloseEvent, slicer.vtkMRMLScene.EndBatchProcessEvent):
                state["tags"].append((scene, scene.AddObserver(event, self.updateWidgetFromMRML)))
        self.updateWidgetFromMRML()

    def mrmlSegmentEditorNode(self) -> Any:
        return self._standin["node"]

    def setMRMLSegmentEditorNode(self, node: Any) -> None:
        state = self._standin
        if node is state["node"]:
            return
        if state["node"] is not None and state["node_tag"] is not None:
            state["node"].RemoveObserver(state["node_tag"])
        state["node"] = node
        state["logic"].SetSegmentEditorNode(node)
        if node is not None:
            state["node_tag"] = node.AddObserver(vtk.vtkCommand.ModifiedEvent, self.updateWidgetFromMRML)
            self.updateWidgetFromMRML()

    def segmentationNode(self) -> Any:
        return self._standin["node"].GetSegmentationNode() if self._standin["node"] is not None else None

    def segmentationNodeID(self) -> str:
        node = self.segmentationNode()
        return node.GetID() if node is not None else ""

    def setSegmentationNode(self, node: Any) -> None:
        logic = self._standin["logic"]
        if logic.GetSegmentationNode() is node:
            return
        logic.SetSegmentationNode(node)
        self.setActiveEffect(None)

    def setSegmentationNodeID(self, node_id: str) -> None:
        self.setSegmentationNode(self.mrmlScene().GetNodeByID(node_id))

    def sourceVolumeNode(self) -> Any:
        return self._standin["logic"].GetSourceVolumeNode()

    def sourceVolumeNodeID(self) -> str:
        node = self.sourceVolumeNode()
        return node.GetID() if node is not None else ""

    def setSourceVolumeNode(self, node: Any) -> None:
        self._standin["logic"].SetSourceVolumeNode(node)

    def setSourceVolumeNodeID(self, node_id: str) -> None:
        self.setSourceVolumeNode(self.mrmlScene().GetNodeByID(node_id))

    def currentSegmentID(self) -> str:
        return self._standin["logic"].GetCurrentSegmentID()

    def setCurrentSegmentID(self, segment_id: str) -> None:
        if self._standin["node"] is not None:
            self._standin["node"].SetSelectedSegmentID(segment_id)

    def activeEffect(self) -> Any:
        return self._standin["active"]

    def setActiveEffect(self, effect: Any) -> None:
        if self._standin["node"] is None:
            if effect is not None:
                raise RuntimeError("setActiveEffect: Invalid segment editor parameter set node")
            return
        self._standin["node"].SetActiveEffectName(effect.name if effect is not None else "")

    def setActiveEffectByName(self, name: str) -> None:
        self.setActiveEffect(self.effectByName(name))

    def effectByName(self, name: str) -> Any:
        return self._standin["effects"].get(name)

    def availableEffectNames(self) -> list[str]:
        return list(self._standin["effects"])

    def effectNameOrder(self) -> list[str]:
        return list(self._standin["order"])

    def setEffectNameOrder(self, names: list[str]) -> None:
        self._standin["order"] = list(names)

    def updateEffectList(self) -> None:
        """Does nothing: no effect comes or goes here."""

    def setupViewObservations(self) -> None:
        """Does nothing: there are no views."""

    def removeViewObservations(self) -> None:
        """Does nothing: there are no views."""

    def rotateSliceViewsToSegmentation(self) -> None:
        """Does nothing: there are no views."""

    def saveStateForUndo(self) -> None:
        self._standin["logic"].SaveStateForUndo()

    def undo(self) -> None:
        self._standin["logic"].Undo()

    def redo(self) -> None:
        self._standin["logic"].Redo()

    def setMaximumNumberOfUndoStates(self, count: int) -> None:
        self.maximumNumberOfUndoStates = count

    def installKeyboardShortcuts(self, parent: QWidget | None = None) -> None:
        """Undo, redo, the next and the previous segment; without a parent they belong to the main window, if any."""
        self.uninstallKeyboardShortcuts()
        owner = parent or slicer.util.mainWindow() or self
        for keys, slot in (
            ("Ctrl+Z", self.undo),
            ("Ctrl+Y", self.redo),
            ("q", self.selectPreviousSegment),
            ("w", self.selectNextSegment),
        ):
            shortcut = QShortcut(QKeySequence(keys), owner)
            shortcut.activated.connect(slot)
            self._standin["shortcuts"].append(shortcut)

    def uninstallKeyboardShortcuts(self) -> None:
        for shortcut in self._standin["shortcuts"]:
            shortcut.setParent(None)
            shortcut.deleteLater()
        self._standin["shortcuts"] = []

    def selectPreviousSegment(self) -> None:
        self._standin["logic"].SelectPreviousSegment()

    def selectNextSegment(self) -> None:
        self._standin["logic"].SelectNextSegment()

    def selectSegmentAtOffset(self, offset: int) -> None:
        self._standin["logic"].SelectSegmentAtOffset(offset)

    def updateWidgetFromMRML(self, *_: Any) -> None:
        """Follow the editor node: the segmentation, its segments, the selected one, the effect."""
        state, node = self._standin, self._standin["node"]
        scene = self.mrmlScene()
        if scene is None or node is None or scene.IsBatchProcessing():
            return
        self._watch(node.GetSegmentationNode())
        self._fill()
        name = node.GetActiveEffectName() or ""
        if (state["active"].name if state["active"] is not None else "") != name:
            state["active"] = state["effects"].get(name)
        told = {
            "segment": node.GetSelectedSegmentID() or "",
            "segmentation": self.segmentationNode(),
            "volume": self.sourceVolumeNode(),
        }
        before, state["told"] = state["told"], told
        if before["segmentation"] is not told["segmentation"]:
            self.segmentationNodeChanged.emit(told["segmentation"])
        if before["volume"] is not told["volume"]:
            self.sourceVolumeNodeChanged.emit(told["volume"])
        if before["segment"] != told["segment"]:
            self.currentSegmentIDChanged.emit(told["segment"])

    def _watch(self, node: Any) -> None:
        state = self._standin
        segmentation = node.GetSegmentation() if node is not None else None
        if state["watched"] is not None and state["watched"][0] is segmentation:
            return
        if state["watched"] is not None:
            for tag in state["watched"][1]:
                state["watched"][0].RemoveObserver(tag)
        state["watched"] = None
        if segmentation is not None:
            kind = slicer.vtkSegmentation
            events = (kind.SegmentAdded, kind.SegmentRemoved, kind.SegmentModified, kind.SegmentsOrderModified)
            state["watched"] = (segmentation, [segmentation.AddObserver(event, self._fill) for event in events])

    def _fill(self, *_: Any) -> None:
        state, node = self._standin, self.segmentationNode()
        state["filling"] = True
        state["table"].clear()
        selected = state["node"].GetSelectedSegmentID() if state["node"] is not None else ""
        for segment_id in node.GetSegmentation().GetSegmentIDs() if node is not None else ():
            item = QListWidgetItem(node.GetSegmentation().GetSegment(segment_id).GetName())
            item.setData(Qt.UserRole, segment_id)
            state["table"].addItem(item)
            if segment_id == selected:
                state["table"].setCurrentItem(item)
        state["view"]._hide_rows()
        state["filling"] = False

    def _picked(self, row: int) -> None:
        if not self._standin["filling"] and row >= 0:
            self.setCurrentSegmentID(self._standin["table"].item(row).data(Qt.UserRole))


_FLAGS: dict[str, Any] = {
    "segmentationNodeSelectorVisible": True,
    "sourceVolumeNodeSelectorVisible": True,
    "autoShowSourceVolumeNode": True,
    "maskingSectionVisible": True,
    "specifyGeometryButtonVisible": True,
    "show3DButtonVisible": True,
    "addRemoveSegmentButtonsVisible": True,
    "switchToSegmentationsButtonVisible": True,
    "undoEnabled": True,
    "readOnly": False,
    "effectButtonStyle": Qt.ToolButtonTextUnderIcon,
    "effectColumnCount": 2,
    "unorderedEffectsVisible": True,
    "defaultTerminologyEntrySettingsKey": "",
    "defaultTerminologyEntry": "",
    "jumpToSelectedSegmentEnabled": True,
}


def _property(name: str) -> property:
    return property(lambda self: self._standin[name], lambda self, value: self._standin.__setitem__(name, value))


for _name in (*(f"{column}ColumnVisible" for column in _COLUMNS), "filterBarVisible"):
    setattr(qMRMLSegmentsTableView, _name, _property(_name))
for _name in _FLAGS:
    setattr(qMRMLSegmentEditorWidget, _name, _property(_name))
    setattr(
        qMRMLSegmentEditorWidget,
        "set" + _name[0].upper() + _name[1:],
        lambda self, value, _name=_name: self._standin.__setitem__(_name, value),
    )
qMRMLSegmentEditorWidget.maximumNumberOfUndoStates = property(  # type: ignore[attr-defined]
    lambda self: self._standin["logic"].GetMaximumNumberOfUndoStates(),
    lambda self, count: self._standin["logic"].SetMaximumNumberOfUndoStates(count),
)
