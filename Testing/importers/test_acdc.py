"""ACDC's folders as published."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from hierseg.cli import main
from hierseg.dataset import Dataset
from hierseg.errors import DatasetError
from hierseg.imageio import read_volume
from hierseg.importers.acdc import acdc_source, read_info
from hierseg.labeltree import LabelTree
from hierseg.resources import path as resource
from importers.published import AFFINE, NAME_IN_HEADER, acdc_patient, labels, picture, write_nifti


@pytest.fixture
def tree() -> LabelTree:
    return LabelTree.load(resource("label_trees", "acdc"))


@pytest.fixture
def acdc(tmp_path: Path) -> Path:
    """Patients of all three parts of the split, one without a place in it, in the published folders."""
    folder = tmp_path / "ACDC" / "database"
    acdc_patient(folder / "training", 99)
    acdc_patient(folder / "training", 38)
    acdc_patient(folder / "training", 90, frames=(11, 3))  # here the systole comes first, as in the data set itself
    acdc_patient(folder / "training", 28)
    acdc_patient(folder / "training", 1)
    acdc_patient(folder / "testing", 101, truth=False)
    (folder / "MANDATORY_CITATION.md").write_text("cite", encoding="utf-8")
    return tmp_path / "ACDC"


def test_arrays_affines_and_frames(acdc: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main(["import", "acdc", str(acdc), "--out", str(out)]) == 0
    dataset = Dataset.open(out)
    assert dataset.check() == []
    assert dataset.channels == ["MRI"]
    for number, frames in ((99, (1, 12)), (90, (11, 3))):
        for phase, frame in zip(("ED", "ES"), frames, strict=True):
            case = dataset.case(f"patient{number:03d}_{phase}")
            assert case.group == f"patient{number:03d}"
            image = read_volume(dataset.image_paths(case)[0])
            np.testing.assert_array_equal(image.array, picture(number, (6, 7, 4, 14))[..., frame - 1])
            np.testing.assert_array_equal(image.affine, AFFINE)
            stored = read_volume(out / str(case.label))
            np.testing.assert_array_equal(stored.array, labels((0, 1, 2, 3), number + frame))
            np.testing.assert_array_equal(stored.affine, AFFINE)


def test_the_split_of_ssl4mis(acdc: Path, tree: LabelTree) -> None:
    source = acdc_source(acdc, tree)
    assert {case.group: case.split for case in source.cases} == {
        "patient099": "training",
        "patient038": "training",
        "patient090": "training",
        "patient028": "validation",
        "patient001": "test",
    }
    # Its list's order: the paper's few labelled cases are the first ones.
    assert [case.group for case in source.cases[:4:2]] == ["patient099", "patient038"]
    assert "1 of them" in source.notes[0]


def test_the_whole_split_has_70_10_and_20_patients(tmp_path: Path, tree: LabelTree) -> None:
    for number in range(1, 101):
        patient = tmp_path / f"patient{number:03d}"
        patient.mkdir()
        (patient / "Info.cfg").write_text("ED: 1\nES: 2\n", encoding="utf-8")
        for frame in (1, 2):
            (patient / f"{patient.name}_frame{frame:02d}.nii.gz").touch()
            (patient / f"{patient.name}_frame{frame:02d}_gt.nii.gz").touch()
    source = acdc_source(tmp_path, tree)
    counts = {split: sum(case.split == split for case in source.cases) for split in ("training", "validation", "test")}
    assert counts == {"training": 140, "validation": 20, "test": 40}
    assert [case.group for case in source.cases[:6:2]] == ["patient099", "patient038", "patient050"]


def test_the_official_split_takes_all(acdc: Path, tree: LabelTree) -> None:
    source = acdc_source(acdc, tree, "official")
    splits = {case.group: case.split for case in source.cases}
    assert splits.pop("patient101") == "test"
    assert set(splits.values()) == {"training"}
    assert [case.label for case in source.cases if case.group == "patient101"] == [None, None]


def test_a_frame_may_be_in_the_series_alone(tmp_path: Path) -> None:
    patient = acdc_patient(tmp_path / "in", 99)
    (patient / "patient099_frame12.nii.gz").unlink()
    assert main(["import", "acdc", str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 0
    image = read_volume(tmp_path / "out/images/patient099_ES_MRI.nii.gz")
    np.testing.assert_array_equal(image.array, picture(99, (6, 7, 4, 14))[..., 11])


def test_nothing_of_the_patient_is_copied(acdc: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main(["import", "acdc", str(acdc), "--out", str(out), "--split", "official"]) == 0
    files = [path for path in out.rglob("*") if path.is_file()]
    assert len(files) > 20
    for path in files:
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == ".gz" else content
        for personal in (NAME_IN_HEADER, "184.5", "95.25", "MINF", "Height", str(tmp_path)):
            assert personal.encode() not in content, path


def test_a_bad_case_is_refused_by_name_and_the_others_are_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "in"
    for number in (99, 38, 50, 100, 58, 21):
        acdc_patient(folder, number)
    write_nifti(folder / "patient038/patient038_frame01_gt.nii.gz", labels((0, 1, 2, 9)))
    (folder / "patient050/Info.cfg").write_text("ED: 1\nGroup: NOR\n", encoding="utf-8")
    (folder / "patient100/patient100_frame12_gt.nii.gz").unlink()
    cut = folder / "patient058/patient058_frame01.nii.gz"
    cut.write_bytes(cut.read_bytes()[:-30])
    write_nifti(folder / "patient021/patient021_frame12_gt.nii.gz", labels((0, 1), shape=(6, 7, 5)))
    out = tmp_path / "out"
    assert main(["import", "acdc", str(folder), "--out", str(out)]) == 0
    report = json.loads((out / "import-report.json").read_text(encoding="utf-8"))
    refused = {row["name"]: row["reason"] for row in report["cases"] if row["status"] == "refused"}
    assert set(refused) == {"patient038_ED", "patient050", "patient100_ES", "patient058_ED", "patient021_ES"}
    assert "patient038_frame01_gt.nii.gz" in refused["patient038_ED"]
    assert "label value 9" in refused["patient038_ED"]
    assert "'ES' is ''" in refused["patient050"]
    assert "patient100_frame12_gt.nii.gz" in refused["patient100_ES"]
    assert "damaged" in refused["patient058_ED"]
    assert "6 × 7 × 5" in refused["patient021_ES"]
    assert report["counts"] == {"imported": 6, "kept": 0, "refused": 5}
    assert len(Dataset.open(out).cases()) == 6
    table = (out / "import-report.txt").read_text(encoding="utf-8")
    assert all(reason in table for reason in refused.values())
    assert "6 cases imported, 0 kept as they were, 5 refused" in capsys.readouterr().out


def test_another_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in" / "patient001").mkdir(parents=True)
    assert main(["import", "acdc", str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 2
    assert "this is not ACDC" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_nothing_imported_is_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    patient = acdc_patient(tmp_path / "in", 99)
    for path in patient.glob("*_gt.nii.gz"):
        path.unlink()
    assert main(["import", "acdc", str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 2
    printed = capsys.readouterr().out
    assert "refused patient099_ED" in printed
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", ["", "ED: 1\n", "ED: one\nES: 2\n", "ED: 0\nES: 2\n"])
def test_info_that_names_no_frames(tmp_path: Path, text: str) -> None:
    (tmp_path / "Info.cfg").write_text(text, encoding="utf-8")
    with pytest.raises(DatasetError, match=r"Info\.cfg"):
        read_info(tmp_path / "Info.cfg")


def test_a_folder_named_like_the_tree_is_no_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    acdc_patient(Path("acdc"), 99)
    assert main(["import", "acdc", "acdc", "--out", "out"]) == 0
    assert main(["import", "acdc", "acdc", "--out", "out", "--tree", "acdc"]) == 0
