"""Layers: the children of one parent share one label map, whatever happened to the segmentation before."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
from hypothesis import given
from hypothesis import strategies as st

from HierSubclassSegLib.scene import layers, tree_store
from HierSubclassSegLib.scene.lattice import Grid, bounds
from HierSubclassSegLib.scene.painting import RefineSession
from HierSubclassSegLib.scene.undo import unseen_by_undo
from scene.painting_support import SHAPE, Editor, box, expected_layers, masks, state, uniform_tree, workplace

EVERYWHERE = np.ones(SHAPE, bool)


@pytest.fixture
def place():
    place = workplace(uniform_tree(3))
    with RefineSession(place.annotation, place.volume) as session:
        for number, node in enumerate(uniform_tree(3).nodes):
            session.paint(node, box((number % 5, 9), (0, 8), (number % 4, 7)))
    return place


def separate_all(annotation):
    """One label map a segment, as other modules leave it."""
    for segment_id, _ in tree_store.segments(annotation):
        annotation.GetSegmentation().SeparateSegmentLabelmap(segment_id)


@pytest.mark.parametrize("spoil", ["collapse", "separate", "save", "one empty"])
def test_the_layout_is_rebuilt_and_no_voxel_changes(place, spoil, tmp_path):
    annotation = place.annotation
    before = state(annotation)
    segmentation = annotation.GetSegmentation()
    if spoil == "collapse":
        segmentation.CollapseBinaryLabelmaps(False)
    elif spoil == "separate":
        separate_all(annotation)
    elif spoil == "save":
        storage = slicer.vtkMRMLSegmentationStorageNode()
        storage.SetFileName(str(tmp_path / "a.seg.nrrd"))
        assert storage.WriteData(annotation)
    else:
        segmentation.ClearSegment(tree_store.segment_id_of(annotation, "a"))
        before = state(annotation)
        separate_all(annotation)
    assert state(annotation) == before
    assert layers.number_of_layers(annotation) != expected_layers(annotation)
    assert layers.ensure_layout(annotation)
    assert state(annotation) == before
    assert layers.number_of_layers(annotation) == expected_layers(annotation)
    assert not layers.ensure_layout(annotation), "nothing is left to do"


def images(annotation):
    return {
        segment_id: layers.address(layers.label_map(segment)) for segment_id, segment in tree_store.segments(annotation)
    }


@pytest.mark.parametrize("lacking", [["aa"], ["aaa"], ["a", "bba"]])
def test_new_segments_join_their_siblings_and_no_label_map_is_made_anew(place, lacking):
    """Twelve new subclasses at 512 x 512 x 400 rebuilt every label map twelve times: 5.9 s."""
    annotation = place.annotation
    segmentation = annotation.GetSegmentation()
    for name in lacking:
        segmentation.RemoveSegment(tree_store.segment_id_of(annotation, uniform_tree(3).node(name)))
    before, voxels = images(annotation), [found[-1] for found in state(annotation)]
    with RefineSession(annotation, place.volume) as session:
        session.provide(lacking)
        after = images(annotation)
        assert {segment_id: where for segment_id, where in after.items() if segment_id in before} == before
        assert layers.layout_is_right(annotation, session.tree)
        for name in lacking:
            node = session.tree.node(name)
            if session.tree.is_leaf(node):
                assert not session.voxels(name).any(), "what a removed segment left in the label map is not its own"
    assert [found[-1] for found in state(annotation) if found[0] in before] == voxels


def test_rebuilding_after_an_undo_keeps_what_can_be_redone(place):
    editor = Editor(place)
    with editor.session() as session:
        before = state(place.annotation)
        session.paint("aa", EVERYWHERE)
        after = state(place.annotation)
        assert before != after
        editor.logic.Undo()
        # The state that was undone to may be of an older layout: spoil it past the history, as loading it would be.
        with unseen_by_undo(place.annotation.GetSegmentation()):
            place.annotation.GetSegmentation().CollapseBinaryLabelmaps(False)
        assert layers.number_of_layers(place.annotation) != expected_layers(place.annotation)
        session.refresh()
        assert layers.number_of_layers(place.annotation) == expected_layers(place.annotation)
        assert editor.logic.CanRedo()
        editor.logic.Redo()
        assert state(place.annotation) == after
        editor.logic.Undo()
        assert state(place.annotation) == before


def test_label_maps_are_cropped(place):
    with RefineSession(place.annotation, place.volume) as session:
        session.erase("a", EVERYWHERE)
        session.paint("b", EVERYWHERE)
        session.erase("ba", EVERYWHERE)
        session.erase("bb", EVERYWHERE)
        session.paint("ba", box((2, 4), (3, 5), (1, 6)))
        separate_all(place.annotation)
        layers.ensure_layout(place.annotation)
        segment = place.annotation.GetSegmentation().GetSegment(session.select("ba"))
    assert layers.label_map(segment).GetExtent() == (2, 3, 3, 4, 1, 5)


def test_segments_on_another_lattice_are_brought_to_the_grid(place):
    annotation = place.annotation
    grid = Grid.of(annotation)
    coarse = slicer.vtkOrientedImageData()
    image = grid.new_image(np.ones((4, 4, 3), np.uint8), (0, 0, 0))
    coarse.DeepCopy(image)
    spacing = image.GetSpacing()
    coarse.SetSpacing(*(2 * s for s in spacing))
    segment = annotation.GetSegmentation().GetSegment(tree_store.segment_id_of(annotation, "a"))
    segment.AddRepresentation("Binary labelmap", coarse)
    segment.SetLabelValue(1)
    assert layers.ensure_layout(annotation)
    found = masks(annotation)["a"]
    assert found[:6, :6, :4].all()
    assert not found[8:].any()


def test_a_segmentation_without_a_grid_says_so():
    place = workplace(uniform_tree(2))
    node = place.scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "new")
    with pytest.raises(Exception, match="'new' has no voxel grid yet"):
        Grid.of(node)


def test_many_siblings_need_a_wider_label_map():
    tree = uniform_tree(1, 2)
    rows = [{"name": f"n{i}", "value": i} for i in range(258)]
    tree = type(tree).from_dict({"format_version": 1, "name": "wide", "unlabelled": 65535, "nodes": rows})
    place = workplace(tree)
    for node in tree.nodes:
        tree_store.add_segment(place.annotation, tree, node)
    with RefineSession(place.annotation, place.volume) as session:
        session.paint("n257", EVERYWHERE)
        session.paint("n7", box((0, 2), (0, 8), (0, 7)))
    found = masks(place.annotation)
    assert found["n7"].sum() == 2 * 8 * 7
    assert np.array_equal(found["n257"], ~found["n7"])
    assert layers.number_of_layers(place.annotation) == 1


@given(st.lists(st.tuples(*(st.integers(0, n - 1) for n in SHAPE)), max_size=6))
def test_bounds_hold_every_voxel_and_no_more(voxels):
    mask = np.zeros(SHAPE, bool)
    for voxel in voxels:
        mask[voxel] = True
    found = bounds(mask)
    if not voxels:
        assert found is None
        return
    assert found == (tuple(np.min(voxels, axis=0)), tuple(np.max(voxels, axis=0) + 1))
