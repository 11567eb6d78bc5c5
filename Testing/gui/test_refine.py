"""Annotate and Refine as an annotator meets them: strokes through the editor's logic; the mouse's belong to the tour."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import qt
import slicer

from HierSubclassSegLib.gui import slice_views
from HierSubclassSegLib.scene import annotation, geometry, layers, marks, prediction, tree_store
from HierSubclassSegLib.scene.masking import Masking
from standins.label_trees import tree_of
from standins.panels import open_panel
from standins.slicer_app import dialogs

SHAPE = (20, 18, 16)
TREE = tree_of({"background": {}, "tumor": {"core": {"necrosis": {}, "rim": {}}, "edema": {}}, "brain": {}})


@pytest.fixture
def predicted(app_scene: Any) -> Any:
    volume = geometry.make_volume(app_scene, np.zeros(SHAPE, np.int16), np.eye(4), "head")
    for name, orientation in (("Red", "Axial"), ("Green", "Coronal")):
        view = app_scene.AddNewNodeByClass("vtkMRMLSliceNode", name)
        view.SetLayoutName(name)
        view.SetOrientation(orientation)
    labels = np.full(SHAPE, TREE.node("brain").value, TREE.dtype)
    labels[2:16, 2:16, 2:14] = TREE.node("tumor").value
    labels[4:8, 4:8, 4:8] = TREE.node("necrosis").value
    labels[10:14, 4:8, 4:8] = TREE.node("edema").value
    sure = np.full(SHAPE, 0.5, np.float32)
    sure[4:6] = 1.0
    return prediction.create_prediction([volume], TREE, labels, confidence=sure, bundle_id="test@1")


@pytest.fixture
def widget(predicted: Any) -> Iterator[Any]:
    opened = open_panel()
    yield opened
    opened.cleanup()


@pytest.fixture
def page(widget: Any, predicted: Any, wait_for: Callable[..., None]) -> Any:
    """The Annotate tab with an annotation of the prediction's superclasses."""
    widget.panel.edit(predicted)
    made = widget.panel.annotate.page
    made.begin.content.currentIndex = 1
    made.begin.button.click()
    wait_for(lambda: made.annotation is not None, what=made.begin.message.text)
    return made


def stroke(page: Any, box: tuple[slice, ...], *, erase: bool = False) -> None:
    """What an effect does at the release of the mouse, through a logic of its own on the editor's node."""
    editor = page.refine.editor
    logic = slicer.vtkSlicerSegmentEditorLogic()
    logic.SetMRMLScene(slicer.mrmlScene)
    logic.SetSegmentEditorNode(editor.node)
    logic.UpdateReferenceGeometryImage()
    mask = np.zeros(SHAPE, np.uint8)
    mask[box] = 1
    image = page.refine.session.grid.new_image(mask, (0, 0, 0))
    editor.widget.saveStateForUndo()
    mode = logic.ModificationModeRemove if erase else logic.ModificationModeAdd
    selected = editor.node.GetSelectedSegmentID()
    logic.ModifySegmentByLabelmap(page.annotation, selected, image, mode, False, False)
    slicer.app.processEvents()


def voxels(page: Any, name: str) -> int:
    return int(page.refine.session.voxels(name).sum())


def all_voxels(page: Any) -> dict[str, np.ndarray]:
    return layers.read_nodes(page.annotation, page.refine.session.tree)


def box(*ranges: tuple[int, int]) -> tuple[slice, ...]:
    return tuple(slice(*ends) for ends in ranges)


def test_edit_begins_an_annotation_and_hides_the_prediction(page: Any, predicted: Any, widget: Any) -> None:
    assert widget.panel.widget.currentIndex == 1
    assert annotation.prediction_of(page.annotation) is predicted
    assert not predicted.GetDisplayNode().GetVisibility()
    assert set(all_voxels(page)) == {"tumor", "brain"}
    assert page.hierarchy.session is page.refine.session is not None
    assert [page.refine.combo.itemData(i) for i in range(page.refine.combo.count)] == ["", "tumor", "core"]


def test_what_is_there_can_be_gone_on_with(page: Any, predicted: Any) -> None:
    first = page.annotation
    page.set_annotation(None)
    page.start_from(predicted)
    assert page.begin.earlier.text == f"Go on with '{first.GetName()}'"
    page.begin.earlier.click()
    assert page.annotation is first
    assert not page.begin.asking


