"""Widgets over the scene: ``qMRMLWidget`` and ``qMRMLNodeComboBox``.

Imitates ``Libs/MRML/Widgets/qMRMLWidget.cxx``, ``qMRMLNodeComboBox.cxx`` and, for what is listed,
``qMRMLSortFilterProxyModel.cxx`` of Slicer.  Left out: the items of the menu that create, rename and delete (their
methods are there), tool tips, other nodes of a tree, drag and drop.
"""

from __future__ import annotations

from typing import Any

import slicer
import vtk
from PySide6.QtCore import Signal
from PySide6.QtWidgets import QComboBox, QHBoxLayout, QSizePolicy, QWidget

from standins.slicer_app.pythonqt_style import cplusplus


@cplusplus
class qMRMLWidget(QWidget):
    """A widget that knows the scene."""

    mrmlSceneChanged = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._standin = {"scene": None}

    def mrmlScene(self) -> Any:
        return self._standin["scene"]

    def setMRMLScene(self, scene: Any) -> None:
        if scene is not self._standin["scene"]:
            self._standin["scene"] = scene
            self.mrmlSceneChanged.emit(scene)


def _property(name: str) -> property:
    def write(self: Any, value: Any) -> None:
        if value != self._standin[name]:
            self._standin[name] = value
            self._refresh()

    return property(lambda self: self._standin[name], write)


