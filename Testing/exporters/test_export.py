"""Dataset folders in other programs' formats, and back."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from monai.data import load_decathlon_datalist

from hierseg.cli import main
from hierseg.dataset import Dataset
from hierseg.imageio import read_volume, write_volume
from hierseg.labeltree import LabelTree
from importers.published import AFFINE, SHAPE, acdc_patient, decathlon_task, labels, nnunet_dataset, picture

TREE = LabelTree.from_dict(
    {
        "format_version": 1,
        "name": "glioma",
        "unlabelled": 255,
        "nodes": [
            {"name": "background", "value": 0},
            {"name": "tumor", "value": 5, "color": [255, 200, 0]},
            {"name": "core", "parent": "tumor", "value": 9},
            {"name": "necrosis", "parent": "core", "value": 1},
            {"name": "enhancing", "parent": "core", "value": 4},
            {"name": "edema", "parent": "tumor", "value": 2},
            {"name": "skull", "value": 20},
            {"name": "bone", "parent": "skull", "value": 21},
        ],
    }
)
ALL = (0, 1, 2, 4, 5, 9, 20, 21, 255)
LEAVES = (0, 1, 2, 4, 21)


def dataset_at(folder: Path, values: tuple[int, ...] = ALL, channels: tuple[str, ...] = ("FLAIR", "T1ce")) -> Dataset:
    """Two patients with two training cases each, one case for validation, two for the test of which one has no label."""
    dataset = Dataset.create(folder, "Glioma, ours", list(channels), TREE)
    rows = [
        ("a_1", "training", "a"),
        ("a_2", "training", "a"),
        ("b_1", "training", "b"),
        ("b_2", "training", "b"),
        ("c", "validation", None),
        ("d", "test", None),
        ("e", "test", None),
    ]
    for index, (name, split, group) in enumerate(rows):
        images = [picture(10 * index + channel) for channel in range(len(channels))]
        label = labels(values, index)
        dataset.save_case(
            name,
            [lambda path, image=image: write_volume(path, image, AFFINE) for image in images],
            None if name == "e" else lambda path, label=label: write_volume(path, label, AFFINE),
            split=split,
            group=group,
            provenance={"tool": "HierSubclassSeg 0.1.0", "user": "R. Roe"},
            slices_complete=[{"axis": 2, "indices": [1], "node": None}] if name == "c" else [],
        )
    return dataset


def test_nnunet_regions_ignore_and_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset_at(tmp_path / "data")
    out = tmp_path / "Dataset137_Glioma"
    assert main(["export", "nnunet", str(tmp_path / "data"), "--out", str(out)]) == 0
    content = json.loads((out / "dataset.json").read_text(encoding="utf-8"))
    assert content["channel_names"] == {"0": "FLAIR", "1": "T1ce"}
    # The order is what nnU-Net goes by; a region of a single structure is the structure.
    assert list(content["labels"].items()) == [
        ("background", 0),
        ("tumor", [1, 3, 2]),
        ("bone", 4),
        ("core", [1, 3]),
        ("edema", 2),
        ("necrosis", 1),
        ("enhancing", 3),
        ("ignore", 5),
    ]
    assert len(content["regions_class_order"]) == 6
    assert content["numTraining"] == 5
    numbers = {0: 0, 1: 1, 2: 2, 4: 3, 21: 4, 5: 5, 9: 5, 20: 5, 255: 5}
    given = labels(ALL, 1)
    written = nib.load(out / "labelsTr/a_2.nii.gz")
    np.testing.assert_array_equal(np.asarray(written.dataobj), np.vectorize(numbers.get)(given))
    np.testing.assert_array_equal(written.affine, AFFINE)
    np.testing.assert_array_equal(np.asarray(nib.load(out / "imagesTr/a_2_0001.nii.gz").dataobj), picture(11))
    assert sorted(path.name for path in (out / "imagesTs").iterdir()) == [
        "d_0000.nii.gz", "d_0001.nii.gz", "e_0000.nii.gz", "e_0001.nii.gz",
    ]  # fmt: skip
    assert [path.name for path in (out / "labelsTs").iterdir()] == ["d.nii.gz"]
    assert json.loads((out / "splits_final.json").read_text(encoding="utf-8")) == [
        {"train": ["a_1", "a_2", "b_1", "b_2"], "val": ["c"]}
    ]
    lost = (out / "what-was-lost.md").read_text(encoding="utf-8")
    coarse = sum(int(np.isin(labels(ALL, index), (5, 9, 20)).sum()) for index in range(6))
    assert f"{coarse:,} voxels of 6 cases are known by an inner node" in lost
    printed = capsys.readouterr().out
    for said in ("Sparse annotation", "Complete slices", "Label tree", "4 → 3", "Groups", "Provenance"):
        assert said in lost
        assert said in printed


def test_labels_keep_to_nnunet_s_rules(tmp_path: Path) -> None:
    """Those of its LabelManager: background 0, ignore one above all, one entry of the order a region."""
    dataset_at(tmp_path / "data")
    for flat in ([], ["--flat"]):
        out = tmp_path / f"Dataset00{len(flat) + 1}_X"
        assert main(["export", "nnunet", str(tmp_path / "data"), "--out", str(out), *flat]) == 0
        content = json.loads((out / "dataset.json").read_text(encoding="utf-8"))
        named = {name: value for name, value in content["labels"].items() if name != "ignore"}
        every = sorted({v for value in named.values() for v in (value if isinstance(value, list) else [value])})
        assert content["labels"]["background"] == 0
        assert every == list(range(len(every)))
        assert content["labels"]["ignore"] == every[-1] + 1
        assert ("regions_class_order" in content) == (not flat)
        if not flat:
            assert len(content["regions_class_order"]) == len(named) - 1
            _regions_give_back_the_labels(named, content["regions_class_order"])


def _regions_give_back_the_labels(named: dict[str, Any], order: list[int]) -> None:
    """Perfect region predictions, painted in nnU-Net's order, are the label map again."""
    regions = [value if isinstance(value, list) else [value] for value in named.values() if value != 0]
    truth = np.arange(max(order) + 1)
    painted = np.zeros_like(truth)
    for region, label in zip(regions, order, strict=True):
        painted[np.isin(truth, region)] = label
    np.testing.assert_array_equal(painted, truth)