def test_an_annotation_begins_empty_on_a_volume(page: Any, wait_for: Callable[..., None]) -> None:
    first = page.annotation
    page.begin.ask(None)
    page.begin.trees.currentIndex = page.begin.trees.findText("BraTS 2021")
    page.begin.create()
    wait_for(lambda: page.annotation is not first)
    assert tree_store.read_tree(page.annotation).name == "BraTS 2021"
    assert page.volumes()[0].GetName() == "head"
    page.begin.volume.setCurrentNode(None)
    page.begin.ask(None)
    page.begin.volume.setCurrentNode(None)
    page.begin.create()
    wait_for(lambda: page.begin.message.text)
    assert page.begin.message.text.lower().startswith("choose the volume")


def test_any_segmentation_can_be_annotated(page: Any, app_scene: Any, wait_for: Callable[..., None]) -> None:
    node = app_scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "theirs")
    for name in ("edema", "Segment_7"):
        node.GetSegmentation().AddEmptySegment(name, name)
    page.begin.ask(node)
    page.begin.trees.currentIndex = page.begin.trees.findText("BraTS 2021")
    page.begin.volume.setCurrentNode(page.volumes()[0])
    page.begin.create()
    wait_for(lambda: "Segment_7" in page.message.text)
    assert not node.GetDisplayVisibility()


def test_a_cancelled_beginning_leaves_nothing(page: Any, predicted: Any, wait_for: Callable[..., None]) -> None:
    count = slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode")
    page.start_from(predicted)
    page.begin.create()
    wait_for(
        lambda: slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") > count or not page.begin.asking
    )
    page.begin.hide()
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") in (count, count + 1)


def test_refine_makes_subclasses_paintable_inside(page: Any, screenshot: Callable[..., Any], widget: Any) -> None:
    refine = page.refine
    refine.combo.currentIndex = refine.combo.findData("tumor")
    refine.button.click()
    slicer.app.processEvents()
    assert refine.refining
    assert refine.button.text == "Done"
    assert {"core", "edema"} <= set(all_voxels(page))
    assert page.annotation.GetNumberOfDisplayNodes() == 2
    before = voxels(page, "tumor")
    refine.session.select("core")
    stroke(page, box((0, 8), (4, 8), (4, 8)))
    assert voxels(page, "core") == 6 * 4 * 4
    refine.session.select("edema")
    stroke(page, box((6, 10), (4, 8), (4, 8)))
    assert (voxels(page, "core"), voxels(page, "edema")) == (4 * 16, 4 * 16)
    stroke(page, box((6, 8), (4, 8), (4, 8)), erase=True)
    assert voxels(page, "edema") == 2 * 16
    assert voxels(page, "tumor") == before
    widget.parent.resize(400, 1000)
    screenshot(widget.parent, "refining")
    for _ in range(3):
        refine.editor.widget.undo()
    assert voxels(page, "core") == voxels(page, "edema") == 0
    for _ in range(3):
        refine.editor.widget.redo()
    assert (voxels(page, "core"), voxels(page, "edema")) == (4 * 16, 2 * 16)
    refine.button.click()
    assert page.annotation.GetNumberOfDisplayNodes() == 1


def test_masking_follows_what_is_selected(page: Any, wait_for: Callable[..., None]) -> None:
    page.refine.start("tumor")
    editor, session = page.refine.editor, page.refine.session
    tree = session.tree
    edema = tree_store.segment_id_of(page.annotation, tree.node("edema"))
    editor.widget.setCurrentSegmentID(edema)
    tumor = tree_store.segment_id_of(page.annotation, tree.node("tumor"))
    assert Masking.of(editor.node).mask_segment == tumor
    wait_for(lambda: page.hierarchy.selected == "edema")
    table = editor.widget.findChildren(slicer.qMRMLSegmentsTableView)[0]
    wait_for(lambda: len(table.displayedSegmentIDs()) == 2, what="only the siblings are listed")
    assert not table.visibilityColumnVisible
    editor.node.SetSourceVolumeIntensityMask(True)
    assert not editor.node.GetSourceVolumeIntensityMask()
    page.refine.pick("rim")
    assert session.selected.name == "rim"
    core = tree_store.segment_id_of(page.annotation, tree.node("core"))
    assert Masking.of(editor.node).mask_segment == core


def test_an_inner_node_without_a_segment_is_created_undoably(page: Any) -> None:
    page.refine.start("tumor")
    session = page.refine.session
    session.select("necrosis")
    session.delete_segments("core")
    assert "core" not in all_voxels(page)
    page.refine.start("core")
    assert "core" in all_voxels(page)


