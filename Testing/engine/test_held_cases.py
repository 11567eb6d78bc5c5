"""Which cases are held out, where few of them show subclasses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from engine.blobs import TREE, blob, save
from hierseg.data.translation import coarsened
from hierseg.dataset import Case, Dataset
from hierseg.engine import held_cases
from hierseg.engine.held_cases import split_cases


def dataset_with(folder: Path, fine: Sequence[int], cases: int = 10) -> Dataset:
    """A dataset of which the cases of these numbers, in the order of their hashes, show subclasses."""
    dataset = Dataset.create(folder / "data", "data", ["MRI"], TREE)
    image, label = blob(0, 16)
    names = sorted((f"case{number}" for number in range(cases)), key=held_cases.hash_of)
    for place, name in enumerate(names):
        save(dataset, name, image, label if place in fine else coarsened(label, TREE), group=name)
    return dataset


def show(dataset: Dataset, cases: Sequence[Case]) -> int:
    shows = held_cases._subclasses(dataset, cases)
    return sum(shows(case.id) for case in cases)


@pytest.mark.parametrize("fine", [(8, 9), (0, 1), (0, 9), (0, 1, 2, 3), (6, 7, 8, 9)])
def test_some_that_show_subclasses_are_held_out_and_some_are_trained_on(tmp_path: Path, fine: Sequence[int]) -> None:
    dataset = dataset_with(tmp_path, fine)
    training, held, notes = split_cases(dataset, 0.2)
    assert (len(training), len(held)) == (8, 2)
    assert show(dataset, held) >= 1
    assert show(dataset, training) == len(fine) - show(dataset, held) >= 1
    assert notes == []
    assert split_cases(dataset, 0.2) == (training, held, notes)


@pytest.mark.parametrize("fine", [(0,), (9,), (0, 1), (8, 9)])
def test_with_fewer_than_can_be_spared_all_of_them_are_trained_on(tmp_path: Path, fine: Sequence[int]) -> None:
    """Holding out the only case with subclasses left a training nothing to learn them from."""
    dataset = dataset_with(tmp_path, fine)
    training, held, notes = split_cases(dataset, 0.2, 3)
    assert (len(training), len(held)) == (8, 2)
    assert show(dataset, training) == len(fine)
    one = (
        "1 group of cases shows subclasses: it is" if len(fine) == 1 else "2 groups of cases show subclasses: they are"
    )
    assert notes == [f"Only {one} trained on, and the cases that are held out measure superclasses alone."]


@pytest.mark.parametrize("fine", [(), tuple(range(10)), (0, 2, 4, 6, 8)])
def test_where_subclasses_are_common_or_nowhere_the_hash_alone_decides(tmp_path: Path, fine: Sequence[int]) -> None:
    dataset = dataset_with(tmp_path, fine)
    names = sorted((case.id for case in dataset.cases()), key=held_cases.hash_of)
    _, held, notes = split_cases(dataset, 0.2)
    assert sorted(case.id for case in held) == sorted(names[:2])
    assert notes == []


def test_a_resumed_run_holds_out_what_it_did_before(tmp_path: Path) -> None:
    """Subclasses that were drawn since would change the choice: trained-on cases would be measured on."""
    dataset = dataset_with(tmp_path, (8, 9))
    _, held, _ = split_cases(dataset, 0.2)
    before = [case.id for case in held]
    image, label = blob(0, 16)
    for case in dataset.cases():
        save(dataset, case.id, image, label, group=case.group)
    assert [case.id for case in split_cases(dataset, 0.2)[1]] != before
    assert [case.id for case in split_cases(dataset, 0.2, before=before)[1]] == before
    assert split_cases(dataset, 0.2, before=["gone"]) == split_cases(dataset, 0.2)
