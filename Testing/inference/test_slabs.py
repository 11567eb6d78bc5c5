"""Slabs: what is decided plane by plane as the network goes on is what is decided from all planes at once."""

from __future__ import annotations

import itertools
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hierseg.data.preprocess import Preprocessor
from hierseg.imageio import Volume
from hierseg.inference import Predictor, predict_prepared, restore
from hierseg.inference.sliding import slabs
from hierseg.labeltree import LabelTree
from hierseg.networks import HierarchicalSegmenter
from standins.tiny_bundle import TREE as TREE_ROWS

TREE = LabelTree.from_dict(TREE_ROWS)
AXES = [np.array(order) for order in itertools.permutations(range(3))]


def network(dims: int) -> HierarchicalSegmenter:
    torch.manual_seed(1)
    return HierarchicalSegmenter(TREE, 1, dims, width=2).eval()


NETWORKS = {dims: network(dims) for dims in (2, 3)}


def configuration(dims: int, spacing: list[float] | None, overlap: float) -> dict[str, Any]:
    return {
        "channels": [{"name": "image", "normalization": {"type": "zscore"}}],
        "orientation": "RAS",
        "spacing": spacing,
        "patch_size": [16] * dims,
        "overlap": overlap,
        "spatial_dims": dims,
    }


@st.composite
def volumes(draw: st.DrawFn) -> Volume:
    order = draw(st.sampled_from(AXES))
    spacing = [draw(st.sampled_from([0.7, 1.0, 2.0, 3.1])) for _ in range(3)]
    # One axis with several tiles, the others with two at most: a network's time goes with the product.
    long = draw(st.integers(0, 2))
    ends = [45 if axis == long else 24 for axis in range(3)]
    sizes = [st.integers(1, int(end / max(1.0, step))) for end, step in zip(ends, spacing, strict=True)]
    shape = draw(st.tuples(*sizes).filter(lambda shape: max(shape) > 1))
    signs = [draw(st.sampled_from([-1.0, 1.0])) for _ in range(3)]
    affine = np.eye(4)
    affine[:3, :3] = 0
    affine[order, range(3)] = np.array(spacing) * signs
    if draw(st.booleans()):
        angle = 0.2
        turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
        affine[:3, :3] = turn @ affine[:3, :3]
    affine[:3, 3] = [10.0, -20.0, 3.0]
    array = np.random.default_rng(draw(st.integers(0, 99))).normal(size=shape).astype(np.float32)
    return Volume(array, affine)


@settings(deadline=None)
@given(
    volumes(),
    st.sampled_from([2, 3]),
    st.sampled_from([None, [1.0, 1.0, 1.0], [2.0, 1.5, 1.2]]),
    st.sampled_from([0.0, 0.5, 0.7]),
    st.sampled_from(["hierarchical", "leaf"]),
)
def test_slab_by_slab_is_all_at_once(
    volume: Volume, dims: int, spacing: list[float] | None, overlap: float, mode: str
) -> None:
    config = configuration(dims, spacing, overlap)
    streamed = Predictor(NETWORKS[dims], config, device="cpu").predict([volume], decode=mode)
    prepared = Preprocessor(config).image([volume])
    probabilities = predict_prepared(NETWORKS[dims], prepared.array, config)
    whole = restore(probabilities, prepared.affine, prepared.source, TREE, mode=mode)
    np.testing.assert_allclose(streamed.confidence, whole.confidence, atol=2e-5)
    # Two classes may be equally probable but for rounding.
    assert np.mean(streamed.labels != whole.labels) < 1e-3
    assert np.mean(streamed.superclass != whole.superclass) < 1e-3


@pytest.mark.parametrize("shape", [(16, 16, 70), (50, 20, 18), (20, 64, 20), (7, 9, 5)])
@pytest.mark.parametrize("overlap", [0.0, 0.3, 0.5, 0.8])
def test_each_plane_comes_once_and_in_order_with_the_one_before_it(shape: tuple[int, int, int], overlap: float) -> None:
    array = np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32)
    config = configuration(3, None, overlap)
    expected = predict_prepared(NETWORKS[3], array, config).leaf
    end = 0
    for slab in slabs(NETWORKS[3], array, config):
        assert slab.axis == int(np.argmax(shape))
        assert (slab.start, slab.first) == (end, max(0, end - 1))
        assert slab.stop > slab.start
        end = slab.stop
        part = expected.narrow(slab.axis + 1, slab.first, slab.stop - slab.first)
        torch.testing.assert_close(slab.probabilities.leaf, part, atol=1e-6, rtol=1e-5)
    assert end == max(shape)


@settings(deadline=None, max_examples=30)
@given(volumes(), st.sampled_from(["hierarchical", "leaf"]), st.integers(2, 30))
def test_block_by_block_is_all_at_once(volume: Volume, mode: str, edge: int) -> None:
    config = configuration(3, [3.0, 2.5, 2.0], 0.5)
    predictor = Predictor(NETWORKS[3], config, device="cpu")
    whole = predictor.predict([volume], decode=mode)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules["hierseg.inference.restore"], "EDGE", {"cpu": edge})
        parts = predictor.predict([volume], decode=mode)
    np.testing.assert_allclose(parts.confidence, whole.confidence, atol=2e-5)
    assert np.mean(parts.labels != whole.labels) < 1e-3


def test_a_long_image_needs_the_memory_of_one_slab() -> None:
    array = np.zeros((1, 16, 16, 640), np.float32)
    config = configuration(3, None, 0.5)
    held = [slab.probabilities.leaf.untyped_storage().nbytes() for slab in slabs(NETWORKS[3], array, config)]
    whole = predict_prepared(NETWORKS[3], array, config).leaf.untyped_storage().nbytes()
    assert len(held) > 50
    assert max(held) < whole / 30


def test_what_is_stopped_between_two_slabs_leaves_the_model_as_it_was() -> None:
    model = network(3).train()
    slab = next(iter(slabs(model, np.zeros((1, 16, 16, 64), np.float32), configuration(3, None, 0.5))))
    assert slab.start == 0
    assert model.training
