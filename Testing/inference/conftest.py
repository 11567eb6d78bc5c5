"""Fixtures of the inference tests."""

from __future__ import annotations

from typing import Any

import pytest

from hierseg.labeltree import LabelTree
from standins.known_network import Threshold, brain_tree


@pytest.fixture
def tree() -> LabelTree:
    return brain_tree()


@pytest.fixture
def network(tree: LabelTree) -> Threshold:
    return Threshold(tree)


@pytest.fixture
def config() -> dict[str, Any]:
    """Keeps intensities and spacing; tests change what they are about."""
    return {
        "channels": [{"name": "MRI", "normalization": {"type": "none"}}],
        "orientation": "RAS",
        "spacing": None,
        "patch_size": [16, 16, 16],
        "overlap": 0.5,
        "spatial_dims": 3,
        "thresholds": {},
    }
