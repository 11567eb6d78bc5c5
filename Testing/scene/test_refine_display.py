"""Refining splits the display in two: the first node steers and draws nothing, the second is what is seen."""

from __future__ import annotations

import numpy as np
import pytest
import slicer

from HierSubclassSegLib.scene import storage, tree_store
from HierSubclassSegLib.scene.painting import RefineSession
from HierSubclassSegLib.scene.refine import VIEW
from scene.painting_support import SHAPE, Editor, box, masks, uniform_tree, workplace

EVERYWHERE = np.ones(SHAPE, bool)
OPACITIES = ("Opacity2DFill", "Opacity2DOutline", "Opacity3D")


@pytest.fixture
def place():
    place = workplace(uniform_tree(3))
    with RefineSession(place.annotation, place.volume) as session:
        session.paint("a", EVERYWHERE)
        session.paint("aa", box((0, 4), (0, 8), (0, 7)))
        session.paint("aaa", box((0, 2), (0, 8), (0, 7)))
        session.paint("ab", box((4, 9), (0, 8), (0, 7)))
    return place


@pytest.fixture
def editor(place):
    return Editor(place)


def ids_of(place):
    return {
        path.rpartition("/")[2]: i for path, i in tree_store.segments_by_path(place.annotation, uniform_tree(3)).items()
    }


def looks(annotation, display):
    """All that a display node says about what is drawn."""
    return [
        [getattr(display, f"Get{name}")() for name in OPACITIES],
        [
            (
                i,
                display.GetSegmentVisibility(i),
                display.GetSegmentVisibility2DFill(i),
                display.GetSegmentOpacity2DFill(i),
            )
            for i, _ in tree_store.segments(annotation)
        ],
    ]


def test_the_first_display_node_draws_nothing_and_shows_what_a_stroke_may_erase(place, editor):
    ids, annotation = ids_of(place), place.annotation
    with editor.session() as session:
        session.enter("a")
        session.select("ab")
        assert annotation.GetNumberOfDisplayNodes() == 2
        first, second = annotation.GetNthDisplayNode(0), annotation.GetNthDisplayNode(1)
        assert [getattr(first, f"Get{name}")() for name in OPACITIES] == [0.0, 0.0, 0.0]
        assert all(getattr(second, f"Get{name}")() > 0 for name in OPACITIES)
        assert {name for name, i in ids.items() if first.GetSegmentVisibility(i)} == {"aa", "aaa", "ab"}
        assert all(second.GetSegmentVisibility(i) for i in ids.values())
        assert not second.GetSegmentVisibility2DFill(ids["a"]), "the refined node is an outline"
        assert second.GetSegmentVisibility2DOutline(ids["a"])
        assert editor.node.GetMaskMode() == slicer.vtkMRMLSegmentationNode.EditAllowedInsideSingleSegment
        assert editor.node.GetMaskSegmentID() == ids["a"]


def test_masking_follows_the_selection_however_it_is_made(place, editor):
    ids = ids_of(place)
    with editor.session() as session:
        session.enter("a")
        first = place.annotation.GetNthDisplayNode(0)
        assert not any(first.GetSegmentVisibility(i) for i in ids.values()), "nothing is selected yet"
        editor.node.SetSelectedSegmentID(ids["aaa"])
        assert editor.node.GetMaskSegmentID() == ids["aa"]
        assert {name for name, i in ids.items() if first.GetSegmentVisibility(i)} == {"aaa"}
        editor.node.SetSelectedSegmentID(ids["a"])
        assert editor.node.GetMaskMode() == slicer.vtkMRMLSegmentationNode.EditAllowedEverywhere
        editor.node.SetSourceVolumeIntensityMask(True)
        assert not editor.node.GetSourceVolumeIntensityMask(), "the intensity mask is off while refining"


def test_leaving_gives_back_what_was_seen_and_the_masking(place, editor):
    ids, annotation = ids_of(place), place.annotation
    display = annotation.GetDisplayNode()
    display.SetSegmentVisibility(ids["aaa"], False)
    display.SetSegmentOpacity2DFill(ids["ab"], 0.3)
    display.SetOpacity3D(0.7)
    editor.node.SetMaskMode(slicer.vtkMRMLSegmentationNode.EditAllowedInsideVisibleSegments)
    editor.node.SetOverwriteMode(slicer.vtkMRMLSegmentEditorNode.OverwriteNone)
    before = looks(annotation, display)
    session = editor.session()
    session.enter("a")
    session.select("aa")
    session.enter("aa")
    session.select("aab")
    editor.logic.Undo()
    session.leave()
    assert annotation.GetNumberOfDisplayNodes() == 1
    assert annotation.GetDisplayNode() is display
    assert looks(annotation, display) == before
    assert place.scene.GetNodesByClass("vtkMRMLSegmentationDisplayNode").GetNumberOfItems() == 1
    assert editor.node.GetMaskMode() == slicer.vtkMRMLSegmentationNode.EditAllowedInsideVisibleSegments
    assert editor.node.GetOverwriteMode() == slicer.vtkMRMLSegmentEditorNode.OverwriteNone
    session.close()


