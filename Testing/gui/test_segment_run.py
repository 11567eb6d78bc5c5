"""Apply, as a user meets it: a real worker behind the panel, with a small untrained model."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import qt
import slicer

from hierseg.resources import models_folder
from HierSubclassSegLib.compute import prepare
from HierSubclassSegLib.gui import job, timings, worker
from HierSubclassSegLib.gui.segment_page import SegmentPage
from HierSubclassSegLib.scene import geometry, prediction, tree_store
from standins.panels import open_panel
from standins.tiny_bundle import write_tiny_bundle
from standins.waiting import is_running


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("HIERSEG_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    write_tiny_bundle(models_folder() / "tiny@1.0.0")
    worker.choose(sys.executable)
    yield
    worker.choose("")


@pytest.fixture
def page(app_scene: Any) -> Iterator[SegmentPage]:
    """The panel with a volume that takes some seconds and the small model."""
    make_volume(app_scene, 72, "head")
    opened = open_panel()
    opened.panel.segment_page.model.choose("tiny@1.0.0")
    yield opened.panel.segment_page
    opened.cleanup()


def make_volume(scene: Any, size: int, name: str) -> Any:
    voxels = np.random.default_rng(0).normal(100.0, 20.0, (size, size, size)).astype(np.float32)
    return geometry.make_volume(scene, voxels, np.eye(4), name)


def predictions(scene: Any) -> list[Any]:
    kind = "vtkMRMLSegmentationNode"
    nodes = [scene.GetNthNodeByClass(index, kind) for index in range(scene.GetNumberOfNodesByClass(kind))]
    return [node for node in nodes if node.GetAttribute(tree_store.ROLE) == "prediction"]


def half_way(page: SegmentPage, wait_for: Callable[..., None]) -> int:
    """Start, wait until the network works, and give the worker's process number."""
    page.segment.apply()
    assert page.segment.button.text == "Cancel"
    wait_for(lambda: "Segmenting" in page.segment.stage.text, 60, "the network")
    return int(page.segment.segmenter._client._transport.pid)


def test_apply_again_makes_a_new_prediction_and_hides_the_old_one(
    page: SegmentPage, app_scene: Any, wait_for: Callable[..., None], screenshot: Callable[..., Path]
) -> None:
    small = make_volume(app_scene, 20, "small")
    page.inputs.selectors[0].setCurrentNode(small)
    page.segment.apply()
    wait_for(lambda: not page.segment.running, 60)
    assert page.segment.message.text.startswith("Done in ")
    (first,) = predictions(app_scene)
    assert first.GetName() == f"small {page.model.bundle.tree.name}"
    assert page.result.currentNode() is first
    assert page.edit_button.enabled
    assert timings.expected(page.model.bundle) is not None
    assert "on the processor here" in page.model.about.text
    region = app_scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "box")
    page.segment.options.widget.collapsed = False
    page.segment.options.region.setCurrentNode(region)
    page.segment.apply()
    assert "has no size yet" in page.segment.message.text
    region.SetCenter([10.0, 10.0, 10.0])
    region.SetSize([8.0, 8.0, 8.0])
    page.segment.apply()
    wait_for(lambda: not page.segment.running, 60)
    second = page.result.currentNode()
    assert second is not first
    assert not first.GetDisplayNode().GetVisibility()
    assert second.GetDisplayNode().GetVisibility()
    confidence = geometry.array_of(prediction.confidence_of(second).GetImageData())
    assert confidence[:5].max() == 0
    assert confidence[8:12, 8:12, 8:12].max() > 0
    lines = page.segment.options.diagnostics()
    assert any(line.startswith("worker: python") for line in lines)
    assert not any("small" in line for line in lines), "no volume's name leaves in a report"
    page.segment.options.copy_diagnostics()
    assert "HierSubclassSeg" in slicer.app.clipboard().text()
    screenshot(page.widget, "two predictions")


def test_cancel_half_way_leaves_the_scene_as_it_was(
    page: SegmentPage, app_scene: Any, wait_for: Callable[..., None], screenshot: Callable[..., Path]
) -> None:
    nodes = app_scene.GetNumberOfNodes()
    half_way(page, wait_for)
    screenshot(page.widget, "running")
    began = time.monotonic()
    page.segment.apply()
    assert not page.segment.button.enabled
    wait_for(lambda: not page.segment.running, 3.5)
    assert time.monotonic() - began < 3.5
    assert page.segment.message.text == "Canceled; nothing was changed."
    assert app_scene.GetNumberOfNodes() == nodes
    assert page.segment.button.text == "Apply"
    assert page.segment.button.enabled


def test_cancel_and_a_closed_scene_while_a_large_image_is_copied(
    page: SegmentPage, app_scene: Any, monkeypatch: pytest.MonkeyPatch, wait_for: Callable[..., None]
) -> None:
    monkeypatch.setattr(prepare, "_PIECE_BYTES", 1)
    monkeypatch.setattr(job, "STEP_SECONDS", 0.0)
    monkeypatch.setattr(job, "PAUSE_MS", 100_000)
    page.segment.apply()
    assert page.segment.running
    assert not page.segment.segmenter.running
    page.segment._work._tick()
    page.segment.apply()
    assert not page.segment.running
    assert page.segment.message.text == "Canceled; nothing was changed."
    page.segment.apply()
    app_scene.RemoveNode(page.inputs.volumes[0])
    page.segment._work._tick()
    assert not page.segment.running
    assert "removed" in page.segment.message.text


