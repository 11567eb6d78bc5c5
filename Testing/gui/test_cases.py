"""Cases: a dataset as a work list, clicked through; nothing is lost without a question."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import qt
import slicer

from hierseg import transaction
from hierseg.dataset import Dataset
from hierseg.labeltree import LabelTree
from hierseg.resources import path as resource
from HierSubclassSegLib.gui import job
from HierSubclassSegLib.gui.annotate_page import AnnotatePage
from HierSubclassSegLib.gui.case_desk import RETRIES
from HierSubclassSegLib.gui.cases_section import NEXT_KEY
from HierSubclassSegLib.scene import annotation, geometry, labelmaps, nifti, open_case, reading
from HierSubclassSegLib.scene.open_case import OpenCase
from HierSubclassSegLib.scene.status import Status
from HierSubclassSegLib.ticks import finish
from standins.panels import dark_application, light_share, open_panel
from standins.slicer_app import dialogs

SHAPE = (24, 20, 16)


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIERSEG_HOME", str(tmp_path / "home"))


@pytest.fixture
def tree() -> LabelTree:
    from hierseg.bundle import Bundle

    return Bundle.open(resource("models", "brain-start"), verify=False).tree


@pytest.fixture
def dataset(tmp_path: Path, tree: LabelTree) -> Dataset:
    made = Dataset.create(tmp_path / "data", "heads", ["MRI"], tree)
    image = np.random.default_rng(0).integers(0, 300, SHAPE).astype(np.int16)
    for case_id, node in (("case-a", "deep gray matter"), ("case-b", "thalamus"), ("case-c", None)):
        labels = np.full(SHAPE, tree.unlabelled, tree.dtype)
        if node is not None:
            labels[4:12, 4:12, 4:12] = tree.node(node).value
        if case_id == "case-b":
            labels[labels == tree.unlabelled] = tree.background.value
        made.save_case(
            case_id,
            [partial(nifti.write_nifti, array=image, affine=np.eye(4))],
            None if node is None else partial(nifti.write_nifti, array=labels, affine=np.eye(4)),
        )
    return made


@pytest.fixture
def widget(app_scene: Any) -> Iterator[Any]:
    opened = open_panel()
    opened.panel.show(opened.panel.annotate)
    yield opened
    opened.cleanup()


@pytest.fixture
def page(widget: Any) -> AnnotatePage:
    return widget.panel.annotate.page


@pytest.fixture
def idle(page: AnnotatePage, wait_for: Callable[..., None]) -> Callable[[], None]:
    def until() -> None:
        wait_for(lambda: not page.cases._desk.job.busy and not page.cases._counting.busy, 20, "the job")

    return until


@pytest.fixture
def work(page: AnnotatePage, dataset: Dataset, idle: Callable[[], None]) -> Any:
    """The dataset is open."""
    assert page.cases.open_folder(str(dataset.folder))
    idle()
    return page.cases


def repaint(node: Any, name: str, place: Any = np.s_[13:15, 0:3, 0:2]) -> None:
    """Change the annotation as a stroke would."""
    tree = annotation.tree_of(node)
    grid = annotation.reference_grid(node)
    labels = reading.read(node, tree, grid)
    labels[place] = tree.node(name).value
    for segment_id in list(node.GetSegmentation().GetSegmentIDs()):
        node.GetSegmentation().RemoveSegment(segment_id)
    labelmaps.fill(node, tree, labels, grid.affine)


def row(section: Any, case_id: str) -> list[str]:
    item = section.table._items[case_id]
    return [item.text(column) for column in range(5)]


def test_a_dataset_is_shown_as_a_work_list(work: Any, widget: Any, page: AnnotatePage, screenshot: Any) -> None:
    assert work.name.text == "heads: 3 cases, 2 unfinished"
    assert row(work, "case-a") == ["case-a", "0", "7", "93", "Not started"]
    assert row(work, "case-b") == ["case-b", "100", "0", "0", "Completed"]
    assert row(work, "case-c") == ["case-c", "0", "0", "100", "Not started"]
    assert "Coarse: 0.5 ml" in work.table._items["case-a"].toolTip(1)
    assert widget.panel._parameters.dataset == work.folder
    widget.parent.resize(400, 900)
    screenshot(widget.parent, "work list")
    assert work.widget.minimumSizeHint.width() <= 400
    assert page.export.widget.minimumSizeHint.width() <= 400


def test_next_unfinished_opens_saves_nothing_and_goes_around(work: Any, page: AnnotatePage, idle: Any) -> None:
    assert str(work._shortcut.key.toString()) == NEXT_KEY
    assert work._shortcut.enabled
    work._shortcut.activated.emit()
    idle()
    assert page.annotation.GetName() == "case-a annotation"
    assert [node.GetName() for node in page.volumes()] == ["case-a MRI"]
    work.open_next()
    idle()
    assert page.annotation.GetName() == "case-c annotation", "the completed one is passed over, and nothing is asked"
    assert len(open_case.loaded_nodes(slicer.mrmlScene)) == 2
    work.set_status("case-a", Status.COMPLETED)
    work.open_next()
    assert work.message.text == "No other case is unfinished."
    assert row(work, "case-a")[4] == "Completed"


@pytest.mark.parametrize("answer", ["Save", "Discard", "Cancel"])
def test_unsaved_work_asks(work: Any, page: AnnotatePage, idle: Any, dataset: Dataset, answer: str) -> None:
    mine = geometry.make_volume(slicer.mrmlScene, np.zeros((3, 3, 3), np.int16), np.eye(4), "mine")
    work.open_case("case-a")
    idle()
    before = dataset.label_path(dataset.case("case-a")).read_bytes()
    repaint(page.annotation, "thalamus")
    dialogs.answers.append(getattr(qt.QMessageBox, answer))
    work.open_case("case-c")
    for _attempt in range(3):
        idle()
    assert dialogs.seen[-1].title == "Unsaved annotation"
    after = dataset.label_path(dataset.case("case-a")).read_bytes()
    assert (after != before) == (answer == "Save")
    stays = answer == "Cancel"
    assert page.annotation.GetName() == ("case-a annotation" if stays else "case-c annotation")
    assert slicer.mrmlScene.IsNodePresent(mine)
    work.open_case("case-a")
    if stays:
        dialogs.answers.append(qt.QMessageBox.Discard)
    idle()
    tree = annotation.tree_of(page.annotation)
    idle()
    labels = reading.read(page.annotation, tree, annotation.reference_grid(page.annotation))
    assert (labels[13, 0, 0] == tree.node("thalamus").value) == (answer == "Save")


def test_what_will_be_saved_is_shown_before(
    work: Any, widget: Any, page: AnnotatePage, idle: Any, wait_for: Any, screenshot: Any
) -> None:
    work.open_case("case-a")
    idle()
    wait_for(lambda: "coarse 0.5 ml in 8 slices" in page.export.summary.text)
    repaint(page.annotation, "thalamus", np.s_[4:12, 4:12, 4:8])
    wait_for(lambda: "fine 0.3 ml in 4 slices · coarse 0.3 ml in 4 slices" in page.export.summary.text)
    assert "thalamus: 0.3 ml in 4 slices" in page.export.summary.toolTip
    assert page.export.button.text == "Update the case"
    page.export.save()
    idle()
    assert page.export.message.text == "Saved as case-a."
    assert row(work, "case-a")[4] == "In progress"
    widget.parent.resize(400, 900)
    screenshot(widget.parent, "saved")


def test_a_case_changed_elsewhere_is_asked_about(work: Any, page: AnnotatePage, idle: Any, dataset: Dataset) -> None:
    work.open_case("case-a")
    idle()
    other = finish(OpenCase.load_steps(Dataset.open(dataset.folder), "case-a", slicer.mrmlScene))
    repaint(other.annotation, "caudate")
    finish(other.save_steps(dataset))
    theirs = dataset.label_path(dataset.case("case-a")).read_bytes()
    slicer.mrmlScene.RemoveNode(other.annotation)
    repaint(page.annotation, "thalamus")
    dialogs.answers.append(qt.QMessageBox.Cancel)
    page.export.save()
    idle()
    assert "changed elsewhere" in dialogs.seen[-1].text
    assert dataset.label_path(dataset.case("case-a")).read_bytes() == theirs
    dialogs.answers.append(qt.QMessageBox.No)
    page.export.save()
    idle()
    dataset.reload()
    assert len(dataset.cases()) == 4
    assert dataset.label_path(dataset.case("case-a")).read_bytes() == theirs
    dataset.remove_case(page.annotation.GetAttribute("HierSubclassSeg.Case"))
    dialogs.answers.append(qt.QMessageBox.Yes)
    page.export.save()
    idle()
    assert "not in this dataset" in dialogs.seen[-1].text
    dataset.reload()
    assert len(dataset.cases()) == 4


def test_another_tree_is_asked_about(work: Any, page: AnnotatePage, idle: Any, dataset: Dataset) -> None:
    work.open_case("case-a")
    idle()
    from HierSubclassSegLib.scene import tree_edits

    tree_edits.write_edited(page.annotation, dataset.tree, tree_edits.renamed(dataset.tree, "thalamus", "my thalamus"))
    dialogs.answers.append(qt.QMessageBox.Cancel)
    page.export.save()
    assert page.export.message.text == "Nothing was saved: the dataset keeps its label tree."
    dialogs.answers.append(qt.QMessageBox.Yes)
    page.export.save()
    idle()
    assert page.export.message.text == "Saved as case-a."
    dataset.reload()
    assert "my thalamus" in dataset.tree


def test_a_folder_that_is_no_dataset_becomes_one(
    page: AnnotatePage, idle: Any, tmp_path: Path, tree: LabelTree
) -> None:
    folder = tmp_path / "new cases"
    folder.mkdir()
    page.export.save()
    assert page.export.message.text == "There is no annotation to save."
    assert not page.cases.open_folder(str(folder))
    assert "is no dataset folder; to make one there" in page.cases.message.text
    volume = geometry.make_volume(slicer.mrmlScene, np.zeros(SHAPE, np.int16), np.eye(4), "Doe John T1")
    node = annotation.create_annotation([volume], tree)
    page.set_annotation(node)
    page.export.save()
    assert "Nothing is annotated yet" in page.export.message.text
    repaint(node, "thalamus")

    def channels(dialog: Any) -> int:
        assert str(folder) in dialog.labelText()
        assert "John" not in dialog.textValue()
        dialog.setTextValue("T1")
        return 1

    dialogs.answers += [str(folder), channels]
    page.export.save()
    idle()
    made = Dataset.open(folder)
    assert made.channels == ["T1"]
    assert page.export.message.text == f"Saved as {made.cases()[0].id}."
    assert "John" not in (folder / "dataset.json").read_text(encoding="utf-8")
    assert slicer.mrmlScene.IsNodePresent(volume)
    page.cases.open_next()
    assert page.cases.message.text == "No other case is unfinished."


def test_damaged_cases_and_a_full_disk_are_told(
    work: Any, page: AnnotatePage, idle: Any, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    work.open_case("case-a")
    idle()
    dataset.image_paths(dataset.case("case-c"))[0].write_bytes(b"\x1f\x8b nothing")
    work.open_case("case-c")
    idle()
    assert "cannot be read" in work.message.text
    assert page.annotation.GetName() == "case-a annotation", "what was open stays open"
    label = dataset.label_path(dataset.case("case-a"))
    before = label.read_bytes()
    repaint(page.annotation, "thalamus")

    def full(*_arguments: object) -> Any:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(nifti, "_write_steps", full)
        page.export.save()
        idle()
    assert "No space left on device" in page.export.message.text
    assert label.read_bytes() == before
    label.write_bytes(before[:20])
    work.refresh()
    idle()
    assert row(work, "case-a")[4] == "Unreadable"


def test_a_folder_that_another_program_writes_into_is_waited_for(
    work: Any, page: AnnotatePage, idle: Any, dataset: Dataset, wait_for: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "RETRY_MS", 10)
    work.open_case("case-a")
    idle()
    repaint(page.annotation, "thalamus")
    with transaction.locked(dataset.folder):
        page.export.save()
        wait_for(lambda: page.export._desk.job._retries < RETRIES - 1)
        assert page.export._desk.job.busy
    idle()
    assert page.export.message.text == "Saved as case-a."

    def refused(*_arguments: object, **_named: object) -> Any:
        raise PermissionError(13, "Permission denied", str(dataset.folder))

    monkeypatch.setattr(transaction, "locked", refused)
    work.open_case("case-c")
    idle()
    assert "cannot be used (Permission denied)" in work.message.text


def test_a_dataset_chosen_in_another_tab_is_followed(
    work: Any, widget: Any, idle: Any, tmp_path: Path, tree: LabelTree
) -> None:
    other = Dataset.create(tmp_path / "other", "other", ["MRI"], tree)
    widget.panel.show(widget.panel.segment_page)
    assert not work._shortcut.enabled
    widget.panel._parameters.dataset = str(other.folder)
    widget.panel.show(widget.panel.annotate)
    idle()
    assert work.name.text == "other: 0 cases, 0 unfinished"


def test_other_formats(work: Any, page: AnnotatePage, idle: Any, tmp_path: Path) -> None:
    work.open_case("case-a")
    idle()
    page.export.export_levels(str(tmp_path))
    idle()
    level = tmp_path / "case-a_annotation_level1.nii.gz"
    assert level.name in page.export.message.text
    tree = annotation.tree_of(page.annotation)
    assert np.count_nonzero(nifti.read_nifti(level)[0] == tree.node("deep gray matter").value) == 512
    assert not list(tmp_path.glob(".*"))
    page.export.export_levels(str(tmp_path / "not there"))
    idle()
    assert "cannot be written" in page.export.message.text
    page.export.export_dicom()
    assert page.export.message.text == "This build of Slicer has no DICOM module, so it cannot write DICOM SEG."


def test_a_scene_that_closes_stops_a_load(work: Any, page: AnnotatePage, app_scene: Any) -> None:
    work.open_case("case-a")
    assert page.cases._desk.job.busy
    app_scene.Clear(0)
    slicer.app.processEvents()
    assert not page.cases._desk.job.busy
    assert open_case.loaded_nodes(app_scene) == []


def test_the_picture_in_dark(dataset: Dataset, app_scene: Any, wait_for: Any, screenshot: Callable[..., Path]) -> None:
    with dark_application():
        widget = open_panel()
        try:
            widget.panel.show(widget.panel.annotate)
            page = widget.panel.annotate.page
            page.cases.open_folder(str(dataset.folder))
            page.cases.open_case("case-a")
            wait_for(lambda: "aved: coarse" in page.export.summary.text)
            page.cases.message.say("The dataset folder cannot be changed: free space, and try again.", error=True)
            page.export.about.checked = True
            widget.parent.resize(400, 900)
            assert light_share(screenshot(widget.parent, "dark")) < 0.3
        finally:
            widget.cleanup()