@pytest.mark.parametrize("name", ["a", "aa", "aaa", "ab"])
def test_a_click_on_an_eye_of_slicers_changes_what_is_seen_and_not_the_masking(place, editor, name):
    ids = ids_of(place)
    with editor.session() as session:
        session.enter("a")
        session.select("ab")
        first = place.annotation.GetNthDisplayNode(0)
        steering = [first.GetSegmentVisibility(i) for i in ids.values()]
        for seen in (False, True, False):
            first.SetSegmentVisibility(ids[name], not first.GetSegmentVisibility(ids[name]))
            assert session.is_seen(name) == seen
            assert [first.GetSegmentVisibility(i) for i in ids.values()] == steering
        assert [session.is_seen(other) for other in ids if other != name] == [True] * 3
    assert bool(place.annotation.GetDisplayNode().GetSegmentVisibility(ids[name])) is False, "kept after leaving"


def test_show_only_selected_of_slicers_table_is_mirrored_as_it_is(place, editor):
    ids = ids_of(place)
    with editor.session() as session:
        session.enter("a")
        session.select("ab")
        session.set_seen("aa", False)
        first = place.annotation.GetNthDisplayNode(0)
        blocked = first.StartModify()
        for other, segment_id in ids.items():
            first.SetSegmentVisibility(segment_id, other == "a")
        first.EndModify(blocked)
        assert {other for other in ids if session.is_seen(other)} == {"a"}


def test_opacity_set_on_the_first_node_goes_to_what_is_seen(place, editor):
    with editor.session() as session:
        session.enter("a")
        first, second = (place.annotation.GetNthDisplayNode(i) for i in range(2))
        first.SetOpacity2DFill(0.25)
        assert first.GetOpacity2DFill() == 0.0
        assert second.GetOpacity2DFill() == 0.25
    assert place.annotation.GetDisplayNode().GetOpacity2DFill() == 0.25


def test_segments_that_undo_brings_back_do_not_get_in_the_way(place, editor):
    with editor.session() as session:
        session.delete_segments("aa")
        session.enter("a")
        session.select("ab")
        editor.logic.Undo()
        before = masks(place.annotation)
        assert "aa" in before
        editor.stroke(EVERYWHERE)
        session.after_stroke()
        after = masks(place.annotation)
        assert after["a"].all()
        assert after["ab"].all()
        assert not after["aa"].any()


def test_saving_the_scene_saves_an_ordinary_segmentation(place, editor, tmp_path):
    ids = ids_of(place)
    with editor.session() as session:
        session.enter("a")
        session.select("ab")
        session.set_locked("aa")
        session.paint("ab", box((3, 5), (0, 8), (0, 7)))
        before = masks(place.annotation)
        storage.save_scene(place.scene, tmp_path / "scene.mrb")
        assert session.refining
        assert place.annotation.GetNumberOfDisplayNodes() == 2
        assert place.annotation.GetNthDisplayNode(0).GetOpacity2DFill() == 0.0
        assert editor.node.GetMaskSegmentID() == ids["a"]
        session.set_locked("aa", False)
        assert session.paint("ab", EVERYWHERE) > 0
    other = workplace(uniform_tree(2))
    storage.load_scene(other.scene, tmp_path / "scene.mrb")
    loaded = [n for n in storage.hierarchical_segmentations(other.scene) if n is not other.annotation]
    assert len(loaded) == 1
    assert loaded[0].GetNumberOfDisplayNodes() == 1
    display = loaded[0].GetDisplayNode()
    assert display.GetAttribute(VIEW) is None
    assert display.GetOpacity2DFill() > 0
    assert all(display.GetSegmentVisibility(i) for i, _ in tree_store.segments(loaded[0]))
    found = masks(loaded[0])
    assert set(found) == set(before)
    assert all(np.array_equal(found[name], before[name]) for name in before)
    with RefineSession(loaded[0], other.volume) as session:
        assert session.paint("ab", EVERYWHERE) == 0, "'aa' is still locked beside it"
        session.set_locked("aa", False)
        assert session.paint("ab", EVERYWHERE) > 0


def test_a_refinement_that_was_never_left_is_cleaned_up(place, editor):
    display = place.annotation.GetDisplayNode()
    before = looks(place.annotation, display)
    session = editor.session()
    session.enter("a")
    storage.after_loading(place.annotation)
    assert place.annotation.GetNumberOfDisplayNodes() == 2, "importing something else ends no refinement"
    session._refining.abandon()  # what a crash leaves behind
    session._observer.close()
    with RefineSession(place.annotation, place.volume):
        assert place.annotation.GetNumberOfDisplayNodes() == 1
        assert looks(place.annotation, place.annotation.GetDisplayNode()) == before


def test_closing_the_scene_or_removing_the_node_while_refining(place, editor):
    session = editor.session()
    session.enter("a")
    session.select("ab")
    place.scene.RemoveNode(place.annotation)
    assert not session.refining
    assert session.refined is None
    session.close()
    other = workplace(uniform_tree(2))
    session = RefineSession(other.annotation, other.volume)
    session.paint("a", EVERYWHERE)
    session.enter("a")
    other.scene.Clear(False)
    assert not session.refining
    session.close()
