"""Scene → dataset folder → scene → dataset folder, and through .seg.nrrd and .mrb: nothing changes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hierseg.dataset import Dataset
from hierseg.labeltree import LabelTree
from HierSubclassSegLib.scene import (
    annotation,
    export,
    geometry,
    labelmaps,
    layers,
    load_case,
    marks,
    prediction,
    reading,
    session,
    storage,
    tags,
    takeover,
    tree_store,
)
from scene.places import AFFINES, random_labels

SHAPE = (9, 8, 7)


def files(dataset, case):
    return [path.read_bytes() for path in [*dataset.image_paths(case), dataset.label_path(case)]]


def tags_of(node):
    names = (tags.TREE, tags.PATH, tags.VALUE, tags.SOURCE, tags.TERMINOLOGY, tags.ALGORITHM_TYPE, tags.ALGORITHM_NAME)
    return {
        segment.GetName(): [tags.get_tag(segment, name) for name in names] for _, segment in tree_store.segments(node)
    }


@pytest.fixture
def annotated(scene, make_volume, tree):
    """An annotation of every kind of voxel, under a transform, with complete slices and three sources."""
    volume = make_volume(SHAPE, AFFINES["oblique, left-handed"])
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    matrix = np.eye(4)
    matrix[:3, 3] = (4.0, -5.5, 6.25)
    transform.SetMatrixTransformToParent(geometry.to_vtk(matrix))
    volume.SetAndObserveTransformNodeID(transform.GetID())
    predicted = prediction.create_prediction([volume], tree, random_labels(tree, SHAPE), bundle_id="brain@2")
    node = annotation.annotation_from_prediction(predicted)
    takeover.take_over(node, "tumor", takeover.slice_mask(annotation.reference_grid(node), 1, 3))
    segment = node.GetSegmentation().GetSegment(tree_store.segment_id_of(node, "brain"))
    tags.set_source(segment, tags.MIXED)
    tree_store.add_segment(node, tree, "white matter", tags.MANUAL)
    marks.set_slice_complete(node, 1, 3)
    marks.set_slice_complete(node, 1, 5)
    marks.set_slice_complete(node, 2, 2, tree.node("tumor"))
    return node


def test_scene_dataset_scene_dataset(scene, annotated, tree, tmp_path):
    first = Dataset.create(tmp_path / "first", "d", ["T1"], tree)
    second = Dataset.create(tmp_path / "second", "d", ["T1"], tree)
    case = export.export_case(annotated, first, case_id="c", group="g", user="u")
    loaded = load_case.load_case(first, "c", scene)
    again = export.export_case(loaded.annotation, second, user="u")
    assert files(second, again) == files(first, case)
    assert again.slices_complete == case.slices_complete
    assert (again.id, again.group) == (case.id, case.group)
    assert again.provenance["sources"] == case.provenance["sources"]
    assert again.provenance["parent_transform"] == case.provenance["parent_transform"]
    assert tags_of(loaded.annotation) == tags_of(annotated)
    assert marks.slices_complete(loaded.annotation, tree) == marks.slices_complete(annotated, tree)
    assert layers.layout_is_right(loaded.annotation, tree)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(labels=hnp.arrays(np.uint8, (3, 4, 5), elements=st.sampled_from([0, 1, 2, 3, 10, 255])))
def test_any_label_map_survives(one_scene, tmp_path_factory, labels):
    tree = LabelTree.from_dict(
        {
            "format_version": 1,
            "name": "t",
            "unlabelled": 255,
            "nodes": [
                {"name": "background", "value": 0},
                {"name": "a", "value": 10},
                {"name": "b", "parent": "a", "value": 1},
                {"name": "c", "parent": "b", "value": 2},
                {"name": "d", "parent": "b", "value": 3},
            ],
        }
    )
    volume = geometry.make_volume(one_scene.scene, np.zeros((3, 4, 5), np.uint8), AFFINES["oblique"], "v")
    node = annotation.create_annotation([volume], tree)
    labelmaps.fill(node, tree, labels, geometry.volume_affine(volume))
    dataset = Dataset.create(tmp_path_factory.mktemp("data") / "d", "d", ["T1"], tree)
    case = export.export_case(node, dataset)
    loaded = load_case.load_case(dataset, case.id, one_scene.scene)
    np.testing.assert_array_equal(export.collect(loaded.annotation, loaded.volumes)[0], labels)
    one_scene.scene.Clear(False)


def test_case_without_label_map_loads_empty(scene, tree, tmp_path, annotated):
    dataset = Dataset.create(tmp_path / "data", "d", ["T1"], tree)
    case = export.export_case(annotated, dataset)
    image = dataset.image_paths(case)[0].read_bytes()
    dataset.save_case("bare", [lambda path: path.write_bytes(image)], None)
    loaded = load_case.load_case(dataset, "bare", scene)
    assert loaded.annotation.GetSegmentation().GetNumberOfSegments() == 0
    assert tree_store.read_tree(loaded.annotation) == tree


def test_background_of_a_complete_slice_needs_no_segment(scene, make_volume, tree, tmp_path):
    node = annotation.create_annotation([make_volume(SHAPE)], tree)
    labels = np.full(SHAPE, tree.unlabelled, np.uint8)
    labels[2, 2, 2] = 1
    labelmaps.fill(node, tree, labels, np.eye(4))
    marks.set_slice_complete(node, 2, 2)
    dataset = Dataset.create(tmp_path / "data", "d", ["T1"], tree)
    loaded = load_case.load_case(dataset, export.export_case(node, dataset).id, scene)
    assert [segment.GetName() for _, segment in tree_store.segments(loaded.annotation)] == ["tumor", "core"]


def test_seg_nrrd_keeps_everything(scene, annotated, tree, tmp_path):
    before, grid = tags_of(annotated), annotation.reference_grid(annotated)
    labels = reading.read(annotated, tree, grid)
    marks.set_locked(annotated, tree.node("core"), True)
    ids = [segment_id for segment_id, _ in tree_store.segments(annotated)]
    storage.save_segmentation(annotated, tmp_path / "a.seg.nrrd")
    # Saving packs the live segmentation's layers; the layout must be back.
    assert layers.layout_is_right(annotated, tree)
    np.testing.assert_array_equal(reading.read(annotated, tree, grid), labels)
    again = storage.load_segmentation(scene, tmp_path / "a.seg.nrrd", prediction.volumes_of(annotated)[0])
    assert tags_of(again) == before
    assert tree_store.read_tree(again) == tree
    assert [segment_id for segment_id, _ in tree_store.segments(again)] == ids
    assert marks.locked_nodes(again, tree) == {"core"}
    assert marks.slices_complete(again, tree) == marks.slices_complete(annotated, tree)
    np.testing.assert_array_equal(reading.read(again, tree, grid), labels)


def test_mrb_keeps_everything(scene, annotated, tree, tmp_path):
    grid = annotation.reference_grid(annotated)
    labels = reading.read(annotated, tree, grid)
    marks.set_locked(annotated, tree.node("core"), True)
    name, before = annotated.GetName(), tags_of(annotated)
    storage.save_scene(scene, tmp_path / "a.mrb")
    opened = session.open_session()
    storage.load_scene(opened.scene, tmp_path / "a.mrb")
    again = opened.scene.GetFirstNodeByName(name)
    assert tags_of(again) == before
    assert tree_store.read_tree(again) == tree
    assert marks.locked_nodes(again, tree) == {"core"}
    assert [volume.GetName() for volume in prediction.volumes_of(again)] == ["volume"]
    assert annotation.prediction_of(again).GetAttribute(prediction.MODEL) == "brain@2"
    assert again.GetParentTransformNode() is not None
    np.testing.assert_array_equal(reading.read(again, tree, grid), labels)
    # Slicer has reversed the left-handed volume's planes: the export must still say the same of each place.
    dataset = Dataset.create(tmp_path / "data", "d", ["T1"], tree)
    here, there = export.export_case(annotated, dataset), export.export_case(again, dataset, case_id="again")
    a, b = (load_case.load_case(dataset, case.id, opened.scene) for case in (here, there))
    np.testing.assert_array_equal(
        export.collect(b.annotation, a.volumes)[0], export.collect(a.annotation, a.volumes)[0]
    )
    opened.close()


def test_scene_loaded_past_us_brings_its_state(annotated, tree, tmp_path):
    """Slicer's own dialogs save and load: attributes come with the scene, tags with the file."""
    marks.set_locked(annotated, tree.node("core"), True)
    storage.prepare_for_saving(annotated)
    assert annotated.GetScene().WriteToMRB(str(tmp_path / "a.mrb"))
    opened = session.open_session()
    assert opened.scene.ReadFromMRB(str(tmp_path / "a.mrb"), False)
    again = opened.scene.GetFirstNodeByName(annotated.GetName())
    assert marks.locked_nodes(again, tree) == {"core"}
    again.SetAttribute(tree_store.STATE, None)
    assert marks.locked_nodes(again, tree) == {"core"}
    opened.close()


