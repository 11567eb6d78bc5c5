"""Sums in half precision, as a graphics card keeps them: tested here on the CPU, where they are not used."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hierseg.data.preprocess import Geometry
from hierseg.inference import Probabilities, restore
from hierseg.inference.tiles import plan_tiles
from hierseg.inference.window import Window, gaussian, sums_dtype
from standins.known_network import Threshold, brain_tree

SIZE = (16, 16, 40)


def test_processors_sum_in_full_precision_and_graphics_cards_in_half() -> None:
    assert sums_dtype(torch.device("cpu")) == torch.float32
    assert sums_dtype(torch.device("cuda:0")) == torch.float16


@pytest.fixture(scope="module")
def both() -> tuple[Probabilities, Probabilities]:
    """The same tiles summed in full and in half precision."""
    tree, generator = brain_tree(), torch.Generator().manual_seed(0)
    config = {"patch_size": [16, 16, 16], "overlap": 0.5}
    plan = plan_tiles(Threshold(tree), config, SIZE, torch.device("cpu"), None, True)
    windows = [Window(tree, plan, torch.device("cpu"), dtype) for dtype in (torch.float32, torch.float16)]
    for place in plan.groups[0]:
        leaf = torch.softmax(3 * torch.randn(1, len(tree.leaves), 16, 16, 16, generator=generator), 1)
        top = torch.softmax(torch.randn(1, len(tree.top_level), 16, 16, 16, generator=generator), 1)
        for window in windows:
            window.add([place], top, leaf, gaussian((16, 16, 16)))
    full, half = (window.complete(40, SIZE) for window in windows)
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
