"""The dataset folder: what is saved is read, by us and by MONAI; what is wrong is named; nothing is ever half there."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from hierseg import resources, transaction
from hierseg.dataset import Case, Dataset, generate_id
from hierseg.errors import DatasetError, HiersegError
from hierseg.labeltree import LabelTree
from standins.folders import state_of, text_of, writer
from standins.label_trees import tree_of


def save(dataset: Dataset, case_id: str | None = "a", text: str = "1", **more: Any) -> Case:
    return dataset.save_case(case_id, [writer(f"flair {text}"), writer(f"t1 {text}")], writer(f"label {text}"), **more)


def edit(dataset: Dataset, **changes: Any) -> None:
    """Change the first training case in ``dataset.json`` by hand."""
    path = dataset.folder / "dataset.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["training"][0].update(changes)
    path.write_text(json.dumps(content), encoding="utf-8")


def test_a_saved_case_is_read_back_by_another(dataset: Dataset) -> None:
    slices = [{"axis": 2, "indices": [1, 2], "node": "tumor"}, {"axis": 0, "indices": [], "node": None}]
    saved = save(dataset, "a", group="patient-1", provenance={"tool": "test"}, slices_complete=slices, split="test")
    again = Dataset.open(dataset.folder)
    assert (again.name, again.channels, again.tree) == ("demo", ["FLAIR", "T1 post"], dataset.tree)
    case = again.case("a")
    assert case == saved
    assert case.image == ("images/a_FLAIR.nii.gz", "images/a_T1-post.nii.gz")
    assert [text_of(path) for path in again.image_paths(case)] == ["flair 1", "t1 1"]
    assert text_of(again.label_path(case) or Path()) == "label 1"
    assert (case.split, case.group, case.provenance, case.slices_complete) == (
        "test",
        "patient-1",
        {"tool": "test"},
        slices,
    )
    assert again.cases("training") == []
    assert again.check() == []


def test_saving_again_replaces_and_leaves_nothing_behind(dataset: Dataset) -> None:
    save(dataset, "a", "1")
    save(dataset, "b", "2")
    dataset.save_case("a", [writer("new"), writer("newer")], None, split="validation")
    case = dataset.case("a")
    assert (case.label, case.split) == (None, "validation")
    assert dataset.label_path(case) is None
    files = sorted(path.relative_to(dataset.folder).as_posix() for path in dataset.folder.rglob("*") if path.is_file())
    assert files == [
        ".lock",
        "dataset.json",
        "images/a_FLAIR.nii.gz",
        "images/a_T1-post.nii.gz",
        "images/b_FLAIR.nii.gz",
        "images/b_T1-post.nii.gz",
        "label_tree.json",
        "labels/b.nii.gz",
    ]
    dataset.remove_case("b")
    assert [case.id for case in Dataset.open(dataset.folder).cases()] == ["a"]
    assert not (dataset.folder / "labels/b.nii.gz").exists()


def test_keys_of_other_programs_are_kept(dataset: Dataset) -> None:
    save(dataset, "a")
    path = dataset.folder / "dataset.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["licence"] = "CC-BY"
    content["training"][0]["fold"] = 3
    path.write_text(json.dumps(content), encoding="utf-8")
    save(dataset, "b")
    save(dataset, "a", "2")
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content["licence"] == "CC-BY"
    assert [row.get("fold") for row in content["training"]] == [3, None]


def test_monai_reads_the_datalist(dataset: Dataset) -> None:
    from monai.data import load_decathlon_datalist

    save(dataset, "a")
    dataset.save_case("b", [writer("x"), writer("y")], None)
    items = load_decathlon_datalist(str(dataset.folder / "dataset.json"), data_list_key="training")
    assert [item["id"] for item in items] == ["a", "b"]
    assert [Path(path) for path in items[0]["image"]] == dataset.image_paths(dataset.case("a"))
    assert Path(items[0]["label"]) == dataset.label_path(dataset.case("a"))
    assert "label" not in items[1]


def test_meets_its_schema_as_does_the_example_of_the_page(dataset: Dataset, tmp_path: Path) -> None:
    schema = Draft202012Validator(json.loads(resources.path("schemas", "dataset").read_text(encoding="utf-8")))
    save(dataset, "a", group="g", slices_complete=[{"axis": 0, "indices": [1], "node": None}])
    assert list(schema.iter_errors(json.loads((dataset.folder / "dataset.json").read_text(encoding="utf-8")))) == []
    page = (Path(__file__).parents[2] / "docs" / "dataset-folder.md").read_text(encoding="utf-8")
    example = json.loads(page.split("```json\n")[1].split("```")[0])
    assert list(schema.iter_errors(example)) == []
    (tmp_path / "page").mkdir()
    dataset.tree.save(tmp_path / "page" / "label_tree.json")
    (tmp_path / "page" / "dataset.json").write_text(json.dumps(example), encoding="utf-8")
    assert Dataset.open(tmp_path / "page").cases()[0].group == "patient-17"


def test_generated_ids_are_new_and_safe(dataset: Dataset) -> None:
    assert generate_id() != generate_id()
    case = save(dataset, None)
    assert case.id.startswith("case-")
    assert dataset.generate_id() != case.id


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"id": "../a"}, "id '../a'"),
        ({"id": 7}, "id 7"),
        ({"image": ["images/a_FLAIR.nii.gz"]}, "2 channels"),
        ({"image": "images/a_FLAIR.nii.gz"}, "2 channels"),
        ({"label": "../../secret.nii.gz"}, "not a relative path inside"),
        ({"label": "/etc/passwd"}, "not a relative path inside"),
        ({"label": "C:/x.nii.gz"}, "not a relative path inside"),
        ({"label": "labels\\..\\..\\x.nii.gz"}, "not a relative path inside"),
        ({"image": ["images/a_FLAIR.nii.gz", 3]}, "not a relative path inside"),
        ({"group": 3}, "group 3"),
        ({"provenance": []}, "provenance []"),
        ({"slices_complete": {}}, "slices_complete"),
        ({"slices_complete": [{"axis": 3, "indices": []}]}, "'axis'"),
        ({"slices_complete": [{"axis": 0, "indices": [-1]}]}, "'indices'"),
        ({"slices_complete": [{"axis": 0, "indices": [1], "node": "liver"}]}, "'liver'"),
    ],
)
def test_a_wrong_case_is_named(dataset: Dataset, changes: dict[str, Any], said: str) -> None:
    save(dataset, "a")
    edit(dataset, **changes)
    with pytest.raises(DatasetError) as caught:
        Dataset.open(dataset.folder)
    assert said in caught.value.sentence
    assert "dataset.json" in caught.value.sentence
    assert "id" in changes or "case 'a'" in caught.value.sentence


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format_version": 9}, "format_version is 9"),
        ({"name": ""}, "'name'"),
        ({"channels": []}, "'channels'"),
        ({"channels": ["T1 a", "T1-a"]}, "same file name"),
        ({"channels": ["T1", "---"]}, "'channels'"),
        ({"training": {}}, "'training' is not a list"),
    ],
)
def test_a_wrong_head_is_named(dataset: Dataset, changes: dict[str, Any], said: str) -> None:
    path = dataset.folder / "dataset.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **changes}), encoding="utf-8")
    with pytest.raises(DatasetError) as caught:
        Dataset.open(dataset.folder)
    assert said in caught.value.sentence


def test_a_case_listed_twice_is_named(dataset: Dataset) -> None:
    save(dataset, "a")
    path = dataset.folder / "dataset.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["test"] = content["training"]
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(DatasetError, match="'a' is listed twice"):
        Dataset.open(dataset.folder)


def test_missing_folders_and_files_are_named(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no such dataset folder"):
        Dataset.open(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match=r"no dataset\.json"):
        Dataset.open(tmp_path / "empty")
    case = save(dataset, "a")
    (dataset.folder / "labels/a.nii.gz").unlink()
    with pytest.raises(DatasetError, match=r"labels/a\.nii\.gz: case 'a'"):
        dataset.label_path(case)
    assert len(dataset.check()) == 1
    (dataset.folder / "label_tree.json").unlink()
    with pytest.raises(HiersegError, match=r"label_tree\.json"):
        Dataset.open(dataset.folder)


def test_a_link_out_of_the_folder_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    case = save(dataset, "a")
    outside = tmp_path / "outside.nii.gz"
    writer("secret")(outside)
    (dataset.folder / case.image[0]).unlink()
    (dataset.folder / case.image[0]).symlink_to(outside)
    with pytest.raises(DatasetError, match="leads out of the dataset folder"):
        dataset.image_paths(case)


def test_a_linked_images_folder_is_not_written_through(dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (dataset.folder / "images").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DatasetError, match="leads out of the dataset folder"):
        save(dataset, "a")
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"case_id": "a b"}, "id 'a b'"),
        ({"case_id": "A"}, "upper and lower case"),
        ({"split": "train"}, "split is 'train'"),
        ({"provenance": {"when": np.int64(3)}}, "JSON"),
        ({"provenance": {"score": float("nan")}}, "JSON"),
        ({"slices_complete": [{"axis": 5}]}, "'axis'"),
    ],
)
def test_saving_something_wrong_changes_nothing(dataset: Dataset, arguments: dict[str, Any], said: str) -> None:
    save(dataset, "a")
    before = state_of(dataset.folder)
    with pytest.raises(DatasetError) as caught:
        save(dataset, **{"case_id": "b", **arguments})
    assert said in caught.value.sentence
    assert state_of(dataset.folder) == before


def test_a_writer_that_fails_or_writes_nothing_changes_nothing(dataset: Dataset) -> None:
    save(dataset, "a")
    before = state_of(dataset.folder)

    def full(path: Path) -> None:
        raise OSError(28, "No space left on device", str(path))

    with pytest.raises(DatasetError, match="No space left on device"):
        dataset.save_case("a", [writer("x"), full], writer("x"))
    with pytest.raises(DatasetError, match="nothing was written for case 'a'"):
        dataset.save_case("a", [writer("x"), lambda path: None], None)
    with pytest.raises(KeyboardInterrupt):
        dataset.save_case("a", [writer("x"), _interrupt], None)
    with pytest.raises(DatasetError, match="1 images, the dataset has 2 channels"):
        dataset.save_case("a", [writer("x")], None)
    assert state_of(dataset.folder) == before


def _interrupt(path: Path) -> None:
    raise KeyboardInterrupt


def test_create_does_not_overwrite(dataset: Dataset) -> None:
    with pytest.raises(DatasetError, match="already"):
        Dataset.create(dataset.folder, "other", ["x"], dataset.tree)


def test_the_tree_may_grow_but_not_lose_what_labels_carry(dataset: Dataset, tree: LabelTree) -> None:
    other = tree_of({"background": {}, "x": {}})
    dataset.set_tree(other)  # no label maps yet
    dataset.set_tree(tree)
    save(dataset, "a")
    rows = [*tree.to_dict()["nodes"], {"name": "rim", "parent": "core", "value": 9}]
    grown = LabelTree.from_dict({**tree.to_dict(), "nodes": rows})
    dataset.set_tree(grown)
    assert Dataset.open(dataset.folder).tree == grown
    with pytest.raises(DatasetError, match="value 2"):
        dataset.set_tree(other)
    wide = LabelTree.from_dict({**tree.to_dict(), "unlabelled": 65535, "nodes": [*rows, {"name": "far", "value": 300}]})
    with pytest.raises(DatasetError, match="unlabelled value 255"):
        dataset.set_tree(wide)


def test_a_file_that_another_case_uses_stays(dataset: Dataset) -> None:
    save(dataset, "a")
    save(dataset, "b")
    edit(dataset, image=["./images//a_FLAIR.nii.gz", "images/b_T1-post.nii.gz"], label="label_tree.json")
    dataset.reload()
    save(dataset, "a", "2")
    assert dataset.check() == []
    edit(dataset, image=["images/a_FLAIR.nii.gz", "images/b_T1-post.nii.gz"], label="label_tree.json")
    dataset.reload()
    dataset.remove_case("a")
    assert dataset.check() == []
    assert not (dataset.folder / "images" / "a_FLAIR.nii.gz").exists()
    assert dataset.tree == Dataset.open(dataset.folder).tree


def test_two_writers_do_not_lose_each_others_cases(dataset: Dataset) -> None:
    def many(prefix: str) -> None:
        mine = Dataset.open(dataset.folder)
        for index in range(8):
            save(mine, f"{prefix}{index}", prefix)

    threads = [threading.Thread(target=many, args=(prefix,)) for prefix in "pqr"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ids = {case.id for case in Dataset.open(dataset.folder).cases()}
    assert ids == {f"{prefix}{index}" for prefix in "pqr" for index in range(8)}


def test_a_writer_does_not_wait_for_ever(dataset: Dataset) -> None:
    with (
        transaction.locked(dataset.folder),
        pytest.raises(DatasetError, match="another program"),
        transaction.locked(dataset.folder, seconds=0.1),
    ):
        pytest.fail("two writers at once")


def test_readers_keep_writers_out(dataset: Dataset) -> None:
    save(dataset, "a")
    other = Dataset.open(dataset.folder)
    done = threading.Event()

    def write() -> None:
        save(other, "a", "2")
        done.set()

    with dataset.reading():
        thread = threading.Thread(target=write)
        thread.start()
        assert not done.wait(0.3)
        assert text_of(dataset.image_paths(dataset.case("a"))[0]) == "flair 1"
    thread.join()
    assert text_of(dataset.image_paths(dataset.case("a"))[0]) == "flair 2"


def test_a_journal_that_names_files_outside_is_not_followed(dataset: Dataset, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious", encoding="utf-8")
    journal = dataset.folder / ".journal.json"
    for content in ({"moves": [], "deletes": ["../victim"]}, {"moves": [["dataset.json", "x"]], "deletes": []}):
        journal.write_text(json.dumps(content), encoding="utf-8")
        with pytest.raises(DatasetError, match="journal"):
            Dataset.open(dataset.folder)
    assert victim.read_text(encoding="utf-8") == "precious"
    assert (dataset.folder / "dataset.json").exists()


def test_a_folder_that_cannot_be_written_can_be_read_and_says_so_on_save(dataset: Dataset) -> None:
    save(dataset, "a")
    # A folder in the lock file's place stands for a read-only disk: permissions do not stop root.
    (dataset.folder / ".lock").unlink()
    (dataset.folder / ".lock").mkdir()
    assert len(Dataset.open(dataset.folder).cases()) == 1
    with pytest.raises(DatasetError, match="cannot be changed"):
        save(dataset, "b")