@pytest.mark.parametrize("fully", [True, False])
def test_there_and_back_through_nnunet(tmp_path: Path, fully: bool) -> None:
    values = LEAVES if fully else ALL
    dataset = dataset_at(tmp_path / "data", values)
    assert main(["export", "nnunet", str(tmp_path / "data"), "--out", str(tmp_path / "Dataset001_X")]) == 0
    assert main(["import", "nnunet", str(tmp_path / "Dataset001_X"), "--out", str(tmp_path / "back")]) == 0
    again = Dataset.open(tmp_path / "back")
    assert again.tree == TREE  # by way of label_tree.json beside
    for case in dataset.cases():
        found = again.case(case.id)
        for one, other in zip(dataset.image_paths(case), again.image_paths(found), strict=True):
            np.testing.assert_array_equal(read_volume(one).array, read_volume(other).array)
            np.testing.assert_array_equal(read_volume(one).affine, read_volume(other).affine)
        if case.label:
            before = read_volume(tmp_path / "data" / case.label).array
            expected = np.where(np.isin(before, LEAVES), before, 255)
            np.testing.assert_array_equal(read_volume(tmp_path / "back" / str(found.label)).array, expected)
    text = (tmp_path / "Dataset001_X/what-was-lost.md").read_text(encoding="utf-8")
    assert ("Superclass labels" in text) == (not fully)
    assert ("ignore" in json.loads((tmp_path / "Dataset001_X/dataset.json").read_text(encoding="utf-8"))["labels"]) == (
        not fully
    )


@pytest.mark.parametrize(
    ("names", "values"),
    [
        ({"background": 0, "spleen": 1, "liver": 2}, (0, 1, 2)),
        (
            {"background": 0, "whole": [1, 2, 3], "inner": [2, 3], "core": 3, "rim": 2, "edge": 1, "ignore": 4},
            (0, 1, 2, 3, 4),
        ),
    ],
    ids=["labels", "regions"],
)
def test_nnunet_in_and_out_is_the_same_data_set(tmp_path: Path, names: dict[str, Any], values: tuple[int, ...]) -> None:
    given = nnunet_dataset(tmp_path / "Dataset005_In", ["p_1", "q_1"], names, values)
    assert main(["import", "nnunet", str(given), "--out", str(tmp_path / "data")]) == 0
    out = tmp_path / "Dataset005_Out"
    assert main(["export", "nnunet", str(tmp_path / "data"), "--out", str(out)]) == 0
    files = sorted(path.relative_to(given).as_posix() for path in given.rglob("*.nii.gz"))
    assert files == sorted(path.relative_to(out).as_posix() for path in out.rglob("*.nii.gz"))
    for name in files:
        one, other = nib.load(given / name), nib.load(out / name)
        np.testing.assert_array_equal(np.asarray(one.dataobj), np.asarray(other.dataobj))
        np.testing.assert_array_equal(one.affine, other.affine)
    before, after = (json.loads((folder / "dataset.json").read_text(encoding="utf-8")) for folder in (given, out))

    def plain(content: dict[str, Any]) -> dict[str, Any]:
        return {name: sorted(value) if isinstance(value, list) else value for name, value in content["labels"].items()}

    assert plain(after) == plain(before)
    assert after["channel_names"] == before["channel_names"]


