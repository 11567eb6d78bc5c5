"""``hierseg train`` as a user meets it: results, messages, run folder, stopping, starting from a bundle."""

from __future__ import annotations

import errno
import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import yaml

from engine.blobs import TREE, blob, coarsen, make, save
from hierseg.bundle import Bundle
from hierseg.cli import main
from hierseg.dataset import Dataset
from hierseg.engine import checkpoints, runfolder, train
from hierseg.imageio import read_volume
from hierseg.inference import Predictor
from hierseg.labeltree import LabelTree

SETTINGS = [
    "iterations=3",
    "patch_size=[32,16,16]",
    "width=4",
    "batch_size=2",
    "log_interval=1",
    "validation.interval=2",
]


def words(dataset: Path, out: Path, *more: str, settings: list[str] = SETTINGS) -> list[str]:
    chosen = [word for pair in settings for word in ("--set", pair)]
    return ["train", str(dataset), "--out", str(out), "--device", "cpu", "--threads", "1", *chosen, *more]


def events(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "events.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return make(tmp_path / "blobs").folder


@pytest.mark.parametrize("method", ["ess", "two_head"])
def test_a_run_from_data_to_bundle(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], method: str) -> None:
    out = tmp_path / "run"
    assert main(words(data, out, "--method", method, "--json", "--name", "my blobs")) == 0
    said = capsys.readouterr()
    result = json.loads(said.out)
    assert (result["state"], result["iterations"]) == ("finished", 3)
    assert set(result["dice"]) == {"background", "tumor", "core", "edema"}
    assert "3/3" in said.err  # the progress bar

    bundle = Bundle.open(out / "bundle")
    assert bundle.tree == TREE
    assert bundle.name == "my-blobs"
    assert "| tumor/core |" in bundle.card
    assert "trained on" in bundle.card
    assert bundle.config["patch_size"] == [32, 16, 16]
    prediction = Predictor(bundle, device="cpu").predict([read_volume(next((data / "images").iterdir()))])
    assert prediction.labels.shape == (24, 24, 24)

    status = json.loads((out / "status.json").read_text(encoding="utf-8"))
    assert (status["state"], status["iteration"], status["iterations"]) == ("finished", 3, 3)
    kinds = [event["event"] for event in events(out)]
    assert kinds[0] == "start"
    assert kinds[-1] == "finished"
    assert {"losses", "validation"} <= set(kinds)
    assert yaml.safe_load((out / "config.yaml").read_text(encoding="utf-8"))["method"] == method
    assert len(json.loads((out / "dataset.json").read_text(encoding="utf-8"))["fingerprint"]) == 64
    assert list((out / "tensorboard").iterdir())
    assert not [path for path in out.rglob("*") if path.name.startswith(".tmp")]


