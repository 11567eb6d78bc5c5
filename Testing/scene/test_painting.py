"""Painting on real segmentations: what a stroke erases, what it leaves alone, at depth 4 and whatever is hidden."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import slicer
import vtk

from hierseg.errors import HiersegError
from HierSubclassSegLib.scene import layers, tags, tree_store
from HierSubclassSegLib.scene.painting import RefineSession
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
LEFT, RIGHT = box((0, 4), (0, 8), (0, 7)), box((4, 9), (0, 8), (0, 7))


@pytest.fixture
def place():
    return workplace(uniform_tree(4))


@pytest.fixture
def filled(place):
    """Depth 4: 'a' everywhere, its left half refined down to 'aaaa', its right half 'ab' with 'aba'."""
    with RefineSession(place.annotation, place.volume) as session:
        session.paint("a", EVERYWHERE)
        for name in ("aa", "aaa", "aaaa"):
            session.paint(name, LEFT)
        session.paint("ab", RIGHT)
        session.paint("aba", box((4, 9), (0, 4), (0, 7)))
        yield session


@pytest.mark.parametrize(
    ("overwrite", "parent_visible", "parent_damaged", "siblings_overlap"),
    [
        ("OverwriteAllSegments", True, True, False),
        ("OverwriteAllSegments", False, True, False),
        ("OverwriteVisibleSegments", True, True, False),
        ("OverwriteVisibleSegments", False, False, False),
        ("OverwriteNone", True, False, True),
    ],
)
def test_slicers_own_masking(place, overwrite, parent_visible, parent_damaged, siblings_overlap):
    """What Slicer itself does inside a parent: only one combination is what a hierarchy needs."""
    with RefineSession(place.annotation, place.volume) as session:
        session.paint("a", EVERYWHERE)
        session.paint("aa", LEFT)
        session.select("ab")
    editor = Editor(place)
    ids = tree_store.segments_by_path(place.annotation, uniform_tree(4))
    editor.node.SetSelectedSegmentID(ids["a/ab"])
    editor.node.SetMaskMode(slicer.vtkMRMLSegmentationNode.EditAllowedInsideSingleSegment)
    editor.node.SetMaskSegmentID(ids["a"])
    editor.node.SetOverwriteMode(getattr(slicer.vtkMRMLSegmentEditorNode, overwrite))
    place.annotation.GetDisplayNode().SetSegmentVisibility(ids["a"], parent_visible)
    editor.stroke(box((2, 6), (0, 8), (0, 7)))
    after = masks(place.annotation)
    assert bool((~after["a"]).any()) == parent_damaged
    assert bool((after["aa"] & after["ab"]).any()) == siblings_overlap


def test_a_stroke_erases_siblings_and_their_descendants_only(filled):
    before = masks(filled.segmentation_node)
    stroke = box((2, 6), (1, 7), (1, 6))
    assert filled.paint("ab", stroke) == 2 * 6 * 5
    after = masks(filled.segmentation_node)
    for name in ("aa", "aaa", "aaaa"):
        assert np.array_equal(after[name], before[name] & ~stroke)
    assert np.array_equal(after["a"], before["a"])
    assert np.array_equal(after["ab"], before["ab"] | stroke)
    assert np.array_equal(after["aba"], before["aba"])


def test_a_top_level_stroke_erases_the_other_trees(filled):
    stroke = box((3, 5), (0, 8), (0, 7))
    before = masks(filled.segmentation_node)
    filled.paint("b", stroke)
    after = masks(filled.segmentation_node)
    assert np.array_equal(after["b"], stroke)
    for name in before:
        assert np.array_equal(after[name], before[name] & ~stroke)


def test_painting_stays_inside_the_parent(filled):
    assert filled.paint("aaab", EVERYWHERE) == LEFT.sum()
    after = masks(filled.segmentation_node)
    assert np.array_equal(after["aaab"], LEFT)
    assert not after["aaaa"].any()
    assert filled.paint("baa", EVERYWHERE) == 0, "'ba' is empty"


def test_painting_an_inner_node_keeps_what_lies_in_it(filled):
    before = masks(filled.segmentation_node)
    assert filled.paint("aa", LEFT) == 0
    filled.paint("ab", box((0, 2), (0, 8), (0, 7)))
    filled.paint("aa", EVERYWHERE)
    after = masks(filled.segmentation_node)
    assert after["aa"].all()
    assert not after["ab"].any()
    assert not after["aba"].any()
    assert np.array_equal(after["aaaa"], before["aaaa"] & ~box((0, 2), (0, 8), (0, 7)))


def test_erasing_a_node_erases_its_descendants_there(filled):
    stroke = box((0, 2), (0, 8), (0, 7))
    before = masks(filled.segmentation_node)
    assert filled.erase("aa", stroke) == stroke.sum()
    after = masks(filled.segmentation_node)
    for name in ("aa", "aaa", "aaaa"):
        assert np.array_equal(after[name], before[name] & ~stroke)
    for name in ("a", "ab", "aba"):
        assert np.array_equal(after[name], before[name])


@pytest.mark.parametrize("hidden", list(itertools.product((False, True), repeat=3)))
def test_eyes_do_not_matter(place, hidden):
    results = []
    editor = Editor(place)
    with editor.session() as session:
        session.paint("a", EVERYWHERE)
        session.paint("aa", LEFT)
        session.paint("aaa", LEFT)
        for name, off in zip(("a", "aa", "aaa"), hidden, strict=True):
            session.set_seen(name, not off)
        session.enter("a")
        session.select("ab")
        editor.stroke(box((2, 6), (0, 8), (0, 7)))
        session.after_stroke()
        results = [session.is_seen(name) for name in ("a", "aa", "aaa")]
    after = masks(place.annotation)
    assert after["a"].all()
    assert after["ab"].sum() == 4 * 8 * 7
    assert after["aa"].sum() == after["aaa"].sum() == 2 * 8 * 7
    assert results == [not off for off in hidden]


def test_locked_nodes_neither_gain_nor_lose(filled):
    filled.set_locked("aa")
    before = masks(filled.segmentation_node)
    assert filled.paint("ab", EVERYWHERE) == 0
    assert filled.paint("aaab", EVERYWHERE) == 0
    assert filled.erase("aaaa", EVERYWHERE) == 0
    assert filled.erase("a", EVERYWHERE) == RIGHT.sum(), "clipped at the locked descendant"
    assert filled.paint("b", LEFT) == 0
    after = masks(filled.segmentation_node)
    for name in ("aa", "aaa", "aaaa"):
        assert np.array_equal(after[name], before[name])
    filled.set_locked("aa", False)
    assert filled.paint("b", LEFT) == LEFT.sum()


def test_a_users_stroke_is_clipped_at_locked_nodes_in_the_same_undo_step(place):
    editor = Editor(place)
    with editor.session() as session:
        session.paint("a", EVERYWHERE)
        session.paint("aa", LEFT)
        session.paint("aaa", LEFT)
        session.enter("a")
        session.select("ab")
        session.set_locked("aaa")
        before = state(place.annotation)
        editor.stroke(box((2, 6), (0, 8), (0, 7)))
        session.after_stroke()
        after = masks(place.annotation)
        assert np.array_equal(after["aaa"], LEFT)
        assert np.array_equal(after["aa"], LEFT)
        assert after["ab"].sum() == 2 * 8 * 7
        editor.logic.Undo()
        assert state(place.annotation) == before
        editor.logic.Redo()
        assert masks(place.annotation)["ab"].sum() == 2 * 8 * 7


def test_a_users_erasing_takes_the_descendants_along(place):
    editor = Editor(place)
    with editor.session() as session:
        session.paint("a", EVERYWHERE)
        session.paint("aa", LEFT)
        session.paint("aaa", LEFT)
        session.enter("a")
        session.select("aa")
        editor.stroke(box((0, 2), (0, 8), (0, 7)), adding=False)
        session.after_stroke()
    after = masks(place.annotation)
    assert after["a"].all()
    assert after["aa"].sum() == after["aaa"].sum() == 2 * 8 * 7


def test_an_effect_that_ignores_the_masking_is_put_right(place):
    """Logical operators fill past the mask and over the parent: what the rules do not allow is put back."""
    editor = Editor(place)
    with editor.session() as session:
        session.paint("a", LEFT)
        session.paint("aa", box((0, 2), (0, 8), (0, 7)))
        session.paint("b", RIGHT)
        session.enter("a")
        segment_id = session.select("ab")
        editor.logic.SaveStateForUndo()
        layers.remove_voxels(
            place.annotation, session.select("b"), session.grid.new_image(np.ones(SHAPE, np.uint8), (0, 0, 0))
        )
        layers.add_voxels(place.annotation, segment_id, session.grid.new_image(np.ones(SHAPE, np.uint8), (0, 0, 0)))
        session.after_stroke("ab")
    after = masks(place.annotation)
    assert np.array_equal(after["ab"], LEFT)
    assert np.array_equal(after["b"], RIGHT)
    assert np.array_equal(after["a"], LEFT)
    assert not after["aa"].any()


def test_a_parent_without_a_segment_is_the_union_of_its_descendants(place):
    with RefineSession(place.annotation, place.volume) as session:
        session.paint("a", EVERYWHERE)
        session.paint("aa", LEFT)
        session.paint("aaa", LEFT)
        session.paint("aab", box((0, 2), (0, 8), (0, 7)))
        segmentation = place.annotation.GetSegmentation()
        segmentation.RemoveSegment(tree_store.segment_id_of(place.annotation, "a/aa"))
        before = state(place.annotation)
        session.enter("aa")
        assert np.array_equal(masks(place.annotation)["aa"], LEFT)
        assert tags.get_tag(segmentation.GetSegment(session.select("aa")), tags.SOURCE) == tags.MANUAL
        session.undo()
        assert state(place.annotation) == before, "the created parent is an undo step of its own"
        session.select("aab")
        assert session.paint("aab", EVERYWHERE) == LEFT.sum() // 2, "clipped at the union, and the parent comes back"
        assert np.array_equal(masks(place.annotation)["aa"], LEFT)


def test_a_users_stroke_in_a_parent_that_undo_took_away(place):
    editor = Editor(place)
    with editor.session() as session:
        session.paint("a", EVERYWHERE)
        session.paint("aa", LEFT)
        session.paint("aaa", LEFT)
        session.select("aab")
        place.annotation.GetSegmentation().RemoveSegment(tree_store.segment_id_of(place.annotation, "a/aa"))
        session.enter("aa")
        editor.logic.Undo()
        assert "aa" not in masks(place.annotation)
        before = state(place.annotation)
        editor.stroke(box((2, 6), (0, 8), (0, 7)))
        session.after_stroke()
        after = masks(place.annotation)
        assert np.array_equal(after["aa"], LEFT)
        assert np.array_equal(after["aab"], box((2, 4), (0, 8), (0, 7)))
        assert np.array_equal(after["a"], EVERYWHERE)
        editor.logic.Undo()
        assert state(place.annotation) == before


def test_segments_of_no_node_are_left_alone(filled):
    annotation = filled.segmentation_node
    segment_id = annotation.GetSegmentation().AddEmptySegment("mine", "mine")
    layers.ensure_layout(annotation)
    layers.add_voxels(annotation, segment_id, filled.grid.new_image(np.ones(SHAPE, np.uint8), (0, 0, 0)))
    number = layers.number_of_layers(annotation)
    filled.paint("ab", EVERYWHERE)
    filled.paint("b", LEFT)
    filled.erase("a", EVERYWHERE)
    assert layers.read_segment(annotation, segment_id).all()
    assert layers.number_of_layers(annotation) == number


def test_layers_stay_as_many_as_parents(filled):
    annotation = filled.segmentation_node
    for name in [node.name for node in filled.tree.nodes]:
        filled.paint(name, box((1, 8), (1, 7), (1, 6)))
    number = layers.number_of_layers(annotation)
    assert number == expected_layers(annotation)
    random = np.random.default_rng(1)
    for _ in range(30):
        node = random.choice([node.name for node in filled.tree.nodes])
        start = random.integers(0, 5, 3)
        filled.paint(node, box(*((s, s + 4) for s in start)))
        check_hierarchy(annotation)
        assert layers.number_of_layers(annotation) == number


def test_voxels_can_be_indices_or_a_brush_in_the_patient(place):
    with RefineSession(place.annotation, place.volume) as session:
        assert session.paint("a", np.array([[0, 0, 0], [8, 7, 6], [8, 7, 6], [99, 0, 0]])) == 2
        grid = session.grid
        center = grid.to_ras @ np.array([4, 4, 3, 1])
        ball = session.sphere(center[:3], 2.1)
        index = np.stack(np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij"), axis=-1)
        distance = np.linalg.norm((index - (4, 4, 3)) * (1.0, 1.5, 2.0), axis=-1)
        assert np.array_equal(ball, distance <= 2.1)
        disk = session.brush([center[:3]], 2.1, axis=2)
        assert np.array_equal(disk, ball & (index[..., 2] == 3))
        assert not session.sphere((500.0, 0.0, 0.0), 5.0).any()
        with pytest.raises(HiersegError, match="give bool of shape"):
            session.paint("a", np.zeros((2, 2, 2), bool))


def test_the_brush_follows_the_parent_transform(place):
    transform = place.scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    matrix = vtk.vtkMatrix4x4()
    matrix.SetElement(0, 3, 100.0)
    transform.SetMatrixTransformToParent(matrix)
    with RefineSession(place.annotation, place.volume) as session:
        center = (session.grid.to_ras @ np.array([4, 4, 3, 1]))[:3]
        there = session.sphere(center, 2.1)
        place.annotation.SetAndObserveTransformNodeID(transform.GetID())
        assert not session.sphere(center, 2.1).any()
        assert np.array_equal(session.sphere(center + (100.0, 0.0, 0.0), 2.1), there)


def test_sources_say_who_painted(place):
    with RefineSession(place.annotation, place.volume) as session:
        session.write("a", LEFT, "model:brain@1")
        segment = place.annotation.GetSegmentation().GetSegment(session.select("a"))
        assert tags.get_tag(segment, tags.SOURCE) == "model:brain@1"
        session.paint("a", RIGHT)
        assert tags.get_tag(segment, tags.SOURCE) == tags.MIXED
        session.undo()
        segment = place.annotation.GetSegmentation().GetSegment(session.select("a"))
        assert tags.get_tag(segment, tags.SOURCE) == "model:brain@1"


def test_user_errors_are_sentences(place):
    other = place.scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "no tree")
    with pytest.raises(HiersegError, match="'no tree' has no label tree"):
        RefineSession(other, place.volume)
    with RefineSession(place.annotation, place.volume, save_state=lambda: None) as session:
        with pytest.raises(HiersegError, match="belongs to the Segment Editor"):
            session.undo()
        with pytest.raises(HiersegError, match="has no subclasses"):
            session.enter("aaaa")
        session.paint("a", EVERYWHERE)
        session.set_locked("a")
        with pytest.raises(HiersegError, match="'a' is locked"):
            session.delete_segments("a")
