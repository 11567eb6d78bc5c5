"""Annotations from predictions and other segmentations, and taking over: what a human painted stays."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hierseg.labeltree import LabelTree
from HierSubclassSegLib.scene import (
    annotation,
    geometry,
    labelmaps,
    layers,
    marks,
    prediction,
    reading,
    tags,
    takeover,
    tree_store,
)
from scene.places import AFFINES, random_labels

SHAPE = (9, 8, 7)


@pytest.fixture
def predicted(make_volume, tree):
    volume = make_volume(SHAPE, AFFINES["oblique"])
    confidence = np.zeros(SHAPE, np.float32)
    confidence[:, :, 4:] = 0.9
    return prediction.create_prediction(
        [volume], tree, random_labels(tree, SHAPE), confidence=confidence, bundle_id="b@1"
    )


def annotated_as(predicted, tree, labels):
    node = annotation.create_annotation(prediction.volumes_of(predicted), tree, prediction_node=predicted)
    labelmaps.fill(node, tree, labels, annotation.reference_grid(node).affine)
    return node


def read(node, tree):
    return reading.read(node, tree, annotation.reference_grid(node))


def expected(tree, node, current, predicted, where=True):
    """The rule, word for word, voxel by voxel."""
    result = current.copy()
    inside = {node.value, *(below.value for below in tree.descendants(node))}
    coarse = {tree.unlabelled, node.value, *(above.value for above in tree.ancestors(node))}
    chosen = np.isin(predicted, list(inside)) & np.isin(current, list(coarse)) & where
    result[chosen] = predicted[chosen]
    return result


@pytest.mark.parametrize("name", ["tumor", "brain", "cortex", "core", "left cortex"])
def test_only_where_the_annotation_says_nothing_finer(predicted, tree, name):
    current = random_labels(tree, SHAPE, seed=5)
    node = annotated_as(predicted, tree, current)
    truth = read(predicted, tree)
    takeover.take_over(node, name)
    np.testing.assert_array_equal(read(node, tree), expected(tree, tree.node(name), current, truth))
    assert layers.layout_is_right(node, tree)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10_000), name=st.sampled_from(["tumor", "brain", "cortex"]))
def test_any_annotation(one_scene, seed, name):
    tree = LabelTree.from_dict(
        {
            "format_version": 1,
            "name": "t",
            "unlabelled": 255,
            "nodes": [
                {"name": "tumor", "value": 10},
                {"name": "core", "parent": "tumor", "value": 1},
                {"name": "brain", "value": 20},
                {"name": "cortex", "parent": "brain", "value": 21},
                {"name": "left", "parent": "cortex", "value": 3},
            ],
        }
    )
    shape = (4, 3, 3)
    volume = geometry.make_volume(one_scene.scene, np.zeros(shape, np.uint8), np.eye(4), "v")
    source = prediction.create_prediction([volume], tree, random_labels(tree, shape, seed), bundle_id="b@1")
    current = random_labels(tree, shape, seed + 1)
    node = annotated_as(source, tree, current)
    takeover.take_over(node, name)
    np.testing.assert_array_equal(
        read(node, tree), expected(tree, tree.node(name), current, random_labels(tree, shape, seed))
    )
    one_scene.scene.Clear(False)


def test_one_slice_one_component_or_above_a_confidence(predicted, tree):
    truth = read(predicted, tree)
    empty = np.full(SHAPE, tree.unlabelled, np.uint8)
    tumor = tree.node("tumor")

    node = annotated_as(predicted, tree, empty)
    grid = annotation.reference_grid(node)
    where = takeover.slice_mask(grid, 0, 4)
    assert takeover.take_over(node, tumor, where) == np.isin(truth[4], [10, 1, 2]).sum()
    np.testing.assert_array_equal(read(node, tree), expected(tree, tumor, empty, truth, where))

    node = annotated_as(predicted, tree, empty)
    takeover.take_over(node, tumor, min_confidence=0.5)
    certain = np.zeros(SHAPE, bool)
    certain[:, :, 4:] = True
    np.testing.assert_array_equal(read(node, tree), expected(tree, tumor, empty, truth, certain))

    inside = np.isin(truth, [10, 1, 2])
    seed = tuple(int(index) for index in np.argwhere(inside)[0])
    component = takeover.component_mask(inside, seed)
    assert component[seed]
    assert not (component & ~inside).any()
    node = annotated_as(predicted, tree, empty)
    assert takeover.take_over(node, tumor, component) == component.sum()


def test_component_is_connected_through_faces():
    mask = np.zeros(SHAPE, bool)
    mask[1:3, 1, 1] = True
    mask[3, 2, 1] = True  # touches by an edge only
    assert takeover.component_mask(mask, (1, 1, 1)).sum() == 2
    assert takeover.component_mask(mask, (3, 2, 1)).sum() == 1
    assert not takeover.component_mask(mask, (0, 0, 0)).any()


def test_locked_nodes_and_complete_slices_are_left_alone(predicted, tree):
    current = np.full(SHAPE, tree.unlabelled, np.uint8)
    current[:, :, 0] = tree.node("tumor").value
    node = annotated_as(predicted, tree, current)
    marks.set_locked(node, tree.node("core"), True)
    marks.set_slice_complete(node, 2, 1)
    truth = read(predicted, tree)
    takeover.take_over(node, "tumor")
    found = read(node, tree)
    assert not (found == 1).any()
    assert (found[:, :, 1] == tree.unlabelled).all()
    np.testing.assert_array_equal(found[:, :, 2] == 2, truth[:, :, 2] == 2)


def test_it_is_one_undo_step(predicted, tree):
    current = random_labels(tree, SHAPE, seed=9)
    node = annotated_as(predicted, tree, current)
    logic = slicer.vtkSlicerSegmentEditorLogic()
    editor = predicted.GetScene().AddNewNodeByClass("vtkMRMLSegmentEditorNode")
    logic.SetMRMLScene(predicted.GetScene())
    logic.SetSegmentEditorNode(editor)
    editor.SetAndObserveSegmentationNode(node)
    editor.SetAndObserveSourceVolumeNode(prediction.volumes_of(predicted)[0])
    before = {segment_id: tags.get_tag(segment, tags.SOURCE) for segment_id, segment in tree_store.segments(node)}
    takeover.take_over(node, "tumor", save_state=logic.SaveStateForUndo)
    after = read(node, tree)
    assert (after != current).any()
    logic.Undo()
    np.testing.assert_array_equal(read(node, tree), current)
    assert {s: tags.get_tag(segment, tags.SOURCE) for s, segment in tree_store.segments(node)} == before
    logic.Redo()
    np.testing.assert_array_equal(read(node, tree), after)


def test_nothing_to_take_over_saves_no_state(predicted, tree):
    node = annotated_as(predicted, tree, read(predicted, tree))
    saved = []
    assert takeover.take_over(node, "tumor", save_state=lambda: saved.append(1)) == 0
    assert saved == []


def test_sources_say_who_made_what(predicted, tree):
    current = np.full(SHAPE, tree.unlabelled, np.uint8)
    current[0] = tree.node("tumor").value
    node = annotated_as(predicted, tree, current)
    takeover.take_over(node, "tumor")
    said = {segment.GetName(): tags.get_tag(segment, tags.SOURCE) for _, segment in tree_store.segments(node)}
    assert said == {"tumor": "mixed", "core": "model:b@1", "edema": "model:b@1"}


def test_without_prediction_or_confidence(make_volume, tree):
    volume = make_volume(SHAPE)
    node = annotation.create_annotation([volume], tree)
    with pytest.raises(tags.SceneError, match="has no prediction to take over from"):
        takeover.take_over(node, "tumor")
    predicted = prediction.create_prediction([volume], tree, random_labels(tree, SHAPE), bundle_id="b@1")
    with pytest.raises(tags.SceneError, match="has no confidence volume"):
        takeover.take_over(node, "tumor", min_confidence=0.5, prediction_node=predicted)


def test_overlapping_siblings_are_not_merged_silently(predicted, tree):
    node = annotated_as(predicted, tree, random_labels(tree, SHAPE, seed=3))
    segment = node.GetSegmentation().GetSegment(tree_store.segment_id_of(node, "tumor/core"))
    image = geometry.image_like(np.uint8, SHAPE, oriented=True)
    geometry.array_of(image)[:5] = 1
    image.SetImageToWorldMatrix(geometry.to_vtk(annotation.reference_grid(node).affine))
    segment.SetLabelValue(1)
    segment.AddRepresentation("Binary labelmap", image)
    with pytest.raises(tags.SceneError, match="'core' and 'edema' overlap"):
        takeover.take_over(node, "tumor")


def test_a_prediction_of_a_smaller_tree_serves_a_larger_one(predicted, tree):
    content = tree.to_dict()
    content["nodes"].append({"name": "cyst", "parent": "core", "value": 11})

    larger = LabelTree.from_dict(content)
    node = annotation.create_annotation(prediction.volumes_of(predicted), larger, prediction_node=predicted)
    takeover.take_over(node, "tumor")
    truth = read(predicted, tree)
    np.testing.assert_array_equal(read(node, larger) == 1, truth == 1)


def test_from_any_segmentation_by_name_alias_and_terminology(scene, make_volume, tree):
    volume = make_volume(SHAPE, AFFINES["left-handed"])
    foreign = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "foreign")
    foreign.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    boxes = {"Edema": np.s_[0:2], "a|b": np.s_[2:4], "something": np.s_[4:6], "unknown": np.s_[6:8]}
    for name, place in boxes.items():
        image = geometry.image_like(np.uint8, SHAPE, oriented=True)
        geometry.array_of(image)[place] = 1
        image.SetImageToWorldMatrix(geometry.to_vtk(geometry.volume_affine(volume)))
        segment = slicer.vtkSegment()
        segment.SetName(name)
        segment.AddRepresentation("Binary labelmap", image)
        if name == "something":
            segment.SetTag(tags.TERMINOLOGY, "any~SCT^49755003^x~SCT^108369006^worded otherwise~^^~any~^^~^^")
        if name == "unknown":
            segment.SetTag(tags.TERMINOLOGY, "any~SCT^85756007^Tissue~SCT^85756007^Tissue~^^~any~^^~^^")
        foreign.GetSegmentation().AddSegment(segment, name)
    node, unmatched = annotation.annotation_from_segmentation(foreign, tree, [volume])
    assert unmatched == ["unknown"]
    found = read(node, tree)
    assert [found[row, 0, 0] for row in (0, 2, 4, 6)] == [2, 1, 10, tree.unlabelled]
    assert foreign.GetSegmentation().GetNumberOfSegments() == 4
    assert not foreign.GetSegmentation().GetNthSegment(0).HasTag(tags.PATH)
    chosen, _ = annotation.annotation_from_segmentation(foreign, tree, [volume], {"unknown": "brain"})
    assert set(np.unique(read(chosen, tree))) == {20, tree.unlabelled}
