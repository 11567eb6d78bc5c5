"""A segmentation or label map of another program becomes a hierarchy: by a click, or by a dialog where that is not plain."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import qt
import slicer

from hierseg.labeltree import LabelTree
from hierseg.resources import path
from HierSubclassSegLib.gui.hierarchy_columns import ML
from HierSubclassSegLib.gui.hierarchy_menu import fill_section_menu
from HierSubclassSegLib.gui.hierarchy_section import HierarchySection
from HierSubclassSegLib.scene import annotation, geometry, tags, tree_store
from HierSubclassSegLib.scene.painting import RefineSession
from standins.label_trees import tree_of
from standins.slicer_app import dialogs

ORGANS = ("liver", "kidney_left", "kidney_right", "vertebrae_L1")


@pytest.fixture
def label_map(app_scene: Any) -> Any:
    """As TotalSegmentator leaves it: a value an organ."""
    labels = np.zeros((20, 20, 20), np.int16)
    for value in range(1, 5):
        labels[5 * value - 5 : 5 * value - 1, 2:18, 2:18] = value
    volume = geometry.make_volume(app_scene, labels, np.eye(4), "organs")
    node = app_scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "organs map")
    slicer.vtkSlicerVolumesLogic().CreateLabelVolumeFromVolume(app_scene, node, volume)
    return node


def organs(scene: Any, *names: str) -> Any:
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "organs")
    node.CreateDefaultDisplayNodes()
    for index, name in enumerate(names):
        image = slicer.vtkOrientedImageData()
        image.SetExtent(5 * index, 5 * index + 3, 0, 3, 0, 3)
        image.AllocateScalars(3, 1)
        geometry.array_of(image)[:] = 1
        segment = slicer.vtkSegment()
        segment.SetName(name)
        segment.AddRepresentation("Binary labelmap", image)
        node.GetSegmentation().AddSegment(segment)
    return node


@pytest.fixture
def section(app_scene: Any) -> Iterator[HierarchySection]:
    made = HierarchySection()
    made.widget.resize(380, 400)
    made.widget.show()
    yield made
    made.close()
    made.widget.hide()


def tree_in(node: Any) -> LabelTree | None:
    return tree_store.read_tree(node)


def test_a_result_of_totalsegmentator_is_grouped_by_one_click(
    section: HierarchySection, app_scene: Any, wait_for: Callable[..., None], screenshot: Callable[..., Path]
) -> None:
    node = organs(app_scene, *ORGANS)
    section.set_node(node)
    assert section.grouping.group_button.text == "Group by 'TotalSegmentator CT'"
    assert "4 of 4 segments" in section.grouping.label.text
    assert not section.view.visible
    screenshot(section.widget, "offered")
    section.grouping.group_button.click()
    assert not section.grouping.widget.visible
    assert {"liver", "left kidney", "right kidney", "L1 vertebra"} <= set(section.rows.items)
    wait_for(lambda: section.rows.items["left kidney"].text(ML) == "0.06")
    assert [node.GetSegmentation().GetNthSegment(i).GetName() for i in range(4)] == list(ORGANS)
    section.fold_all(False)
    screenshot(section.widget, "grouped")


def test_what_fits_nothing_is_told_and_stays(section: HierarchySection, app_scene: Any) -> None:
    node = organs(app_scene, *ORGANS, "my lesion")
    section.set_node(node)
    section.grouping.group_button.click()
    assert section.message.text.endswith("stay as they are: my lesion")
    assert "liver" in section.rows.items


def test_a_choice_is_asked_for(section: HierarchySection, app_scene: Any, screenshot: Callable[..., Path]) -> None:
    node = organs(app_scene, "liver", "Liver", "kidney_left", "something else")
    node.GetSegmentation().GetNthSegment(0).SetName("LIVER")
    section.set_node(node)

    def answer(dialog: Any) -> int:
        screenshot(dialog, "dialog")
        combos = [c for c in dialog.findChildren(qt.QComboBox) if c.objectName != "treeCombo"]
        assert [c.itemText(0) for c in combos] == ["leave as it is"] * len(combos)
        assert combos[0].itemText(1).endswith("/liver")
        combos[0].currentIndex = 1
        combos[0].activated.emit(1)
        return 1

    dialogs.answers.append(answer)
    section.grouping.group_button.click()
    paths = [tags.get_tag(node.GetSegmentation().GetNthSegment(i), tags.PATH) for i in range(4)]
    assert paths[0] is not None
    assert paths[0].endswith("/liver")
    assert paths[1] is None
    assert paths[3] is None


def test_another_tree_and_a_tree_from_a_file(section: HierarchySection, app_scene: Any, tmp_path: Path) -> None:
    node = organs(app_scene, "core", "edema")
    section.set_node(node)
    own = tree_of({"tumor": {"core": {}, "edema": {}}})
    own.save(tmp_path / "own.json")
    (tmp_path / "damaged.json").write_text("{", encoding="utf-8")

    def answer(dialog: Any) -> int:
        button = next(b for b in dialog.findChildren(qt.QPushButton) if b.text == "From a file…")
        dialogs.answers.append(str(tmp_path / "damaged.json"))
        button.click()
        assert any("damaged.json" in str(label.text) for label in dialog.findChildren(qt.QLabel))
        dialogs.answers.append(str(tmp_path / "own.json"))
        button.click()
        return 1

    dialogs.answers.append(answer)
    section.grouping.ask()
    assert set(section.rows.items) == {"tumor", "core", "edema"}
    assert tree_in(node) == own
    dialogs.answers.append(0)
    menu = qt.QMenu()
    fill_section_menu(menu, section)
    next(action for action in menu.actions() if action.text == "Group by label tree…").trigger()
    assert tree_in(node) == own


def test_grouping_is_undone_as_one_step(
    section: HierarchySection, app_scene: Any, wait_for: Callable[..., None]
) -> None:
    node = organs(app_scene, *ORGANS)
    editor = app_scene.AddNewNodeByClass("vtkMRMLSegmentEditorNode")
    editor.SetAndObserveSegmentationNode(node)
    logic = slicer.vtkSlicerSegmentEditorLogic()
    logic.SetMRMLScene(app_scene)
    logic.SetSegmentEditorNode(editor)
    logic.SetMaximumNumberOfUndoStates(10)
    section.save_state = logic.SaveStateForUndo
    section.set_node(node)
    section.grouping.group()
    assert "liver" in section.rows.items
    logic.Undo()
    wait_for(lambda: bool(section.grouping.widget.visible))
    assert section.rows.items == {}
    logic.Redo()
    wait_for(lambda: "liver" in section.rows.items)


def test_a_label_map_is_imported_and_grouped(section: HierarchySection, label_map: Any) -> None:
    colors = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLColorTableNode")
    colors.SetTypeToUser()
    colors.SetNumberOfColors(5)
    for value, name in enumerate(("background", *ORGANS)):
        colors.SetColor(value, name, 0.2 * value, 0.5, 0.5, 1.0)
    label_map.CreateDefaultDisplayNodes()
    label_map.GetDisplayNode().SetAndObserveColorNodeID(colors.GetID())
    section.set_node(label_map)
    assert section.grouping.label.text == "'organs map' is a label map."
    section.grouping.group_button.click()
    assert section.node.IsA("vtkMRMLSegmentationNode")
    assert {"liver", "left kidney"} <= set(section.rows.items)


def test_an_empty_label_map_gives_a_sentence(section: HierarchySection, app_scene: Any) -> None:
    empty = app_scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "empty")
    section.set_node(empty)
    section.grouping.group_button.click()
    assert "empty" in section.message.text
    assert section.node is empty


def test_nothing_fits(section: HierarchySection, app_scene: Any) -> None:
    section.set_node(organs(app_scene, "abc", "def"))
    assert not section.grouping.group_button.visible
    assert section.grouping.other_button.visible
    assert "none of those here fits" in section.grouping.label.text


def test_a_ready_tree_for_an_empty_annotation(app_scene: Any) -> None:
    volume = geometry.make_volume(app_scene, np.zeros((8, 8, 8), np.int16), np.eye(4), "head")
    node = annotation.create_annotation([volume], tree_of({"a": {"b": {}}}))
    made = HierarchySection(editable=True)
    made.set_node(node)
    assert set(made.rows.items) == {"a", "b"}

    def answer(dialog: Any) -> int:
        combo = next(c for c in dialog.findChildren(qt.QComboBox) if c.objectName == "treeCombo")
        combo.currentIndex = combo.findText("BraTS 2021")
        combo.activated.emit(combo.currentIndex)
        return 1

    dialogs.answers.append(answer)
    made.grouping.ask()
    assert tree_in(node) == LabelTree.load(path("label_trees", "brats2021"))
    assert set(made.rows.items) == {n.name for n in tree_in(node).nodes}
    with RefineSession(node, volume) as session:
        made.session = session
        session.enter()
        made.grouping.ask()
        assert made.message.text == "Finish refining before you change the label tree."
    made.close()
