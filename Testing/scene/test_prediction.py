"""Predictions: what arrives in the scene, and where."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest
import slicer

from hierseg.labeltree import LabelTree
from HierSubclassSegLib.scene import annotation, geometry, layers, prediction, reading, tags, tree_store


def labels_for(tree, shape=(9, 8, 7)):
    """Two boxes of subclasses, one voxel of superclass alone, nothing of 'right cortex', and an unlabelled corner."""
    labels = np.zeros(shape, tree.dtype)
    labels[1:4, 1:4, 1:4] = tree.node("core").value
    labels[4:6, 1:4, 1:4] = tree.node("edema").value
    labels[6, 1, 1] = tree.node("tumor").value
    labels[1:3, 5:7, 2:6] = tree.node("left cortex").value
    labels[3:5, 5:7, 2:6] = tree.node("white matter").value
    labels[-1, -1, -1] = tree.unlabelled
    return labels


@pytest.fixture
def predicted(make_volume, tree):
    volume = make_volume()
    confidence = np.linspace(0, 1, 9 * 8 * 7, dtype=np.float32).reshape(9, 8, 7)
    return volume, prediction.create_prediction(
        [volume], tree, labels_for(tree), confidence=confidence, bundle_id="brain@2"
    )


def test_present_nodes_and_their_ancestors_become_segments(predicted, tree):
    _, node = predicted
    names = [segment.GetName() for _, segment in tree_store.segments(node)]
    assert names == ["tumor", "core", "edema", "brain", "cortex", "left cortex", "white matter"]
    assert tree_store.read_tree(node) == tree


def test_segments_hold_their_subtree(predicted, tree):
    volume, node = predicted
    labels, grid = labels_for(tree), geometry.volume_grid(volume)
    for entry in tree.nodes:
        segment_id = tree_store.segment_id_of(node, entry)
        if segment_id is None:
            continue
        below = [entry.value, *(other.value for other in tree.descendants(entry))]
        np.testing.assert_array_equal(reading.segment_mask(node, segment_id, grid), np.isin(labels, below), entry.name)


def test_children_of_one_parent_share_one_cropped_label_map(predicted, tree):
    _, node = predicted
    assert layers.layout_is_right(node, tree)
    assert layers.number_of_layers(node) == 4  # top level, tumor's, brain's, cortex's children
    image = layers.label_map(node.GetSegmentation().GetSegment(tree_store.segment_id_of(node, "tumor/core")))
    assert image.GetExtent() == (1, 5, 1, 3, 1, 3)


def test_every_segment_carries_tags_and_none_a_bar(predicted, tree):
    _, node = predicted
    for _, segment in tree_store.segments(node):
        entry = tree.node(segment.GetName())
        assert tags.get_tag(segment, tags.TREE) == tree.fingerprint
        assert tags.get_tag(segment, tags.PATH) == entry.path
        assert tags.get_tag(segment, tags.VALUE) == str(entry.value)
        assert tags.get_tag(segment, tags.SOURCE) == "model:brain@2"
        assert tags.get_tag(segment, tags.ALGORITHM_TYPE) == "AUTOMATIC"
        assert tags.get_tag(segment, tags.ALGORITHM_NAME) == "brain@2"
        for name in (tags.TREE_JSON, tags.TERMINOLOGY, tags.PATH, tags.SOURCE, tags.TREE):
            assert "|" not in tags.get_tag(segment, name, "")


def test_terminology_is_what_slicer_can_read_and_tells_siblings_apart(predicted):
    _, node = predicted
    logic = slicer.vtkSlicerTerminologiesModuleLogic()
    meanings = set()
    for _, segment in tree_store.segments(node):
        entry = slicer.vtkSlicerTerminologyEntry()
        assert logic.DeserializeTerminologyEntry(segment.GetTerminology(), entry)
        assert entry.GetCategoryObject().GetCodeValue()
        assert entry.GetTypeObject().GetCodeMeaning()
        modifier = entry.GetTypeModifierObject().GetCodeValue()
        meanings.add((entry.GetTypeObject().GetCodeValue(), modifier))
    assert len(meanings) == node.GetSegmentation().GetNumberOfSegments()


def test_children_shade_their_parents_hue(predicted, tree):
    _, node = predicted

    def hue(path):
        return colorsys.rgb_to_hsv(*node.GetSegmentation().GetSegment(tree_store.segment_id_of(node, path)).GetColor())[
            0
        ]

    def apart(a, b):
        return min(abs(a - b), 1 - abs(a - b))

    assert apart(hue("tumor/core"), hue("tumor")) < 0.08
    assert apart(hue("brain/cortex/left cortex"), hue("brain")) < 0.12
    assert apart(hue("brain"), hue("tumor")) > 0.12
    colors = {segment.GetColor() for _, segment in tree_store.segments(node)}
    assert len(colors) == node.GetSegmentation().GetNumberOfSegments()


def test_confidence_is_a_volume_of_its_own_found_by_reference(predicted):
    volume, node = predicted
    confidence = prediction.confidence_of(node)
    array = geometry.array_of(confidence.GetImageData())
    assert array.dtype == np.uint8
    assert (array.min(), array.max()) == (0, 255)
    confidence.SetName("renamed by the user")
    assert prediction.confidence_of(node) is confidence
    assert prediction.volumes_of(node) == [volume]


def test_it_lies_under_the_volumes_parent_transform(scene, make_volume, tree):
    volume = make_volume()
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    volume.SetAndObserveTransformNodeID(transform.GetID())
    node = prediction.create_prediction(
        [volume], tree, labels_for(tree), bundle_id="b@1", confidence=np.ones((9, 8, 7))
    )
    assert node.GetParentTransformNode() is transform
    assert prediction.confidence_of(node).GetParentTransformNode() is transform


def test_it_lies_beside_its_volume_in_the_subject_hierarchy(scene, make_volume, tree):
    volume = make_volume()
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    study = hierarchy.CreateFolderItem(hierarchy.GetSceneItemID(), "study")
    hierarchy.CreateItem(study, volume)
    # The application makes an item for every node; without it, the test does.
    node = prediction.create_prediction([volume], tree, labels_for(tree), bundle_id="b@1")
    hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)
    geometry.place_beside(node, volume)
    assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) == study


def test_superclass_map_decides_the_top_level(make_volume, tree):
    labels = np.full((9, 8, 7), tree.unlabelled, tree.dtype)
    superclass = labels.copy()
    superclass[2:5] = tree.node("brain").value
    node = prediction.create_prediction([make_volume()], tree, labels, superclass, bundle_id="b@1")
    assert [segment.GetName() for _, segment in tree_store.segments(node)] == ["brain"]


def test_empty_prediction_still_knows_its_tree(make_volume, tree):
    node = prediction.create_prediction([make_volume()], tree, np.zeros((9, 8, 7), np.uint8), bundle_id="b@1")
    assert node.GetSegmentation().GetNumberOfSegments() == 0
    assert tree_store.read_tree(node) == tree


def test_values_above_255(make_volume):
    tree = LabelTree.from_dict(
        {
            "format_version": 1,
            "name": "large",
            "unlabelled": 65535,
            "nodes": [
                {"name": "part", "value": 2035},
                *({"name": f"p{i}", "parent": "part", "value": 1000 + i} for i in range(300)),
            ],
        }
    )
    labels = np.full((9, 8, 7), tree.unlabelled, np.uint16)
    labels.flat[:300] = np.arange(1000, 1300)
    volume = make_volume()
    node = prediction.create_prediction([volume], tree, labels, bundle_id="b@1")
    assert node.GetSegmentation().GetNumberOfSegments() == 301
    np.testing.assert_array_equal(reading.read(node, tree, geometry.volume_grid(volume)), labels)


@pytest.mark.parametrize("shape", [(9, 8, 6), (9, 8)])
def test_another_shape_is_refused_in_one_sentence(make_volume, tree, shape):
    with pytest.raises(tags.SceneError, match=r"predict that volume again"):
        prediction.create_prediction([make_volume()], tree, np.zeros(shape, np.uint8), bundle_id="b@1")


def test_foreign_value_is_refused(make_volume, tree):
    with pytest.raises(Exception, match="label value 99"):
        prediction.create_prediction([make_volume()], tree, np.full((9, 8, 7), 99, np.uint8), bundle_id="b@1")


def test_fresh_prediction_is_the_only_source_of_an_annotation_from_it(predicted):
    _, node = predicted
    copy = annotation.annotation_from_prediction(node, superclasses_only=True)
    assert [segment.GetName() for _, segment in tree_store.segments(copy)] == ["tumor", "brain"]
    assert annotation.prediction_of(copy) is node
    before = node.GetSegmentation().GetMTime()
    annotation.annotation_from_prediction(node, superclasses_only=False)
    assert node.GetSegmentation().GetMTime() == before