@cplusplus
class qMRMLNodeComboBox(QWidget):
    """A list of the scene's nodes of some types that follows additions, removals and renames.

    As in Slicer: without ``noneEnabled`` the first node that appears becomes the current one, and so does the last that
    is left when the current node goes; a widget without a scene is disabled; nothing is told while the scene is being closed or
    loaded, and once afterwards.
    """

    currentNodeChanged = Signal(object)
    currentNodeIDChanged = Signal(str)
    nodeActivated = Signal(object)
    nodeAdded = Signal(object)
    nodeAddedByUser = Signal(object)
    nodeAboutToBeRemoved = Signal(object)
    currentNodeRenamed = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        box = QComboBox(self)
        row.addWidget(box)
        self.setSizePolicy(QSizePolicy.Preferred, QSizePolicy.Fixed)
        self._standin = {
            "box": box,
            "scene": None,
            "tags": [],
            "watched": {},
            "ids": [],
            "told": None,
            "attributes": [],
            "baseNames": {},
            "nodeTypes": [],
            "showHidden": False,
            "showChildNodeTypes": True,
            "hideChildNodeTypes": [],
            "noneEnabled": False,
            "addEnabled": True,
            "removeEnabled": True,
            "editEnabled": False,
            "renameEnabled": False,
            "selectNodeUponCreation": True,
            "noneDisplay": "None",
            "busy": False,
        }
        box.currentIndexChanged.connect(self._tell)
        box.activated.connect(self._activated)
        self.destroyed.connect(_remover(self._standin))
        self.setEnabled(False)

    def mrmlScene(self) -> Any:
        return self._standin["scene"]

    def setMRMLScene(self, scene: Any) -> None:
        state = self._standin
        if scene is state["scene"]:
            return
        _remover(state)()
        state["scene"] = scene
        if scene is not None:
            kind = slicer.vtkMRMLScene
            events = {
                kind.NodeAddedEvent: self._added,
                kind.NodeRemovedEvent: self._changed,
                kind.NodeAboutToBeRemovedEvent: self._leaving,
                kind.EndBatchProcessEvent: self._changed,
            }
            for event, callback in events.items():
                state["tags"].append((scene, scene.AddObserver(event, callback)))
        self.setEnabled(scene is not None)
        self._refresh()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _added(self, _scene: Any, _event: str, node: Any) -> None:
        self._refresh()
        if node is not None and node.GetID() in self._standin["ids"]:
            self.nodeAdded.emit(node)

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _leaving(self, _scene: Any, _event: str, node: Any) -> None:
        if node is not None and node.GetID() in self._standin["ids"]:
            self.nodeAboutToBeRemoved.emit(node)

    def _changed(self, *_: Any) -> None:
        self._refresh()

    def _of_type(self, node: Any) -> bool:
        state = self._standin
        if node is None or (node.GetHideFromEditors() and not state["showHidden"]):
            return False
        kinds = [kind for kind in state["nodeTypes"] if node.IsA(kind)]
        if not kinds or (not state["showChildNodeTypes"] and node.GetClassName() not in kinds):
            return False
        return not any(node.IsA(kind) for kind in state["hideChildNodeTypes"])

    def _shown(self, node: Any) -> bool:
        if not self._of_type(node):
            return False
        for kind, name, value in self._standin["attributes"]:
            found = node.GetAttribute(name)
            if node.IsA(kind) and (found is None or (value is not None and found != str(value))):
                return False
        return True

    def _refresh(self) -> None:
        """Read the scene again, keeping the current node."""
        state = self._standin
        scene, box = state["scene"], state["box"]
        if scene is not None and scene.IsBatchProcessing():
            return
        count = scene.GetNumberOfNodes() if scene is not None else 0
        # A node that does not have a wanted attribute yet may get it: the model follows all visible nodes.
        possible = [node for node in (scene.GetNthNode(i) for i in range(count)) if self._of_type(node)]
        nodes = [node for node in possible if self._shown(node)]
        for node, tag in [state["watched"].pop(i) for i in set(state["watched"]) - {n.GetID() for n in possible}]:
            node.RemoveObserver(tag)
        for node in possible:
            if node.GetID() not in state["watched"]:
                tag = node.AddObserver(vtk.vtkCommand.ModifiedEvent, self._renamed)
                state["watched"][node.GetID()] = (node, tag)
        current, first = self.currentNodeID, not state["ids"]
        state["busy"] = True
        box.clear()
        state["ids"] = ([""] if state["noneEnabled"] else []) + [node.GetID() for node in nodes]
        box.addItems(
            ([state["noneDisplay"]] if state["noneEnabled"] else []) + [node.GetName() or "" for node in nodes]
        )
        state["busy"] = False
        if current in state["ids"]:
            index = state["ids"].index(current)
        elif state["noneEnabled"]:
            index = 0
        else:
            index = 0 if first else len(state["ids"]) - 1
        box.setCurrentIndex(index if state["ids"] else -1)
        self._tell()

    def _renamed(self, node: Any, _event: str) -> None:
        state = self._standin
        if node.GetID() in state["ids"] and self._shown(node):
            state["box"].setItemText(state["ids"].index(node.GetID()), node.GetName() or "")
        elif self._shown(node) != (node.GetID() in state["ids"]):
            self._refresh()

    def _tell(self, *_: Any) -> None:
        if self._standin["busy"] or self.currentNodeID == self._standin["told"]:
            return
        self._standin["told"] = self.currentNodeID
        self.currentNodeChanged.emit(self.currentNode())
        self.currentNodeIDChanged.emit(self.currentNodeID)

    def _activated(self, index: int) -> None:
        self.nodeActivated.emit(self.nodeFromIndex(index - self._standin["noneEnabled"]) if index >= 0 else None)

    nodeTypes = _property("nodeTypes")
    showHidden = _property("showHidden")
    showChildNodeTypes = _property("showChildNodeTypes")
    hideChildNodeTypes = _property("hideChildNodeTypes")
    noneEnabled = _property("noneEnabled")
    noneDisplay = _property("noneDisplay")
    addEnabled = _property("addEnabled")
    removeEnabled = _property("removeEnabled")
    editEnabled = _property("editEnabled")
    renameEnabled = _property("renameEnabled")
    selectNodeUponCreation = _property("selectNodeUponCreation")

    @property
    def currentNodeID(self) -> str:
        index = self._standin["box"].currentIndex
        return self._standin["ids"][index] if 0 <= index < len(self._standin["ids"]) else ""

    @currentNodeID.setter
    def currentNodeID(self, node_id: str) -> None:
        self.setCurrentNodeID(node_id)

    def currentNode(self) -> Any:
        scene, node_id = self._standin["scene"], self.currentNodeID
        return scene.GetNodeByID(node_id) if scene is not None and node_id else None

    def setCurrentNode(self, node: Any) -> None:
        self.setCurrentNodeID(node if isinstance(node, str) else node.GetID() if node is not None else "")

    def setCurrentNodeID(self, node_id: str) -> None:
        ids = self._standin["ids"]
        self._standin["box"].setCurrentIndex(ids.index(node_id) if node_id in ids else 0 if "" in ids else -1)

    def setCurrentNodeIndex(self, index: int) -> None:
        self.setCurrentNode(self.nodeFromIndex(index))

    def nodeCount(self) -> int:
        return len([node_id for node_id in self._standin["ids"] if node_id])

    def nodeFromIndex(self, index: int) -> Any:
        ids = [node_id for node_id in self._standin["ids"] if node_id]
        return self._standin["scene"].GetNodeByID(ids[index]) if 0 <= index < len(ids) else None

    def addAttribute(self, node_type: str, name: str, value: Any = None) -> None:
        self._standin["attributes"].append((node_type, name, value))
        self._refresh()

    def removeAttribute(self, node_type: str, name: str) -> None:
        self._standin["attributes"] = [a for a in self._standin["attributes"] if a[:2] != (node_type, name)]
        self._refresh()

    @property
    def baseName(self) -> str:
        return self._standin["baseNames"].get((self.nodeTypes or [""])[0], "")

    @baseName.setter
    def baseName(self, name: str) -> None:
        self._standin["baseNames"].update(dict.fromkeys(self.nodeTypes, name))

    def addNode(self, node_type: str = "") -> Any:
        kind = node_type or self.nodeTypes[0]
        scene = self._standin["scene"]
        name = self._standin["baseNames"].get(kind) or scene.GetTypeDisplayNameByClassName(kind)
        node = scene.AddNewNodeByClass(kind, scene.GenerateUniqueName(name))
        for attribute_kind, attribute, value in self._standin["attributes"]:
            if node.IsA(attribute_kind):
                node.SetAttribute(attribute, "" if value is None else str(value))
        self._refresh()
        if self._standin["selectNodeUponCreation"]:
            self.setCurrentNode(node)
        self.nodeAddedByUser.emit(node)
        return node

    def removeCurrentNode(self) -> None:
        if self.currentNode() is not None:
            self._standin["scene"].RemoveNode(self.currentNode())


def _setter(name: str) -> Any:
    return lambda self, value: setattr(self, name, value)


for _name in [name for name, value in vars(qMRMLNodeComboBox).items() if isinstance(value, property)]:
    _method = "set" + _name[0].upper() + _name[1:]
    if _method not in vars(qMRMLNodeComboBox):
        setattr(qMRMLNodeComboBox, _method, _setter(_name))


def _remover(state: dict[str, Any]) -> Any:
    """Takes a combo box's observers away, also after the widget itself is gone."""

    def remove(*_: Any) -> None:
        for watched, tag in [*state["tags"], *state["watched"].values()]:
            watched.RemoveObserver(tag)
        state["tags"], state["watched"] = [], {}

    return remove
