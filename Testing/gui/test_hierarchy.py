"""The hierarchy as a user meets it: rows, eyes, columns, menus, keys, and edits of the tree."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import qt
import slicer

from hierseg.labeltree import LabelTree
from HierSubclassSegLib.gui.hierarchy_columns import CONFIDENCE, EYE, LOCK, ML, NAME, REFINED, SOURCE, STATUS
from HierSubclassSegLib.gui.hierarchy_menu import fill_row_menu, fill_section_menu
from HierSubclassSegLib.gui.hierarchy_section import HierarchySection
from HierSubclassSegLib.scene import annotation, geometry, layers, prediction, surfaces, tags, tree_store
from HierSubclassSegLib.scene.painting import RefineSession
from HierSubclassSegLib.scene.status import Status, status
from standins.label_trees import tree_of
from standins.slicer_app import dialogs

TREE = tree_of(
    {"background": {}, "tumor": {"core": {}, "edema": {}}, "brain": {"cortex": {}, "white matter": {"deep": {}}}}
)


@pytest.fixture
def volume(app_scene: Any) -> Any:
    return geometry.make_volume(app_scene, np.zeros((20, 20, 20), np.int16), np.eye(4), "head")


@pytest.fixture
def predicted(volume: Any) -> Any:
    labels = np.zeros((20, 20, 20), TREE.dtype)
    labels[:10] = TREE.node("core").value
    labels[10:15] = TREE.node("tumor").value
    labels[15:, :10] = TREE.node("deep").value
    confidence = np.full(labels.shape, 0.8, np.float32)
    return prediction.create_prediction([volume], TREE, labels, confidence=confidence, bundle_id="test@1")


@pytest.fixture
def annotated(volume: Any, predicted: Any) -> Any:
    return annotation.annotation_from_prediction(predicted, superclasses_only=False)


@pytest.fixture
def section(app_scene: Any) -> Iterator[HierarchySection]:
    yield from _section(False)


@pytest.fixture
def editor(app_scene: Any) -> Iterator[HierarchySection]:
    yield from _section(True)


def _section(editable: bool) -> Iterator[HierarchySection]:
    made = HierarchySection(editable)
    made.widget.resize(380, 500)
    made.widget.show()
    yield made
    made.close()
    made.widget.hide()


def text(section: HierarchySection, name: str, column: int) -> str:
    return str(section.rows.items[name].text(column))


def click(section: HierarchySection, name: str, column: int) -> None:
    section.view.itemClicked.emit(section.rows.items[name], column)


def press(section: HierarchySection, key: Any) -> None:
    event = qt.QKeyEvent(qt.QEvent.KeyPress, key, qt.Qt.NoModifier)
    qt.QCoreApplication.sendEvent(section.view, event)


def entries(fill: Callable[..., None], *arguments: Any) -> dict[str, Any]:
    """What a menu holds, by text, submenus as "Opacity/50 %"."""
    menu = qt.QMenu()
    fill(menu, *arguments)
    found = {}
    for action in menu.actions():
        found[str(action.text)] = action
    for below in menu.findChildren(qt.QMenu):
        for inner in below.actions():
            found[f"{below.title}/{inner.text}"] = inner
    found["menu"] = menu
    return found


def segment_id(node: Any, name: str) -> str:
    return tree_store.segment_id_of(node, tree_store.read_tree(node).node(name))


def segment(node: Any, name: str) -> Any:
    return node.GetSegmentation().GetSegment(segment_id(node, name))


# -- a result --------------------------------------------------------------------------------------------------------


def test_rows_numbers_and_eyes(
    section: HierarchySection, predicted: Any, wait_for: Callable[..., None], screenshot: Callable[..., Path]
) -> None:
    section.set_node(predicted)
    rows = section.rows.items
    assert set(rows) == {"tumor", "core", "brain", "white matter", "deep"}
    wait_for(lambda: text(section, "tumor", ML) == "6.0")
    assert (text(section, "core", ML), text(section, "tumor", REFINED)) == ("4.0", "67 %")
    assert (text(section, "core", CONFIDENCE), text(section, "core", SOURCE)) == ("80 %", "model")
    display = predicted.GetDisplayNode()
    click(section, "deep", EYE)
    assert not display.GetSegmentVisibility(segment_id(predicted, "deep"))
    assert section.rows.shown["brain"] == "partial"
    click(section, "deep", NAME)
    assert section.rows.shown["deep"] == "off", "a click on the name is no click on the eye"
    click(section, "brain", EYE)
    assert section.rows.shown["brain"] == "on"
    section.depths.currentIndex = 0
    section.depths.activated.emit(0)
    assert section.rows.shown["deep"] == "off"
    assert not rows["tumor"].isExpanded()
    section.filter.text = "deep"
    assert [name for name, row in rows.items() if not row.isHidden()] == ["brain", "white matter", "deep"]
    section.filter.text = ""
    section.fold_all(False)
    screenshot(section.widget, "result")


def test_picking_and_selecting(section: HierarchySection, predicted: Any) -> None:
    picked: list[str] = []
    section.on_selected = picked.append
    section.set_node(predicted)
    section.select("core")
    assert (section.selected, picked) == ("core", [])
    press(section, qt.Qt.Key_Up)
    assert (section.selected, picked) == ("tumor", ["tumor"])
    press(section, qt.Qt.Key_Space)
    assert section.rows.shown["tumor"] == "off"
    section.select("no such node")
    assert section.selected is None


def test_it_follows_the_scene(section: HierarchySection, predicted: Any, wait_for: Callable[..., None]) -> None:
    section.set_node(predicted)
    predicted.GetDisplayNode().SetSegmentVisibility(segment_id(predicted, "core"), False)
    wait_for(lambda: section.rows.shown["core"] == "off")
    segment(predicted, "core").SetName("my core")
    wait_for(lambda: text(section, "core", NAME) == "my core")
    slicer.vtkSlicerSegmentationsModuleLogic.SetSegmentStatus(segment(predicted, "core"), 3)
    wait_for(lambda: section.rows.statuses["core"] is Status.FLAGGED)
    predicted.GetSegmentation().RemoveSegment(segment_id(predicted, "core"))
    wait_for(lambda: "core" not in section.rows.items)
    slicer.mrmlScene.RemoveNode(predicted)
    predicted.Modified()
    wait_for(lambda: section.node is None)
    assert section.rows.items == {}


def test_status_and_lock_by_click(section: HierarchySection, predicted: Any, wait_for: Callable[..., None]) -> None:
    section.set_node(predicted)
    for expected in (Status.IN_PROGRESS, Status.COMPLETED, Status.FLAGGED, Status.NOT_STARTED):
        click(section, "core", STATUS)
        assert status(predicted, TREE, "core") is expected
    click(section, "tumor", LOCK)
    assert section.rows.locked == frozenset({"tumor"})
    assert section.rows.items["core"].toolTip(LOCK) == "Locked"
    section.actions.set_locked("core", False)
    assert section.message.text == "'core' is locked with 'tumor'."
    click(section, "tumor", LOCK)
    assert section.rows.locked == frozenset()


def test_the_row_menu(section: HierarchySection, predicted: Any) -> None:
    section.set_node(predicted)
    found = entries(fill_row_menu, section, "tumor")
    assert "Delete…" not in found
    found["Opacity/50 %"].trigger()
    display = predicted.GetDisplayNode()
    assert display.GetSegmentOpacity2DOutline(segment_id(predicted, "core")) == 0.5
    again = entries(fill_row_menu, section, "tumor")
    assert again["Opacity/50 %"].checked
    found["Show only this"].trigger()
    assert (section.rows.shown["tumor"], section.rows.shown["brain"]) == ("on", "off")
    before = segment(predicted, "core").GetColor()
    dialogs.answers.append(qt.QColor(0, 0, 255))
    found["Color…"].trigger()
    assert segment(predicted, "tumor").GetColor() == pytest.approx((0, 0, 1))
    assert segment(predicted, "core").GetColor() == before
    found["Color subclasses by shade"].trigger()
    assert segment(predicted, "core").GetColor()[2] > 0.5
    assert tree_store.read_tree(predicted) == TREE, "a result keeps its model's tree"


def test_columns_are_remembered(section: HierarchySection, predicted: Any) -> None:
    section.set_node(predicted)
    assert section.columns.shown == {NAME, ML, EYE}
    section._menu.aboutToShow.emit()
    section._menu.aboutToShow.emit()
    found = entries(fill_section_menu, section)
    found["Columns/Mean confidence of the model"].trigger()
    found["Columns/Volume in milliliters"].trigger()
    again = HierarchySection()
    assert again.columns.shown == section.columns.shown == {NAME, CONFIDENCE, EYE}
    again.close()
    qt.QSettings().remove("HierSubclassSeg/ResultColumns")


def test_folding_is_kept_with_the_segmentation(section: HierarchySection, predicted: Any) -> None:
    section.set_node(predicted)
    assert section.rows.items["tumor"].isExpanded()
    assert not section.rows.items["white matter"].isExpanded()
    section.rows.items["white matter"].setExpanded(True)
    section.rows.items["tumor"].setExpanded(False)
    section.set_node(None)
    section.set_node(predicted)
    assert section.rows.unfolded() >= {"brain", "white matter"}
    assert not section.rows.items["tumor"].isExpanded()


def test_only_what_is_asked_for_gets_a_surface(
    section: HierarchySection, predicted: Any, wait_for: Callable[..., None]
) -> None:
    def surface(name: str) -> Any:
        return segment(predicted, name).GetRepresentation("Closed surface")

    section.set_node(predicted)
    section.surfaces.show("tumor")
    wait_for(lambda: surface("core") is not None and surface("core").GetNumberOfPoints() > 0)
    assert surface("deep").GetNumberOfPoints() == 0
    assert surface("tumor").GetNumberOfPoints() == 0, "its subclass is in sight"
    click(section, "core", EYE)
    wait_for(lambda: surface("tumor").GetNumberOfPoints() > 0)
    assert section.surfaces.shows("core")
    assert surfaces.in_3d(predicted)
    section.surfaces.hide(None)
    assert surface("core") is None
    section.surfaces.show(None)
    section.surfaces.hide("brain")
    assert section.surfaces.wanted == {"tumor", "background"}


def test_light_and_dark(
    section: HierarchySection, predicted: Any, wait_for: Callable[..., None], screenshot: Callable[..., Path]
) -> None:
    before = qt.QPalette(section.view.palette)
    dark = qt.QPalette()
    for role, gray in (
        (qt.QPalette.Base, 35),
        (qt.QPalette.Window, 50),
        (qt.QPalette.Text, 235),
        (qt.QPalette.WindowText, 235),
    ):
        dark.setColor(role, qt.QColor(gray, gray, gray))
    section.columns.show({ML, REFINED, CONFIDENCE, SOURCE, STATUS, LOCK})
    section.set_node(predicted)
    wait_for(lambda: text(section, "tumor", ML) == "6.0")
    drawn = section.rows.items["tumor"].icon(EYE).cacheKey()
    assert brightness(section) < 100
    section.widget.setPalette(dark)
    wait_for(lambda: section.rows.items["tumor"].icon(EYE).cacheKey() != drawn)
    assert brightness(section) > 200
    screenshot(section.widget, "dark")
    section.widget.setPalette(before)


def brightness(section: HierarchySection) -> float:
    """Of what is drawn in an eye's icon, 0 to 255."""
    image = section.rows.items["tumor"].icon(EYE).pixmap(16, 16).toImage()
    colors = [image.pixelColor(x, y) for x in range(image.width()) for y in range(image.height())]
    return float(np.mean([color.lightness() for color in colors if color.alpha() > 128]))


