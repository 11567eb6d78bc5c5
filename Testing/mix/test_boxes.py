"""Mixing images: boxes of whole cases, only where both sides allow it, and patches equal to crops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hierseg.errors import DatasetError
from hierseg.labeltree import LabelTree
from hierseg.mix import MixedCase, mix_case, mixed_patch, superclass_boxes
from standins.label_trees import random_map, tree_of, trees

TREE = tree_of({"background": {}, "tumor": {"core": {}, "edema": {}}, "heart": {"left": {}, "right": {}}})
BACKGROUND, TUMOR, CORE, EDEMA, HEART, LEFT, RIGHT = (node.value for node in TREE.nodes)


def blobs(shape: tuple[int, ...], places: dict[int, tuple[slice, ...]], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A random image of two channels and a map with boxes of node values."""
    node_map = np.full(shape, BACKGROUND)
    for value, place in places.items():
        node_map[place] = value
    return np.random.default_rng(seed).random((2, *shape)), node_map


@pytest.fixture
def case() -> tuple[np.ndarray, np.ndarray]:
    return blobs((20, 24), {TUMOR: np.s_[2:10, 3:13], HEART: np.s_[12:18, 10:22]}, seed=1)


@pytest.fixture
def partner() -> tuple[np.ndarray, np.ndarray]:
    return blobs((22, 18), {CORE: np.s_[4:9, 2:8], EDEMA: np.s_[9:16, 2:8], TUMOR: np.s_[4:9, 8:12]}, seed=2)


def mix(case: tuple[np.ndarray, np.ndarray], partner: tuple[np.ndarray, np.ndarray], alpha: float = 0.7) -> MixedCase:
    return mix_case(*case, *partner, TREE, alpha)


def test_boxes_bound_top_level_nodes_with_several_leaves(partner: tuple[np.ndarray, np.ndarray]) -> None:
    assert superclass_boxes(partner[1], TREE) == {"tumor": ((4, 16), (2, 12))}


def test_a_single_chain_of_nodes_has_no_box() -> None:
    """One leaf under a superclass: there is no subclass to learn."""
    tree = tree_of({"a": {"b": {}}, "c": {"d": {}, "e": {}}})
    assert set(superclass_boxes(np.array([[0, 1, 2, 3]]), tree)) == {"c"}


def test_outside_the_overlap_the_image_is_the_case_s_own(case: tuple, partner: tuple) -> None:
    mixed = mix(case, partner)
    outside = mixed.weight == 0
    assert outside.any()
    assert np.array_equal(mixed.image[:, outside], case[0].astype(np.float32)[:, outside])
    assert (mixed.label[outside] == TREE.unlabelled).all()


def test_blended_exactly_where_the_case_has_the_superclass_and_the_partner_a_leaf(case: tuple, partner: tuple) -> None:
    mixed = mix(case, partner)
    blended = mixed.weight > 0
    # The partner's box is 12 by 10 and the case's 8 by 10: rows are taken at (r + 1/2) 12/8, columns as they are.
    rows = [4 + int((r + 0.5) * 12 / 8) for r in range(8)]
    expected = np.full(case[1].shape, TREE.unlabelled)
    expected[2:10, 3:13] = partner[1][np.ix_(rows, range(2, 12))]
    expected[~np.isin(expected, [CORE, EDEMA])] = TREE.unlabelled
    assert np.array_equal(mixed.label, expected)
    assert np.array_equal(blended, expected != TREE.unlabelled)
    assert set(np.unique(mixed.weight)) == {np.float32(0.0), np.float32(0.7)}


def test_the_blend_is_alpha_of_the_partner(case: tuple) -> None:
    """Boxes of equal size: no resampling, so the numbers can be computed by hand."""
    image, node_map = blobs((20, 24), {CORE: np.s_[6:10, 1:11], EDEMA: np.s_[10:14, 1:11]}, seed=3)
    mixed = mix(case, (image, node_map), alpha=0.6)
    expected = 0.4 * case[0][:, 2:10, 3:13] + 0.6 * image[:, 6:14, 1:11]
    assert np.allclose(mixed.image[:, 2:10, 3:13], expected, atol=1e-6)


def test_a_superclass_goes_to_the_same_superclass_only(case: tuple) -> None:
    image, node_map = blobs(
        (20, 24), {CORE: np.s_[0:5, 0:5], LEFT: np.s_[10:16, 0:6], RIGHT: np.s_[10:16, 6:9]}, seed=4
    )
    mixed = mix(case, (image, node_map))
    top = TREE.top_value_table
    blended = mixed.weight > 0
    assert np.array_equal(top[mixed.label[blended]], top[case[1][blended]])
    assert set(np.unique(mixed.label[blended])) == {CORE, LEFT, RIGHT}


