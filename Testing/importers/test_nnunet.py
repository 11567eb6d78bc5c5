"""nnU-Net's raw data sets, the Decathlon's, and BraTS 2021's folders."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hierseg.cli import main
from hierseg.dataset import Dataset
from hierseg.errors import DatasetError, HiersegError, LabelTreeError
from hierseg.imageio import read_volume, write_volume
from hierseg.importers.decathlon import decathlon_source
from hierseg.importers.nnunet import nnunet_source
from hierseg.labeltree import LabelTree
from importers.published import AFFINE, brats_case, decathlon_task, labels, nnunet_dataset, picture, write_nifti

REGIONS = {
    "background": 0,
    "whole tumor": [1, 2, 3],
    "tumor core": [2, 3],
    "enhancing tumor": 3,
    "ignore": 4,
}


def report_of(out: Path) -> dict[str, dict[str, object]]:
    return {row["name"]: row for row in json.loads((out / "import-report.json").read_text(encoding="utf-8"))["cases"]}


def test_regions_become_inner_nodes_and_ignore_is_unlabelled(tmp_path: Path) -> None:
    folder = nnunet_dataset(tmp_path / "Dataset137_BraTS", ["a_1", "b_1"], REGIONS, (0, 1, 2, 3, 4))
    out = tmp_path / "out"
    assert main(["import", "nnunet", str(folder), "--out", str(out)]) == 0
    dataset = Dataset.open(out)
    tree = dataset.tree
    assert dataset.channels == ["T1", "FLAIR"]
    assert dataset.name == "Dataset137_BraTS"
    assert [node.path for node in tree.leaves] == [
        "background",
        "whole tumor/tumor core/enhancing tumor",
        "whole tumor/tumor core/tumor core (value 2)",
        "whole tumor/whole tumor (value 1)",
    ]
    given = labels((0, 1, 2, 3, 4), 1)
    stored = read_volume(out / "labels/b_1.nii.gz")
    np.testing.assert_array_equal(stored.array, np.where(given == 4, tree.unlabelled, given))
    np.testing.assert_array_equal(read_volume(out / "images/b_1_FLAIR.nii.gz").array, picture(101))
    np.testing.assert_array_equal(stored.affine, AFFINE)
    assert [(case.id, case.label) for case in dataset.cases("test")] == [("unseen", None)]


def test_fine_keeps_groups_together(tmp_path: Path) -> None:
    names = [f"p{patient}_t{time}" for patient in range(4) for time in range(3)]
    plain = {"background": 0, "organ": [1, 2], "left": 1, "right": 2}
    folder = nnunet_dataset(tmp_path / "Dataset001_X", names, plain, (0, 1, 2), regions_class_order=[1, 1, 2])
    out = tmp_path / "out"
    assert main(["import", "nnunet", str(folder), "--out", str(out), "--fine", "1", "--group", "^[^_]+"]) == 0
    fine = {case.group for case in Dataset.open(out).cases("training") if case.provenance["labels"] == "subclasses"}
    coarse = {case.group for case in Dataset.open(out).cases("training") if case.provenance["labels"] != "subclasses"}
    assert len(fine) == 1
    assert len(coarse) == 3
    top = Dataset.open(out).tree.node("organ").value
    for case in Dataset.open(out).cases("training"):
        values = set(np.unique(read_volume(out / str(case.label)).array).tolist())
        assert values == ({0, 1, 2} if case.group in fine else {0, top})


def test_what_is_wrong_is_refused_by_name(tmp_path: Path) -> None:
    plain = {"background": 0, "spleen": 1}
    folder = nnunet_dataset(tmp_path / "Dataset009_S", ["a", "b", "c", "d", "e"], plain, (0, 1))
    (folder / "imagesTr/b_0001.nii.gz").unlink()
    (folder / "labelsTr/c.nii.gz").unlink()
    write_nifti(folder / "labelsTr/d.nii.gz", labels((0, 1, 5)))
    write_nifti(folder / "imagesTr/e_0002.nii.gz", picture(1))
    write_nifti(folder / "labelsTr/f.nii.gz", labels((0, 1)))
    out = tmp_path / "out"
    assert main(["import", "nnunet", str(folder), "--out", str(out)]) == 0
    rows = report_of(out)
    reasons = {name: str(row["reason"]) for name, row in rows.items() if row["status"] == "refused"}
    assert set(reasons) == {"b", "c", "d", "e", "f"}
    assert "imagesTr/b_0001.nii.gz" in reasons["b"]
    assert "labelsTr/c.nii.gz" in reasons["c"]
    assert "labelsTr/d.nii.gz: label value 5" in reasons["d"]
    assert "channel 2" in reasons["e"]
    assert "no image" in reasons["f"]


def test_the_key_dataset_lists_files(tmp_path: Path) -> None:
    folder = nnunet_dataset(tmp_path / "Dataset001_X", ["a"], {"background": 0, "x": 1}, (0, 1), channels=["CT"])
    listed = {
        "far one": {"images": ["imagesTr/a_0000.nii.gz"], "label": "labelsTr/a.nii.gz"},
        "gone": {"images": ["imagesTr/z_0000.nii.gz"], "label": "labelsTr/a.nii.gz"},
        "short": {"images": [], "label": "labelsTr/a.nii.gz"},
    }
    content = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    (folder / "dataset.json").write_text(json.dumps({**content, "dataset": listed}), encoding="utf-8")
    assert main(["import", "nnunet", str(folder), "--out", str(tmp_path / "out")]) == 0
    rows = report_of(tmp_path / "out")
    assert {name: row["status"] for name, row in rows.items()} == {
        "far-one": "imported",
        "gone": "refused",
        "short": "refused",
    }


def test_a_tree_of_ones_own_is_matched_by_name_then_by_value(tmp_path: Path) -> None:
    nodes = [
        {"name": "background", "value": 0},
        {"name": "kidney", "value": 9},
        {"name": "cortex", "parent": "kidney", "value": 20, "aliases": ["renal cortex"]},
        {"name": "medulla", "parent": "kidney", "value": 21},
    ]
    tree = LabelTree.from_dict({"format_version": 1, "name": "kidneys", "unlabelled": 255, "nodes": nodes})
    tree.save(tmp_path / "tree.json")
    named = {"background": 0, "medulla": 1, "renal cortex": 2}
    folder = nnunet_dataset(tmp_path / "Dataset001_X", ["a"], named, (0, 1, 2))
    out = tmp_path / "out"
    assert main(["import", "nnunet", str(folder), "--out", str(out), "--tree", str(tmp_path / "tree.json")]) == 0
    given = labels((0, 1, 2))
    np.testing.assert_array_equal(read_volume(out / "labels/a.nii.gz").array, np.array([0, 21, 20])[given])
    other = {"background": 0, "x": 20, "y": 9}
    folder = nnunet_dataset(tmp_path / "Dataset002_X", ["a"], other, (0, 9, 20))
    source = nnunet_source(folder, tree)
    assert source.cases[0].label is not None
    assert set(np.unique(source.cases[0].label.read(tree).volume.array)) == {0, 9, 20}
    half = nnunet_dataset(tmp_path / "Dataset003_X", ["a"], {"background": 0, "cortex": 1, "x": 2}, (0, 1, 2))
    with pytest.raises(LabelTreeError, match="'x' is no node"):
        nnunet_source(half, tree)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"channel_names": None, "modality": {"0": "CT"}}, "hierseg import decathlon"),
        ({"channel_names": None}, "channel_names"),
        ({"labels": None}, "labels"),
        ({"labels": {"background": 0, "a": [1, 2], "b": [2, 3]}}, "overlap"),
        ({"labels": {"background": 0, "a": -1}}, "0 or more"),
        ({"file_ending": ".png"}, r"'\.png'"),
        ({"file_ending": ".nrrd"}, "no image"),
    ],
)
def test_a_wrong_dataset_json_is_one_sentence(tmp_path: Path, change: dict[str, object], said: str) -> None:
    folder = nnunet_dataset(tmp_path / "Dataset001_X", ["a"], {"background": 0, "x": 1}, (0, 1))
    content = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    (folder / "dataset.json").write_text(json.dumps({**content, **change}), encoding="utf-8")
    with pytest.raises(HiersegError, match=said):
        nnunet_source(folder)


def test_other_endings(tmp_path: Path) -> None:
    folder = nnunet_dataset(tmp_path / "D", ["a"], {"background": 0, "x": 1}, (0, 1), ["CT"], file_ending=".nrrd")
    write_volume(folder / "imagesTr/a_0000.nrrd", picture(3), AFFINE)
    write_volume(folder / "labelsTr/a.nrrd", labels((0, 1)), AFFINE)
    assert main(["import", "nnunet", str(folder), "--out", str(tmp_path / "out")]) == 0
    image = read_volume(tmp_path / "out/images/a_CT.nii.gz")
    np.testing.assert_array_equal(image.array, picture(3))
    np.testing.assert_allclose(image.affine, AFFINE)


def test_decathlon(tmp_path: Path) -> None:
    task = decathlon_task(tmp_path / "Task05_Prostate", ["prostate_00", "prostate_01"])
    out = tmp_path / "out"
    assert main(["import", "decathlon", str(task), "--out", str(out)]) == 0
    dataset = Dataset.open(out)
    assert dataset.name == "PROSTATE"
    assert dataset.channels == ["T2", "ADC"]
    assert [(node.name, node.value) for node in dataset.tree.nodes] == [("background", 0), ("PZ", 1), ("TZ", 2)]
    assert [case.id for case in dataset.cases("training")] == ["prostate_00", "prostate_01"]
    assert [(case.id, case.label) for case in dataset.cases("test")] == [("prostate_99", None)]
    given = picture(1, (6, 7, 4, 2))
    for channel, name in enumerate(("T2", "ADC")):
        image = read_volume(out / f"images/prostate_01_{name}.nii.gz")
        np.testing.assert_array_equal(image.array, given[..., channel])
        np.testing.assert_array_equal(image.affine, AFFINE)
    np.testing.assert_array_equal(read_volume(out / "labels/prostate_01.nii.gz").array, labels((0, 1, 2), 1))


def test_decathlon_with_a_wrong_number_of_channels(tmp_path: Path) -> None:
    task = decathlon_task(tmp_path / "Task05_Prostate", ["prostate_00", "prostate_01"])
    write_nifti(task / "imagesTr/prostate_00.nii.gz", picture(0, (6, 7, 4, 3)))
    assert main(["import", "decathlon", str(task), "--out", str(tmp_path / "out")]) == 0
    assert "3 channels" in str(report_of(tmp_path / "out")["prostate_00"]["reason"])


def test_a_datalist_of_monai_with_a_list_of_files(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    for channel in range(2):
        write_nifti(folder / f"x_{channel:04d}.nii.gz", picture(channel))
    write_nifti(folder / "x.nii.gz", labels((0, 1, 2)))
    row = {"image": ["x_0000.nii.gz", "x_0001.nii.gz"], "label": "x.nii.gz", "fold": 0, "group": "anna"}
    (folder / "list.json").write_text(
        json.dumps({"training": [], "validation": [row, {"label": "x.nii.gz"}]}), encoding="utf-8"
    )
    with pytest.raises(DatasetError, match="--tree"):
        decathlon_source(folder / "list.json")
    content = {"training": [], "validation": [row, {"label": "x.nii.gz"}], "modality": ["a", "b"]}
    (folder / "list.json").write_text(json.dumps(content), encoding="utf-8")
    tree = {
        "format_version": 1,
        "name": "t",
        "unlabelled": 255,
        "nodes": [{"name": str(v), "value": v} for v in range(3)],
    }
    (folder / "label_tree.json").write_text(json.dumps(tree), encoding="utf-8")
    out = tmp_path / "out"
    assert main(["import", "decathlon", str(folder / "list.json"), "--out", str(out)]) == 0
    (case,) = Dataset.open(out).cases()
    assert (case.id, case.split, case.group) == ("x", "validation", "anna")
    assert json.loads((out / "import-report.json").read_text(encoding="utf-8"))["counts"]["refused"] == 1


def test_a_dataset_folder_needs_no_import(tmp_path: Path) -> None:
    task = decathlon_task(tmp_path / "Task05_Prostate", ["prostate_00"])
    assert main(["import", "decathlon", str(task), "--out", str(tmp_path / "out")]) == 0
    with pytest.raises(DatasetError, match="already"):
        decathlon_source(tmp_path / "out")


def test_brats(tmp_path: Path) -> None:
    folder = tmp_path / "in" / "BraTS2021_Training_Data"
    for number in range(10):
        brats_case(folder, number)
    (brats_case(folder, 11) / "BraTS2021_00011_seg.nii.gz").unlink()
    (folder / "BraTS2021_00009/BraTS2021_00009_t1ce.nii.gz").unlink()
    brats_case(folder, 8, values=(0, 1, 2, 3))  # as later editions number the enhancing tumor
    out = tmp_path / "out"
    assert main(["import", "brats2021", str(tmp_path / "in"), "--out", str(out), "--seed", "2"]) == 0
    dataset = Dataset.open(out)
    assert dataset.channels == ["FLAIR", "T1", "T1ce", "T2"]
    assert len(dataset.cases()) == 8
    case = dataset.case("BraTS2021_00003")
    for index, path in enumerate(dataset.image_paths(case)):
        np.testing.assert_array_equal(read_volume(path).array, picture(30 + index))
    np.testing.assert_array_equal(read_volume(out / str(case.label)).array, labels((0, 1, 2, 4), 3))
    reasons = {name: str(row["reason"]) for name, row in report_of(out).items() if row["status"] == "refused"}
    assert set(reasons) == {"BraTS2021_00008", "BraTS2021_00009", "BraTS2021_00011"}
    assert "BraTS2021_00008_seg.nii.gz: label value 3" in reasons["BraTS2021_00008"]
    assert "BraTS2021_00009_t1ce.nii.gz is not there" in reasons["BraTS2021_00009"]
