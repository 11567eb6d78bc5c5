"""Runs of a study: side by side, skipped where done, going on after a kill, failing without stopping the others."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from engine.blobs import TREE, blob, save
from hierseg.cli import main
from hierseg.dataset import Dataset
from hierseg.errors import ConfigError
from hierseg.imageio import read_label
from hierseg.phantoms import content_hash
from hierseg.study import scheduling
from hierseg.study.config import read_study
from hierseg.study.data import StudyData
from hierseg.study.scheduling import Ended, Job, run_jobs

STUDY: dict[str, Any] = {
    "name": "tiny",
    "data": {"kind": "acdc", "cases": 3, "validation": 1, "test": 1, "size": 32, "seed": 1, "validation_seed": 2, "test_seed": 3},
    "base": {"iterations": 4, "batch_size": 2, "patch_size": [32, 32], "width": 4, "validation": {"interval": 0}},
    "seeds": [0],
    "rows": [
        {"name": "lower", "method": "unet", "fine": [1], "only_fine": True},
        {"name": "upper", "method": "unet", "fine": "all"},
        {"name": "ours", "method": "two_head", "fine": [1]},
    ],
    "lower": "lower",
    "upper": "upper",
    "default": "ours",
}  # fmt: skip

# Does what a run does, but for the training: the same files, scores out of nothing, and a line a job in a diary.
CHILD = """
import json, pathlib, sys, time
job = json.loads(sys.stdin.readline())
folder = pathlib.Path(job["folder"])
diary = open(folder.parent / "diary.txt", "a")
diary.write(f"{folder.name} {time.time()} ")
time.sleep(0.2)
if "upper" in folder.name and not (folder.parent / "mended").exists():
    print("hierseg: the loss became nan", file=sys.stderr)
    sys.exit(2)
(folder / "bundle").mkdir(exist_ok=True)
(folder / "bundle" / "manifest.json").write_text("{}")
(folder / "status.json").write_text(json.dumps({"state": "finished"}))
score = job["score"]
nodes = {"left": {"state": "scored", "dice": 0.25 * len(folder.name) / 20, "hausdorff95": 1.0}}
cases = {case: {"nodes": nodes, "tree_distance": 0.1} for case in score["cases"]}
content = {"format": "hierseg-scores", "leaves": ["left"], "background": None, "cases": cases}
for place in (folder / f"scores_{score['split']}", folder / f"scores_{score['split']}" / "consistent"):
    place.mkdir(parents=True, exist_ok=True)
    (place / "scores.json").write_text(json.dumps(content))
