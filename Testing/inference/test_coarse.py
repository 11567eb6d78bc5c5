"""The coarse pass: what it leaves out is background, and the result is that of the exhaustive run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hierseg.imageio import Volume
from hierseg.inference import Predictor, coarse, coarse_check
from hierseg.inference.sliding import slabs
from hierseg.inference.window import Probabilities, Slab
from hierseg.labeltree import LabelTree
from hierseg.networks import HierarchicalOutput
from standins.known_network import Threshold, brain_tree

CORNER = (slice(0, 1),) * 3
"""One voxel: a constant image would be refused."""
ALLOWED = {"factor": [2, 2, 2], "threshold": 0.05, "branch_threshold": 0.01}


class Counting(Threshold):
    """A known network that counts the tiles it sees."""

    def __init__(self, tree: LabelTree) -> None:
        super().__init__(tree)
        self.seen: list[tuple[int, ...]] = []

    def forward(self, x: torch.Tensor) -> HierarchicalOutput:
        self.seen += [tuple(x.shape[2:])] * x.shape[0]
        return super().forward(x)


@pytest.fixture(autouse=True)
def as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """No measurement runs the network more often."""
    monkeypatch.setenv("HIERSEG_BACKEND", "channels_first")


@pytest.fixture
def large(config: dict[str, Any]) -> dict[str, Any]:
    return {**config, "coarse_pass": ALLOWED}


def volume(shape: tuple[int, ...], *boxes: tuple[slice, ...]) -> Volume:
    array = np.zeros(shape, np.float32)
    for box in boxes:
        array[box] = 1.0
    return Volume(array, np.eye(4))


def test_tiles_without_structures_are_left_out(large: dict[str, Any]) -> None:
    network = Counting(brain_tree())
    image = volume((64, 64, 96), (slice(20, 26), slice(30, 40), slice(50, 60)))
    sparse = Predictor(network, large, device="cpu").predict([image])
    seen = len(network.seen)
    full = Predictor(network, large, device="cpu").predict([image], exhaustive=True)
    assert sparse.work["tiles"] == full.work["tiles"] == full.work["computed"] == len(network.seen) - seen
    assert sparse.work["computed"] == seen < full.work["tiles"] / 3
    np.testing.assert_array_equal(sparse.labels, full.labels)
    assert sparse.labels.max() == 1
    assert (sparse.labels == 1).sum() == 6 * 10 * 10


def test_a_bundle_that_does_not_allow_it_gets_every_tile(config: dict[str, Any]) -> None:
    result = Predictor(Threshold(brain_tree()), config, device="cpu").predict([volume((64, 64, 64), CORNER)])
    assert result.work["computed"] == result.work["tiles"]


def test_a_tree_without_background_gets_every_tile(large: dict[str, Any]) -> None:
    rows = brain_tree().to_dict()
    rows["nodes"] = [{**node, "name": "elsewhere"} if node["value"] == 0 else node for node in rows["nodes"]]
    tree = LabelTree.from_dict(rows)
    assert tree.background is None

    class Elsewhere(Threshold):
        def forward(self, x: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
            return torch.zeros(x.shape[0], len(tree.leaves), *x.shape[2:])

    result = Predictor(Elsewhere(tree), large, device="cpu").predict([volume((64, 64, 64), CORNER)])
    assert result.work["computed"] == result.work["tiles"]


def test_a_few_tiles_are_not_worth_it(large: dict[str, Any]) -> None:
    result = Predictor(Threshold(brain_tree()), large, device="cpu").predict([volume((20, 16, 16), CORNER)])
    assert result.work["computed"] == result.work["tiles"] == 2


def test_an_image_without_anything_is_background(large: dict[str, Any]) -> None:
    image = volume((64, 64, 96), CORNER)
    result = Predictor(Threshold(brain_tree()), large, device="cpu").predict([image])
    assert set(np.unique(result.labels)) <= {0, 1}
    assert (result.labels[8:] == 0).all()
    assert result.confidence[8:].min() > 0.9999


@settings(deadline=None, max_examples=40)
@given(
    st.lists(
        st.tuples(*[st.integers(0, 50)] * 3, *[st.integers(2, 14)] * 3), min_size=0, max_size=3
    ),
    st.permutations([33, 48, 61]),
    st.sampled_from([0.0, 0.3, 0.5]),
)  # fmt: skip
@example([], [33, 48, 61], 0.5)
def test_nothing_is_lost(boxes: list[tuple[int, ...]], shape: list[int], overlap: float) -> None:
    """Boxes of two voxels and more fill a voxel of the coarse grid to an eighth: over the threshold."""
    config = {
        "channels": [{"name": "MRI", "normalization": {"type": "none"}}],
        "orientation": "RAS", "spacing": None, "patch_size": [16, 16, 16], "overlap": overlap, "spatial_dims": 3,
        "coarse_pass": ALLOWED,
    }  # fmt: skip
    array = torch.zeros(1, *shape)
    for x, y, z, dx, dy, dz in boxes:
        array[0, x : x + dx, y : y + dy, z : z + dz] = 1.0
    network = Threshold(brain_tree())
    report: dict[str, Any] = {}

    def result(exhaustive: bool) -> torch.Tensor:
        found = []
        for slab in slabs(network, array, config, exhaustive=exhaustive, report=report):
            part = slab.probabilities.leaf.narrow(slab.axis + 1, slab.start - slab.first, slab.stop - slab.start)
            found.append((slab.axis, part.clone()))
        return torch.cat([part for _, part in found], dim=found[0][0] + 1)

    everything = result(True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(coarse, "LEAST_GAIN", 1)  # images of these sizes are not worth the pass otherwise
        torch.testing.assert_close(result(False), everything, atol=1e-5, rtol=1e-4)
    assert boxes or report["computed"] == 12, "the tiles of the coarse pass alone"


@settings(deadline=None)
@given(st.permutations([9, 20, 31]), st.integers(0, 2), st.lists(st.integers(1, 30), max_size=4), st.integers(0, 99))
def test_presence_gathers_slabs_that_begin_anywhere(shape: list[int], axis: int, cuts: list[int], seed: int) -> None:
    values = torch.from_numpy(np.random.default_rng(seed).random((3, *shape)) > 0.99).float()
    values[2] = 1.0 - values[:2].amax(0)  # the background
    ends = sorted({min(cut, shape[axis] - 1) for cut in cuts if cut < shape[axis]} | {shape[axis]})
    parts, start = [], 0
    for stop in ends:
        first = max(0, start - 1)
        piece = values.narrow(axis + 1, first, stop - first)
        parts.append(Slab(axis, first, start, stop, Probabilities(piece, piece)))
        start = stop
    found = coarse.find_presence(parts, shape, coarse.Coarse((2, 2, 2), 0.5, 0.5), 2)
    for row in range(2):
        for place in torch.nonzero(values[row]).tolist():
            block = tuple(index // 4 for index in place)
            assert found.blocks[row][block]
    torch.testing.assert_close(found.blocks[2], found.blocks[:2].any(0))
    assert int(found.blocks[:2].sum()) <= int(values[:2].sum())


def test_present_rows_are_those_within_reach() -> None:
    blocks = torch.zeros(3, 6, 6, 6, dtype=torch.bool)
    blocks[0, 0, 0, 0] = blocks[2, 3, 3, 3] = True
    presence = coarse.Presence(blocks, (8, 8, 8), 0)
    assert presence([slice(8, 16)] * 3) == (0,)  # the block beside it: the margin
    assert presence([slice(16, 24)] * 3) == (2,)
    assert presence([slice(40, 48)] * 3) == ()
    assert presence([slice(0, 48)] * 3) == (0, 2)
    # Row 0 says whether there is anything at all: it counts at a tile's edge only where no neighbor has its middle.
    assert presence.anything([slice(11, 27)] * 3, (48, 48, 48), 0.5) is True
    assert presence.anything([slice(12, 28)] * 3, (48, 48, 48), 0.5) is False
    assert presence.anything([slice(12, 28)] * 3, (48, 48, 48), 0.25) is True
    assert presence.anything([slice(15, 31)] * 3, (48, 48, 48), 0.0) is True
    assert presence.anything([slice(16, 32)] * 3, (48, 48, 48), 0.0) is False
    assert presence.anything([slice(0, 16)] * 3, (48, 48, 48), 0.5) is True
    spread = presence.spread((45, 48, 41))
    assert spread.shape == (3, 45, 48, 41)
    assert spread[0, 15, 15, 15]
    assert not spread[0, 16, 0, 0]


class Halves(Threshold):
    """Sees a structure only in images of this many voxels and more along the longest edge."""

    def __init__(self, tree: LabelTree, least: int) -> None:
        super().__init__(tree)
        self.least = least

    def forward(self, x: torch.Tensor) -> HierarchicalOutput:
        return super().forward(x if max(x.shape[2:]) >= self.least else torch.zeros_like(x))


def test_what_is_seen_at_half_the_resolution_may_be_left_out() -> None:
    array = np.zeros((1, 40, 40, 40), np.float32)
    array[0, 8:30, 10:30, 10:30] = 1.0
    config = {"patch_size": [40, 40, 40], "overlap": 0.5, "spatial_dims": 3}
    tree = brain_tree()
    found = coarse_check.allowed(Threshold(tree), [array], config, tree)
    # 'healthy' is in no image: which branches can be left out is not known.
    assert found == {"factor": [2, 2, 2], "threshold": 0.3, "branch_threshold": None}
    assert coarse_check.allowed(Halves(tree, 30), [array], config, tree) is None
    assert (
        coarse_check.allowed(Threshold(tree), [array], {**config, "spatial_dims": 2, "patch_size": [40, 40]}, tree)
        is None
    )
    assert coarse_check.allowed(Threshold(tree), [], config, tree) is None
    assert coarse_check.allowed(Threshold(tree), [np.zeros_like(array)], config, tree) is None


@pytest.mark.parametrize(
    ("fine", "wanted"),
    [
        ([True, True, True], 0.2),
        ([False, True, True], 0.1),
        ([False, False, True], None),
        ([True, False, True], None),
        ([True, True, False], None),
        ([False, False, False], None),
    ],
)
def test_one_threshold_is_kept_in_hand(fine: list[bool], wanted: float | None) -> None:
    assert coarse_check._second((0.3, 0.2, 0.1), fine) == wanted
