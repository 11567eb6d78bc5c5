"""What a user has to be told while all goes well, and what must not come out as a traceback."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from engine.blobs import TREE, blob, coarsen, save
from hierseg.atomic import replacing
from hierseg.bundle import Bundle, write_bundle
from hierseg.cli import main
from hierseg.dataset import Dataset
from hierseg.engine.runfolder import RunFolder
from hierseg.errors import BundleError, ImageError
from standins.folders import CONFIG
from standins.tiny_bundle import write_tiny_bundle

LINUX = sys.platform == "linux"
SETTINGS = ("iterations=1", "patch_size=[32,16,16]", "width=4", "batch_size=2", "validation.interval=0")


def train(dataset: Path, out: Path, *more: str) -> int:
    settings = [word for pair in SETTINGS for word in ("--set", pair)]
    return main(["train", str(dataset), "--out", str(out), "--device", "cpu", "--threads", "1", *settings, *more])


@pytest.mark.parametrize("quiet", [[], ["--quiet"]])
def test_what_the_data_lacks_is_shown_on_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], quiet: list[str]
) -> None:
    dataset = Dataset.create(tmp_path / "coarse", "coarse", ["MRI"], TREE)
    save(dataset, "only", blob(0, 16)[0], coarsen(blob(0, 16)[1]))
    assert train(dataset.folder, tmp_path / "run", *quiet) == 0
    said = "".join(capsys.readouterr())
    assert said.count("No case has a subclass-labelled voxel") == 1
    assert said.count("nothing is left for validation") == 1


def test_a_label_map_on_another_grid_is_said_and_one_elsewhere_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = Dataset.create(tmp_path / "data", "data", ["MRI"], TREE)
    image, label = blob(0, 16)
    save(dataset, "shifted", image, label)
    path = dataset.folder / "labels" / "shifted.nii.gz"
    nib.save(nib.Nifti1Image(label[:8], np.eye(4)), path)
    assert train(dataset.folder, tmp_path / "run") == 0
    assert "lies on another grid than the image" in capsys.readouterr().err
    away = np.eye(4)
    away[0, 3] = 500
    nib.save(nib.Nifti1Image(label, away), path)
    assert train(dataset.folder, tmp_path / "away") == 2
    error = capsys.readouterr().err
    assert "case 'shifted': no labelled voxel" in error
    assert "same patient and place" in error


def test_wrong_types_are_told_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = Dataset.create(tmp_path / "data", "data", ["MRI"], TREE)
    save(dataset, "one", *blob(0, 16))
    assert train(dataset.folder, tmp_path / "run", "--set", "iterations=many") == 2
    assert "'iterations' is 'many'; it must be a whole number." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"channels": CONFIG["channels"] * 2}, "'in_channels' is 1, but 'channels' makes it 2"),
        ({"spatial_dims": 2, "patch_size": [16, 16]}, "'spatial_dims' is 3"),
        ({"network": {"name": "Another", "arguments": {}}}, "this program builds HierarchicalSegmenter only"),
    ],
)
def test_a_bundle_that_contradicts_itself_is_refused_when_it_is_checked(
    tmp_path: Path, changes: dict[str, object], said: str
) -> None:
    bundle = write_tiny_bundle(tmp_path / "tiny")
    with pytest.raises(BundleError, match=said):
        write_bundle(
            tmp_path / "wrong",
            config={**bundle.config, **changes},
            metadata={"name": "wrong", "version": "1.0.0"},
            tree=bundle.tree,
            write_weights=lambda path: shutil.copyfile(bundle.weights, path),
            card="For tests.",
            license_text="Apache-2.0",
        )
    assert not (tmp_path / "wrong").exists()
    assert Bundle.open(tmp_path / "tiny").id == "tiny@1.0.0"


def test_a_bundle_left_half_written_by_a_killed_run_is_cleared(tmp_path: Path) -> None:
    half = tmp_path / "run" / ".tmp-bundle-abc123" / "models"
    half.mkdir(parents=True)
    (half / "model.safetensors").write_bytes(b"half")
    RunFolder(tmp_path / "run", resume=True)
    assert list((tmp_path / "run").iterdir()) == []


def test_a_start_bundle_is_found_by_its_name_as_predict_finds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HIERSEG_HOME", str(tmp_path / "home"))
    write_tiny_bundle(tmp_path / "home" / "models" / "in a folder of another name")
    dataset = Dataset.create(tmp_path / "data", "data", ["MRI"], TREE)
    save(dataset, "one", *blob(0, 16))
    settings = ["--set", "patch_size=[32,16,16]", "--set", "iterations=1", "--set", "batch_size=2"]
    words = [
        "train",
        str(dataset.folder),
        "--out",
        str(tmp_path / "run"),
        "--device",
        "cpu",
        "--threads",
        "1",
        "--quiet",
    ]
    assert main([*words, "--init", "tiny", *settings, "--json"]) == 0
    assert "tiny@1.0.0" in (tmp_path / "run" / "bundle" / "docs" / "README.md").read_text(encoding="utf-8")
    assert json.loads(capsys.readouterr().out)["state"] == "finished"


def test_a_full_disk_names_the_file_that_the_user_knows(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left") as caught, replacing(tmp_path / "tree.json"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.filename == str(tmp_path / "tree.json")
    assert list(tmp_path.iterdir()) == []

    dataset = Dataset.create(tmp_path / "data", "data", ["MRI"], TREE)

    def refuse(path: Path) -> None:
        raise ImageError(f"{path}: the disk is full, nothing was written.")

    with pytest.raises(ImageError) as told:
        dataset.save_case("one", [refuse], None)
    assert told.value.sentence.startswith(str(dataset.folder / "images" / "one_MRI.nii.gz: the disk is full"))


@pytest.mark.skipif(not LINUX, reason="limits the size of files as Linux does")
def test_a_phantom_that_does_not_fit_leaves_nothing_and_names_no_temporary_file(tmp_path: Path) -> None:
    command = f"ulimit -f 4; exec {sys.executable} -m hierseg phantom brain --cases 1 --size 32 --out {tmp_path / 'p'}"
    done = subprocess.run(
        ["bash", "-c", command],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=120,
    )
    assert done.returncode == 2, done.stderr
    assert str(tmp_path / "p" / "images") in done.stderr
    assert ".tmp-" not in done.stderr
    assert ".staging" not in done.stderr
    assert list(tmp_path.iterdir()) == []