def test_mirroring_the_state_leaves_redo_alone(annotated, tree):
    import slicer

    history = slicer.vtkSegmentationHistory()
    history.SetSegmentation(annotated.GetSegmentation())
    history.SaveState()
    annotated.GetSegmentation().RemoveSegment(tree_store.segment_id_of(annotated, "brain"))
    history.RestorePreviousState()
    marks.set_locked(annotated, tree.node("core"), True)
    storage.prepare_for_saving(annotated)
    assert history.IsRestoreNextStateAvailable()


def test_failed_save_leaves_the_old_file(annotated, tmp_path):
    with pytest.raises(tags.SceneError, match=r"\.seg\.nrrd"):
        storage.save_segmentation(annotated, tmp_path / "a.nii.gz")
    with pytest.raises(tags.SceneError, match="no such"):
        storage.load_segmentation(annotated.GetScene(), tmp_path / "not there.seg.nrrd")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["acdc", "brain_start", "brats2021", "samseg_brain", "totalsegmentator_ct"])
def test_every_shipped_tree_goes_through_a_file(scene, make_volume, repository, tmp_path, name):
    tree = LabelTree.load(repository / "Resources" / "LabelTrees" / f"{name}.json")
    volume = make_volume(SHAPE, AFFINES["oblique"])
    labels = np.resize([*tree.values, tree.unlabelled], SHAPE).astype(tree.dtype)
    node = prediction.create_prediction([volume], tree, labels, bundle_id="b@1")
    colors = [segment.GetColor() for _, segment in tree_store.segments(node)]
    assert len(colors) == len(tree.nodes) - (tree.background is not None)
    storage.save_segmentation(node, tmp_path / "a.seg.nrrd")
    again = storage.load_segmentation(scene, tmp_path / "a.seg.nrrd", volume)
    assert tree_store.read_tree(again) == tree
    assert tags_of(again) == tags_of(node)
    np.testing.assert_allclose([segment.GetColor() for _, segment in tree_store.segments(again)], colors, atol=1e-4)
    background = tree.background
    expected = np.where(labels == background.value, tree.unlabelled, labels) if background else labels
    np.testing.assert_array_equal(reading.read(again, tree, annotation.reference_grid(node)), expected)
