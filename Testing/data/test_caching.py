"""Preprocessed cases are kept, and prepared anew when what they came from changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine.blobs import TREE, blob, save
from hierseg.data.caching import CaseCache
from hierseg.dataset import Dataset
from hierseg.engine.config import TrainConfig
from hierseg.engine.setup import bundle_config
from hierseg.errors import TrainingError

SETTINGS = bundle_config(TrainConfig(), ["MRI"], None)


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    dataset = Dataset.create(tmp_path / "data", "data", ["MRI"], TREE)
    for seed in range(2):
        save(dataset, f"case{seed}", *blob(seed, 16))
    return dataset


def filled(dataset: Dataset, mode: str, folder: Path) -> CaseCache:
    cache = CaseCache(dataset, dataset.cases(), SETTINGS, mode=mode, folder=folder)
    cache.fill()
    return cache


def test_all_modes_give_the_same_case(dataset: Dataset, tmp_path: Path) -> None:
    caches = {mode: filled(dataset, mode, tmp_path / "cache") for mode in ("memory", "disk", "none")}
    for position in range(2):
        first = caches["memory"][position]
        for cache in caches.values():
            found = cache[position]
            assert found.id == f"case{position}"
            assert np.array_equal(found.image, first.image)
            assert np.array_equal(found.label, first.label)
            assert np.array_equal(found.affine, first.affine)
            assert found.index.counts == first.index.counts
            assert all(
                np.array_equal(found.index.positions[value], first.index.positions[value])
                for value in first.index.counts
            )
    assert caches["memory"][0] is caches["memory"][0]
    assert isinstance(caches["disk"][0].image, np.memmap)


def test_the_disk_is_used_again_until_a_file_changes(dataset: Dataset, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    filled(dataset, "disk", folder)
    kept = {entry.name: (entry / "image.npy").stat().st_mtime_ns for entry in folder.iterdir()}
    assert len(kept) == 2
    filled(dataset, "disk", folder)
    assert {entry.name: (entry / "image.npy").stat().st_mtime_ns for entry in folder.iterdir()} == kept
    image, label = blob(9, 16)
    save(dataset, "case0", image, label)
    cache = filled(dataset, "disk", folder)
    assert np.array_equal(cache[0].label, label)
    assert len(list(folder.iterdir())) == 3


def test_a_case_without_a_labelled_voxel_is_named(dataset: Dataset, tmp_path: Path) -> None:
    save(dataset, "empty", blob(3, 16)[0], np.full((16,) * 3, 255, np.uint8))
    with pytest.raises(TrainingError, match=r"case 'empty': .*no labelled voxel"):
        filled(dataset, "memory", tmp_path)


def test_a_value_outside_of_the_tree_is_named(dataset: Dataset, tmp_path: Path) -> None:
    label = blob(3, 16)[1]
    label[0, 0, 0] = 77
    save(dataset, "foreign", blob(3, 16)[0], label)
    with pytest.raises(TrainingError, match=r"case 'foreign': .*77"):
        filled(dataset, "memory", tmp_path)


def test_a_broken_image_is_named(dataset: Dataset, tmp_path: Path) -> None:
    dataset.image_paths(dataset.case("case1"))[0].write_bytes(b"no image")
    with pytest.raises(TrainingError, match=r"case 'case1': .*case1_MRI\.nii\.gz"):
        filled(dataset, "memory", tmp_path)