# -- an annotation ---------------------------------------------------------------------------------------------------


def test_all_nodes_are_there_to_be_painted(
    editor: HierarchySection, annotated: Any, wait_for: Callable[..., None], screenshot: Callable[..., Path]
) -> None:
    editor.set_node(annotated)
    assert set(editor.rows.items) == {node.name for node in TREE.nodes}
    assert "no segment yet" in editor.rows.items["cortex"].toolTip(NAME)
    wait_for(lambda: text(editor, "tumor", REFINED) == "67 %")
    editor.fold_all(False)
    editor.actions.set_locked("core", True)
    editor.actions.set_status("tumor", Status.IN_PROGRESS)
    screenshot(editor.widget, "annotation")


def test_adding_renaming_and_deleting(editor: HierarchySection, annotated: Any) -> None:
    editor.set_node(annotated)

    said: list[str] = []

    def name_it(name: str) -> Callable[[Any], int]:
        def answer(dialog: Any) -> int:
            dialog.findChild(qt.QLineEdit).text = name
            said.extend(str(label.text) for label in dialog.findChildren(qt.QLabel))
            return 1

        return answer

    dialogs.answers.append(name_it("necrosis"))
    editor.select("tumor")
    press(editor, qt.Qt.Key_Insert)
    assert editor.selected == "necrosis"
    assert tags.get_tag(segment(annotated, "necrosis"), tags.PATH) == "tumor/necrosis"
    dialogs.answers.append(name_it("edema"))
    editor.actions.add_subclass("brain")
    assert any("edema" in sentence for sentence in said), "a name that is taken is said in the dialog"
    editor.rows.items["core"].setText(NAME, "solid part")
    assert tree_store.read_tree(annotated).node("solid part").value == TREE.node("core").value
    assert text(editor, "solid part", NAME) == "solid part"
    editor.rows.items["edema"].setText(NAME, "tumor")
    assert "tumor" in editor.message.text
    assert text(editor, "edema", NAME) == "edema"
    dialogs.answers.append(1)
    editor.select("solid part")
    press(editor, qt.Qt.Key_Delete)
    assert "solid part" in tree_store.read_tree(annotated)
    assert segment_id(annotated, "solid part") is None
    dialogs.answers.append(1)
    press(editor, qt.Qt.Key_Delete)
    assert "solid part" not in tree_store.read_tree(annotated)
    assert "solid part" not in editor.rows.items


