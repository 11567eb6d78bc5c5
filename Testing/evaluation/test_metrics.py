"""Dice along a label tree: what is not known scores nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hierseg.errors import ImageError, LabelTreeError
from hierseg.evaluation import mean_score, node_overlaps, node_scores
from hierseg.labeltree import LabelTree

# region -> structure -> side, one inner node with a single child, and two top-level leaves.
TREE = LabelTree.from_dict(
    {
        "format_version": 1,
        "name": "deep",
        "unlabelled": 255,
        "nodes": [
            {"name": "background", "value": 0},
            {"name": "region", "value": 10},
            {"name": "structure", "parent": "region", "value": 11},
            {"name": "left", "parent": "structure", "value": 1},
            {"name": "right", "parent": "structure", "value": 2},
            {"name": "other", "parent": "region", "value": 3},
            {"name": "skull", "value": 4},
        ],
    }
)
LEAVES = TREE.leaf_values.tolist()
ANY = [*TREE.values.tolist(), 255]
maps = st.lists(st.tuples(st.sampled_from(LEAVES), st.sampled_from(ANY)), min_size=1, max_size=40)


def by_definition(prediction: np.ndarray, reference: np.ndarray, name: str) -> dict[str, float | None]:
    """Scores voxel by voxel, straight from the sentences in the module."""
    node = TREE.node(name)
    inside = {node.name} | {below.name for below in TREE.descendants(node)}
    both = predicted = present = others = 0
    for found, truth in zip(prediction.tolist(), reference.tolist(), strict=True):
        if truth == 255:
            continue
        known = TREE.by_value(truth)
        if not TREE.is_leaf(known) and node.name not in {known.name} | {above.name for above in TREE.ancestors(known)}:
            continue
        is_found = found != 255 and TREE.by_value(found).name in inside
        both += is_found and known.name in inside
        predicted += is_found
        present += known.name in inside
        others += known.name not in inside
    rejected = others - (predicted - both)
    return {
        "dice": 2 * both / (predicted + present) if present else None,
        "sensitivity": both / present if present else None,
        "balanced_accuracy": (both / present + rejected / others) / 2 if present and others else None,
    }


@given(maps)
def test_scores_follow_the_definition(pairs: list[tuple[int, int]]) -> None:
    prediction, reference = (np.array(part, dtype=np.uint8) for part in zip(*pairs, strict=True))
    overlaps = node_overlaps(prediction, reference, TREE)
    for node in TREE.nodes:
        for name, expected in by_definition(prediction, reference, node.name).items():
            assert getattr(overlaps[node.name], name) == (None if expected is None else pytest.approx(expected))
    assert node_scores(prediction, reference, TREE) == {name: overlap.dice for name, overlap in overlaps.items()}


def test_sparse_scores_by_hand() -> None:
    """Six voxels of strokes: three "left" (two found), two "right" (one called left), one known as "structure" only."""
    prediction = np.array([1, 1, 4, 2, 1, 4, 1, 1])
    reference = np.array([1, 1, 1, 2, 2, 11, 255, 255])
    overlaps = node_overlaps(prediction, reference, TREE)
    assert overlaps["left"].sensitivity == pytest.approx(2 / 3)
    assert overlaps["left"].balanced_accuracy == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert overlaps["right"].sensitivity == pytest.approx(1 / 2)
    assert overlaps["right"].balanced_accuracy == pytest.approx((1 / 2 + 3 / 3) / 2)
    assert overlaps["structure"].sensitivity == pytest.approx(4 / 6)
    assert overlaps["structure"].balanced_accuracy is None, "nothing outside of it was annotated"
    assert overlaps["skull"].sensitivity is None


@given(maps, st.randoms(use_true_random=False))
def test_what_is_predicted_on_unlabelled_voxels_does_not_matter(pairs: list[tuple[int, int]], random) -> None:
    prediction, reference = (np.array(part, dtype=np.uint8) for part in zip(*pairs, strict=True))
    changed = np.array([random.choice(LEAVES) if truth == 255 else found for found, truth in pairs], dtype=np.uint8)
    assert node_scores(prediction, reference, TREE) == node_scores(changed, reference, TREE)


@given(maps)
def test_a_perfect_prediction_scores_one_wherever_there_is_a_reference(pairs: list[tuple[int, int]]) -> None:
    reference = np.array([truth for _, truth in pairs], dtype=np.uint8)
    # Any leaf below a coarse voxel is a perfect answer there.
    below = {node.value: TREE.leaves_under(node)[0].value for node in TREE.nodes} | {255: 0}
    prediction = np.array([below[truth] for truth in reference.tolist()], dtype=np.uint8)
    scores = node_scores(prediction, reference, TREE)
    assert set(scores.values()) <= {1.0, None}


@given(maps)
def test_none_means_missing_and_only_that(pairs: list[tuple[int, int]]) -> None:
    prediction, reference = (np.array(part, dtype=np.uint8) for part in zip(*pairs, strict=True))
    for node in TREE.nodes:
        inside = [node.value, *(below.value for below in TREE.descendants(node))]
        assert (node_scores(prediction, reference, TREE)[node.name] is None) == (not np.isin(reference, inside).any())


def test_a_coarse_voxel_scores_its_node_and_the_ancestors_only() -> None:
    # Reference "structure" (an inner node), predicted as something else altogether.
    overlaps = node_overlaps(np.array([4]), np.array([11]), TREE)
    assert (overlaps["structure"].reference, overlaps["region"].reference) == (1, 1)
    for name in ("background", "left", "right", "other", "skull"):
        assert (overlaps[name].reference, overlaps[name].predicted) == (0, 0)


def test_a_false_positive_on_a_leaf_voxel_counts() -> None:
    scores = node_scores(np.array([1, 1, 0]), np.array([1, 0, 0]), TREE)
    assert scores["left"] == pytest.approx(2 / 3)
    assert scores["background"] == pytest.approx(2 / 3)
    assert scores["skull"] is None


def test_overlaps_of_cases_may_be_added() -> None:
    one = node_overlaps(np.array([1, 1]), np.array([1, 2]), TREE)["left"]
    two = node_overlaps(np.array([2, 1]), np.array([1, 1]), TREE)["left"]
    together = node_overlaps(np.array([1, 1, 2, 1]), np.array([1, 2, 1, 1]), TREE)["left"]
    assert one + two == together


def test_a_predicted_inner_node_is_right_for_itself_but_not_for_its_children() -> None:
    scores = node_scores(np.array([11, 11]), np.array([1, 1]), TREE)
    assert (scores["structure"], scores["region"], scores["left"]) == (1.0, 1.0, 0.0)


def test_large_values_and_other_integer_types() -> None:
    wide = LabelTree.from_dict(
        {
            "format_version": 1,
            "name": "wide",
            "unlabelled": 65535,
            "nodes": [{"name": "a", "value": 0}, {"name": "b", "value": 3000}],
        }
    )
    for dtype in (np.uint16, np.int64):
        found = np.array([[0, 3000], [3000, 65535]], dtype=dtype)
        assert node_scores(found, found, wide) == {"a": 1.0, "b": 1.0}


def test_bad_maps_are_told() -> None:
    with pytest.raises(ImageError, match="same grid"):
        node_scores(np.zeros(3, int), np.zeros(4, int), TREE)
    with pytest.raises(LabelTreeError, match="reference: label value 77"):
        node_scores(np.zeros(3, int), np.full(3, 77), TREE)


def test_mean_leaves_out_what_is_missing() -> None:
    assert mean_score({"a": 1.0, "b": None, "c": 0.0}, ["a", "b", "c"]) == 0.5
    assert mean_score({"b": None}, ["b", "x"]) is None