def test_folds_keep_patients_together(tmp_path: Path) -> None:
    for number in (99, 38, 50, 100, 58, 21):
        acdc_patient(tmp_path / "in", number)
    assert main(["import", "acdc", str(tmp_path / "in"), "--out", str(tmp_path / "data")]) == 0
    out = tmp_path / "Dataset027_ACDC"
    assert main(["export", "nnunet", str(tmp_path / "data"), "--out", str(out)]) == 0
    folds = json.loads((out / "splits_final.json").read_text(encoding="utf-8"))
    assert len(folds) == 5
    held = [name for fold in folds for name in fold["val"]]
    assert len(held) == len(set(held)) == 12
    for fold in folds:
        assert not {name[:10] for name in fold["train"]} & {name[:10] for name in fold["val"]}
        assert set(fold["train"]) | set(fold["val"]) == set(held)


def test_nnunet_refuses_names_it_reads_otherwise(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset_at(tmp_path / "data")
    assert main(["export", "nnunet", str(tmp_path / "data"), "--out", str(tmp_path / "glioma")]) == 2
    assert "Dataset137_Name" in capsys.readouterr().err
    tree = {"format_version": 1, "name": "t", "unlabelled": 255, "nodes": [{"name": "ignore", "value": 1}]}
    Dataset.create(tmp_path / "other", "o", ["T1"], LabelTree.from_dict(tree))
    assert main(["export", "nnunet", str(tmp_path / "other"), "--out", str(tmp_path / "Dataset001_X")]) == 2
    assert "'ignore'" in capsys.readouterr().err


def test_decathlon_there_and_back(tmp_path: Path) -> None:
    dataset = dataset_at(tmp_path / "data")
    out = tmp_path / "Task01_Glioma"
    assert main(["export", "decathlon", str(tmp_path / "data"), "--out", str(out)]) == 0
    content = json.loads((out / "dataset.json").read_text(encoding="utf-8"))
    assert content["modality"] == {"0": "FLAIR", "1": "T1ce"}
    assert content["labels"]["5"] == "tumor"
    assert content["labels"]["255"] == "unlabelled"
    assert content["tensorImageSize"] == "4D"
    # MONAI reads it, and every file that it names is there.
    for split, number in (("training", 4), ("validation", 1), ("test", 2)):
        rows = load_decathlon_datalist(str(out / "dataset.json"), is_segmentation=True, data_list_key=split)
        assert len(rows) == number
        assert all(Path(row["image"]).is_file() for row in rows)
    lost = (out / "what-was-lost.md").read_text(encoding="utf-8")
    for said in ("Label tree", "Superclass labels", "Sparse annotation", "Complete slices", "Groups", "gaps"):
        assert said in lost
    assert main(["import", "decathlon", str(out), "--out", str(tmp_path / "back")]) == 0
    again = Dataset.open(tmp_path / "back")
    assert again.tree == TREE
    for case in dataset.cases():
        found = again.case(case.id)
        assert (found.split, found.group) == (case.split, case.group)
        for one, other in zip(
            [*dataset.image_paths(case), dataset.label_path(case)],
            [*again.image_paths(found), again.label_path(found)],
            strict=True,
        ):
            if one is not None and other is not None:
                np.testing.assert_array_equal(read_volume(one).array, read_volume(other).array)
                np.testing.assert_array_equal(read_volume(one).affine, read_volume(other).affine)


def test_a_decathlon_task_in_and_out_is_the_same(tmp_path: Path) -> None:
    task = decathlon_task(tmp_path / "Task05_Prostate", ["prostate_00", "prostate_01"])
    assert main(["import", "decathlon", str(task), "--out", str(tmp_path / "data")]) == 0
    out = tmp_path / "out"
    assert main(["export", "decathlon", str(tmp_path / "data"), "--out", str(out)]) == 0
    before, after = (json.loads((folder / "dataset.json").read_text(encoding="utf-8")) for folder in (task, out))
    for key in ("name", "modality", "labels", "numTraining", "numTest", "training", "test", "tensorImageSize"):
        assert after[key] == before[key], key
    for name in ("imagesTr/prostate_01.nii.gz", "labelsTr/prostate_01.nii.gz", "imagesTs/prostate_99.nii.gz"):
        one, other = nib.load(task / name), nib.load(out / name)
        np.testing.assert_array_equal(np.asarray(one.dataobj), np.asarray(other.dataobj))
        np.testing.assert_array_equal(one.affine, other.affine)


def test_bids(tmp_path: Path) -> None:
    dataset = dataset_at(tmp_path / "data")
    out = tmp_path / "bids"
    assert main(["export", "bids", str(tmp_path / "data"), "--out", str(out)]) == 0
    derived = out / "derivatives/hierseg"
    names = sorted(path.relative_to(out).as_posix() for path in out.rglob("*.nii.gz"))
    assert "sub-a/anat/sub-a_run-01_FLAIR.nii.gz" in names
    assert "sub-a/anat/sub-a_ce-gadolinium_run-02_T1w.nii.gz" in names
    assert "sub-c/anat/sub-c_FLAIR.nii.gz" in names
    assert "derivatives/hierseg/sub-b/anat/sub-b_run-02_dseg.nii.gz" in names
    assert len(names) == 7 * 2 + 6
    assert json.loads((out / "dataset_description.json").read_text(encoding="utf-8"))["DatasetType"] == "raw"
    assert json.loads((derived / "dataset_description.json").read_text(encoding="utf-8"))["DatasetType"] == "derivative"
    with open(derived / "dseg.tsv", encoding="utf-8", newline="") as file:
        rows = {row["index"]: row for row in csv.DictReader(file, delimiter="\t")}
    assert rows["1"] == {"index": "1", "name": "necrosis", "color": "n/a", "parent": "core"}
    assert rows["5"]["color"] == "#ffc800"
    assert set(rows) == {str(value) for value in ALL}
    assert (out / "participants.tsv").read_text(encoding="utf-8").split() == [
        "participant_id",
        *(f"sub-{x}" for x in "abcde"),
    ]
    np.testing.assert_array_equal(
        np.asarray(nib.load(derived / "sub-b/anat/sub-b_run-02_dseg.nii.gz").dataobj), labels(ALL, 3)
    )
    about = json.loads((derived / "sub-c/anat/sub-c_dseg.json").read_text(encoding="utf-8"))
    assert about["HierSubclassSeg"]["slices_complete"] == [{"axis": 2, "indices": [1], "node": None}]
    assert about["HierSubclassSeg"]["id"] == "c"
    for source in about["Sources"]:
        assert (out / source.removeprefix("bids:raw:")).is_file()
    assert LabelTree.load(derived / "label_tree.json") == dataset.tree
    assert "runs" in (out / "what-was-lost.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "no name for the channel 'CT'"),
        (["--suffix", "CT=ct"], "--suffix CT=ct"),
        (["--suffix", "PET=T1w"], "'PET'"),
        (["--suffix", "CT"], "CHANNEL=SUFFIX"),
        (["--suffix", "CT=T1w"], "the same name"),
    ],
)
def test_bids_names_of_channels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], given: list[str], said: str
) -> None:
    dataset_at(tmp_path / "data", channels=("CT", "T1"))
    command = ["export", "bids", str(tmp_path / "data"), "--out", str(tmp_path / "bids")]
    assert main([*command, *given]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "bids").exists()


