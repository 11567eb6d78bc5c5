"""Tiles join without seams, small images are padded, and the same input gives the same bits."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from hierseg.errors import ConfigError, ResourceError
from hierseg.inference import Cancelled, predict_prepared
from hierseg.inference.forward import top_membership
from hierseg.inference.tiles import tile_starts
from hierseg.labeltree import LabelTree
from hierseg.networks import HierarchicalSegmenter
from standins.known_network import Threshold, brain_tree

TREE = brain_tree()


@given(st.integers(1, 200), st.integers(1, 64), st.sampled_from([0.0, 0.25, 0.5, 0.75, 0.9]))
def test_tiles_cover_every_voxel_and_overlap_enough(size: int, patch: int, overlap: float) -> None:
    patch = min(patch, size)
    starts = tile_starts(size, patch, overlap)
    assert starts[0] == 0
    assert starts[-1] + patch == size
    assert all(0 < after - before <= max(1, patch * (1 - overlap)) + 1 for before, after in itertools.pairwise(starts))


@given(st.tuples(*[st.integers(1, 40)] * 3), st.sampled_from([0.0, 0.5, 0.7]), st.integers(1, 5))
def test_a_network_without_context_gives_the_same_with_any_tiles(
    shape: tuple[int, int, int], overlap: float, batch: int
) -> None:
    image = np.random.default_rng(0).random((1, *shape)).astype(np.float32)
    config = {"patch_size": [16, 8, 12], "overlap": overlap}
    result = predict_prepared(Threshold(TREE), image, config, tile_batch=batch)
    core = [leaf.name for leaf in TREE.leaves].index("core")
    np.testing.assert_allclose(result.leaf[core].numpy(), image[0], atol=2e-5)
    np.testing.assert_allclose(result.leaf.sum(dim=0).numpy(), 1.0, atol=1e-5)
    np.testing.assert_allclose(result.superclass.sum(dim=0).numpy(), 1.0, atol=1e-5)


@pytest.mark.parametrize("shape", [(5, 20, 33), (1, 1, 40), (16, 16, 16)])
def test_real_network_takes_any_size_and_repeats_its_bits(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    model = HierarchicalSegmenter(TREE, 2, 3, width=2)
    image = np.random.default_rng(0).random((2, *shape)).astype(np.float32)
    config = {"patch_size": [16, 16, 32], "overlap": 0.5}
    first = predict_prepared(model, image, config)
    second = predict_prepared(model, image, config)
    assert first.leaf.shape == (len(TREE.leaves), *shape)
    assert torch.equal(first.leaf, second.leaf)
    assert torch.equal(first.superclass, second.superclass)
    assert model.training, "the caller's mode is given back"


def test_slices_of_a_2d_network_do_not_see_each_other() -> None:
    torch.manual_seed(0)
    model = HierarchicalSegmenter(TREE, 1, 2, width=2)
    image = np.random.default_rng(0).random((1, 20, 18, 5)).astype(np.float32)
    config = {"patch_size": [16, 16], "overlap": 0.5, "spatial_dims": 2}
    whole = predict_prepared(model, image, config)
    alone = predict_prepared(model, image[..., 3:4], config)
    np.testing.assert_allclose(whole.leaf[..., 3:4].numpy(), alone.leaf.numpy(), atol=1e-5)


def test_plain_leaf_logits_are_summed_to_superclasses() -> None:
    class Plain(nn.Module):
        divisor = 1

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cat([x * index for index in range(len(TREE.leaves))], dim=1)

    image = np.random.default_rng(0).random((1, 4, 4, 4)).astype(np.float32)
    result = predict_prepared(Plain(), image, {"patch_size": [4, 4, 4]}, tree=TREE)
    expected = np.einsum("rk,k...->r...", top_membership(TREE).astype(np.float32), result.leaf.numpy())
    np.testing.assert_allclose(result.superclass.numpy(), expected, atol=1e-6)


def test_cancelling_and_progress(network: Threshold) -> None:
    image = np.zeros((1, 32, 16, 16), np.float32)
    config = {"patch_size": [16, 16, 16], "overlap": 0.0}
    seen: list[tuple[str, float]] = []
    predict_prepared(network, image, config, progress=lambda stage, part: seen.append((stage, part)))
    assert seen == [("network", 0.5), ("network", 1.0)]
    answers = iter([False, True])
    with pytest.raises(Cancelled):
        predict_prepared(network, image, config, cancelled=lambda: next(answers))


@pytest.mark.parametrize(
    ("config", "words"),
    [({"patch_size": [16, 16]}, "patch_size"), ({"patch_size": [0, 1, 1]}, "patch_size"), ({"patch_size": [8] * 3, "overlap": 1.0}, "overlap")],
)  # fmt: skip
def test_wrong_settings(network: Threshold, config: dict[str, Any], words: str, tree: LabelTree) -> None:
    with pytest.raises(ConfigError, match=words):
        predict_prepared(network, np.zeros((1, 8, 8, 8), np.float32), config, tree=tree)


def test_too_large_an_image_is_refused_with_its_gigabytes(network: Threshold) -> None:
    huge = torch.zeros(1, 1, 1, 1).expand(1, 4000, 4000, 4000)  # takes no memory itself
    with pytest.raises(ResourceError, match=r"need 2\d{3}\.\d GB"):
        predict_prepared(network, huge, {"patch_size": [2000, 2000, 2000]})