def test_a_leaf_of_the_case_is_its_superclass_too(partner: tuple) -> None:
    """Sparse refinement: voxels of x that carry a leaf are part of their superclass's region."""
    image, node_map = blobs((20, 24), {TUMOR: np.s_[2:10, 3:13]}, seed=1)
    refined = node_map.copy()
    refined[2:6, 3:8] = EDEMA
    coarse, fine = mix((image, node_map), partner), mix((image, refined), partner)
    assert np.array_equal(coarse.label, fine.label)
    assert np.array_equal(coarse.image, fine.image)


@pytest.mark.parametrize("missing", ["case", "partner", "leaves"])
def test_nothing_to_mix_leaves_the_case_alone(case: tuple, partner: tuple, missing: str) -> None:
    empty = np.full_like(case[1], BACKGROUND)
    if missing == "case":
        case = (case[0], empty)
    elif missing == "partner":
        partner = (partner[0], np.full_like(partner[1], TREE.unlabelled))
    else:
        partner = (partner[0], np.where(partner[1] == BACKGROUND, BACKGROUND, TUMOR))
    mixed = mix(case, partner)
    assert np.array_equal(mixed.image, case[0].astype(np.float32))
    assert (mixed.label == TREE.unlabelled).all()
    assert (mixed.weight == 0).all()


def test_inputs_are_not_changed(case: tuple, partner: tuple) -> None:
    copies = [array.copy() for array in (*case, *partner)]
    mix(case, partner)
    assert all(np.array_equal(array, copy) for array, copy in zip((*case, *partner), copies, strict=True))


def test_a_patch_holds_a_part_of_the_structure_not_a_small_whole_one(case: tuple, partner: tuple) -> None:
    """The tumor's upper left corner in the patch is the upper left corner of the partner's tumor: all core."""
    patch = mixed_patch(*case, *partner, TREE, 0.5, ((2, 5), (3, 6)))
    assert (patch.label == CORE).all()


@settings(max_examples=60, deadline=None)
@given(tree=trees(max_nodes=8), data=st.data())
def test_a_mixed_patch_is_the_crop_of_the_mixed_whole(tree: LabelTree, data: st.DataObject) -> None:
    dims = data.draw(st.integers(2, 3))
    shape = tuple(data.draw(st.integers(1, 9)) for _ in range(dims))
    other = tuple(data.draw(st.integers(1, 9)) for _ in range(dims))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    image, partner_image = rng.random((1, *shape)).astype(np.float32), rng.random((1, *other)).astype(np.float32)
    node_map, partner_map = random_map(tree, shape, rng), random_map(tree, other, rng)
    window = []
    for size in shape:
        low = data.draw(st.integers(0, size - 1))
        window.append((low, data.draw(st.integers(low + 1, size))))
    whole = mix_case(image, node_map, partner_image, partner_map, tree, 0.8)
    patch = mixed_patch(
        image,
        node_map,
        partner_image,
        partner_map,
        tree,
        0.8,
        tuple(window),
        boxes=superclass_boxes(node_map, tree),
        partner_boxes=superclass_boxes(partner_map, tree),
    )
    crop = tuple(slice(low, high) for low, high in window)
    assert np.array_equal(patch.image, whole.image[(slice(None), *crop)])
    assert np.array_equal(patch.label, whole.label[crop])
    assert np.array_equal(patch.weight, whole.weight[crop])
    # What holds of every mixed case.
    blended = whole.weight > 0
    assert np.array_equal(whole.image[:, ~blended], image[:, ~blended])
    assert (tree.leaf_index_table[whole.label[blended]] >= 0).all()
    assert np.array_equal(tree.top_value_table[whole.label[blended]], tree.top_value_table[node_map[blended]])


def test_resampling_is_linear_between_voxel_centers() -> None:
    """A ramp stays a ramp, inside the outermost centers, whatever the sizes."""
    tree = tree_of({"a": {"b": {}, "c": {}}})
    ramp = np.broadcast_to((np.arange(5) + 0.5) / 5, (1, 3, 5)).astype(np.float32)
    mixed = mix_case(np.zeros((1, 3, 10)), np.zeros((3, 10), int), ramp, np.ones((3, 5), int), tree, 1.0)
    expected = np.clip((np.arange(10) + 0.5) / 10, 0.1, 0.9)
    assert np.allclose(mixed.image[0, 1], expected, atol=1e-6)


def test_what_does_not_belong_together_is_refused(case: tuple, partner: tuple) -> None:
    with pytest.raises(DatasetError, match="the partner's image has the shape"):
        mix_case(*case, partner[0], partner[1][1:], TREE, 0.5)
    with pytest.raises(DatasetError, match="channels and dimensions must be equal"):
        mix_case(*case, partner[0][:1], partner[1], TREE, 0.5)
    with pytest.raises(DatasetError, match="does not lie in a case of shape"):
        mixed_patch(*case, *partner, TREE, 0.5, ((0, 21), (0, 5)))