(folder / f"scores_{score['split']}" / "data.json").write_text(json.dumps({"sha256": score["sha256"]}))
diary.write(f"{time.time()}\\n")
"""


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduling, "CHILD", (sys.executable, "-c", CHILD))


def write(folder: Path, **changes: Any) -> Path:
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(STUDY | changes), encoding="utf-8")
    return path


def words(study: Path, out: Path, *more: str) -> list[str]:
    return ["study", str(study), "--out", str(out), "--devices", "cpu", "--threads", "1", *more]


def done(out: Path) -> list[str]:
    """The runs that were worked on so far, in order."""
    return [line.split()[0] for line in (out / "runs" / "diary.txt").read_text(encoding="utf-8").splitlines()]


def freeze(study: Path, out: Path, capsys: pytest.CaptureFixture[str], **changes: Any) -> dict[str, str]:
    """Put the hashes into the study file."""
    write(
        study.parent, **{**changes, "data": {**STUDY["data"], **changes.get("data", {}), "sha256": {"test": 64 * "0"}}}
    )
    capsys.readouterr()
    assert main([*words(study, out), "--freeze"]) == 0
    hashes = yaml.safe_load(capsys.readouterr().out)["sha256"]
    write(study.parent, **{**changes, "data": {**STUDY["data"], **changes.get("data", {}), "sha256": hashes}})
    return dict(hashes)


@pytest.mark.usefixtures("quick")
def test_a_failed_run_is_told_and_the_others_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study, out = write(tmp_path), tmp_path / "out"
    assert main(words(study, out)) == 1
    said = capsys.readouterr()
    assert "upper_fineall_seed0: failed with exit code 2: hierseg: the loss became nan" in said.err
    assert "| upper | 0 | 2 | hierseg: the loss became nan |" in said.out
    content = json.loads((out / "study.json").read_text(encoding="utf-8"))
    by_row = {row["row"]: row for row in content["rows"]}
    assert by_row["upper"]["failed"] == [{"seed": 0, "code": 2, "said": "hierseg: the loss became nan"}]
    assert not by_row["upper"]["complete"]
    assert by_row["lower"]["complete"]
    assert by_row["ours"]["complete"]
    assert not content["complete"]
    # Once the reason is gone the same command does what is left, and nothing else.
    (out / "runs" / "mended").touch()
    before = done(out)
    assert main(words(study, out)) == 0
    assert done(out)[len(before) :] == ["upper_fineall_seed0"]
    assert main([*words(study, out), "--json"]) == 0
    assert len(done(out)) == len(before) + 1
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["complete"]
    assert [row["gap"] is not None for row in result["rows"]] == [True, True, True]


@pytest.mark.usefixtures("quick")
def test_rows_and_seeds_can_come_later(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main([*words(write(tmp_path), out), "--rows", "lower"]) == 0
    assert done(out) == ["lower_fine1_seed0"]
    assert main([*words(write(tmp_path, seeds=[0, 5]), out), "--rows", "lower", "ours"]) == 0
    assert done(out)[1:] == ["ours_fine1_seed0", "lower_fine1_seed5", "ours_fine1_seed5"]
    assert main([*words(write(tmp_path), out), "--rows", "Lower"]) == 2


@pytest.mark.usefixtures("quick")
def test_each_row_gets_its_best_candidate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All rows have the same candidates and one training each, by a seed that the study does not use."""
    out, tuning = tmp_path / "out", {"grid": {"learning_rate": [0.05, 0.125]}}
    study = write(tmp_path, tuning=tuning)
    assert main([*words(study, out), "--tune"]) == 1
    ran = [path.name for path in (out / "tuning" / "runs").iterdir() if path.is_dir()]
    assert len(ran) == 6
    assert all(name.endswith("_seed9") for name in ran)
    said = capsys.readouterr().out
    # The upper row failed, so nothing is chosen for it.
    assert "upper, learning_rate 0.125 | 9 | 2 | hierseg: the loss became nan" in said
    chosen = yaml.safe_load(said[said.index("  chosen:") :])["chosen"]
    assert chosen == {"lower": {"learning_rate": 0.125}, "ours": {"learning_rate": 0.125}}
    (out / "tuning" / "runs" / "mended").touch()
    assert main([*words(study, out), "--tune", "--json"]) == 0
    chosen = json.loads(capsys.readouterr().out.splitlines()[-1])["chosen"]
    assert set(chosen) == {"lower", "upper", "ours"}
    tuned = read_study(write(tmp_path, tuning={**tuning, "chosen": chosen}))
    assert {row.settings["learning_rate"] for row in tuned.rows} == {0.125}
    assert main([*words(study, out), "--rows", "lower"]) == 0
    assert (
        "Chosen: lower: learning_rate 0.125; ours: learning_rate 0.125; upper: learning_rate 0.125."
        in capsys.readouterr().out
    )
    assert main([*words(study, out), "--tune", "--split", "test"]) == 2
    assert main([*words(write(tmp_path), out), "--tune"]) == 2
    assert main([*words(write(tmp_path, tuning={"grid": {"learning_rat": [1]}}), out), "--tune"]) == 2


@pytest.mark.usefixtures("quick")
def test_changed_settings_are_never_mixed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    only = ("--rows", "lower")
    assert main([*words(write(tmp_path), out), *only]) == 0
    changed = write(tmp_path, base={**STUDY["base"], "learning_rate": 0.02})
    capsys.readouterr()
    assert main([*words(changed, out), *only]) == 2
    assert "learning_rate was 0.01, is 0.02" in capsys.readouterr().err
    assert len(done(out)) == 1
    (out / "runs" / "lower_fine1_seed0" / "old").touch()
    assert main([*words(changed, out), *only, "--redo"]) == 0
    assert len(done(out)) == 2
    assert not (out / "runs" / "lower_fine1_seed0" / "old").exists()


