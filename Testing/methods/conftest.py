"""A tiny cardiac phantom, and batches of the tiny blobs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.blobs import make
from hierseg.cli import main
from hierseg.data.batches import Batches
from hierseg.data.caching import CaseCache
from hierseg.data.sampling import TwoStreamSampler
from hierseg.dataset import Dataset
from hierseg.engine.config import TrainConfig
from hierseg.engine.setup import bundle_config

STILL = {"flip_axes": [], "affine_probability": 0, "intensity_probability": 0}
SMALL = {"patch_size": [32, 16, 16], "width": 4, "batch_size": 4, "iterations": 10}


@pytest.fixture(scope="session")
def blobs(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Three fine and three coarse cases."""
    return make(tmp_path_factory.mktemp("blobs") / "data")


@pytest.fixture(scope="session")
def hearts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cardiac phantom of three patients, one of them fine, as ``hierseg phantom`` makes it."""
    folder = tmp_path_factory.mktemp("hearts") / "data"
    assert main(["phantom", "acdc", "--cases", "3", "--fine", "1", "--size", "32", "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def batches(blobs: Dataset) -> Callable[..., Batches]:
    """A function from settings to the blobs' batches, unchanged by augmentation."""

    def made(**settings: Any) -> Batches:
        config = TrainConfig.from_dict({**SMALL, "augmentation": STILL, **settings})
        cache = CaseCache(blobs, blobs.cases(), bundle_config(config, blobs.channels, None))
        cache.fill()
        sampler = TwoStreamSampler(
            cache.indices, cache.shapes, blobs.tree, config.batch_size, config.seed, config.patch_share
        )
        return Batches(cache, sampler, config, blobs.tree)

    return made