def test_the_run_folder_is_protected_and_resume_is_offered(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main(words(data, out, "--quiet")) == 0
    before = (out / "last.pt").read_bytes()
    assert main(words(data, out, "--quiet")) == 2
    assert "--resume" in capsys.readouterr().err
    assert (out / "last.pt").read_bytes() == before
    assert main(words(data, out, "--quiet", "--resume")) == 0
    assert main(words(data, tmp_path / "new", "--quiet", "--resume")) == 0
    assert "begins anew" in json.dumps(events(tmp_path / "new"))
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.doc").touch()
    assert main(words(data, foreign, "--quiet")) == 2
    assert "thesis.doc" in capsys.readouterr().err


def test_a_living_run_is_not_joined_by_a_second(tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    out.mkdir()
    status = {"state": "running", "pid": 1, "updated": time.time()}
    (out / "status.json").write_text(json.dumps(status), encoding="utf-8")
    assert main(words(data, out, "--quiet", "--resume")) == 2
    assert "is running in this folder" in capsys.readouterr().err


def test_a_stop_file_ends_the_run_with_a_bundle(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    seen: list[dict[str, Any]] = []

    def watch(status: dict[str, Any]) -> None:
        seen.append(status)
        if status["iteration"] == 4 and status["state"] == "running":
            (out / "stop").touch()

    settings = {"iterations": 500, "patch_size": [32, 16, 16], "width": 4, "batch_size": 2}
    result = train(data, out, settings, progress=watch, threads=1, device="cpu")
    assert (result.state, result.iterations) == ("stopped", 4)
    assert Bundle.open(out / "bundle").metadata["training"]["iterations"] == 4
    assert not (out / "stop").exists()
    states = list(dict.fromkeys(status["state"] for status in seen))
    assert states == ["starting", "running", "stopping", "stopped"]
    assert all(
        status["seconds_left"] > 0 for status in seen if status["state"] == "running" and 0 < status["iteration"] < 4
    )


def test_a_stop_file_of_an_earlier_run_is_forgotten_and_a_new_one_is_not(tmp_path: Path) -> None:
    status = {"state": "running", "pid": 2**22 + 5, "updated": time.time() - 100}
    for age, kept in ((200, False), (0, True)):
        out = tmp_path / str(age)
        out.mkdir()
        (out / "status.json").write_text(json.dumps(status), encoding="utf-8")
        (out / "stop").touch()
        os.utime(out / "stop", (time.time() - age,) * 2)
        assert runfolder.RunFolder(out, resume=True).stop_file.exists() == kept
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    (fresh / "stop").touch()  # asked to stop while the process was still being started
    assert runfolder.RunFolder(fresh).stop_file.exists()


def test_the_status_is_refreshed_while_nothing_else_happens(tmp_path: Path) -> None:
    assert runfolder.HEARTBEAT_SECONDS <= 2
    with runfolder.RunFolder(tmp_path / "run") as folder:
        first = json.loads((tmp_path / "run" / "status.json").read_text(encoding="utf-8"))["updated"]
        deadline = time.monotonic() + 100
        while json.loads((tmp_path / "run" / "status.json").read_text(encoding="utf-8"))["updated"] == first:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        folder.update(state="failed")
    assert json.loads((tmp_path / "run" / "status.json").read_text(encoding="utf-8"))["state"] == "failed"
    assert not [thread for thread in threading.enumerate() if thread.name == "hierseg-heartbeat"]


def test_a_start_bundle_with_another_tree_gives_a_superclass_its_subclasses(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flat = LabelTree.from_dict(
        {
            "format_version": 1,
            "name": "coarse",
            "unlabelled": 255,
            "nodes": [{"name": "background", "value": 0}, {"name": "tumor", "value": 5}],
        }
    )
    first = Dataset.create(tmp_path / "coarse", "coarse", ["MRI"], flat)
    for seed in range(2):
        save(first, f"case{seed}", blob(seed)[0], coarsen(blob(seed)[1]))
    assert main(words(first.folder, tmp_path / "one", "--quiet")) == 0
    second = ["iterations=2", "losses.keep=1", "losses.marginal=1", "freeze=norm", "learning_rate_trunk=0.1"]
    start = str(tmp_path / "one" / "bundle")
    capsys.readouterr()
    assert main(words(data, tmp_path / "two", "--init", start, "--json", "--quiet", settings=second)) == 0
    notes = json.loads(capsys.readouterr().out)["notes"]
    assert any("tumor/core" in note and "start from 'tumor'" in note for note in notes)
    assert "keep" in next(event for event in events(tmp_path / "two") if event["event"] == "losses")
    bundle = Bundle.open(tmp_path / "two" / "bundle")
    assert bundle.metadata["training"]["started_from"].startswith("coarse-ess@")
    # The network and the preprocessing are the start bundle's.
    assert bundle.config["network"]["arguments"]["width"] == 4
    assert bundle.config["patch_size"] == [32, 16, 16]
    # A resumed run needs the start bundle no more.
    more = [*second, "iterations=3"]
    assert main(words(data, tmp_path / "two", "--resume", "--quiet", settings=more)) == 0
    for settings, said in [(["width=8"], "'width' is 8"), (["patch_size=[32,32]"], "3D model")]:
        assert main(words(data, tmp_path / "three", "--init", start, "--quiet", settings=settings)) == 2
        assert said in capsys.readouterr().err


def test_what_is_missing_is_said_and_it_trains_all_the_same(tmp_path: Path) -> None:
    settings = {"iterations": 2, "patch_size": [32, 16, 16], "width": 4, "batch_size": 2}
    fine, coarse = blob(0)[1], coarsen(blob(0)[1])
    sparse = np.full_like(fine, 255)
    sparse[12, :, 12] = fine[12, :, 12]
    for name, labels, expected in [
        ("one", [fine], "There is one case only"),
        ("fine", [fine, fine, fine], "subclasses only"),
        ("coarse", [coarse, coarse, coarse], "No case has a subclass"),
        ("sparse", [sparse], "nothing is left for validation"),
        ("partly", [fine, coarse, None], "1 training case has no label map"),
    ]:
        dataset = Dataset.create(tmp_path / name, name, ["MRI"], TREE)
        for number, label in enumerate(labels):
            save(dataset, f"case{number}", blob(0)[0], label)
        result = train(dataset, tmp_path / f"{name}-run", settings, threads=1, device="cpu")
        assert result.state == "finished"
        assert any(expected in note for note in result.notes), (name, result.notes)
        card = Bundle.open(result.bundle).card
        assert expected in card
        assert ("Not measured: no validation case." in card) == (result.measurement is None)


def test_validation_never_splits_a_group(tmp_path: Path) -> None:
    dataset = Dataset.create(tmp_path / "groups", "groups", ["MRI"], TREE)
    for number in range(8):
        save(dataset, f"case{number}", *blob(number, 16), group=f"patient{number // 2}")
    train(
        dataset,
        tmp_path / "run",
        {"iterations": 1, "patch_size": [32, 16, 16], "width": 4, "batch_size": 2},
        threads=1,
        device="cpu",
    )
    used = json.loads((tmp_path / "run" / "dataset.json").read_text(encoding="utf-8"))
    groups = [{int(case[4:]) // 2 for case in used[split]} for split in ("training", "validation")]
    assert groups[0] & groups[1] == set()
    assert groups[1]


def nan_image(dataset: Dataset) -> None:
    image, label = blob(0)
    image[3, 3, 3] = np.nan
    save(dataset, "bad", image, label)


def constant_image(dataset: Dataset) -> None:
    save(dataset, "bad", np.ones((24,) * 3, np.float32), blob(0)[1])


def foreign_value(dataset: Dataset) -> None:
    image, label = blob(0)
    label[0, 0, 0] = 44
    save(dataset, "bad", image, label)


def nothing_labelled(dataset: Dataset) -> None:
    save(dataset, "bad", blob(0)[0], np.full((24,) * 3, 255, np.uint8))


def four_frames(dataset: Dataset) -> None:
    image, label = blob(0)
    dataset.save_case(
        "bad",
        [lambda path: nib.save(nib.Nifti1Image(np.stack([image] * 4, -1), np.eye(4)), path)],
        lambda path: nib.save(nib.Nifti1Image(label, np.eye(4)), path),
    )


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (nan_image, "bad_MRI.nii.gz"),
        (constant_image, "bad_MRI.nii.gz"),
        (foreign_value, "label value 44"),
        (nothing_labelled, "no labelled voxel"),
        (four_frames, "one 3D image is needed"),
    ],
)
def test_bad_cases_are_named(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], spoil: Any, said: str
) -> None:
    spoil(Dataset.open(data))
    out = tmp_path / "run"
    assert main(words(data, out, "--quiet")) == 2
    error = capsys.readouterr().err
    assert "case 'bad'" in error
    assert said in error
    assert "Traceback" not in error
    status = json.loads((out / "status.json").read_text(encoding="utf-8"))
    assert status["state"] == "failed"
    assert "case 'bad'" in status["message"]
    # The same folder serves again once the data is corrected.
    Dataset.open(data).remove_case("bad")
    assert main(words(data, out, "--quiet")) == 0
    assert [event["event"] for event in events(out)].count("start") == 1


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--set", "patch_size=[40,16,16]"], "multiple of 16"),
        (["--set", "patch_size=[16,16,16]"], "larger than 16"),
        (["--set", "normalization={CT: {type: none}}"], "channel 'CT'"),
        (["--set", "losses.keep=1"], "--init"),
        (["--set", "lerning_rate=1"], "'learning_rate'"),
        (["--init", "/nowhere"], "/nowhere"),
        (["--threads", "0"], "--threads is 0"),
        (["--device", "gpu7"], "gpu7"),
        (["--config", "/nowhere.yaml"], "no such configuration"),
    ],
)
def test_bad_options_are_told(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], said: str
) -> None:
    assert main(words(data, tmp_path / "run", "--quiet", *more)) == 2
    assert said in capsys.readouterr().err


