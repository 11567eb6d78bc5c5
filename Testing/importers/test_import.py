"""What all imports have in common: fine cases, going on, and what is never overwritten."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hierseg.cli import main
from hierseg.dataset import Dataset
from hierseg.imageio import read_volume, write_volume
from hierseg.importers.source import case_id, distinct, drawn_split, grouping
from importers.published import AFFINE, acdc_patient, brats_case, labels, picture, write_nifti

PATIENTS = (99, 38, 50, 100, 58, 21)


@pytest.fixture
def acdc(tmp_path: Path) -> Path:
    for number in PATIENTS:
        acdc_patient(tmp_path / "in", number)
    return tmp_path / "in"


def fine_groups(folder: Path) -> set[str]:
    dataset = Dataset.open(folder)
    fine = set()
    for case in dataset.cases("training"):
        values = set(np.unique(read_volume(folder / str(case.label)).array).tolist())
        assert values in ({0, 1, 2, 3}, {0, 4})
        assert (values == {0, 1, 2, 3}) == (case.provenance["labels"] == "subclasses")
        if values == {0, 1, 2, 3}:
            fine.add(str(case.group))
    # Never across a patient: both frames are fine, or none.
    for case in dataset.cases("training"):
        assert (case.provenance["labels"] == "subclasses") == (case.group in fine)
    return fine


def run(acdc: Path, out: Path, *more: str) -> dict[str, object]:
    assert main(["import", "acdc", str(acdc), "--out", str(out), *more]) == 0
    return dict(json.loads((out / "import-report.json").read_text(encoding="utf-8")))


def test_fine_is_seeded_and_by_patient(acdc: Path, tmp_path: Path) -> None:
    run(acdc, tmp_path / "a", "--fine", "2", "--seed", "3")
    run(acdc, tmp_path / "b", "--fine", "2", "--seed", "3")
    assert len(fine_groups(tmp_path / "a")) == 2
    assert fine_groups(tmp_path / "a") == fine_groups(tmp_path / "b")
    run(acdc, tmp_path / "b", "--fine", "2", "--seed", "4")
    assert fine_groups(tmp_path / "a") != fine_groups(tmp_path / "b")


def test_fine_in_the_order_of_the_list(acdc: Path, tmp_path: Path) -> None:
    run(acdc, tmp_path / "out", "--fine", "2", "--fine-order", "listed")
    assert fine_groups(tmp_path / "out") == {"patient099", "patient038"}


def test_a_patient_that_cannot_be_read_does_not_count_as_fine(acdc: Path, tmp_path: Path) -> None:
    for path in (acdc / "patient099").glob("*_gt.nii.gz"):
        write_nifti(path, labels((0, 77)))
    run(acdc, tmp_path / "out", "--fine", "2", "--fine-order", "listed")
    assert fine_groups(tmp_path / "out") == {"patient038", "patient050"}


def test_validation_and_test_stay_fine(acdc: Path, tmp_path: Path) -> None:
    acdc_patient(acdc, 28)
    acdc_patient(acdc, 1)
    run(acdc, tmp_path / "out", "--fine", "0")
    dataset = Dataset.open(tmp_path / "out")
    assert {case.provenance["labels"] for case in dataset.cases("training")} == {"superclasses"}
    assert {case.provenance["labels"] for case in [*dataset.cases("validation"), *dataset.cases("test")]} == {
        "subclasses"
    }


def test_more_fine_than_there_are_is_said(acdc: Path, tmp_path: Path) -> None:
    report = run(acdc, tmp_path / "out", "--fine", "50")
    assert "6 of the training groups" in str(report["notes"])
    assert "50 were asked for" in str(report["notes"])


def test_a_second_run_keeps_what_is_unchanged(acdc: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(acdc, out)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.nii.gz")}
    write_nifti(acdc / "patient038/patient038_frame01_gt.nii.gz", labels((0, 1, 2, 3), seed=77, shape=(6, 7, 4)))
    (out / "images/patient050_ES_MRI.nii.gz").unlink()
    report = run(acdc, out)
    assert report["counts"] == {"imported": 2, "kept": 10, "refused": 0}
    changed = {path.name for path, when in before.items() if path.stat().st_mtime_ns != when}
    assert {name for name in changed if "038" in name} == {"patient038_ED_MRI.nii.gz", "patient038_ED.nii.gz"}
    assert all("038_ED" in name or "050_ES" in name for name in changed)
    stored = read_volume(out / "labels/patient038_ED.nii.gz").array
    np.testing.assert_array_equal(stored, labels((0, 1, 2, 3), seed=77))


def test_another_choice_of_fine_cases_changes_only_those(acdc: Path, tmp_path: Path) -> None:
    run(acdc, tmp_path / "out", "--fine", "1", "--fine-order", "listed")
    report = run(acdc, tmp_path / "out", "--fine", "2", "--fine-order", "listed")
    assert report["counts"] == {"imported": 2, "kept": 10, "refused": 0}
    assert fine_groups(tmp_path / "out") == {"patient099", "patient038"}


def test_a_case_that_was_annotated_since_is_never_overwritten(acdc: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(acdc, out, "--fine", "0")
    dataset = Dataset.open(out)
    mine = np.full((6, 7, 4), 2, np.uint8)
    dataset.save_case(
        "patient038_ED",
        [None],
        lambda path: write_volume(path, mine, AFFINE),
        group="patient038",
        provenance={"tool": "HierSubclassSeg 0.1.0"},
    )
    report = run(acdc, out)
    rows = {row["name"]: row for row in report["cases"]}  # type: ignore[attr-defined]
    assert rows["patient038_ED"]["status"] == "kept"
    assert "annotated" in rows["patient038_ED"]["notes"][0]
    np.testing.assert_array_equal(read_volume(out / "labels/patient038_ED.nii.gz").array, mine)


def test_cases_from_elsewhere_are_kept_and_told(acdc: Path, tmp_path: Path) -> None:
    run(acdc, tmp_path / "out")
    (acdc / "patient099").rename(tmp_path / "patient099")
    report = run(acdc, tmp_path / "out")
    assert report["counts"] == {"imported": 0, "kept": 10, "refused": 0}
    assert "patient099_ED, patient099_ES" in str(report["notes"])
    assert len(Dataset.open(tmp_path / "out").cases()) == 12


def test_another_data_set_in_the_folder_is_refused(
    acdc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    brats_case(tmp_path / "brats", 1)
    run(acdc, tmp_path / "out")
    assert main(["import", "brats2021", str(tmp_path / "brats"), "--out", str(tmp_path / "out")]) == 2
    assert "FLAIR, T1, T1ce, T2" in capsys.readouterr().err
    assert main(["import", "acdc", str(acdc), "--out", str(acdc)]) == 2


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is of Unix")
def test_killed_in_the_middle_then_run_again(tmp_path: Path) -> None:
    number = 24
    for index in range(number):
        brats_case(tmp_path / "in", index)
    out = tmp_path / "out"
    command = [sys.executable, "-m", "hierseg", "import", "brats2021", str(tmp_path / "in"), "--out", str(out)]
    # A process of its own starts from this checkout, as this one does.
    paths = os.pathsep.join([str(Path(__file__).parents[2] / "training"), os.environ.get("PYTHONPATH", "")])
    started = subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": paths}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while started.poll() is None and len(list(out.glob("labels/*.nii.gz"))) < 3:
        time.sleep(0.005)
    started.send_signal(signal.SIGKILL)
    assert started.wait() == -signal.SIGKILL, "it ended before it could be killed"
    dataset = Dataset.open(out)
    assert dataset.check() == []
    done = len(dataset.cases())
    assert 2 <= done < number
    assert main(["import", "brats2021", str(tmp_path / "in"), "--out", str(out)]) == 0
    report = json.loads((out / "import-report.json").read_text(encoding="utf-8"))
    assert report["counts"] == {"imported": number - done, "kept": done, "refused": 0}
    assert Dataset.open(out).check() == []
    assert not (out / ".staging").exists()


def test_other_grids_are_refused_or_brought(tmp_path: Path) -> None:
    case = brats_case(tmp_path / "in", 1)
    brats_case(tmp_path / "in", 2)
    moved = AFFINE.copy()
    moved[0, 3] += 0.75  # half a voxel
    write_nifti(case / f"{case.name}_t2.nii.gz", picture(13), moved)
    out = tmp_path / "out"
    assert main(["import", "brats2021", str(tmp_path / "in"), "--out", str(out)]) == 0
    report = json.loads((out / "import-report.json").read_text(encoding="utf-8"))
    refused = next(row for row in report["cases"] if row["status"] == "refused")
    assert "BraTS2021_00001_t2.nii.gz: lies up to 0.75 mm away" in refused["reason"]
    assert main(["import", "brats2021", str(tmp_path / "in"), "--out", str(out), "--resample"]) == 0
    dataset = Dataset.open(out)
    image = read_volume(dataset.image_paths(dataset.case("BraTS2021_00001"))[3])
    np.testing.assert_array_equal(image.affine, AFFINE)
    # x runs to the left: the moved image's voxels lie half a voxel further right.
    given = picture(13).astype(np.float32)
    np.testing.assert_allclose(image.array[:-1], (given[:-1] + given[1:]) / 2, rtol=1e-4)


def test_json_is_the_report(acdc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", "acdc", str(acdc), "--out", str(tmp_path / "o"), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / "o/import-report.json").read_text(encoding="utf-8"))
    assert printed["counts"]["imported"] == 12


@given(st.text(min_size=1))
def test_any_name_becomes_an_id(name: str) -> None:
    new = case_id(name)
    assert new
    assert all(letter.isascii() and (letter.isalnum() or letter in "_-") for letter in new)
    assert case_id(new) == new or new.strip("-") != new


@given(st.sets(st.text(min_size=1), min_size=1, max_size=60), st.integers(0, 5))
def test_a_drawn_split_depends_on_the_set_alone(names: set[str], seed: int) -> None:
    ordered = sorted(names)
    split = drawn_split(ordered, (0.7, 0.1), seed)
    assert split == drawn_split(ordered[::-1], (0.7, 0.1), seed)
    assert set(split) == names
    assert sum(part == "training" for part in split.values()) == round(0.7 * len(names))


def test_the_paper_s_numbers_of_brats() -> None:
    from hierseg.importers.brats import PAPER_SHARES

    split = list(drawn_split([f"{index:05d}" for index in range(1251)], PAPER_SHARES, 0).values())
    assert [split.count(part) for part in ("training", "validation", "test")] == [876, 125, 250]


def test_names_and_groups() -> None:
    assert distinct(["CT", "ct", "CT"]) == ("CT", "ct 2", "CT 3")
    assert grouping(None)("a_1") is None
    assert grouping(r"^[^_]+")("a_1") == "a"
    assert grouping(r"_(\d+)$")("a_1") == "1"
    assert grouping(r"\d+")("none") is None
