"""The tiny data set that every test of the engine trains on."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.blobs import make
from hierseg.dataset import Dataset


@pytest.fixture
def blobs(tmp_path: Path) -> Dataset:
    """Three fine and three coarse cases."""
    return make(tmp_path / "blobs")