def test_a_loss_that_is_no_number_names_the_case_and_keeps_the_checkpoint(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert (
        main(
            words(
                data,
                out,
                "--quiet",
                "--set",
                "learning_rate=1e30",
                "--set",
                "iterations=50",
                "--set",
                "gradient_clip=0",
            )
        )
        == 2
    )
    error = capsys.readouterr().err
    assert "the loss became" in error
    assert "'case" in error
    kept = checkpoints.load_checkpoint(out / "last.pt")
    assert all(bool(np.isfinite(tensor.numpy()).all()) for tensor in kept["model"].values())
    assert json.loads((out / "status.json").read_text(encoding="utf-8"))["state"] == "failed"


def test_a_full_disk_is_told_and_leaves_the_old_checkpoint(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    write, calls = checkpoints.write_bytes, []

    def full_the_second_time(path: Path, content: bytes) -> None:
        calls.append(path)
        if len(calls) > 1:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write(path, content)

    monkeypatch.setattr(checkpoints, "write_bytes", full_the_second_time)
    assert main(words(data, out, "--quiet")) == 2
    error = capsys.readouterr().err
    assert "the disk is full" in error
    assert "--resume" in error
    assert checkpoints.load_checkpoint(out / "last.pt")["iteration"] == 0


def test_images_smaller_than_the_patch_and_several_channels(tmp_path: Path) -> None:
    dataset = Dataset.create(tmp_path / "small", "small", ["T1", "T2"], TREE)
    for seed in range(2):
        image, label = blob(seed, 12)
        save(dataset, f"case{seed}", [image, 3 - image], label if seed else coarsen(label))
    settings = {
        "iterations": 2,
        "patch_size": [32, 16, 16],
        "width": 4,
        "batch_size": 2,
        "normalization": {"T2": {"type": "zscore"}},
    }
    result = train(dataset, tmp_path / "run", settings, threads=1, device="cpu")
    channels = Bundle.open(result.bundle).config["channels"]
    assert [channel["normalization"]["type"] for channel in channels] == ["percentile", "zscore"]


def test_slices_for_a_2d_network(data: Path, tmp_path: Path) -> None:
    result = train(
        data,
        tmp_path / "run",
        {"iterations": 2, "patch_size": [32, 16], "width": 4, "batch_size": 4},
        threads=1,
        device="cpu",
    )
    assert Bundle.open(result.bundle).config["spatial_dims"] == 2
    assert result.measurement is not None