@pytest.mark.usefixtures("quick")
def test_data_that_hash_to_something_else_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study, out = write(tmp_path), tmp_path / "out"
    hashes = freeze(study, out, capsys)
    assert set(hashes) == {"training", "validation", "test"}
    assert hashes["training"] == content_hash(out / "data" / "training")
    assert main([*words(study, out), "--rows", "lower"]) == 0
    write(tmp_path, data={**STUDY["data"], "sha256": {**hashes, "validation": 64 * "0"}})
    assert main([*words(study, out), "--rows", "lower"]) == 2
    assert "the validation data hash to" in capsys.readouterr().err
    write(tmp_path, data={**STUDY["data"], "size": 48})
    assert main([*words(study, out), "--rows", "lower"]) == 2
    assert "size: 32, now 48" in capsys.readouterr().err


@pytest.mark.usefixtures("quick")
def test_every_look_at_the_test_data_is_remembered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study, out = write(tmp_path), tmp_path / "out"
    only = ("--rows", "lower", "--split", "test")
    assert main([*words(study, out), *only]) == 2
    assert "not frozen" in capsys.readouterr().err
    assert not list((out / "data").glob("test*"))
    freeze(study, out, capsys)
    assert main([*words(study, out), "--rows", "lower"]) == 0
    assert not (out / "attempts.json").exists()
    assert main([*words(study, out), *only]) == 0
    first = json.loads((out / "attempts.json").read_text(encoding="utf-8"))
    assert [one["test_seed"] for one in first] == [3]
    assert first[0]["study_sha256"] == read_study(study).sha256
    # A fresh draw: another folder for it, the models are measured again, and both looks are told.
    fresh = {"data": {"test_seed": 9}}
    freeze(study, out, capsys, **fresh)
    before = len(done(out))
    assert main([*words(study, out), *only]) == 0
    assert len(done(out)) == before + 1
    second = json.loads((out / "attempts.json").read_text(encoding="utf-8"))
    assert second[:1] == first
    assert [one["test_seed"] for one in second] == [3, 9]
    assert "Looks at test data: 2." in (out / "study.md").read_text(encoding="utf-8")
    kept = [json.loads((out / "attempts" / f"0{number}.json").read_text(encoding="utf-8")) for number in (1, 2)]
    assert [one["data"]["sha256"]["test"] for one in kept] == [one["test_sha256"] for one in second]


def test_what_a_training_sees(tmp_path: Path) -> None:
    study = read_study(
        write(tmp_path, rows=[*STUDY["rows"], {"name": "drawn", "method": "unet", "fine": "all", "labels": "strokes"}])
    )
    data = StudyData(study.data, tmp_path / "out")
    data.open("training", "validation")
    whole = Dataset.open(data.for_training(study.row("upper"), "all"))
    few = Dataset.open(data.for_training(study.row("ours"), 1))
    alone = Dataset.open(data.for_training(study.row("lower"), 1))
    strokes = Dataset.open(data.for_training(study.row("drawn"), "all"))
    leaves = set(whole.tree.leaf_values.tolist()) - {0}

    def labels(dataset: Dataset, case: Any) -> Any:
        path = dataset.label_path(case)
        assert path is not None
        return read_label(path, dataset.tree).array

    def fine(dataset: Dataset) -> set[str]:
        return {
            case.effective_group
            for case in dataset.cases("training")
            if leaves & set(labels(dataset, case).ravel().tolist())
        }

    assert len(fine(whole)) == 3
    assert len(fine(few)) == 1
    assert fine(few) == fine(alone) == {case.effective_group for case in alone.cases("training")}
    assert len(few.cases("training")) == len(whole.cases("training")) == 6
    for dataset in (whole, few, alone, strokes):
        assert len(dataset.cases("validation")) == 2
        assert all(leaves <= set(labels(dataset, case).ravel().tolist()) for case in dataset.cases("validation"))
    for case in strokes.cases("training"):
        drawn, truth = labels(strokes, case), labels(whole, whole.case(case.id))
        known = drawn != strokes.tree.unlabelled
        assert 0 < known.mean() < 0.05
        assert (drawn[known] == truth[known]).all()
        assert set(drawn[known].tolist()) == set(truth.ravel().tolist())


