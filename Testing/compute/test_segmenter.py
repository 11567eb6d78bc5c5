"""One prediction after the other on a real worker, without Qt: results, cancels, discards, deaths."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hierseg.bundle import Bundle, export_bundle, import_bundle
from hierseg.errors import BundleError, WorkerError
from hierseg.resources import path as resource
from HierSubclassSegLib.compute import models
from HierSubclassSegLib.compute.client import WorkerClient
from HierSubclassSegLib.compute.jobs import Progress
from HierSubclassSegLib.compute.launch import environment, worker_command
from HierSubclassSegLib.compute.overall import OverallProgress
from HierSubclassSegLib.compute.process_tree import descendants, kill_tree
from HierSubclassSegLib.compute.segmenter import Segmenter
from HierSubclassSegLib.compute.transport import SubprocessTransport
from standins.tiny_bundle import tiny_image, write_tiny_bundle
from standins.waiting import is_running


class Desk:
    """A segmenter and what it said."""

    def __init__(self) -> None:
        self.results: list[Any] = []
        self.errors: list[Any] = []
        self.progress: list[Any] = []
        self.workers: list[Any] = []
        self.segmenter = Segmenter(
            lambda on_log: WorkerClient(SubprocessTransport(worker_command(), environment()), on_log=on_log),
            on_progress=self.progress.append,
            on_result=self.results.append,
            on_error=self.errors.append,
            on_worker=self.workers.append,
        )

    def until(self, done: Callable[[], Any], seconds: float = 120.0) -> None:
        end = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < end, "nothing happened"
            self.segmenter.poll()
            time.sleep(0.01)


@pytest.fixture(scope="module")
def desk() -> Iterator[Desk]:
    made = Desk()
    yield made
    made.segmenter.close(3.0)


def test_a_result_comes_and_the_worker_stays_warm(desk: Desk, tiny_bundle: Bundle) -> None:
    for warm in (False, True):
        desk.results.clear()
        desk.segmenter.start([tiny_image()], tiny_bundle)
        assert desk.segmenter.running
        with pytest.raises(WorkerError, match="going on"):
            desk.segmenter.start([tiny_image()], tiny_bundle)
        desk.until(lambda: desk.results or desk.errors)
        assert desk.errors == []
        assert desk.results[0].warm is warm
        assert not desk.segmenter.running
    assert len(desk.workers) == 1, "one worker served both"
    fractions = [state.fraction for state in desk.progress]
    assert max(fractions) > 0.9


def test_a_canceled_run_ends_within_three_seconds(desk: Desk, tiny_bundle: Bundle) -> None:
    desk.results.clear()
    desk.progress.clear()
    desk.segmenter.start([tiny_image(64)], tiny_bundle)
    desk.until(lambda: any(state.stage == "network" for state in desk.progress))
    began = time.monotonic()
    desk.segmenter.cancel()
    assert desk.segmenter.canceling
    desk.until(lambda: not desk.segmenter.running)
    assert time.monotonic() - began < 3.0
    assert desk.errors.pop().canceled
    assert desk.results == []


def test_nothing_comes_of_a_discarded_run(desk: Desk, tiny_bundle: Bundle) -> None:
    desk.results.clear()
    desk.progress.clear()
    desk.segmenter.start([tiny_image()], tiny_bundle)
    desk.segmenter.discard()
    said = len(desk.progress)
    assert not desk.segmenter.running
    end = time.monotonic() + 1.0
    while time.monotonic() < end:
        desk.segmenter.poll()
        time.sleep(0.02)
    assert (desk.results, desk.errors, len(desk.progress)) == ([], [], said)


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_killed_worker_is_told_and_replaced(desk: Desk, tiny_bundle: Bundle) -> None:
    desk.segmenter.start([tiny_image(64)], tiny_bundle)
    desk.until(lambda: desk.segmenter.worker.get("pid") and len(desk.progress) > 3)
    os.kill(int(desk.segmenter.worker["pid"]), signal.SIGKILL)
    desk.until(lambda: desk.errors, 10.0)
    error = desk.errors.pop()
    assert error.kind == "WorkerDied"
    assert "start again" in error.sentence
    desk.results.clear()
    desk.segmenter.start([tiny_image()], tiny_bundle)
    desk.until(lambda: desk.results or desk.errors)
    assert desk.errors == []
    assert len(desk.workers) == 2


def test_the_bar_never_goes_back_and_ends_at_the_whole() -> None:
    now = [0.0]
    whole = OverallProgress(lambda: now[0])
    seen = []
    for second, (stage, fraction, left) in enumerate(
        [
            ("start", 0.0, None),
            ("send", 1.0, None),
            ("network", 0.0, None),
            ("network", 0.5, 20.0),
            ("send", 0.5, None),
            ("surprise", 0.9, None),
            ("restore", 1.0, None),
        ]
    ):
        now[0] = float(second)
        seen.append(whole.update(Progress(stage, fraction, left)))
    fractions = [state.fraction for state in seen]
    assert fractions == sorted(fractions)
    assert fractions[0] == 0.0
    assert fractions[-1] == 1.0
    assert seen[3].seconds_left is not None
    assert seen[3].seconds_left > 20.0


@pytest.mark.skipif(os.name != "posix", reason="Windows has taskkill")
def test_a_process_is_ended_with_its_grandchildren() -> None:
    code = (
        "import subprocess, sys, time; p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']);"
        "print(p.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {code!r}])"],
        stdout=subprocess.PIPE,
    ) as launcher:
        assert launcher.stdout is not None
        grandchild = int(launcher.stdout.readline())
        assert grandchild in descendants(launcher.pid)
        assert os.getpid() not in descendants(launcher.pid)
        kill_tree(launcher.pid)
        launcher.wait(5.0)
        end = time.monotonic() + 5.0
        while is_running(grandchild):
            assert time.monotonic() < end
            time.sleep(0.01)


def test_models_say_what_their_cards_say(tmp_path: Path) -> None:
    shipped = Bundle.open(resource("models", "brain-start"), verify=False)
    assert shipped.id in models.find_models().bundles
    assert models.channel_names(shipped) == ["MRI"]
    assert (models.modality(shipped), models.license_name(shipped)) == ("MR", "Apache-2.0")
    found = models.measured(shipped)
    assert found is not None
    assert 0 < found.lowest <= found.highest <= 100
    assert (found.scans, found.slices) == (3, False)
    with pytest.raises(BundleError, match="came with the extension"):
        models.delete_model(shipped)


def test_a_model_that_was_trained_here_says_what_its_training_measured(tmp_path: Path) -> None:
    scores = {"background": 0.9, "tumor": 0.5, "core": 0.7, "edema": 0.8, "vessel": None}
    training = {"validation_cases": 1, "measured_on": "slices"}
    bundle = write_tiny_bundle(tmp_path / "tuned", metadata={"scores": scores, "training": training})
    found = models.measured(bundle)
    assert found is not None
    assert found.lowest == found.highest == pytest.approx(80.0), "the mean of the leaves that were in the reference"
    assert (found.scans, found.slices) == (1, True)


def test_an_imported_model_comes_first_and_can_be_deleted(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HIERSEG_HOME", str(tmp_path / "home"))
    own = import_bundle(export_bundle(tiny_bundle, tmp_path / "tiny.zip"))
    listed = models.find_models()
    assert next(iter(listed.bundles)) == own.id
    assert models.is_own(own)
    assert models.measured(own) is None
    assert models.default_model(listed, "no such@1") == listed.bundles[own.id]
    models.delete_model(own)
    assert own.id not in models.find_models().bundles
