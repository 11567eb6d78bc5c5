"""The hash that a study is frozen on: of what a data set says, not of when and where it was written."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hierseg.dataset import Case, Dataset
from hierseg.errors import DatasetError
from hierseg.imageio import read_volume, write_volume
from hierseg.phantoms import content_hash
from hierseg.phantoms.writing import Request, make_phantom

REQUEST = Request("acdc", cases=2, fine=1, test=1, seed=3, size=24)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("content") / "made"
    make_phantom(REQUEST, out)
    return out


def test_time_folder_provenance_and_compression_do_not_count(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere"
    shutil.copytree(folder, other)
    dataset = Dataset.open(other)
    case = dataset.cases()[0]
    image = read_volume(dataset.image_paths(case)[0])
    image_again = lambda path: write_volume(path, image.array.copy(), image.affine)  # noqa: E731
    label = read_volume(dataset.label_path(case))
    dataset.save_case(
        case.id,
        [image_again],
        lambda path: write_volume(path, label.array, label.affine),
        split=case.split,
        group=case.group,
        provenance={"time": "now"},
    )
    assert content_hash(other) == content_hash(folder)
    assert len(content_hash(folder)) == 64


def test_another_draw_is_another_hash(folder: Path, tmp_path: Path) -> None:
    found = {content_hash(folder)}
    for number, change in enumerate(({"seed": 4}, {"fine": 2}, {"test": 2}, {"difficulty": 0.6}, {"size": 25})):
        make_phantom(replace(REQUEST, **change), tmp_path / str(number))
        found.add(content_hash(tmp_path / str(number)))
    assert len(found) == 6


def one_voxel(array: np.ndarray) -> np.ndarray:
    changed = array.copy()
    changed.flat[0] += 1
    return changed


@pytest.mark.parametrize(
    ("image", "label", "shift", "change"),
    [
        (one_voxel, None, 0.0, {}),
        (None, one_voxel, 0.0, {}),
        (None, None, 0.5, {}),
        (None, None, 0.0, {"split": "validation"}),
        (None, None, 0.0, {"group": "someone-else"}),
    ],
)
def test_one_change_is_seen(
    folder: Path,
    tmp_path: Path,
    image: Callable[[np.ndarray], np.ndarray] | None,
    label: Callable[[np.ndarray], np.ndarray] | None,
    shift: float,
    change: dict,
) -> None:
    other = tmp_path / "changed"
    shutil.copytree(folder, other)
    dataset = Dataset.open(other)
    case: Case = dataset.cases()[0]

    def writer(path: Path, edit: Callable[[np.ndarray], np.ndarray] | None) -> Callable[[Path], object]:
        volume = read_volume(path)
        affine = volume.affine.copy()
        affine[0, 3] += shift
        array = volume.array if edit is None else edit(volume.array)
        return lambda staged: write_volume(staged, array, affine)

    label_path = dataset.label_path(case)
    assert label_path is not None
    dataset.save_case(
        case.id,
        [writer(dataset.image_paths(case)[0], image)],
        writer(label_path, label),
        **{"split": case.split, "group": case.group, **change},
    )
    assert content_hash(other) != content_hash(folder)


def test_a_folder_without_a_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError):
        content_hash(tmp_path)