def test_a_dataset_folder_is_used_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "blobs"
    dataset = Dataset.create(folder, "blobs", ["MRI"], TREE)
    for number, split in enumerate(["training"] * 4 + ["validation"]):
        image, label = blob(number, 12)
        save(dataset, f"case{number}", image, label, split=split, group=f"patient{number // 2}")
    study = read_study(write(tmp_path, data={"folder": str(folder), "seed": 4}))
    data = StudyData(study.data, tmp_path / "out")
    data.open("training", "validation")
    assert data.sha256 == {"folder": content_hash(folder)}
    few = Dataset.open(data.for_training(study.row("ours"), 1))
    assert [case.id for case in few.cases("validation")] == ["case4"]
    seen = {case.id: few.label_path(case) for case in few.cases("training")}
    shown = {case: set(read_label(path, few.tree).array.ravel().tolist()) for case, path in seen.items() if path}
    # One patient of two scans keeps subclass labels, the other one has the superclass.
    assert sorted(map(sorted, shown.values())) == [[0, 1, 2], [0, 1, 2], [0, 5], [0, 5]]
    with pytest.raises(ConfigError, match="there are 2 training subjects"):
        data.for_training(study.row("ours"), 3)
    image, label = blob(9, 12)
    save(dataset, "case0", image, label, group="patient0")
    with pytest.raises(ConfigError, match="not what they were when the study began"):
        StudyData(study.data, tmp_path / "out").open("training")


def test_what_a_training_refuses_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "blobs"
    dataset = Dataset.create(folder, "blobs", ["MRI"], TREE)
    for number, split in enumerate(["training", "training", "validation"]):
        image, label = blob(number, 12)
        label[0, 0, 0] = 77 if number == 1 else 0
        save(dataset, f"case{number}", image, label, split=split)
    base = {"iterations": 2, "patch_size": [32, 16, 16], "width": 4}
    study = write(tmp_path, data={"folder": str(folder)}, base=base)
    assert main([*words(study, tmp_path / "out"), "--rows", "upper"]) == 1
    told = "case1.nii.gz: label value 77 is not in the label tree 'blobs'"
    captured = capsys.readouterr()
    assert told in captured.err
    assert told in captured.out
    # Where the superclasses have to be looked up, the study itself sees it.
    assert main([*words(study, tmp_path / "other"), "--rows", "ours"]) == 2
    assert told in capsys.readouterr().err


def test_each_class_is_hidden_in_turn(tmp_path: Path) -> None:
    """The whole way: trainings that do not see a class, its voxels as the unknown ones, and a table."""
    folder = tmp_path / "blobs"
    dataset = Dataset.create(folder, "blobs", ["MRI"], TREE)
    for number, split in enumerate(["training", "training", "validation", "validation"]):
        image, label = blob(number, 16)
        save(dataset, f"case{number}", image, label, split=split)
    study = write(
        tmp_path,
        data={"folder": str(folder)},
        base={"iterations": 2, "patch_size": [32, 16, 16], "width": 4, "validation": {"interval": 0}},
        rows=[{"name": "ours", "method": "unet", "fine": "all"}],
        lower=None,
        upper=None,
        hold_out_each={"kind": "leaf"},
    )
    out = tmp_path / "out"
    assert main(words(study, out)) == 0
    runs = sorted(place.name for place in (out / "runs").iterdir())
    assert runs == [f"ours_fineall_seed0{without}" for without in ("", "_without-core", "_without-edema")]
    hidden = out / "runs" / "ours_fineall_seed0_without-core"
    assert yaml.safe_load((hidden / "config.yaml").read_text(encoding="utf-8"))["hold_out"] == ["core"]
    scores = json.loads((hidden / "scores_validation" / "scores.json").read_text(encoding="utf-8"))
    voxels = {number: blob(number, 16)[1] for number in (2, 3)}
    core = TREE.node("core").value
    for number, label in voxels.items():
        case = scores["out_of_distribution"]["cases"][f"case{number}"]
        assert (case["unknown"], case["known"]) == ((label == core).sum(), (label != core).sum())
        # What was hidden is scored as if it were not labelled.
        assert scores["cases"][f"case{number}"]["nodes"]["core"]["dice"] is None
    content = json.loads((out / "study.json").read_text(encoding="utf-8"))
    assert [one["name"] for one in content["rows"][0]["held_out"]] == ["core", "edema"]
    assert all(0 <= one["auroc"] <= 1 for one in content["rows"][0]["held_out"])
    assert content["complete"]
    assert "## Held-out classes" in (out / "study.md").read_text(encoding="utf-8")
    before = {run: (out / "runs" / run / "status.json").stat().st_mtime_ns for run in runs}
    assert main(words(study, out)) == 0
    assert before == {run: (out / "runs" / run / "status.json").stat().st_mtime_ns for run in runs}