def test_codes_come_from_slicers_navigator(editor: HierarchySection, annotated: Any) -> None:
    def choose(dialog: Any) -> int:
        entry = slicer.vtkSlicerTerminologyEntry()
        text = "Segmentation category and type - 3D Slicer General Anatomy list~SCT^49755003^Morphologically Altered Structure~SCT^108369006^Neoplasm~^^~~^^~^^"
        slicer.vtkSlicerTerminologiesModuleLogic.DeserializeTerminologyEntry(text, entry)
        dialog.findChild(slicer.qSlicerTerminologyNavigatorWidget).setTerminologyEntry(entry)
        return 1

    editor.set_node(annotated)
    dialogs.answers.append(choose)
    editor.actions.choose_codes("tumor")
    assert tree_store.read_tree(annotated).node("tumor").terminology["type"] == ("SCT", "108369006", "Neoplasm")
    assert "108369006" in tags.get_tag(segment(annotated, "core"), tags.TERMINOLOGY)
    dialogs.answers.append(0)
    editor.actions.choose_codes("core")


def test_undo_takes_edits_back(
    editor: HierarchySection, annotated: Any, volume: Any, wait_for: Callable[..., None]
) -> None:
    editor.set_node(annotated)
    with RefineSession(annotated, volume) as session:
        editor.session = session
        editor.actions.renamed("core", "other")
        editor.actions.shade("tumor")
        assert "other" in editor.rows.items
        session.undo()
        session.undo()
        wait_for(lambda: "core" in editor.rows.items)
        session.redo()
        wait_for(lambda: "other" in editor.rows.items)
        editor.session = None


def test_a_stroke_is_counted_at_once(
    editor: HierarchySection, annotated: Any, volume: Any, wait_for: Callable[..., None]
) -> None:
    editor.set_node(annotated)
    wait_for(lambda: text(editor, "tumor", ML) == "6.0")
    with RefineSession(annotated, volume) as session:
        session.enter("tumor")
        mask = np.zeros((20, 20, 20), bool)
        mask[10:12] = True
        session.paint("edema", mask)
        wait_for(lambda: text(editor, "edema", ML) == "0.8")
        wait_for(lambda: text(editor, "tumor", REFINED) == "80 %")
        assert layers.layout_is_right(annotated, TREE)


def test_the_tree_is_saved_as_a_file(editor: HierarchySection, annotated: Any, tmp_path: Path) -> None:
    editor.set_node(annotated)
    editor.actions.renamed("core", "other")
    dialogs.answers.append(str(tmp_path / "mine"))
    found = entries(fill_section_menu, editor)
    found["Save label tree as…"].trigger()
    assert LabelTree.load(tmp_path / "mine.json") == tree_store.read_tree(annotated)
    dialogs.answers.append(str(tmp_path / "nowhere" / "mine.json"))
    editor.actions.save_tree()