@pytest.mark.parametrize("way", ["tab", "module", "scene", "close"])
def test_leaving_in_any_way_restores_what_was_seen(page: Any, widget: Any, way: str) -> None:
    node = page.annotation
    session = page.refine.session
    session.set_seen("brain", False)
    opacity = node.GetDisplayNode().GetOpacity2DFill()
    page.refine.start("tumor")
    page.refine.editor.widget.setActiveEffectByName("Paint")
    assert node.GetDisplayNode().GetOpacity2DFill() == 0
    if way == "tab":
        widget.panel.show(widget.panel.segment_page)
    elif way == "module":
        widget.exit()
    elif way == "close":
        widget.panel.close()
    else:
        slicer.mrmlScene.Clear(0)
        assert page.annotation is None
        assert page.refine.session is None
        return
    assert node.GetNumberOfDisplayNodes() == 1
    assert node.GetDisplayNode().GetOpacity2DFill() == opacity
    brain = tree_store.segment_id_of(node, TREE.node("brain"))
    assert not node.GetDisplayNode().GetSegmentVisibility(brain)
    if way == "close":
        return
    assert page.refine.editor.widget.activeEffect() is None
    if way == "tab":
        widget.panel.show(widget.panel.annotate)
    else:
        widget.enter()
    slicer.app.processEvents()
    assert page.refine.refining, "what was refined is refined again"
    assert page.refine.session.refined.name == "tumor"


def test_a_tab_that_is_only_passed_forgets_nothing(page: Any, widget: Any) -> None:
    page.refine.start("tumor")
    for _ in range(2):
        widget.panel.show(widget.panel.segment_page)
        widget.panel.show(widget.panel.annotate)
    assert not page.refine.refining, "the tab is seen first"
    slicer.app.processEvents()
    assert page.refine.session.refined.name == "tumor"
    widget.panel.show(widget.panel.segment_page)
    widget.panel.show(widget.panel.annotate)
    page.refine.start(None)
    slicer.app.processEvents()
    assert page.refine.refining
    assert page.refine.session.refined is None, "what the user has chosen since stays"


def test_what_was_hidden_is_hidden_again(page: Any) -> None:
    page.refine.start("tumor")
    page.refine.stop()
    session = page.refine.session
    session.set_seen("core", False)
    page.refine.start("tumor")
    assert session.is_seen("core")
    page.refine.stop()
    assert not session.is_seen("core")


def test_take_over_in_every_scope(page: Any) -> None:
    refine = page.refine
    refine.start("tumor")
    row = refine.take_over
    refine.session.select("edema")
    stroke(page, box((4, 5), (4, 8), (4, 8)))
    row.confidence.value = 90
    row.button.click()
    # Two of four slabs are sure, and one of the two was painted by hand.
    assert voxels(page, "core") == 16
    assert voxels(page, "edema") == 16
    assert refine.message.text == "16 voxels taken over."
    row.confidence.value = 0
    row.scope.currentIndex = 1
    red = slice_views.slice_node("Red")
    red.JumpSliceByOffsetting(0.0, 0.0, 5.0)
    row.button.click()
    assert voxels(page, "edema") == 16 + 16
    from HierSubclassSegLib.scene import refine_takeover

    refine._take(refine_takeover.Component((12.0, 6.0, 6.0)), None)
    assert voxels(page, "edema") == 16 + 64
    before = voxels(page, "core")
    row.scope.currentIndex = 0
    row.button.click()
    assert voxels(page, "core") > before
    row.button.click()
    assert "Nothing" in refine.message.text
    refine.editor.widget.undo()
    assert voxels(page, "core") == before


def test_slices_are_marked_complete_and_found(page: Any) -> None:
    page.refine.start("tumor")
    slices = page.refine.slices
    assert [slices.view.itemText(i) for i in range(slices.view.count)] == ["Red", "Green"]
    red = slice_views.slice_node("Red")
    red.JumpSliceByOffsetting(0.0, 0.0, 5.0)
    slices.update()
    assert slices.here() == (2, 5)
    slices.toggle()
    assert marks.slices_complete(page.annotation, TREE) == [{"axis": 2, "indices": [5], "node": "tumor"}]
    red.JumpSliceByOffsetting(0.0, 0.0, 4.0)
    slices.next()
    assert slices.here() == (2, 6), "the complete one is passed over"
    slices.previous()
    assert slices.here() == (2, 4)
    red.JumpSliceByOffsetting(0.0, 0.0, 13.0)
    slices.next()
    assert slices.here() == (2, 2), "after the last comes the first"
    page.refine.editor.widget.undo()
    assert marks.slices_complete(page.annotation, TREE), "undo leaves marks alone"


