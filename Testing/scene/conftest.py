"""A scene without the application, trees, and volumes at awkward places."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("slicer", reason="scene tests need the slicer-core wheel: pip install slicer-core")

from hierseg.labeltree import LabelTree
from HierSubclassSegLib.scene import geometry, session


@pytest.fixture
def scene() -> Iterator[Any]:
    """An empty scene with the module logics that the project uses."""
    opened = session.open_session()
    yield opened.scene
    opened.close()


@pytest.fixture(scope="session")
def one_scene() -> Iterator[session.Session]:
    """One scene for all examples of a property: opening one takes longer than an example.  Clear it after each."""
    opened = session.open_session()
    yield opened
    opened.close()


@pytest.fixture(scope="session", autouse=True)
def _sessions_end_here() -> Iterator[None]:
    """Sessions that only a cycle of references keeps go now: a test worker's process ends without asking them."""
    yield
    gc.collect()


@pytest.fixture
def tree() -> LabelTree:
    """Two superclasses with two subclasses each, one of depth 3, and a background."""
    return LabelTree.from_dict(
        {
            "format_version": 1,
            "name": "test tree",
            "unlabelled": 255,
            "nodes": [
                {"name": "background", "value": 0},
                {
                    "name": "tumor",
                    "value": 10,
                    "color": [255, 200, 0],
                    "terminology": {"type": ["SCT", "108369006", "Neoplasm"]},
                },
                {"name": "core", "parent": "tumor", "value": 1, "aliases": ["a|b"]},
                {"name": "edema", "parent": "tumor", "value": 2},
                {"name": "brain", "value": 20},
                {"name": "cortex", "parent": "brain", "value": 21},
                {"name": "left cortex", "parent": "cortex", "value": 3},
                {"name": "right cortex", "parent": "cortex", "value": 4},
                {"name": "white matter", "parent": "brain", "value": 5},
            ],
        }
    )


@pytest.fixture
def free_tree() -> LabelTree:
    """A tree without background."""
    return LabelTree.from_dict(
        {
            "format_version": 1,
            "name": "background-free",
            "unlabelled": 255,
            "nodes": [
                {"name": "gland", "value": 1},
                {"name": "zone", "parent": "gland", "value": 2},
                {"name": "rim", "parent": "gland", "value": 3},
            ],
        }
    )


@pytest.fixture
def make_volume(scene: Any) -> Callable[..., Any]:
    """Makes a volume with values that tell its voxels apart."""

    def make(shape: tuple[int, int, int] = (9, 8, 7), affine: np.ndarray | None = None, name: str = "volume") -> Any:
        array = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
        return geometry.make_volume(scene, array, np.eye(4) if affine is None else affine, name)

    return make
