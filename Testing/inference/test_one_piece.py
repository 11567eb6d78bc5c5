"""Structures that are one piece: islands go to what surrounds them, and nothing else changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import ndimage

from hierseg.errors import LabelTreeError
from hierseg.imageio import Volume
from hierseg.inference import Predictor
from hierseg.inference.one_piece import TOUCHING, apart, join_pieces
from hierseg.labeltree import LabelTree
from standins.known_network import Threshold, brain_tree

TREE = brain_tree()
BACKGROUND, CORE, EDEMA = (TREE.node(name).value for name in ("background", "core", "edema"))
MAPS = array_shapes(min_dims=3, max_dims=3, max_side=6).flatmap(
    lambda shape: arrays(np.uint8, shape, elements=st.sampled_from([node.value for node in TREE.nodes]))
)


def island(inside: int) -> np.ndarray:
    """A large core in the background, and one voxel of core inside another label."""
    labels = np.full((12, 6, 6), BACKGROUND, TREE.dtype)
    labels[1:4, 1:5, 1:5] = CORE
    labels[7:10, 1:5, 1:5] = inside
    labels[8, 2, 2] = CORE
    return labels


@pytest.mark.parametrize("inside", [BACKGROUND, EDEMA])
def test_an_island_goes_to_what_surrounds_it(inside: int) -> None:
    labels = island(inside)
    changed = join_pieces(labels, TREE, ["core"], (1.0, 1.0, 1.0))
    assert np.argwhere(changed).tolist() == [[8, 2, 2]]
    expected = island(inside)
    expected[8, 2, 2] = inside
    np.testing.assert_array_equal(labels, expected)


def test_what_is_nearest_is_measured_in_millimeters() -> None:
    labels = np.full((9, 3, 9), CORE, TREE.dtype)
    labels[:, :, 4] = BACKGROUND
    labels[:, :, 5:] = EDEMA
    labels[2:7, 1, 6] = CORE
    labels[2:7, 0, 6] = BACKGROUND
    join_pieces(labels, TREE, ["core"], (1.0, 1.0, 5.0))
    assert set(labels[3:6, 1, 6]) <= {BACKGROUND, EDEMA}
    flat = np.full((5, 1, 5), BACKGROUND, TREE.dtype)
    flat[0:2] = CORE
    flat[3, 0, 2] = CORE
    flat[3, 0, 1] = flat[3, 0, 3] = EDEMA
    wide = flat.copy()
    join_pieces(flat, TREE, ["core"], (1.0, 1.0, 3.0))
    join_pieces(wide, TREE, ["core"], (3.0, 1.0, 1.0))
    assert (flat[3, 0, 2], wide[3, 0, 2]) == (BACKGROUND, EDEMA)


def test_corners_touch() -> None:
    labels = np.full((4, 4, 4), BACKGROUND, TREE.dtype)
    labels[0, 0, 0] = labels[1, 1, 1] = labels[2, 2, 2] = CORE
    assert not join_pieces(labels, TREE, ["core"], (1.0, 1.0, 1.0)).any()


def test_a_parent_s_island_takes_its_children_along() -> None:
    labels = island(EDEMA)
    join_pieces(labels, TREE, ["tumor"], (1.0, 1.0, 1.0))
    assert set(np.unique(labels[5:])) == {BACKGROUND} or set(np.unique(labels[:5])) == {BACKGROUND}
    with pytest.raises(LabelTreeError):
        join_pieces(labels, TREE, ["liver"], (1.0, 1.0, 1.0))


@given(labels=MAPS, node=st.sampled_from([node.name for node in TREE.nodes]))
def test_one_piece_is_left_and_only_islands_change(labels: np.ndarray, node: str) -> None:
    before, copied = labels.copy(), labels.copy()
    changed = join_pieces(labels, TREE, [node], (1.0, 2.0, 3.0), copied)
    np.testing.assert_array_equal(changed, apart(before, TREE, node))
    np.testing.assert_array_equal(labels[~changed], before[~changed])
    np.testing.assert_array_equal(labels, copied)
    values = [TREE.node(node).value, *(below.value for below in TREE.descendants(node))]
    assert not np.isin(labels[changed], values).any()
    assert ndimage.label(np.isin(labels, values), TOUCHING)[1] <= 1
    assert set(np.unique(labels)) <= set(np.unique(before))


@given(labels=MAPS)
def test_all_nodes_at_once_keep_children_inside_parents(labels: np.ndarray) -> None:
    tops = TREE.top_value_table[labels]
    join_pieces(labels, TREE, [node.name for node in TREE.nodes], (1.0, 1.0, 1.0), tops)
    np.testing.assert_array_equal(tops, TREE.top_value_table[labels])


def test_a_prediction_obeys_its_bundle_and_says_what_changed(
    network: Threshold, config: dict[str, Any], tree: LabelTree
) -> None:
    image = np.zeros((12, 6, 6), np.float32)
    image[1:4, 1:5, 1:5] = image[8, 2:4, 2:4] = 1.0
    volume = Volume(image, np.diag([2.0, 1.0, 0.5, 1.0]))
    predictor = Predictor(network, {**config, "one_piece": ["tumor"]}, device="cpu")
    joined, free = predictor.predict([volume]), predictor.predict([volume], one_piece=())
    apart_there = (slice(6, None),)
    assert (free.labels[apart_there] != tree.node("background").value).any()
    assert free.notes == ()
    assert (joined.labels[apart_there] == tree.node("background").value).all()
    assert (joined.superclass[apart_there] == tree.node("background").value).all()
    np.testing.assert_array_equal(joined.labels[:6], free.labels[:6])
    (note,) = joined.notes
    moved = joined.labels != free.labels
    assert note.startswith(f"{moved.sum() / 1000:.3g} ml apart from the largest piece of tumor")
    np.testing.assert_allclose(
        joined.confidence[moved], np.minimum(free.confidence[moved], 1 - free.confidence[moved]), atol=1e-6
    )
