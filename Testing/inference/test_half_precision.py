"""Sums in half precision, as a graphics card keeps them, and a processor those of very large slabs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hierseg.data.preprocess import Geometry
from hierseg.imageio import Volume
from hierseg.inference import Predictor, Probabilities, restore, window
from hierseg.inference.forward import Ready
from hierseg.inference.tiles import plan_tiles
from hierseg.inference.window import Window, gaussian, sums_dtype
from hierseg.networks import HierarchicalSegmenter
from standins.known_network import Threshold, brain_tree

SIZE = (16, 16, 40)


def test_which_precision_sums_have() -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda:0")
    assert [sums_dtype(cpu, numbers) for numbers in (10, 62_500_000, 62_500_001)] == [
        torch.float32,
        torch.float32,
        torch.float16,
    ]
    assert sums_dtype(cuda, 10) == torch.float16


@pytest.mark.parametrize("mode", ["hierarchical", "leaf"])
@pytest.mark.parametrize("spacing", [None, [1.7, 1.3, 2.0]])
def test_a_large_slab_gives_what_a_small_one_gives(
    monkeypatch: pytest.MonkeyPatch, mode: str, spacing: list[float] | None
) -> None:
    torch.manual_seed(0)
    model = HierarchicalSegmenter(brain_tree(), 1, 3, width=4).eval()
    config = {
        "channels": [{"name": "image", "normalization": {"type": "none"}}],
        "orientation": "RAS",
        "spacing": spacing,
        "patch_size": [16, 16, 16],
        "overlap": 0.5,
        "spatial_dims": 3,
    }
    volume = Volume(np.random.default_rng(0).normal(size=(30, 25, 40)).astype(np.float32), np.eye(4))
    full = Predictor(model, config, device="cpu").predict([volume], decode=mode)
    monkeypatch.setattr(window, "_MUCH", 1000)
    half, again = (Predictor(model, config, device="cpu").predict([volume], decode=mode) for _ in range(2))
    assert not np.array_equal(full.confidence, half.confidence)
    np.testing.assert_array_equal(half.confidence, again.confidence)
    np.testing.assert_allclose(half.confidence, full.confidence, atol=2e-3)
    # Where two nodes are equally probable but for rounding.
    assert np.mean(half.labels != full.labels) < 0.02


@pytest.fixture(scope="module")
def both() -> tuple[Probabilities, Probabilities]:
    """The same tiles summed in full and in half precision."""
    tree, generator = brain_tree(), torch.Generator().manual_seed(0)
    config = {"patch_size": [16, 16, 16], "overlap": 0.5}
    plan = plan_tiles(Threshold(tree), config, SIZE, torch.device("cpu"), None, True)
    windows = [Window(tree, plan, torch.device("cpu"), dtype) for dtype in (torch.float32, torch.float16)]
    for place in plan.groups[0]:
        leaf = 3 * torch.randn(1, len(tree.leaves), 16, 16, 16, generator=generator)
        top = torch.randn(1, len(tree.top_level), 16, 16, 16, generator=generator)
        for sums in windows:
            sums.add([place], Ready(top, leaf), gaussian((16, 16, 16)))
    full, half = (sums.complete(40, SIZE) for sums in windows)
    assert full is not None
    assert half is not None
    return full.probabilities, half.probabilities


def test_they_differ_by_rounding_only(both: tuple[Probabilities, Probabilities]) -> None:
    full, half = both
    assert half.leaf.dtype == half.superclass.dtype == torch.float16
    torch.testing.assert_close(half.leaf.float(), full.leaf, atol=2e-3, rtol=0)
    torch.testing.assert_close(half.superclass.float(), full.superclass, atol=2e-3, rtol=0)


@pytest.mark.parametrize("mode", ["hierarchical", "leaf"])
def test_they_are_restored_alike(both: tuple[Probabilities, Probabilities], mode: str) -> None:
    grid = Geometry((24, 24, 60), np.diag([2 / 3, 2 / 3, 2 / 3, 1.0]), None)
    tree = brain_tree()
    full, half = (restore(part, np.eye(4), grid, tree, mode=mode, thresholds={"tumor": 0.3}) for part in both)
    assert half.confidence.dtype == np.float32
    # Where two nodes are equally probable but for rounding, another one wins, with another confidence.
    assert np.mean(np.abs(half.confidence - full.confidence) > 2e-3) < 0.01
    assert np.mean(half.labels != full.labels) < 0.01
