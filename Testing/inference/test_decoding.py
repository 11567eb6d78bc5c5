"""A subclass never lies outside of its superclass, and thresholds stop at the deepest accepted node."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hierseg.data.preprocess import Geometry
from hierseg.errors import BundleError, ConfigError, LabelTreeError
from hierseg.inference import Cancelled, Probabilities, decode, restore
from hierseg.labeltree import LabelTree
from standins.known_network import brain_tree

TREE = brain_tree()
LEAVES = {leaf.name: index for index, leaf in enumerate(TREE.leaves)}
TOPS = {node.name: index for index, node in enumerate(TREE.top_level)}


def random_probabilities(seed: int, shape: tuple[int, int, int], sharpness: float = 3.0) -> Probabilities:
    generator = torch.Generator().manual_seed(seed)
    top = torch.softmax(sharpness * torch.randn(len(TREE.top_level), *shape, generator=generator), dim=0)
    leaf = torch.softmax(sharpness * torch.randn(len(TREE.leaves), *shape, generator=generator), dim=0)
    return Probabilities(top, leaf)


def everywhere(top: dict[str, float], leaf: dict[str, float], shape: tuple[int, int, int] = (2, 2, 2)) -> Probabilities:
    """The same probabilities in every voxel."""
    tops = torch.tensor([top.get(node.name, 0.0) for node in TREE.top_level])
    leaves = torch.tensor([leaf.get(node.name, 0.0) for node in TREE.leaves])
    return Probabilities(tops[:, None, None, None].expand(-1, *shape), leaves[:, None, None, None].expand(-1, *shape))


def grid(shape: tuple[int, int, int], spacing: float = 1.0) -> Geometry:
    return Geometry(shape, np.diag([spacing, spacing, spacing, 1.0]))


@given(
    st.integers(0, 999),
    st.sampled_from([0.5, 1.0, 1.7, 2.0]),
    st.sampled_from(["hierarchical", "leaf"]),
    st.floats(0.5, 30),
)
def test_child_lies_in_its_parent(seed: int, spacing: float, mode: str, sharpness: float) -> None:
    result = restore(
        random_probabilities(seed, (5, 6, 4), sharpness), np.eye(4), grid((7, 6, 5), spacing), TREE, mode=mode
    )
    for value, top in zip(result.labels.ravel().tolist(), result.superclass.ravel().tolist(), strict=True):
        assert TREE.is_leaf(TREE.by_value(value))
        assert TREE.top_of(TREE.by_value(value)).value == top
    assert result.labels.dtype == TREE.dtype
    assert 0.0 <= result.confidence.min() <= result.confidence.max() <= 1.0 + 1e-6


@given(st.integers(0, 999), st.sampled_from(["hierarchical", "leaf"]), st.floats(0.5, 30))
def test_restoring_to_the_same_grid_is_decoding(seed: int, mode: str, sharpness: float) -> None:
    probabilities = random_probabilities(seed, (5, 6, 4), sharpness)
    decoded = decode(probabilities, TREE, mode)
    restored = restore(probabilities, np.eye(4), grid((5, 6, 4)), TREE, mode=mode)
    np.testing.assert_array_equal(restored.labels, TREE.leaf_values[decoded.leaf.numpy()])
    np.testing.assert_allclose(restored.confidence, decoded.confidence.numpy(), atol=1e-6)


@given(st.integers(0, 999), st.floats(0.5, 30))
def test_restoring_by_blocks_is_the_argmax_of_resampled_probabilities(seed: int, sharpness: float) -> None:
    probabilities = random_probabilities(seed, (4, 5, 6), sharpness)
    target = np.diag([0.5, 0.5, 0.5, 1.0])
    # Corners aligned as in scipy: the reference uses its own linear interpolation, all classes at once.
    coordinates = np.stack(np.meshgrid(*[np.arange(size) * 0.5 for size in (8, 10, 12)], indexing="ij"))
    from scipy.ndimage import map_coordinates

    def at(channels: torch.Tensor) -> np.ndarray:
        return np.stack(
            [map_coordinates(channel.numpy(), coordinates, order=1, mode="nearest") for channel in channels]
        )

    top, leaf = at(probabilities.superclass), at(probabilities.leaf)
    values = {node.name: leaf[row].sum(axis=0) for node, row in zip(TREE.nodes, TREE.membership, strict=True)}
    values |= {node.name: channel for node, channel in zip(TREE.top_level, top, strict=True)}
    chosen, clear = np.full(top.shape[1:], ""), np.ones(top.shape[1:], dtype=bool)
    chosen = chosen.astype(object)
    for parent in (None, *sorted((node for node in TREE.nodes if TREE.children(node)), key=lambda node: node.depth)):
        here = chosen == ("" if parent is None else parent.name)
        children = TREE.children(parent)
        stack = np.stack([values[child.name] for child in children])
        chosen[here] = np.array([child.name for child in children], dtype=object)[stack.argmax(axis=0)][here]
        if len(children) > 1:  # ties and the negligible are settled otherwise
            clear &= ~here | (np.diff(np.sort(stack, axis=0)[-2:], axis=0)[0] > 2e-3)
    result = restore(probabilities, np.eye(4), Geometry((8, 10, 12), target), TREE)
    expected = np.vectorize(lambda name: TREE.node(name).value)(chosen)
    np.testing.assert_array_equal(result.labels[clear], expected[clear])
    assert clear.mean() > 0.5


def test_dividing_a_structure_does_not_make_it_lose_to_the_one_beside_it() -> None:
    tree = LabelTree.from_dict(
        {
            "format_version": 1,
            "name": "split",
            "unlabelled": 255,
            "nodes": [
                {"name": "hindbrain", "value": 1},
                {"name": "brainstem", "value": 2, "parent": "hindbrain"},
                {"name": "cerebellum", "value": 3, "parent": "hindbrain"},
                {"name": "cortex", "value": 4, "parent": "cerebellum"},
                {"name": "white matter", "value": 5, "parent": "cerebellum"},
            ],
        }
    )
    leaf = torch.tensor([0.4, 0.35, 0.25])[:, None, None, None].expand(3, 2, 2, 2)
    probabilities = Probabilities(torch.ones(1, 2, 2, 2), leaf)
    decoded = decode(probabilities, tree)
    restored = restore(probabilities, np.eye(4), grid((2, 2, 2)), tree)
    assert set(np.unique(restored.labels)) == {4}
    assert set(tree.leaf_values[decoded.leaf.numpy()].ravel()) == {4}
    np.testing.assert_allclose(restored.confidence, 0.35)
    np.testing.assert_allclose(decoded.confidence, 0.35)


def test_superclass_head_decides_where_the_leaves_disagree() -> None:
    probabilities = everywhere({"background": 0.3, "tumor": 0.7}, {"background": 0.9, "core": 0.04, "edema": 0.06})
    assert set(np.unique(restore(probabilities, np.eye(4), grid((2, 2, 2)), TREE).labels)) == {TREE.node("edema").value}
    by_leaf = restore(probabilities, np.eye(4), grid((2, 2, 2)), TREE, mode="leaf")
    assert set(np.unique(by_leaf.superclass)) == {TREE.node("background").value}


def test_superclass_whose_leaves_have_no_probability_still_gets_one() -> None:
    probabilities = everywhere({"tumor": 1.0}, {"background": 1.0 - 3e-5, "core": 2e-5, "edema": 1e-5})
    result = restore(probabilities, np.eye(4), grid((2, 2, 2)), TREE)
    assert set(np.unique(result.labels)) == {TREE.node("core").value}
    np.testing.assert_allclose(result.confidence, 2e-5, rtol=1e-3)


@pytest.mark.parametrize(
    ("thresholds", "expected", "superclass"),
    [
        ({}, "cortex", "healthy"),
        ({"cortex": 0.4}, "cortex", "healthy"),
        ({"cortex": 0.6}, "gray", "healthy"),
        ({"cortex": 0.6, "gray": 0.85}, "healthy", "healthy"),
        ({"healthy/gray": 0.85}, "healthy", "healthy"),
        ({"healthy": 0.95}, None, None),
        ({"healthy": 0.95, "cortex": 0.1}, None, None),
        ({"core": 1.0, "tumor": 1.0}, "cortex", "healthy"),
    ],
)
def test_thresholds_go_down_level_by_level(
    thresholds: dict[str, float], expected: str | None, superclass: str | None
) -> None:
    probabilities = everywhere(
        {"healthy": 0.9, "tumor": 0.1}, {"cortex": 0.5, "nuclei": 0.3, "white": 0.1, "core": 0.1}
    )
    result = restore(probabilities, np.eye(4), grid((2, 2, 2)), TREE, thresholds=thresholds)
    assert set(np.unique(result.labels)) == {TREE.unlabelled if expected is None else TREE.node(expected).value}
    assert set(np.unique(result.superclass)) == {TREE.unlabelled if superclass is None else TREE.node(superclass).value}


def test_borders_are_smooth_when_the_network_sees_less() -> None:
    # A ball of 24 voxels across, seen at a quarter of the resolution.
    places = np.stack(np.meshgrid(*[np.arange(32)] * 3, indexing="ij"))
    ball = np.linalg.norm(places - 15.5, axis=0) < 12
    coarse = torch.from_numpy(ball.reshape(8, 4, 8, 4, 8, 4).mean(axis=(1, 3, 5)).astype(np.float32))
    leaf = torch.zeros(len(TREE.leaves), 8, 8, 8)
    leaf[LEAVES["core"]], leaf[LEAVES["background"]] = coarse, 1 - coarse
    top = torch.zeros(len(TREE.top_level), 8, 8, 8)
    top[TOPS["tumor"]], top[TOPS["background"]] = coarse, 1 - coarse
    affine = np.diag([4.0, 4.0, 4.0, 1.0])
    affine[:3, 3] = 1.5
    found = restore(Probabilities(top, leaf), affine, grid((32, 32, 32)), TREE).labels == TREE.node("core").value
    blocky = np.kron(coarse.numpy() > 0.5, np.ones((4, 4, 4), bool))
    dice = [2 * (mask & ball).sum() / (mask.sum() + ball.sum()) for mask in (found, blocky)]
    assert 1 - dice[0] < 0.6 * (1 - dice[1]), dice


@pytest.mark.parametrize(
    ("keywords", "error", "words"),
    [
        ({"mode": "best"}, ConfigError, "hierarchical or leaf"),
        ({"thresholds": {"liver": 0.5}}, LabelTreeError, "liver"),
        ({"thresholds": {"core": 1.5}}, ConfigError, "core"),
    ],
)
def test_wrong_settings(keywords: dict[str, Any], error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        restore(random_probabilities(0, (2, 2, 2)), np.eye(4), grid((2, 2, 2)), TREE, **keywords)


def test_network_that_gives_nan_is_refused() -> None:
    probabilities = random_probabilities(0, (2, 2, 2))
    probabilities.superclass[:, 0, 0, 0] = torch.nan
    with pytest.raises(BundleError, match="not a number"):
        restore(probabilities, np.eye(4), grid((2, 2, 2)), TREE)


def test_cancelling(tree: LabelTree) -> None:
    with pytest.raises(Cancelled):
        restore(random_probabilities(0, (2, 2, 2)), np.eye(4), grid((2, 2, 2)), tree, cancelled=lambda: True)