def job(folder: Path, code: str) -> Job:
    return Job(folder, {"code": code})


def test_no_more_processes_than_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    child = "import json, sys, time, pathlib; job = json.loads(sys.stdin.readline()); exec(job['code'])"
    monkeypatch.setattr(scheduling, "CHILD", (sys.executable, "-c", child))
    note = "p = pathlib.Path('{}'); began = time.time(); time.sleep(0.3); p.write_text(f'{{began}} {{time.time()}} ' + job['device'])"
    jobs = [job(tmp_path / str(number), note.format(tmp_path / f"{number}.txt")) for number in range(5)]
    ended: list[Ended] = []
    run_jobs(jobs, ("a", "b"), 2, ended.append)
    assert [one.code for one in ended] == [0] * 5
    times = [(tmp_path / f"{number}.txt").read_text(encoding="utf-8").split() for number in range(5)]
    assert {device for _, _, device in times} == {"a", "b"}
    for began, _, _ in times:
        assert sum(float(start) <= float(began) < float(end) for start, end, _ in times) <= 2


def start(study: Path, out: Path, *more: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "hierseg", *words(study, out, *more)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def wait_for(what: Any, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 200
    while not what():
        assert time.monotonic() < end
        assert process.poll() is None
        time.sleep(0.05)


@pytest.mark.may_skip("Windows has no SIGKILL")
@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_killed_study_goes_on_and_does_nothing_twice(tmp_path: Path) -> None:
    # The second training would take for ever; it is the one that is cut off.
    base = {**STUDY["base"], "checkpoint_interval": 1}
    rows = [STUDY["rows"][0], {**STUDY["rows"][2], "settings": {"iterations": 100000}}]
    study = write(tmp_path, base=base, rows=rows, upper=None, lower=None)
    out = tmp_path / "out"
    second = out / "runs" / "ours_fine1_seed0"
    process = start(study, out)
    wait_for(lambda: "losses" in _text(second / "events.jsonl"), process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    first = out / "runs" / "lower_fine1_seed0"
    before = {
        path: path.stat().st_mtime_ns for path in first.rglob("*") if path.is_file() and not path.name.startswith(".")
    }
    assert first / "scores_validation" / "scores.json" in before
    # The orphan notices, saves, and ends.
    end = time.monotonic() + 60
    while '"stopped"' not in _text(second / "status.json"):
        assert time.monotonic() < end
        time.sleep(0.1)
    reached = json.loads(_text(second / "status.json"))["iteration"]
    assert reached > 0
    process = start(study, out)
    wait_for(lambda: _text(second / "events.jsonl").count('"event": "start"') == 2, process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=120) == 130
    starts = [json.loads(line) for line in _text(second / "events.jsonl").splitlines() if '"event": "start"' in line]
    assert starts[1]["iteration"] >= reached
    assert before == {path: path.stat().st_mtime_ns for path in before}
    rows_told = {row["row"]: row["complete"] for row in json.loads(_text(out / "study.json"))["rows"]}
    assert rows_told == {"lower": True, "ours": False}


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