def test_an_oblique_view_offers_to_turn(page: Any, wait_for: Callable[..., None]) -> None:
    import vtk

    page.refine.start("tumor")
    slices = page.refine.slices
    red = slice_views.slice_node("Red")
    turn = vtk.vtkTransform()
    turn.SetMatrix(red.GetSliceToRAS())
    turn.RotateX(20)
    red.GetSliceToRAS().DeepCopy(turn.GetMatrix())
    red.UpdateMatrices()
    wait_for(lambda: slices.turn.visible)
    assert slices.here() is None
    slices.turn.click()
    assert slices.here() is not None
    assert not slices.turn.visible


@pytest.mark.parametrize("answer", ["Grow the superclass", "Clip the subclasses"])
def test_edits_made_elsewhere_are_asked_about_once(page: Any, answer: str) -> None:
    page.refine.start("tumor")
    page.refine.session.select("core")
    stroke(page, box((4, 8), (4, 8), (4, 8)))
    page.refine.stop()
    before = voxels(page, "tumor")

    def elsewhere() -> None:
        mask = np.zeros(SHAPE, np.uint8)
        mask[0:8, 4:8, 4:8] = 1
        image = page.refine.session.grid.new_image(mask, (0, 0, 0))
        core = tree_store.segment_id_of(page.annotation, TREE.node("core"))
        logic = slicer.vtkSlicerSegmentationsModuleLogic
        logic.SetBinaryLabelmapToSegment(image, page.annotation, core, logic.MODE_REPLACE)

    def press(shown: Any) -> Any:
        next(one for one in shown.buttons() if one.text == answer).click()
        return 0

    elsewhere()
    dialogs.answers.append(press)
    assert page.refine.start("tumor")
    grown = answer.startswith("Grow")
    assert voxels(page, "tumor") == before + (2 * 16 if grown else 0)
    assert voxels(page, "core") == (8 if grown else 6) * 16
    page.refine.stop()
    elsewhere()
    assert page.reconcile(), "asked once: no dialog now"


def test_a_lock_survives_undo_and_holds(page: Any) -> None:
    page.refine.start("tumor")
    session = page.refine.session
    session.select("core")
    stroke(page, box((4, 8), (4, 8), (4, 8)))
    session.set_locked("core")
    session.select("edema")
    stroke(page, box((4, 10), (4, 8), (4, 8)))
    assert (voxels(page, "core"), voxels(page, "edema")) == (64, 32)
    page.refine.editor.widget.undo()
    assert voxels(page, "edema") == 0
    assert marks.locked_nodes(page.annotation, TREE) == {"core"}


def test_tree_edits_and_strokes_share_one_history(page: Any) -> None:
    page.refine.start("tumor")
    session = page.refine.session
    session.rename("edema", "swelling")
    session.select("swelling")
    stroke(page, box((4, 8), (4, 8), (4, 8)))
    page.refine.editor.widget.undo()
    page.refine.editor.widget.undo()
    assert "edema" in session.tree
    page.refine.editor.widget.redo()
    assert "swelling" in session.tree


def test_slicers_save_dialog_finds_an_ordinary_segmentation(page: Any) -> None:
    page.refine.start("tumor")
    dialog = qt.QDialog()
    dialog.objectName = "qSlicerSaveDataDialog"
    dialog.setModal(True)
    dialog.show()
    slicer.app.focusChanged.emit(None, dialog)
    assert page.annotation.GetNumberOfDisplayNodes() == 1
    dialog.reject()
    assert page.annotation.GetNumberOfDisplayNodes() == 2
    assert page.refine.session.refined.name == "tumor"


def test_without_its_volume_a_sentence_says_so(page: Any) -> None:
    node, volume = page.annotation, page.volumes()[0]
    page.set_annotation(None)
    slicer.mrmlScene.RemoveNode(volume)
    page.set_annotation(node)
    assert "volume" in page.refine.message.text
    assert not page.refine.start("tumor")


def test_the_tab_fits_400_pixels(page: Any, widget: Any, screenshot: Callable[..., Any]) -> None:
    page.refine.start("tumor")
    widget.parent.resize(400, 1000)
    slicer.app.processEvents()
    assert widget.parent.minimumSizeHint.width() <= 400
    assert isinstance(page.widget, qt.QWidget)
    screenshot(widget.parent, "annotate")