@pytest.fixture
def beats(app_scene: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The browser of a sequence of three small volumes."""
    logic = slicer.vtkSlicerSequencesLogic()
    logic.SetMRMLScene(app_scene)
    monkeypatch.setattr(slicer.modules, "sequences", SimpleNamespace(logic=lambda: logic), raising=False)
    sequence = app_scene.AddNewNodeByClass("vtkMRMLSequenceNode", "beats")
    for index in range(3):
        frame = make_volume(app_scene, 20, f"frame {index}")
        sequence.SetDataNodeAtValue(frame, str(index))
        app_scene.RemoveNode(frame)
    browser = app_scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "browser")
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    logic.UpdateProxyNodesFromSequences(browser)
    return browser


def test_every_frame_of_a_sequence_is_segmented_and_frames_that_are_done_are_kept(
    page: SegmentPage, app_scene: Any, beats: Any, wait_for: Callable[..., None]
) -> None:
    proxy = beats.GetProxyNode(beats.GetMasterSequenceNode())
    page.inputs.selectors[0].setCurrentNode(proxy)
    options = page.segment.options
    options.widget.collapsed = False
    slicer.app.processEvents()
    assert options.frames.text == "All 3 frames of the sequence"
    options.frames.checked = True
    page.segment.apply()
    wait_for(lambda: not page.segment.running, 60)
    assert page.segment.message.text.startswith("Done in "), page.segment.message.text
    assert page.hierarchy.node is not None
    results = beats.GetSequenceNode(page.hierarchy.node)
    assert results.GetNumberOfDataNodes() == 3
    page.segment.apply()
    wait_for(lambda: page.segment._run is None or page.segment._run.frame >= 1, 60)
    page.segment.apply()
    wait_for(lambda: not page.segment.running, 10)
    assert "frames are kept" in page.segment.message.text


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_killed_worker_gives_a_sentence_and_the_next_apply_works(
    page: SegmentPage, app_scene: Any, wait_for: Callable[..., None]
) -> None:
    os.kill(half_way(page, wait_for), signal.SIGKILL)
    wait_for(lambda: not page.segment.running, 10)
    assert page.segment.message.text.startswith("The worker was ended by SIGKILL")
    assert "HS-WORKER-DIED" in page.segment.message.widget.toolTip
    page.inputs.selectors[0].setCurrentNode(make_volume(app_scene, 16, "small"))
    page.segment.apply()
    wait_for(lambda: not page.segment.running, 60)
    assert len(predictions(app_scene)) == 1


def test_what_goes_during_a_run_leaves_nothing_behind(
    page: SegmentPage, app_scene: Any, wait_for: Callable[..., None]
) -> None:
    pid = half_way(page, wait_for)
    app_scene.RemoveNode(page.inputs.volumes[0])
    wait_for(lambda: not page.segment.running, 120)
    assert page.segment.message.text == "The volume was removed while it was segmented; there is no result."
    page.inputs.selectors[0].setCurrentNode(make_volume(app_scene, 72, "again"))
    half_way(page, wait_for)
    app_scene.Clear(0)
    slicer.app.processEvents()
    assert not page.segment.running
    assert page.inputs.message.text == "Load a volume to segment."
    end = time.monotonic() + 1.0
    wait_for(lambda: time.monotonic() > end)
    assert predictions(app_scene) == []
    page.close()
    wait_for(lambda: not is_running(pid), 5, "the worker's end")


def test_a_worker_that_cannot_be_started_is_a_sentence(
    page: SegmentPage, tmp_path: Path, wait_for: Callable[..., None]
) -> None:
    worker.choose(str(tmp_path / "nopython"))
    page.segment.apply()
    wait_for(lambda: not page.segment.running, 10)
    assert "does not exist" in page.segment.message.text
    assert page.segment.button.text == "Apply"


def test_a_program_that_is_not_there_is_a_sentence_and_setup_looks(
    page: SegmentPage, monkeypatch: pytest.MonkeyPatch, wait_for: Callable[..., None]
) -> None:
    worker.choose("")
    monkeypatch.setattr(worker, "own_python", lambda: "no-such-program-anywhere")
    page.segment.apply()
    wait_for(lambda: not page.segment.running, 20)
    assert "no-such-program-anywhere cannot be run" in page.segment.message.text
    wait_for(lambda: page.setup.report is not None, 20)
    assert "no-such-program-anywhere cannot be started" in page.setup.sentence.text
    assert not page.setup.widget.isHidden()
    assert not page.setup.other.collapsed


def test_edit_hides_the_prediction_and_hands_it_over(
    page: SegmentPage, app_scene: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    handed: list[Any] = []
    monkeypatch.setattr(page, "_edit", handed.append)
    tree = page.model.bundle.tree
    labels = np.full((72, 72, 72), tree.leaves[-1].value, tree.dtype)
    node = prediction.create_prediction(page.inputs.volumes, tree, labels, bundle_id="tiny@1.0.0")
    assert not page.edit_button.enabled
    page.result.setCurrentNode(node)
    assert page.edit_button.enabled
    page.edit_button.click()
    assert handed == [node]
    assert not node.GetDisplayNode().GetVisibility()
    assert isinstance(page.edit_button, qt.QPushButton)
