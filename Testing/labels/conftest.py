"""A small tree, an empty dataset folder and a bundle without a network."""

from __future__ import annotations

from pathlib import Path

import pytest

from hierseg.bundle import Bundle, write_bundle
from hierseg.dataset import Dataset
from hierseg.labeltree import LabelTree
from standins.folders import CONFIG, empty_weights
from standins.label_trees import tree_of


@pytest.fixture
def tree() -> LabelTree:
    return tree_of({"background": {}, "tumor": {"core": {}, "edema": {}}})


@pytest.fixture
def dataset(tmp_path: Path, tree: LabelTree) -> Dataset:
    return Dataset.create(tmp_path / "set", "demo", ["FLAIR", "T1 post"], tree)


@pytest.fixture
def bundle(tmp_path: Path, tree: LabelTree) -> Bundle:
    return write_bundle(
        tmp_path / "model",
        config=CONFIG,
        metadata={"name": "small", "version": "1.2.3"},
        tree=tree,
        write_weights=empty_weights,
        card="# small\n",
        license_text="Apache-2.0\n",
    )
