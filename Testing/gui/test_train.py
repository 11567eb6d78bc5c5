"""The Train tab as a user meets it: real files and processes, a stand-in for what trains."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import slicer

from engine import blobs
from hierseg.dataset import Dataset
from hierseg.errors import TrainingError
from hierseg.resources import models_folder
from HierSubclassSegLib.compute import presets, runs
from HierSubclassSegLib.compute.training import TrainingRun
from HierSubclassSegLib.gui import train_setup_section
from HierSubclassSegLib.gui.train_page import TrainPage
from standins.panels import open_panel
from standins.tiny_bundle import write_tiny_bundle

PROCESS = Path(__file__).resolve().parents[1] / "standins" / "training_process.py"


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A user's folder for the test; no training outlives it."""
    monkeypatch.setenv("HIERSEG_HOME", str(tmp_path / "home"))
    write_tiny_bundle(models_folder() / "tiny@1.0.0")
    yield
    for known in runs.find_runs():
        # Not those that no process was started for.
        with contextlib.suppress(TrainingError):
            TrainingRun(known.folder).kill()


@pytest.fixture
def trainer(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Choose how the process behaves that 'Start fine-tuning' starts."""

    def choose(mode: str) -> None:
        monkeypatch.setattr(train_setup_section, "train_command", lambda _python: [sys.executable, str(PROCESS), mode])

    return choose


@pytest.fixture
def widget(app_scene: Any) -> Iterator[Any]:
    opened = open_panel()
    yield opened
    opened.cleanup()


def page_of(widget: Any) -> TrainPage:
    widget.panel.show(widget.panel.train)
    slicer.app.processEvents()
    page: TrainPage = widget.panel.train.page
    page.setup.start.currentIndex = page.setup.start.findData("tiny@1.0.0")
    return page


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return blobs.make(tmp_path / "blobs").folder


def test_what_is_missing_is_said_near_the_button(widget: Any, tmp_path: Path, data: Path) -> None:
    setup = page_of(widget).setup
    assert setup.facts.text == "Choose the dataset folder that you annotated into."
    assert not setup.button.enabled
    setup.set_dataset(str(tmp_path / "nowhere"))
    assert "there is no such dataset folder" in setup.message.text
    Dataset.create(tmp_path / "empty", "empty", ["MRI"], blobs.TREE)
    setup.set_dataset(str(tmp_path / "empty"))
    assert "no case is annotated yet" in setup.message.text
    two = Dataset.create(tmp_path / "two", "two", ["T1", "T2"], blobs.TREE)
    image, label = blobs.blob(0)
    blobs.save(two, "a", [image, image], label)
    setup.set_dataset(str(tmp_path / "two"))
    assert "T1, T2" in setup.message.text
    assert not setup.button.enabled
    setup.set_dataset(str(data))
    assert setup.message.text == ""
    assert setup.facts.text == "6 annotated cases · labels: blobs"
    assert setup.button.enabled
    assert "120 iterations; how long they take" in setup.time.text


def test_superclasses_alone_are_told_before_start(
    widget: Any, tmp_path: Path, data: Path, wait_for: Callable[..., None]
) -> None:
    coarse = Dataset.create(tmp_path / "coarse", "coarse", ["MRI"], blobs.TREE)
    image, label = blobs.blob(0)
    for node in blobs.TREE.nodes:
        above = blobs.TREE.parent(node)
        if above is not None:
            label[label == node.value] = above.value
    blobs.save(coarse, "a", [image], label)
    setup = page_of(widget).setup
    setup.set_dataset(str(coarse.folder))
    wait_for(lambda: not setup._counting.busy, 10)
    assert "No case shows a subclass yet" in setup.message.text
    assert not setup.button.enabled
    setup.set_dataset(str(data))
    wait_for(lambda: not setup._counting.busy, 10)
    assert setup.message.text == ""
    assert setup.button.enabled


def test_a_run_is_started_followed_and_found_again(
    widget: Any, data: Path, trainer: Callable[[str], None], wait_for: Callable[..., None], screenshot: Any
) -> None:
    trainer("learns")
    page = page_of(widget)
    page.setup.set_dataset(str(data))
    assert not page.runs.widget.isVisibleTo(widget.parent)
    page.setup.begin()
    section = page.runs
    launch = section.run.launch
    assert launch["info"]["start"] == "tiny@1.0.0"
    assert "finetune-quick" in " ".join(launch["command"])
    page.runs._timer.setInterval(50)
    wait_for(lambda: len(section.history.losses) > 2 and len(section.history.scores) > 2, 20)
    wait_for(lambda: section.status.state == "running", 20)
    assert "%" in section.stage.text
    names = section.curve._view.drawn()
    assert names
    widget.parent.resize(400, 900)
    screenshot(widget.parent, "running")
    folder = section.run.folder
    page.setup.begin()
    assert "A training is running on this device" in page.setup.message.text
    assert len(runs.find_runs()) == 1
    # Another module, and the scene is left as it was.
    plots = ("vtkMRMLPlotChartNode", "vtkMRMLPlotSeriesNode", "vtkMRMLPlotViewNode", "vtkMRMLTableNode")
    widget.exit()
    assert [slicer.mrmlScene.GetNumberOfNodesByClass(kind) for kind in plots] == [0, 0, 0, 0]
    widget.enter()
    slicer.app.processEvents()
    assert [slicer.mrmlScene.GetNumberOfNodesByClass(kind) for kind in plots] == [1, 3, 1, 3]
    slicer.mrmlScene.Clear(0)
    slicer.app.processEvents()
    assert section.run.folder == folder, "a run has nothing to do with the scene"
    widget.cleanup()
    again = open_panel()
    section = page_of(again).runs
    assert page_of(again).setup.folder.currentPath == str(data), "where one trained last"
    section._timer.setInterval(50)
    assert section.run.folder == folder
    assert section.status.state == "running"
    section.stop()
    wait_for(lambda: section.status.ended, 20)
    assert section.status.state == "stopped"
    assert "the best model is kept" in section.message.text
    again.cleanup()


def test_a_killed_run_says_so_and_can_go_on(
    widget: Any, data: Path, trainer: Callable[[str], None], wait_for: Callable[..., None], screenshot: Any
) -> None:
    trainer("runs")
    page = page_of(widget)
    page.setup.set_dataset(str(data))
    page.setup.begin()
    section = page.runs
    section._timer.setInterval(50)
    wait_for(lambda: section.status.state == "running", 20)
    section.run.kill()
    wait_for(lambda: section.status.ended, 20)
    assert "has ended without saying why" in section.message.text
    assert section.go_on_button.isVisibleTo(widget.parent)
    assert not section.use_button.isVisibleTo(widget.parent)
    screenshot(widget.parent, "killed")
    section.go_on()
    wait_for(lambda: section.status.state == "running", 20)
    assert "--resume" in section.run.launch["command"]
    section.run.kill()


def test_a_refusal_of_the_trainer_is_one_sentence(
    widget: Any, data: Path, trainer: Callable[[str], None], wait_for: Callable[..., None]
) -> None:
    trainer("refuses")
    page = page_of(widget)
    page.setup.set_dataset(str(data))
    page.setup.begin()
    page.runs._timer.setInterval(50)
    wait_for(lambda: page.runs.status.ended, 20)
    assert page.runs.message.text == "The dataset has no case with a label; annotate one."


def test_a_python_that_is_not_there_is_told(widget: Any, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_setup_section, "train_command", lambda _python: ["/no/python", "-m", "hierseg", "train"])
    page = page_of(widget)
    page.setup.set_dataset(str(data))
    page.setup.begin()
    assert "choose a Python that has hierseg installed" in page.setup.message.text


def test_a_folder_that_cannot_be_written_is_told(
    widget: Any, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = page_of(widget)
    page.setup.set_dataset(str(data))
    (tmp_path / "full").write_text("a file where a folder is needed", encoding="utf-8")
    monkeypatch.setattr(runs, "runs_folder", lambda: tmp_path / "full" / "runs")
    page.setup.begin()
    assert "the run folder cannot be written" in page.setup.message.text
    assert "free some space" in page.setup.message.text


def test_a_real_fine_tuning_from_strokes_to_a_model(
    widget: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wait_for: Callable[..., None], screenshot: Any
) -> None:
    """The real trainer on one case with strokes: slices held out, the starting model beside, and a usable model."""
    dataset = Dataset.create(tmp_path / "strokes", "strokes", ["MRI"], blobs.TREE)
    image, label = blobs.blob(0)
    sparse = blobs.coarsen(label)
    for index in (8, 10, 12, 14, 16):
        sparse[:, index] = label[:, index]
    blobs.save(dataset, "only", image, sparse)
    short = tmp_path / "finetune-short.yaml"
    text = presets.preset("quick").config.read_text(encoding="utf-8")
    text = text.replace("iterations: 120", "iterations: 6").replace("interval: 60", "interval: 2")
    short.write_text(text + "patch_size: [32, 16, 16]\n", encoding="utf-8")
    monkeypatch.setattr(presets, "preset", lambda name: presets.Preset(name, short, 6, 1))
    page = page_of(widget)
    page.setup.set_dataset(str(dataset.folder))
    page.setup.begin()
    section = page.runs
    section._timer.setInterval(100)
    wait_for(lambda: section.status.ended, 200, "the end of a training of six steps")
    assert section.status.state == "finished", section.status
    assert section.history.held == "slices"
    assert "No case could be held out" in section.scores.about.text
    rows = {change.name: change for change in section.history.changes(section._tree)}
    assert rows["core"].before is not None
    assert rows["core"].after is not None
    wait_for(lambda: section.curve.nodes)
    widget.parent.resize(400, 1200)
    screenshot(widget.parent, "real")
    section.use_button.click()
    assert widget.panel.segment_page.model.bundle.id.startswith("tiny-strokes@")


def test_the_new_model_is_used(
    widget: Any, data: Path, trainer: Callable[[str], None], wait_for: Callable[..., None], screenshot: Any
) -> None:
    trainer("learns")
    page = page_of(widget)
    page.setup.set_dataset(str(data))
    page.setup.begin()
    section = page.runs
    section._timer.setInterval(50)
    wait_for(lambda: section.history.scores, 20)
    write_tiny_bundle(section.run.folder / "bundle", metadata={"name": "tuned"})
    section.stop()
    wait_for(lambda: section.status.ended, 20)
    rows = {change.name: change for change in section.history.changes(section._tree)}
    assert rows["edema"].before is None
    assert rows["tumor"].lost
    assert "tumor (-5.0)" in section.scores.warning.text
    widget.parent.resize(400, 1200)
    screenshot(widget.parent, "finished")
    section.use_button.click()
    assert widget.panel.segment_page.model.bundle.id == "tuned@1.0.0"
    assert widget.panel.widget.currentIndex == 0
    assert (models_folder() / "tuned@1.0.0").is_dir()
    page_of(widget).runs.use_model()
    assert widget.panel.segment_page.model.bundle.id == "tuned@1.0.0", "a second time does no harm"


def test_runs_are_listed_followed_elsewhere_and_deleted(widget: Any, tmp_path: Path) -> None:
    page = page_of(widget)
    outside = tmp_path / "outside"
    outside.mkdir()
    page.runs.follow_elsewhere(str(outside))
    assert "no training run in this folder" in page.runs.message.text
    ended = {
        "state": "finished",
        "message": "The training is finished.",
        "iteration": 3,
        "iterations": 3,
        "updated": 1.0,
    }
    (outside / "status.json").write_text(json.dumps(ended), encoding="utf-8")
    page.runs.follow_elsewhere(str(outside))
    assert page.runs.run.folder == outside
    assert page.runs.message.text == "The training is finished."
    page.runs.forget()
    assert outside.is_dir(), "a run of somebody else's is only forgotten"
    assert runs.find_runs() == []
    own = runs.new_run_folder("my data")
    own.mkdir(parents=True)
    (own / "status.json").write_text(json.dumps(ended), encoding="utf-8")
    page.runs.refresh(own)
    page.runs.forget()
    assert not own.exists()