def test_a_channel_may_be_left_out_of_bids(tmp_path: Path) -> None:
    dataset_at(tmp_path / "data", channels=("CT", "T1"))
    out = tmp_path / "bids"
    assert main(["export", "bids", str(tmp_path / "data"), "--out", str(out), "--suffix", "CT="]) == 0
    assert not list(out.rglob("*CT*"))
    assert "BIDS has no name for CT" in (out / "what-was-lost.md").read_text(encoding="utf-8")


def test_a_bad_case_is_left_out_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset_at(tmp_path / "data")
    write_volume(tmp_path / "data/labels/b_1.nii.gz", np.full(SHAPE, 77, np.uint8), AFFINE)
    (tmp_path / "data/images/a_1_FLAIR.nii.gz").unlink()
    out = tmp_path / "out"
    assert main(["export", "decathlon", str(tmp_path / "data"), "--out", str(out), "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert set(made["refused"]) == {"a_1", "b_1"}
    assert "label value 77" in made["refused"]["b_1"]
    assert "- a_1: " in (out / "what-was-lost.md").read_text(encoding="utf-8")


def test_nothing_half_written_is_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset_at(tmp_path / "data")
    for path in (tmp_path / "data/images").iterdir():
        path.unlink()
    assert main(["export", "decathlon", str(tmp_path / "data"), "--out", str(tmp_path / "out")]) == 2
    assert "nothing could be exported" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("keep", encoding="utf-8")
    assert main(["export", "decathlon", str(tmp_path / "data"), "--out", str(tmp_path / "out")]) == 2
    assert (tmp_path / "out/mine.txt").read_text(encoding="utf-8") == "keep"
