"""What a model never learned: is it noticed, and does it stay out of the other scores?"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from engine.blobs import TREE, blob, save
from hierseg.cli import main
from hierseg.dataset import Dataset
from hierseg.evaluation.out_of_distribution import Notice, unknown_voxels
from hierseg.imageio import write_volume


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Four cases: two as they should be, one without the unknown structure, one without a confidence map.

    The model calls edema core; it is unsure of a part of it, and leaves that part unlabelled.
    """
    dataset = Dataset.create(tmp_path / "data", "data", ["MRI"], TREE)
    for seed in range(4):
        image, label = blob(seed, 16)
        if seed == 2:
            label = np.where(label == 2, 0, label).astype(np.uint8)
        save(dataset, f"case{seed}", image, label)
        found = np.where(label == 2, 1, label).astype(np.uint8)
        confidence = np.full(label.shape, 0.9, np.float32)
        doubted = (label == 2) & (np.indices(label.shape).sum(axis=0) % 2 == 0)
        confidence[doubted], found[doubted] = 0.4, 255
        write_volume(tmp_path / "found" / f"case{seed}_labels.nii.gz", found, np.eye(4))
        if seed != 3:
            write_volume(tmp_path / "found" / f"case{seed}_confidence.nii.gz", confidence, np.eye(4))
    return tmp_path / "found", dataset.folder


def test_a_structure_that_was_never_learned(folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    out = folders[0].parent / "scores"
    assert main(["evaluate", *map(str, folders), "--unknown", "edema", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    content = json.loads((out / "scores.json").read_text())
    found = content["out_of_distribution"]
    cases = found["cases"]
    assert [cases[f"case{seed}"]["state"] for seed in range(4)] == [
        "measured",
        "measured",
        "no unknown voxel",
        "no confidence map",
    ]
    label = blob(0, 16)[1]
    passed = ((label == 2) & (np.indices(label.shape).sum(axis=0) % 2 == 1)).sum() / (label == 2).sum()
    # Every known voxel is as sure as the unknown ones that pass: these count half.
    assert cases["case0"]["auroc"] == pytest.approx(1 - passed / 2)
    assert cases["case0"]["fpr95"] == pytest.approx(passed)
    assert cases["case0"]["unknown_accepted"] == pytest.approx(passed)
    assert cases["case0"]["known_accepted"] == 1.0
    assert (cases["case0"]["known"], cases["case0"]["unknown"]) == ((label != 2).sum(), (label == 2).sum())
    assert (cases["case2"]["auroc"], cases["case2"]["unknown_accepted"]) == (None, None)
    assert cases["case3"]["auroc"] is None
    assert found["auroc"]["number"] == 2
    assert found["auroc"]["mean"] == pytest.approx((cases["case0"]["auroc"] + cases["case1"]["auroc"]) / 2)
    for sentence in ("Out of distribution (edema)", "Not measured in 1 of 4 cases: no confidence map."):
        assert sentence in said
        assert sentence in (out / "scores.md").read_text(encoding="utf-8")
        assert sentence in (out / "report.html").read_text(encoding="utf-8")
    # Otherwise the unknown voxels are as good as unlabelled: all else is right.
    assert content["nodes"]["core"]["dice"]["mean"] == 1.0
    assert content["nodes"]["edema"]["dice"] is None
    assert content["wrong"]["mean"] == 0.0


def test_the_numbers_are_printed_as_json(folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", *map(str, folders), "--unknown", "edema", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["out_of_distribution"]["unknown"] == ["edema"]
    assert main(["evaluate", *map(str, folders), "--json"]) == 0
    assert "out_of_distribution" not in json.loads(capsys.readouterr().out)


def test_unlabelled_may_be_what_is_unknown() -> None:
    reference = np.array([0, 1, 2, 5, 255], np.uint8)
    assert unknown_voxels(reference, TREE, ["unlabelled"]).tolist() == [False, False, False, False, True]
    assert unknown_voxels(reference, TREE, ["tumor"]).tolist() == [False, True, True, True, False]
    assert unknown_voxels(reference, TREE, ["core", "unlabelled"]).tolist() == [False, True, False, False, True]


def test_one_threshold_for_all_cases() -> None:
    """Each case by itself is told apart perfectly; one threshold cannot serve both."""
    notice = Notice(["x"])
    hidden = np.array([False, True])
    for case, scores in (("sure", [0.9, 0.7]), ("unsure", [0.6, 0.4])):
        notice.add(case, ~hidden, hidden, np.ones(2, bool), np.array(scores))
    mean = notice.summary("auroc")
    assert mean is not None
    assert mean.mean == 1.0
    assert notice.together().auroc == pytest.approx(3 / 4)
    assert notice.together().fpr95 == pytest.approx(1 / 2)


def test_mistakes(folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", *map(str, folders), "--unknown", "nobody"]) == 2
    assert "nobody" in capsys.readouterr().err
    write_volume(folders[0] / "case1_confidence.nii.gz", np.ones((4, 4, 4), np.float32) * 0.5, np.eye(4))
    assert main(["evaluate", *map(str, folders), "--unknown", "edema"]) == 2
    assert "another grid" in capsys.readouterr().err
    for path in folders[0].glob("*_confidence.nii.gz"):
        path.unlink()
    assert main(["evaluate", *map(str, folders), "--unknown", "edema"]) == 2
    assert "--confidence" in capsys.readouterr().err
