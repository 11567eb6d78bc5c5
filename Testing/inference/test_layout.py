"""Channels first or last: measured once, remembered, overridden, and never a difference in the result."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hierseg.errors import ConfigError
from hierseg.imageio import Volume
from hierseg.inference import Predictor, layout
from hierseg.labeltree import LabelTree
from hierseg.networks import HierarchicalSegmenter
from standins.tiny_bundle import TREE

SHAPE = (1, 1, 16, 16, 16)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HIERSEG_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("HIERSEG_LAYOUT", raising=False)
    return tmp_path / "home"


@pytest.fixture
def model() -> HierarchicalSegmenter:
    torch.manual_seed(0)
    return HierarchicalSegmenter(LabelTree.from_dict(TREE), 1, 3, width=4).eval()


def is_last(model: torch.nn.Module) -> bool:
    weight = next(value for value in model.parameters() if value.ndim == 5 and min(value.shape[:2]) > 1)
    return weight.is_contiguous(memory_format=torch.channels_last_3d)


def test_what_was_measured_is_remembered(model: Any, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = layout.choose(model, SHAPE, layout.LEAST_TILES)
    assert list(json.loads((home / "layouts.json").read_text()).values()) == [found]

    def never(*_arguments: object) -> str:
        raise AssertionError("it was measured again")

    monkeypatch.setattr(layout, "_measured", never)
    assert layout.choose(model, SHAPE, layout.LEAST_TILES) == found
    with pytest.raises(AssertionError, match="again"):
        layout.choose(model, (1, 1, 32, 32, 32), layout.LEAST_TILES)


def test_the_faster_one_is_chosen(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for first, last, wanted in ((1.0, 0.5, layout.CHANNELS_LAST), (1.0, 0.99, layout.CHANNELS_FIRST)):
        seconds = iter([first, last])
        monkeypatch.setattr(layout, "_median", lambda _run, seconds=seconds: next(seconds))
        assert layout._measured(model, SHAPE) == wanted


def test_few_tiles_are_not_worth_it(model: Any, home: Path) -> None:
    assert layout.choose(model, SHAPE, layout.LEAST_TILES - 1) == layout.CHANNELS_FIRST
    assert not home.exists()


@pytest.mark.parametrize("chosen", [layout.CHANNELS_FIRST, layout.CHANNELS_LAST])
def test_the_environment_decides(model: Any, home: Path, monkeypatch: pytest.MonkeyPatch, chosen: str) -> None:
    monkeypatch.setenv("HIERSEG_LAYOUT", chosen)
    assert layout.choose(model, SHAPE, 1000) == chosen
    assert is_last(model) is (chosen == layout.CHANNELS_LAST)
    assert not home.exists()


def test_a_wrong_choice_is_refused(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIERSEG_LAYOUT", "fast")
    with pytest.raises(ConfigError, match="HIERSEG_LAYOUT is 'fast'"):
        layout.choose(model, SHAPE, 1)


@pytest.mark.parametrize("text", ["", "[]", "{broken", '{"a": 3}'])
def test_a_broken_memory_is_no_obstacle(model: Any, home: Path, text: str) -> None:
    home.mkdir()
    (home / "layouts.json").write_text(text)
    found = layout.choose(model, SHAPE, layout.LEAST_TILES)
    assert found in json.loads((home / "layouts.json").read_text()).values()


def test_a_home_that_cannot_be_written_to_is_no_obstacle(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HIERSEG_HOME", str(tmp_path / "file"))
    assert layout.choose(model, SHAPE, layout.LEAST_TILES) in (layout.CHANNELS_FIRST, layout.CHANNELS_LAST)


@pytest.mark.parametrize("dims", [2, 3])
def test_the_result_is_the_same(dims: int, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    network = HierarchicalSegmenter(LabelTree.from_dict(TREE), 1, dims, width=4)
    config = {
        "channels": [{"name": "image", "normalization": {"type": "zscore"}}],
        "orientation": "RAS",
        "spacing": None,
        "patch_size": [16] * dims,
        "spatial_dims": dims,
    }
    volume = Volume(np.random.default_rng(0).normal(size=(30, 25, 20)).astype(np.float32), np.eye(4))
    results = []
    for chosen in (layout.CHANNELS_FIRST, layout.CHANNELS_LAST):
        monkeypatch.setenv("HIERSEG_LAYOUT", chosen)
        results.append([Predictor(network, config, device="cpu").predict([volume]) for _ in range(2)])
    for again in results:
        np.testing.assert_array_equal(again[0].confidence, again[1].confidence)
    np.testing.assert_allclose(results[0][0].confidence, results[1][0].confidence, atol=1e-5)
    assert np.mean(results[0][0].labels != results[1][0].labels) < 1e-3
