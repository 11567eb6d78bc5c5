"""The list of runs, what a preset takes here, and what a run's events come to."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from hierseg.errors import TrainingError
from HierSubclassSegLib.compute import presets, runs
from HierSubclassSegLib.compute.history import History
from HierSubclassSegLib.compute.training import TrainingRun
from standins.tiny_bundle import TREE, write_tiny_bundle


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIERSEG_HOME", str(tmp_path / "home"))


def make(folder: Path, **status: Any) -> Path:
    folder.mkdir(parents=True)
    (folder / "status.json").write_text(json.dumps({"state": "finished", "updated": 1.0, **status}), encoding="utf-8")
    return folder


def test_runs_are_listed_newest_first_wherever_they_lie(tmp_path: Path) -> None:
    assert runs.find_runs() == []
    old = make(runs.new_run_folder("my data", now=1000.0), started=1000.0)
    new = make(tmp_path / "elsewhere", started=2000.0)
    empty = runs.runs_folder() / "empty"
    empty.mkdir()
    found = runs.find_runs([new, tmp_path / "nowhere", old])
    assert [run.folder for run in found] == [new, old], "each once"
    assert found[0].dataset == "elsewhere"
    assert "my-data" in old.name
    assert runs.new_run_folder("my data", now=1000.0).name == f"{old.name}~2"


def test_only_own_runs_that_ended_are_deleted(tmp_path: Path) -> None:
    outside = make(tmp_path / "outside")
    with pytest.raises(TrainingError, match="lies outside"):
        runs.delete_run(outside)
    live = make(runs.runs_folder() / "live", state="running", updated=time.time())
    with pytest.raises(TrainingError, match="stop it first"):
        runs.delete_run(live)
    own = make(runs.runs_folder() / "own")
    runs.delete_run(own)
    assert not own.exists()


def test_the_time_of_a_preset_is_what_was_measured_here(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle")
    quick, thorough = presets.preset("quick"), presets.preset("thorough")
    assert presets.estimate(quick, bundle, "cpu") is None, "nothing is guessed"
    presets.remember(bundle.config, "cpu", 0.5)
    assert presets.estimate(quick, bundle, "cpu") == pytest.approx(quick.iterations * quick.batch_size * 0.5)
    assert presets.estimate(thorough, bundle, "cpu") == pytest.approx(thorough.iterations * thorough.batch_size * 0.5)
    assert presets.estimate(quick, bundle, "cuda:0") is None
    (runs.runs_folder() / presets.PACE).write_text("broken", encoding="utf-8")
    assert presets.estimate(quick, bundle, "cpu") is None


def test_a_resumed_run_forgets_what_it_does_again(tmp_path: Path) -> None:
    from hierseg.labeltree import LabelTree

    scores = {"tumor": 0.8, "core": 0.5, "edema": None}
    lines: list[dict[str, Any]] = [
        {"event": "start", "iteration": 0, "iterations": 9, "held": "slices", "validation": 0},
        {"event": "note", "message": "a"},
        {"event": "baseline", "scores": scores, "score": 0.5},
        *[{"event": "losses", "iteration": at, "total": 1.0, "time": 10.0 * at} for at in (1, 2, 3)],
        {"event": "validation", "iteration": 3, "score": 0.4, "known": 0.5, "scores": {"core": 0.4}, "best": True},
        {"event": "start", "iteration": 2, "iterations": 9, "held": "slices", "validation": 0},
        {"event": "losses", "iteration": 3, "total": 2.0, "time": 100.0},
        {"event": "losses", "iteration": 4, "total": 2.0, "time": 107.0},
        {
            "event": "validation",
            "iteration": 4,
            "score": 0.6,
            "known": 0.6,
            "scores": {"tumor": 0.75, "core": 0.6, "edema": 0.3},
            "best": True,
        },
        {"event": "losses", "iteration": "odd", "total": None},
    ]
    (tmp_path / "events.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    history = History(TrainingRun(tmp_path))
    assert history.refresh()
    assert not history.refresh()
    assert history.losses == [(1, 1.0), (2, 1.0), (3, 2.0), (4, 2.0)]
    assert history.scores == [(4, 0.6)]
    assert history.known == [(4, 0.6)]
    assert history.notes == []
    assert history.held == "slices"
    assert history.seconds_per_iteration == 7.0
    changes = {change.name: change for change in history.changes(LabelTree.from_dict(TREE))}
    assert set(changes) == {"tumor", "core", "edema"}, "what the reference lacks is left out"
    assert changes["tumor"].lost
    assert not changes["core"].lost
    assert changes["edema"].points is None
