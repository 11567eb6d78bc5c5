"""The stand-ins are as strict as PythonQt and follow the scene as Slicer's widgets do."""

from __future__ import annotations

from typing import Any

import ctk
import pytest
import qt
import slicer
import vtk


def test_a_property_is_an_attribute_and_has_no_getter() -> None:
    button = qt.QPushButton("one")
    assert (button.text, button.enabled, button.checked) == ("one", True, False)
    button.text, button.enabled = "two", False
    assert button.text == "two"
    assert not button.isEnabled()
    with pytest.raises(TypeError):
        button.text()
    button.setText("three")
    assert button.text == "three"


def test_unknown_names_are_refused_on_cplusplus_objects_only() -> None:
    button = qt.QPushButton()
    with pytest.raises(AttributeError, match="does not exist on QPushButton"):
        button.tooltip = "typing error"
    with pytest.raises(AttributeError, match="has no attribute named 'txt'"):
        _ = button.txt
    with pytest.raises(AttributeError, match="can not be overwritten"):
        button.setText = None

    class Mine(qt.QPushButton):
        def __init__(self) -> None:
            super().__init__()
            self.anything = 1

    assert Mine().anything == 1


def test_combo_box_follows_the_scene(app_scene: Any) -> None:
    combo = slicer.qMRMLNodeComboBox()
    assert not combo.enabled
    combo.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    heard: list[str] = []
    combo.currentNodeIDChanged.connect(heard.append)
    combo.setMRMLScene(app_scene)
    volume = app_scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "first")
    assert combo.currentNode() is volume
    assert heard == [volume.GetID()]
    app_scene.RemoveNode(volume)
    assert combo.currentNode() is None


def test_a_parameter_node_and_its_widgets_follow_each_other(app_scene: Any) -> None:
    from slicer.parameterNodeWrapper import parameterNodeWrapper

    @parameterNodeWrapper
    class Parameters:
        name: str = "x"
        done: bool = False
        volume: slicer.vtkMRMLScalarVolumeNode

    node = app_scene.AddNewNodeByClass("vtkMRMLScriptedModuleNode")
    parameters = Parameters(node)
    panel = qt.QWidget()
    layout = qt.QVBoxLayout(panel)
    edit, box = qt.QLineEdit(), qt.QCheckBox()
    for widget, name in ((edit, "name"), (box, "done")):
        widget.setProperty("SlicerParameterName", name)
        layout.addWidget(widget)
    tag = parameters.connectGui(panel)
    edit.text = "y"
    parameters.done = True
    assert parameters.name == "y"
    assert box.checked
    parameters.disconnectGui(tag)
    edit.text = "z"
    assert parameters.name == "y"


def test_editor_owns_undo(app_scene: Any) -> None:
    editor = slicer.qMRMLSegmentEditorWidget()
    editor.setMRMLScene(app_scene)
    node = app_scene.AddNewNodeByClass("vtkMRMLSegmentEditorNode")
    editor.setMRMLSegmentEditorNode(node)
    segmentation = app_scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    segmentation.CreateDefaultDisplayNodes()
    editor.setSegmentationNode(segmentation)
    segment = segmentation.GetSegmentation().AddEmptySegment("a", "a")
    editor.saveStateForUndo()
    segmentation.GetSegmentation().GetSegment(segment).SetName("b")
    editor.undo()
    assert segmentation.GetSegmentation().GetSegment(segment).GetName() == "a"
    editor.setActiveEffectByName("Paint")
    assert editor.activeEffect().name == "Paint"
    editor.setMRMLScene(None)
    assert not node.GetActiveEffectName()


def test_collapsed_button_hides_its_children(screenshot: Any) -> None:
    button = ctk.ctkCollapsibleButton()
    button.text = "Section"
    label = qt.QLabel("inside")
    qt.QVBoxLayout(button).addWidget(label)
    button.show()
    assert label.visible
    button.collapsed = True
    assert not label.visible
    assert not button.checked
    screenshot(button, "collapsed")
    assert vtk.VTK_OBJECT


def test_a_property_whose_getter_is_static_is_read_as_an_attribute() -> None:
    assert isinstance(slicer.app.applicationVersion, str)


def test_a_path_edit_takes_the_filters_of_qdir() -> None:
    edit = ctk.ctkPathLineEdit()
    assert not hasattr(ctk.ctkPathLineEdit, "Dirs"), "not reachable in the application"
    edit.filters = qt.QDir.Dirs | qt.QDir.Readable


def test_a_timer_is_made_to_fire_once_by_its_setter_only() -> None:
    """Seen in the application: there ``timer.singleShot`` is the static slot."""
    timer = qt.QTimer()
    with pytest.raises(AttributeError, match="can not be overwritten"):
        timer.singleShot = True
    timer.setSingleShot(True)
    assert timer.isSingleShot()


def test_a_selector_follows_an_attribute_that_a_node_gets_later(app_scene: Any) -> None:
    selector = slicer.qMRMLNodeComboBox()
    selector.nodeTypes = ["vtkMRMLSegmentationNode"]
    selector.noneEnabled = True
    selector.addAttribute("vtkMRMLSegmentationNode", "Role", "annotation")
    selector.setMRMLScene(app_scene)
    node = app_scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "late")
    selector.setCurrentNode(node)
    assert selector.currentNode() is None
    node.SetAttribute("Role", "annotation")
    selector.setCurrentNode(node)
    assert selector.currentNode() is node
    node.RemoveAttribute("Role")
    assert selector.currentNode() is None
    selector.setMRMLScene(None)


def test_a_button_box_gets_its_buttons_by_the_setter_only(app_scene: Any) -> None:
    wanted = qt.QDialogButtonBox.Ok | qt.QDialogButtonBox.Cancel
    assert qt.QDialogButtonBox(wanted).button(qt.QDialogButtonBox.Ok) is None
    box = qt.QDialogButtonBox()
    box.setStandardButtons(wanted)
    assert box.button(qt.QDialogButtonBox.Ok) is not None


def test_an_action_does_not_know_its_submenu(app_scene: Any) -> None:
    menu = qt.QMenu()
    below = menu.addMenu("below")
    assert not hasattr(menu.actions()[0], "menu")
    assert menu.findChildren(qt.QMenu) == [below]
