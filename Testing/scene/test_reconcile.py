"""Edits made elsewhere: a child outside its parent, siblings that overlap."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from HierSubclassSegLib.scene import layers, tree_store
from HierSubclassSegLib.scene.reconcile import conflicts, consistent
from scene.painting_support import (
    SHAPE,
    Editor,
    box,
    check_hierarchy,
    expected_layers,
    masks,
    state,
    uniform_tree,
    workplace,
)

EVERYWHERE = np.ones(SHAPE, bool)
LEFT = box((0, 4), (0, 8), (0, 7))
MIDDLE = box((3, 6), (0, 8), (0, 7))


@pytest.fixture
def place():
    place = workplace(uniform_tree(3))
    with Editor(place).session() as session:
        session.paint("a", LEFT)
        session.paint("b", ~LEFT)
        session.paint("aa", LEFT)
        session.paint("aaa", box((0, 2), (0, 8), (0, 7)))
        session.select("ab")
        session.select("aab")
    return place


def edit_elsewhere(place, name, mask):
    """Another module writes a segment without any masking, as it would: the segment in a label map of its own."""
    annotation = place.annotation
    tree = tree_store.read_tree(annotation)
    segment_id = tree_store.segment_id_of(annotation, tree.node(name))
    annotation.GetSegmentation().SeparateSegmentLabelmap(segment_id)
    image = layers.Grid.of(annotation).new_image(mask.astype(np.uint8), (0, 0, 0))
    layers.add_voxels(annotation, segment_id, image)


@pytest.mark.parametrize("outside", ["grow", "clip"])
def test_a_child_outside_its_parent(place, outside):
    edit_elsewhere(place, "aab", MIDDLE & ~LEFT)
    before = state(place.annotation)
    assert conflicts(place.annotation)[0] > 0
    editor = Editor(place)
    with editor.session() as session:
        session.enter("aa", outside=outside)
        after = masks(place.annotation)
        session.leave()
        editor.logic.Undo()
        assert state(place.annotation) == before, "one undo step"
        editor.logic.Redo()
    if outside == "grow":
        assert np.array_equal(after["aab"], MIDDLE & ~LEFT)
        assert np.array_equal(after["aa"], LEFT | MIDDLE)
        assert np.array_equal(after["a"], LEFT | MIDDLE)
        assert np.array_equal(after["b"], ~(LEFT | MIDDLE)), "what the parent grew over gives way"
    else:
        assert not after["aab"].any()
        assert np.array_equal(after["a"], LEFT)
        assert np.array_equal(after["b"], ~LEFT)
    check_hierarchy(place.annotation)
    assert conflicts(place.annotation) == (0, 0)
    assert layers.number_of_layers(place.annotation) == expected_layers(place.annotation)


@pytest.mark.parametrize("last", ["aa", "ab"])
def test_of_overlapping_siblings_the_latest_wins(place, last):
    first = "ab" if last == "aa" else "aa"
    edit_elsewhere(place, first, LEFT)
    edit_elsewhere(place, last, LEFT)
    assert conflicts(place.annotation) == (0, LEFT.sum())
    with Editor(place).session() as session:
        session.enter("a")
    after = masks(place.annotation)
    assert np.array_equal(after[last], LEFT)
    assert not after[first].any()
    assert after["aaa"].any() == (last == "aa"), "descendants go with the one that lost"
    check_hierarchy(place.annotation)


def test_the_latest_is_still_known_after_the_layout_was_rebuilt(place):
    edit_elsewhere(place, "aa", LEFT)
    edit_elsewhere(place, "ab", LEFT)
    layers.ensure_layout(place.annotation)
    assert conflicts(place.annotation) == (0, LEFT.sum())
    with Editor(place).session() as session:
        session.reconcile()
    assert np.array_equal(masks(place.annotation)["ab"], LEFT)


def test_a_chain_of_overlaps_keeps_its_order(place):
    annotation, tree = place.annotation, uniform_tree(1, 3)
    for segment_id in [i for i, _ in tree_store.segments(annotation)]:
        annotation.GetSegmentation().RemoveSegment(segment_id)
    tree_store.write_tree(annotation, tree)
    for number, name in enumerate("abc"):
        tree_store.add_segment(annotation, tree, name)
        edit_elsewhere(place, name, box((2 * number, 2 * number + 3), (0, 8), (0, 7)))
    layers.ensure_layout(annotation)
    with Editor(place).session() as session:
        session.reconcile()
    after = masks(annotation)
    assert [np.flatnonzero(after[name].any(axis=(1, 2))).tolist() for name in "abc"] == [[0, 1], [2, 3], [4, 5, 6]]


def test_locked_nodes_win(place):
    editor = Editor(place)
    with editor.session() as session:
        session.set_locked("aa")
        edit_elsewhere(place, "ab", LEFT)
        session.reconcile()
        assert np.array_equal(session.voxels("aa"), LEFT)
        assert not session.voxels("ab").any()
        session.set_locked("aa", False)
        session.set_locked("b")
        edit_elsewhere(place, "aab", MIDDLE & ~LEFT)
        session.reconcile("grow")
        assert np.array_equal(session.voxels("b"), ~LEFT)
        assert not session.voxels("aab").any(), "its top-level node could not grow into the locked one"
    check_hierarchy(place.annotation)


def test_nothing_is_saved_or_changed_where_all_is_well(place):
    editor = Editor(place)
    with editor.session() as session:
        before = state(place.annotation)
        assert session.reconcile() == []
        assert state(place.annotation) == before
        assert not editor.logic.CanUndo()
    empty = workplace(uniform_tree(2))
    assert conflicts(empty.annotation) == (0, 0)


TREE = uniform_tree(3)


@given(st.data(), st.sampled_from(["grow", "clip"]))
def test_any_mess_becomes_a_hierarchy(data, outside):
    names = data.draw(st.lists(st.sampled_from([node.name for node in TREE.nodes]), unique=True, min_size=1))
    found = {
        name: np.array(data.draw(st.lists(st.booleans(), min_size=4, max_size=4))).reshape(4, 1, 1) for name in names
    }
    age = {name: data.draw(st.integers(1, 3)) for name in names}
    result = consistent(TREE, found, age, frozenset(), outside)

    def region(node):
        if node.name in result:
            return result[node.name]
        return np.logical_or.reduce([np.zeros((4, 1, 1), bool), *(region(child) for child in TREE.children(node))])

    for parent in (None, *TREE.nodes):
        children = [region(child) for child in TREE.children(parent)]
        if children:
            assert np.sum(children, axis=0).max() <= 1
            assert parent is None or not (np.logical_or.reduce(children) & ~region(parent)).any()
    # What was consistent already, voxel by voxel, is left alone.
    again = consistent(TREE, result, age, frozenset(), outside)
    assert all(np.array_equal(again[name], result[name]) for name in result)
    if outside == "grow":
        claimed = np.logical_or.reduce(list(found.values()))
        assert np.array_equal(np.logical_or.reduce(list(result.values())), claimed), "no voxel becomes unlabelled"
