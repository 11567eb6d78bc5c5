"""Updating a case: its images are kept, another program's key is set, a busy folder is told at once if so wished."""

from __future__ import annotations

import pytest

from hierseg import transaction
from hierseg.dataset import Dataset
from hierseg.errors import DatasetBusyError, DatasetError
from standins.folders import text_of, writer


def save(dataset: Dataset) -> None:
    dataset.save_case("a", [writer("flair 1"), writer("t1 1")], writer("label 1"), extra={"other": 7})


def test_images_that_are_not_given_stay(dataset: Dataset) -> None:
    save(dataset)
    case = dataset.save_case("a", [None, writer("t1 2")], writer("label 2"))
    assert [text_of(path) for path in dataset.image_paths(case)] == ["flair 1", "t1 2"]
    assert dataset.check() == []
    with pytest.raises(DatasetError, match="is gone"):
        dataset.save_case("b", [None, None], writer("label"))
    assert [one.id for one in Dataset.open(dataset.folder).cases()] == ["a"]


def test_a_key_is_set_and_taken_back_without_touching_a_file(dataset: Dataset) -> None:
    save(dataset)
    times = {path: path.stat().st_mtime_ns for path in dataset.folder.rglob("*.nii.gz")}
    assert dataset.set_extra("a", "status", "Flagged").extra == {"other": 7, "status": "Flagged"}
    assert dataset.set_extra("a", "status", None).extra == {"other": 7}
    assert {path: path.stat().st_mtime_ns for path in dataset.folder.rglob("*.nii.gz")} == times
    with pytest.raises(DatasetError, match="no case 'z'"):
        dataset.set_extra("z", "status", "Flagged")


def test_without_patience_a_busy_folder_is_told_at_once(dataset: Dataset) -> None:
    save(dataset)
    dataset.patience = 0.0
    with transaction.locked(dataset.folder):
        with pytest.raises(DatasetBusyError, match="another program has been writing here"):
            dataset.set_extra("a", "status", "Flagged")
        with pytest.raises(DatasetBusyError), dataset.reading():
            pass
    assert dataset.set_extra("a", "status", "Flagged").extra["status"] == "Flagged"
