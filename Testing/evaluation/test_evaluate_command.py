"""``hierseg evaluate`` on files and folders."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from engine.blobs import TREE, blob, coarsen, save
from hierseg.cli import main
from hierseg.dataset import Dataset
from hierseg.imageio import write_volume


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    dataset = Dataset.create(tmp_path / "data", "data", ["MRI"], TREE)
    predictions = tmp_path / "predictions"
    predictions.mkdir()
    for seed in range(2):
        image, label = blob(seed, 16)
        save(dataset, f"case{seed}", image, label if seed else coarsen(label))
        write_volume(predictions / f"case{seed}_labels.nii.gz", label, np.eye(4))
        write_volume(predictions / f"case{seed}_superclass.nii.gz", coarsen(label), np.eye(4))
    return predictions, dataset.folder


def test_a_folder_of_predictions_against_a_dataset(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(folders[0]), str(folders[1]), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["cases"]["case0"] == {"background": 1.0, "tumor": 1.0, "core": None, "edema": None}
    assert result["cases"]["case1"]["core"] == 1.0
    assert result["mean"]["edema"] == 1.0


def test_two_files_and_a_table(folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    predictions, data = folders
    files = [str(predictions / "case0_labels.nii.gz"), str(data / "labels" / "case0.nii.gz")]
    assert main(["evaluate", *files, "--tree", str(data / "label_tree.json")]) == 0
    shown = capsys.readouterr().out
    assert "tumor" in shown
    assert "not in the reference" in shown


def test_mistakes_are_told_in_a_sentence(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predictions, data = folders
    one = str(predictions / "case0_labels.nii.gz")
    shifted = tmp_path / "shifted.nii.gz"
    write_volume(shifted, np.zeros((16, 16, 16), np.uint8), np.diag([2.0, 1, 1, 1]))
    tree = ["--tree", str(data / "label_tree.json")]
    for arguments, expected in [
        ([one, one], "--tree"),
        ([str(tmp_path / "nothing"), one, *tree], "no such file"),
        ([one, str(shifted), *tree], "another grid"),
        ([str(shifted), str(data)], "none of the label maps"),
    ]:
        assert main(["evaluate", *arguments]) == 2
        assert expected in capsys.readouterr().err
