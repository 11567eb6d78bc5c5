"""The cases of a dataset as a work list: shares, status, what comes next."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from hierseg.dataset import Dataset
from HierSubclassSegLib.scene import nifti
from HierSubclassSegLib.scene.status import Status
from HierSubclassSegLib.scene.work_list import WorkList
from HierSubclassSegLib.ticks import Ticks, finish

AFFINE = np.diag([2.0, 2.0, 2.5, 1.0])


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIERSEG_HOME", str(tmp_path / "home"))


@pytest.fixture
def dataset(tmp_path, tree):
    made = Dataset.create(tmp_path / "data", "data", ["MRI"], tree)
    labels = np.full((10, 10, 10), 255, np.uint8)
    add(made, "a-none", None)
    add(made, "b-coarse", np.where(np.arange(10) < 5, 10, labels))
    labels[:, :, 0], labels[:, :, 1], labels[0, 0, 2] = 0, 20, 1
    add(made, "c-some", labels)
    add(made, "d-all", np.where(np.arange(10) < 5, 3, 0) + labels * 0)
    return made


def add(dataset, case_id, labels):
    array = np.zeros((10, 10, 10), np.int16)
    write = None if labels is None else partial(nifti.write_nifti, array=labels.astype(np.uint8), affine=AFFINE)
    return dataset.save_case(case_id, [partial(nifti.write_nifti, array=array, affine=AFFINE)], write)


def statuses(work):
    return [work.status(case) for case in work.cases]


def test_shares_and_status(dataset):
    work = WorkList(dataset)
    assert statuses(work) == [Status.NOT_STARTED, None, None, None]
    finish(work.count_steps())
    share = work.shares["c-some"]
    assert (share.fine, share.coarse, share.unlabelled, share.background) == (1, 100, 799, 100)
    assert share.counted == 900
    assert share.voxel_ml == pytest.approx(0.01)
    assert statuses(work) == [Status.NOT_STARTED, Status.NOT_STARTED, Status.IN_PROGRESS, Status.COMPLETED]
    assert work.unfinished() == 3


def test_what_somebody_says_wins_until_it_is_taken_back(dataset):
    work = WorkList(dataset)
    finish(work.count_steps())
    before = dataset.label_path(dataset.case("c-some")).stat().st_mtime_ns
    work.set_status("c-some", Status.COMPLETED)
    assert work.status(dataset.case("c-some")) is Status.COMPLETED
    assert Dataset.open(dataset.folder).case("c-some").extra == {"status": "Completed"}
    assert dataset.label_path(dataset.case("c-some")).stat().st_mtime_ns == before
    work.set_status("c-some", None)
    assert work.status(dataset.case("c-some")) is Status.IN_PROGRESS


def test_the_next_unfinished_goes_around_the_end(dataset):
    work = WorkList(dataset)
    finish(work.count_steps())
    assert work.next_unfinished(None).id == "a-none"
    assert work.next_unfinished("b-coarse").id == "c-some"
    assert work.next_unfinished("c-some").id == "a-none", "the completed one is passed over"
    for case_id in ("a-none", "b-coarse"):
        work.set_status(case_id, Status.COMPLETED)
    assert work.next_unfinished("c-some") is None


def test_counts_are_remembered_and_follow_the_files(dataset, monkeypatch):
    finish(WorkList(dataset).count_steps())
    from HierSubclassSegLib.scene import work_list

    def must_not(*_arguments):
        raise AssertionError("counted again")

    with monkeypatch.context() as patched:
        patched.setattr(work_list, "count_steps", must_not)
        again = WorkList(Dataset.open(dataset.folder))
        finish(again.count_steps())
        assert again.shares["c-some"].fine == 1
    add(dataset, "c-some", np.full((10, 10, 10), 2))
    finish(again.count_steps())
    assert again.shares["c-some"].fine == 1000
    again.dataset.reload()
    dataset.remove_case("c-some")
    again.dataset.reload()
    assert [case.id for case in again.cases] == ["a-none", "b-coarse", "d-all"]


def test_a_damaged_file_is_told_and_the_others_counted(dataset):
    path = dataset.label_path(dataset.case("b-coarse"))
    path.write_bytes(path.read_bytes()[:-20])
    work = WorkList(dataset)
    counting = Ticks(work.count_steps())
    while counting.step(0.0):
        pass
    assert str(path) in work.problems["b-coarse"]
    assert work.shares["d-all"].fine == 500
    assert work.status(dataset.case("b-coarse")) is None
