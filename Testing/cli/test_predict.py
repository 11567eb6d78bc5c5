"""``hierseg predict``: what it writes, and what it says to wrong input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hierseg.bundle import import_bundle, write_bundle
from hierseg.cli import main
from hierseg.dataset import Dataset
from hierseg.imageio import read_volume, write_volume
from hierseg.labeltree import LabelTree
from hierseg.networks import HierarchicalSegmenter
from hierseg.networks.weights import save_weights
from standins.tiny_bundle import TREE, write_tiny_bundle

AFFINE = np.array([[-1.2, 0, 0, 10], [0, 1.2, 0, -20], [0, 0, 3, 5], [0, 0, 0, 1.0]])


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    write_tiny_bundle(folder, patch_size=[16, 16, 16], overlap=0.0)
    return folder


@pytest.fixture(scope="module")
def two_channels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tree = LabelTree.from_dict(TREE)
    torch.manual_seed(0)
    model = HierarchicalSegmenter(tree, 2, 3, width=4)
    config = {
        "network": {"name": "HierarchicalSegmenter", "arguments": model.arguments},
        "channels": [{"name": name, "normalization": {"type": "zscore"}} for name in ("FLAIR", "T1")],
        "orientation": "RAS",
        "spacing": None,
        "patch_size": [16, 16, 16],
        "spatial_dims": 3,
    }
    folder = tmp_path_factory.mktemp("models") / "two"
    write_bundle(
        folder,
        config=config,
        metadata={},
        tree=tree,
        write_weights=lambda path: save_weights(model.state_dict(), path),
        card="For tests.",
        license_text="Apache-2.0",
    )
    return folder


def image(path: Path, shape: tuple[int, ...] = (12, 10, 5), seed: int = 0) -> Path:
    write_volume(path, np.random.default_rng(seed).normal(100, 20, shape).astype(np.float32), AFFINE)
    return path


def test_writes_label_maps_on_the_cases_grid_and_a_report(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = image(tmp_path / "scan.nii.gz")
    assert main(["predict", str(bundle), str(source), "--out", str(tmp_path / "out"), "--confidence", "--json"]) == 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"scan_labels.nii.gz", "scan_superclass.nii.gz", "scan_confidence.nii.gz", "scan.json"}
    tree = LabelTree.load(bundle / "configs" / "label_tree.json")
    labels, top = (read_volume(tmp_path / "out" / f"scan_{kind}.nii.gz") for kind in ("labels", "superclass"))
    assert labels.array.shape == (12, 10, 5)
    assert labels.array.dtype == np.uint8
    np.testing.assert_allclose(labels.affine, read_volume(source).affine, atol=1e-6)
    np.testing.assert_array_equal(tree.top_value_table[labels.array], top.array)
    report = json.loads((tmp_path / "out" / "scan.json").read_text(encoding="utf-8"))
    assert report["bundle"] == "tiny@1.0.0"
    assert report["geometry"]["shape"] == [12, 10, 5]
    assert sum(report["volumes_ml"][node.name] for node in tree.top_level) == pytest.approx(
        12 * 10 * 5 * 1.2 * 1.2 * 3 / 1000, abs=1e-3
    )
    assert set(report["stages_s"]) == {"load", "preprocess", "network", "decode", "restore", "write"}
    assert json.loads(capsys.readouterr().out) == [report]


def test_how_the_network_is_run_and_what_is_left_out_can_be_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    coarse = {"factor": [2, 2, 2], "threshold": 0.3, "branch_threshold": None}
    write_tiny_bundle(tmp_path / "tiny", patch_size=[16, 16, 16], overlap=0.5, coarse_pass=coarse)
    source = image(tmp_path / "scan.nii.gz", (60, 50, 30))
    command = ["predict", str(tmp_path / "tiny"), str(source), "--out", str(tmp_path / "out"), "--json"]
    assert main([*command, "--exhaustive", "--backend", "channels_last"]) == 0
    (report,) = json.loads(capsys.readouterr().out)
    assert report["work"]["backend"] == "channels_last"
    assert report["work"]["computed"] == report["work"]["tiles"] > 8
    assert main([*command, "--backend", "channels_first"]) == 0
    (report,) = json.loads(capsys.readouterr().out)
    assert report["work"]["backend"] == "channels_first"
    assert report["work"]["computed"] != report["work"]["tiles"]
    assert main([*command, "--backend", "fast"]) == 2
    assert "the back-end is 'fast'" in capsys.readouterr().err


def test_several_cases_of_the_same_name_and_a_bad_one(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "p1").mkdir()
    (tmp_path / "p2").mkdir()
    first, second = image(tmp_path / "p1" / "t1.nrrd"), image(tmp_path / "p2" / "t1.nrrd", seed=1)
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(b"not an image")
    assert main(["predict", str(bundle), str(first), str(broken), str(second), "--out", str(tmp_path / "out")]) == 2
    captured = capsys.readouterr()
    assert str(broken) in captured.err
    assert "Traceback" not in captured.err
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"p1_t1_labels.nii.gz", "p2_t1_labels.nii.gz"} <= written
    assert not any("broken" in name for name in written)


def test_frames_give_4d_maps_and_it_is_said(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = image(tmp_path / "cine.nii.gz", (12, 10, 5, 2))
    assert main(["predict", str(bundle), str(source), "--out", str(tmp_path / "out")]) == 0
    assert read_volume(tmp_path / "out" / "cine_labels.nii.gz").array.shape == (12, 10, 5, 2)
    assert "2 frames" in capsys.readouterr().out


def test_channels_by_name_in_any_order(two_channels: Path, tmp_path: Path) -> None:
    flair, t1 = image(tmp_path / "f.nii.gz"), image(tmp_path / "t.nii.gz", seed=1)
    maps = []
    for number, case in enumerate((f"FLAIR={flair},T1={t1}", f"t1={t1},flair={flair}")):
        assert main(["predict", str(two_channels), case, "--out", str(tmp_path / str(number)), "--confidence"]) == 0
        maps.append(read_volume(tmp_path / str(number) / "f_confidence.nii.gz").array)
    np.testing.assert_array_equal(*maps)


def test_dataset_folder(bundle: Path, tmp_path: Path) -> None:
    tree = LabelTree.load(bundle / "configs" / "label_tree.json")
    dataset = Dataset.create(tmp_path / "data", "two scans", ["whatever"], tree)
    for name, split in (("a", "training"), ("b", "test")):
        dataset.save_case(name, [lambda path: image(path) and None], None, split=split)
    assert (
        main(
            [
                "predict",
                str(bundle),
                "--dataset",
                str(tmp_path / "data"),
                "--split",
                "test",
                "--out",
                str(tmp_path / "out"),
            ]
        )
        == 0
    )
    assert (tmp_path / "out" / "b_labels.nii.gz").exists()
    assert not (tmp_path / "out" / "a_labels.nii.gz").exists()


def test_bundle_by_its_name(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HIERSEG_HOME", str(tmp_path / "home"))
    import_bundle(bundle)
    source = image(tmp_path / "scan.mha")
    assert main(["predict", "tiny", str(source), "--out", str(tmp_path / "out")]) == 0
    assert main(["predict", "huge", str(source), "--out", str(tmp_path / "out")]) == 2
    assert "tiny@1.0.0" in capsys.readouterr().err


def bad(name: str, folder: Path) -> list[str]:
    """The arguments behind the bundle, for one kind of wrong input."""
    constant, nan = np.zeros((5, 5, 5), np.float32), np.full((5, 5, 5), np.nan, np.float32)
    good = image(folder / "good.nii.gz")
    if name in ("constant", "nan"):
        write_volume(folder / f"{name}.nii.gz", constant if name == "constant" else nan, np.eye(4))
    if name == "empty":
        (folder / "empty.nii.gz").write_bytes(b"")
    if name == "sheared":
        import nibabel as nib

        nib.save(
            nib.Nifti1Image(constant, np.array([[1, 0.5, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])),
            folder / "sheared.nii.gz",
        )
    return {
        "unknown channel": [f"T2={good}"],
        "channel twice": [f"MRI={good},MRI={good}"],
        "no case": [],
        "both": [str(good), "--dataset", str(folder)],
        "split": [str(good), "--split", "test"],
        "no dataset": ["--dataset", str(folder / "nowhere")],
        "device": [str(good), "--device", "toaster"],
        "threads": [str(good), "--threads", "0"],
    }.get(name, [str(folder / f"{name}.nii.gz")])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing", "missing.nii.gz"),
        ("empty", "empty.nii.gz: the file is empty"),
        ("constant", "constant.nii.gz: all voxels"),
        ("nan", "nan.nii.gz: 125 of 125 voxels are NaN"),
        ("sheared", "sheared.nii.gz"),
        ("unknown channel", "no channel 'T2'; its channels are MRI"),
        ("channel twice", "given twice"),
        ("no case", "cases or --dataset"),
        ("both", "cases or --dataset"),
        ("split", "--dataset"),
        ("no dataset", "nowhere"),
        ("device", "toaster"),
        ("threads", "--threads"),
    ],
)
def test_wrong_input_is_one_sentence_and_nothing_is_written(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, words: str
) -> None:
    arguments = bad(name, tmp_path)
    assert main(["predict", str(bundle), *arguments, "--out", str(tmp_path / "out")]) == 2
    captured = capsys.readouterr()
    assert words in captured.err
    assert "Traceback" not in captured.err
    assert not list((tmp_path / "out").glob("*")) if (tmp_path / "out").exists() else True


@pytest.mark.parametrize("case", ["{a}", "FLAIR={a}", "FLAIR={a},T2={a}", "FLAIR={a},b.nii"])
def test_wrong_channels_name_the_right_ones(
    two_channels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    source = image(tmp_path / "a.nii.gz")
    assert main(["predict", str(two_channels), case.format(a=source), "--out", str(tmp_path / "out")]) == 2
    assert "FLAIR=FILE,T1=FILE" in capsys.readouterr().err


def test_out_is_a_file(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = image(tmp_path / "a.nii.gz")
    assert main(["predict", str(bundle), str(source), "--out", str(source)]) == 2
    assert "not a folder" in capsys.readouterr().err


def test_interrupted_write_leaves_no_file(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import hierseg.imageio

    real, calls = hierseg.imageio.write_volume, []

    def second_is_interrupted(*arguments: Any, **keywords: Any) -> None:
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        real(*arguments, **keywords)

    monkeypatch.setattr(hierseg.imageio, "write_volume", second_is_interrupted)
    assert main(["predict", str(bundle), str(image(tmp_path / "a.nii.gz")), "--out", str(tmp_path / "out")]) == 130
    monkeypatch.undo()
    assert len(calls) == 2
    assert list((tmp_path / "out").iterdir()) == []
