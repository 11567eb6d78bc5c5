"""What an exported voxel gets, and what a user is told before."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest

from hierseg.dataset import Dataset
from hierseg.labeltree import LabelTree
from HierSubclassSegLib.scene import (
    annotation,
    export,
    export_summary,
    geometry,
    layers,
    load_case,
    marks,
    prediction,
    reading,
    tags,
    tree_store,
)

SHAPE = (9, 8, 7)


def paint(node, tree, name, place, source=tags.MANUAL):
    """Add a segment of its own layer with a box of voxels, as somebody who knows nothing of our layout might."""
    grid = annotation.reference_grid(node)
    image = geometry.image_like(np.uint8, grid.shape, oriented=True)
    geometry.array_of(image)[place] = 1
    image.SetImageToWorldMatrix(geometry.to_vtk(grid.affine))
    return tree_store.add_segment(node, tree, name, source, image)


@pytest.fixture
def volume(make_volume):
    return make_volume(SHAPE)


@pytest.fixture
def node(volume, tree):
    return annotation.create_annotation([volume], tree)


def exported(node):
    return export.collect(node, prediction.volumes_of(node))[0]


def test_each_voxel_gets_the_deepest_node_and_the_rest_is_unlabelled(node, tree):
    paint(node, tree, "left cortex", np.s_[0, 0, 0])
    paint(node, tree, "cortex", np.s_[0, 0, 0:2])
    paint(node, tree, "brain", np.s_[0, 0, 0:3])
    labels = exported(node)
    assert [labels[0, 0, k] for k in range(4)] == [3, 21, 20, tree.unlabelled]
    assert np.count_nonzero(labels != tree.unlabelled) == 3


def test_complete_slice_becomes_background_and_keeps_its_coarse_rest(node, tree):
    paint(node, tree, "tumor", np.s_[2:5, 2:5, 2])
    paint(node, tree, "core", np.s_[2, 2, 2])
    marks.set_slice_complete(node, 2, 2)
    labels = exported(node)
    assert (labels[2, 2, 2], labels[4, 4, 2], labels[0, 0, 2]) == (1, 10, 0)
    assert (labels[:, :, 3] == tree.unlabelled).all()
    assert np.count_nonzero(labels[:, :, 2] == 0) == 9 * 8 - 9


def test_slice_complete_within_one_node_only_is_recorded_but_fills_nothing(node, tree):
    paint(node, tree, "tumor", np.s_[2:5, 2:5, 2])
    marks.set_slice_complete(node, 2, 2, tree.node("tumor"))
    labels, complete, _ = export.collect(node, prediction.volumes_of(node))
    assert labels[0, 0, 2] == tree.unlabelled
    assert complete == [{"axis": 2, "indices": [2], "node": "tumor"}]


def test_complete_volume(node, tree):
    paint(node, tree, "tumor", np.s_[2:5, 2:5, 2])
    for index in range(SHAPE[0]):
        marks.set_slice_complete(node, 0, index)
    labels = exported(node)
    assert set(np.unique(labels)) == {0, 10}


def test_background_free_tree_stays_unlabelled_in_complete_slices(volume, free_tree):
    node = annotation.create_annotation([volume], free_tree)
    paint(node, free_tree, "zone", np.s_[1:3, 1:3, 1])
    marks.set_slice_complete(node, 2, 1)
    labels, complete, _ = export.collect(node, [volume])
    assert set(np.unique(labels)) == {2, 255}
    assert complete == [{"axis": 2, "indices": [1], "node": None}]


def test_painted_background_is_a_label_like_any_other(node, tree):
    paint(node, tree, "background", np.s_[8, :, :])
    assert (exported(node)[8] == 0).all()


def test_overlapping_siblings_latest_segment_wins(node, tree):
    paint(node, tree, "core", np.s_[0, 0, 0:2])
    paint(node, tree, "edema", np.s_[0, 0, 1:3])
    paint(node, tree, "white matter", np.s_[0, 0, 2:4])
    assert exported(node)[0, 0, :4].tolist() == [1, 2, 5, 5]


def test_child_outside_its_parent_counts_as_inside(node, tree):
    paint(node, tree, "tumor", np.s_[0, 0, 0])
    paint(node, tree, "core", np.s_[0, 0, 0:2])
    assert exported(node)[0, 0, :3].tolist() == [1, 1, 255]


def test_hidden_segments_are_exported_like_visible_ones(node, tree):
    segment_id = paint(node, tree, "core", np.s_[0, 0, 0])
    node.GetDisplayNode().SetSegmentVisibility(segment_id, False)
    node.GetDisplayNode().SetVisibility(False)
    assert exported(node)[0, 0, 0] == 1


def test_layout_does_not_change_what_is_exported(node, tree):
    for name, place in (("tumor", np.s_[1:5]), ("core", np.s_[1:3]), ("edema", np.s_[3, :, 2:]), ("brain", np.s_[6:8])):
        paint(node, tree, name, place)
    before = exported(node)
    node.GetSegmentation().CollapseBinaryLabelmaps(False)
    np.testing.assert_array_equal(exported(node), before)
    layers.ensure_layout(node)
    np.testing.assert_array_equal(exported(node), before)
    node.GetSegmentation().SeparateSegmentLabelmap(tree_store.segment_id_of(node, "tumor/core"))
    np.testing.assert_array_equal(exported(node), before)


def test_summary_counts_what_the_file_will_hold(node, volume, tree):
    paint(node, tree, "tumor", np.s_[2:5, 2:5, 2:4])
    paint(node, tree, "core", np.s_[2, 2, 2])
    marks.set_slice_complete(node, 2, 2)
    summary = export_summary.summarize_export(node)
    by_path = {share.path: share for share in summary.nodes}
    assert by_path["tumor"].voxels == 17
    assert not by_path["tumor"].fine
    assert (by_path["tumor"].slices, by_path["tumor/core"].slices, by_path["background"].slices) == (2, 1, 1)
    assert by_path["tumor/core"].ml == pytest.approx(0.001)
    assert summary.fine_ml + summary.coarse_ml + summary.unlabelled_ml == pytest.approx(9 * 8 * 7 / 1000)
    assert (summary.fine_slices, summary.coarse_slices, summary.unlabelled_slices, summary.total_slices) == (1, 2, 6, 7)
    assert summary.axis == 2
    assert export_summary.summarize_export(node, axis=0).total_slices == 9


def test_summary_warns_of_what_is_left_out(node, tree):
    node.GetSegmentation().AddEmptySegment("mine", "my own segment")
    notes = export_summary.summarize_export(node).notes
    assert any("my own segment" in note for note in notes)
    assert any("Nothing is annotated" in note for note in notes)


def test_summary_writes_nothing(node, tree, scene):
    paint(node, tree, "tumor", np.s_[2:5, 2:5, 2:4])
    before = node.GetSegmentation().GetMTime(), scene.GetNumberOfNodes()
    export_summary.summarize_export(node)
    assert (node.GetSegmentation().GetMTime(), scene.GetNumberOfNodes()) == before


@pytest.fixture
def dataset(tmp_path, tree):
    return Dataset.create(tmp_path / "data", "d", ["T1"], tree)


def test_provenance(scene, node, volume, tree, dataset):
    predicted = prediction.create_prediction([volume], tree, np.full(SHAPE, 10, np.uint8), bundle_id="brain@2")
    node.SetNodeReferenceID(prediction.PREDICTION, predicted.GetID())
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    matrix = np.eye(4)
    matrix[:3, 3] = (1, 2, 3)
    transform.SetMatrixTransformToParent(geometry.to_vtk(matrix))
    volume.SetAndObserveTransformNodeID(transform.GetID())
    node.SetAndObserveTransformNodeID(transform.GetID())
    paint(node, tree, "core", np.s_[0, 0, 0])
    case = export.export_case(node, dataset, user="annotator 7", group="g")
    said = case.provenance
    assert said["tool"] == "HierSubclassSeg"
    # The application's version is plain, the wheel's says what it is; a panel's test may have run before in this process.
    assert said["slicer"].removeprefix("slicer-core ").startswith("5.")
    assert said["when"].endswith("+00:00")
    assert (said["model"], said["user"]) == ("brain@2", "annotator 7")
    assert said["parent_transform"] == matrix.tolist()
    assert said["sources"] == {"tumor/core": "manual"}
    assert (case.split, case.group) == ("training", "g")
    # The image keeps its own grid: the transform is recorded, not applied.
    np.testing.assert_allclose(nibabel.load(dataset.image_paths(case)[0]).affine, np.eye(4))
    assert "user" not in export.export_case(node, dataset).provenance


def test_exporting_again_replaces_the_case_and_keeps_its_split(node, volume, tree, dataset):
    paint(node, tree, "core", np.s_[0, 0, 0])
    first = export.export_case(node, dataset, case_id="scan-1", group="patient-3")
    dataset.save_case(
        "scan-1",
        [lambda path: path.write_bytes(dataset.image_paths(first)[0].read_bytes())],
        None,
        split="validation",
        group="patient-3",
    )
    again = export.export_case(node, dataset)
    assert [case.id for case in dataset.cases()] == ["scan-1"]
    assert (again.split, again.group) == ("validation", "patient-3")


def test_predictions_are_never_exported(volume, tree, dataset):
    predicted = prediction.create_prediction([volume], tree, np.full(SHAPE, 10, np.uint8), bundle_id="b@1")
    with pytest.raises(tags.SceneError, match=r"is a prediction, which is never exported"):
        export.export_case(predicted, dataset)
    assert dataset.cases() == []


def test_another_tree_is_refused_unless_it_extends_the_datasets(node, tree, dataset):
    paint(node, tree, "core", np.s_[0, 0, 0])
    export.export_case(node, dataset)
    content = tree.to_dict()
    content["nodes"].append({"name": "cyst", "parent": "tumor", "value": 11})
    larger = LabelTree.from_dict(content)
    tree_store.write_tree(node, larger)
    paint(node, larger, "cyst", np.s_[1, 1, 1])
    with pytest.raises(tags.SceneError, match=r"label tree 'test tree@"):
        export.export_case(node, dataset)
    case = export.export_case(node, dataset, update_tree=True)
    assert Dataset.open(dataset.folder).tree == larger
    assert 11 in np.unique(np.asarray(nibabel.load(dataset.label_path(case)).dataobj))


def test_wrong_number_of_channels(node, tree, tmp_path):
    paint(node, tree, "core", np.s_[0, 0, 0])
    with pytest.raises(tags.SceneError, match=r"1 volumes, the dataset has 2 channels \(A, B\)"):
        export.export_case(node, Dataset.create(tmp_path / "two", "d", ["A", "B"], tree))


def test_color_volume_is_refused(scene, tree, dataset):
    volume = scene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "photo")
    volume.SetAndObserveImageData(geometry.image_like(np.uint8, (4, 4, 4, 3)))
    node = annotation.create_annotation([volume], tree)
    with pytest.raises(tags.SceneError, match=r"'photo' has several numbers a voxel"):
        export.export_case(node, dataset)


def test_volume_that_is_gone(scene, node, volume, dataset):
    scene.RemoveNode(volume)
    with pytest.raises(tags.SceneError, match=r"does not say which volume"):
        export.export_case(node, dataset)


def test_plain_segmentation_has_no_tree(scene, dataset):
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "plain")
    with pytest.raises(tags.SceneError, match=r"'plain'"):
        export.export_case(node, dataset)


def test_complete_marks_follow_a_volume_that_slicer_flipped(scene, tree):
    """Slicer reverses the planes of a left-handed volume when it loads a scene; the marks mean the same planes."""
    affine = np.diag([-1.0, 1.0, 2.0, 1.0])
    array = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
    volume = geometry.make_volume(scene, array, affine, "left-handed")
    node = annotation.create_annotation([volume], tree)
    paint(node, tree, "core", np.s_[3, 3, 1])
    marks.set_slice_complete(node, 2, 1)
    flipped = np.diag([-1.0, 1.0, -2.0, 1.0])
    flipped[2, 3] = 2.0 * (SHAPE[2] - 1)
    volume.SetIJKToRASMatrix(geometry.to_vtk(flipped))
    geometry.array_of(volume.GetImageData())[...] = array[:, :, ::-1]
    labels, complete, _ = export.collect(node, [volume])
    assert complete == [{"axis": 2, "indices": [SHAPE[2] - 2], "node": None}]
    assert labels[3, 3, SHAPE[2] - 2] == 1
    assert (labels[:, :, SHAPE[2] - 2] != tree.unlabelled).all()


def test_loading_leaves_nothing_behind_when_a_file_is_damaged(node, tree, dataset, scene):
    paint(node, tree, "core", np.s_[0, 0, 0])
    case = export.export_case(node, dataset)
    dataset.label_path(case).write_bytes(b"gone")
    before = scene.GetNumberOfNodes()
    with pytest.raises(Exception, match=r"\.nii\.gz"):
        load_case.load_case(dataset, case.id, scene)
    assert scene.GetNumberOfNodes() == before


def test_loaded_case_removes_exactly_its_own_nodes(node, tree, dataset, scene):
    paint(node, tree, "core", np.s_[0, 0, 0])
    case = export.export_case(node, dataset)
    before = {scene.GetNthNode(i).GetID() for i in range(scene.GetNumberOfNodes())}
    loaded = load_case.load_case(dataset, case.id, scene)
    loaded.remove()
    kinds = ("vtkMRMLScalarVolumeNode", "vtkMRMLSegmentationNode", "vtkMRMLLinearTransformNode")
    left = {scene.GetNthNode(i).GetID() for i in range(scene.GetNumberOfNodes())} - before
    assert not [name for name in left if name.startswith(kinds)]


def test_label_map_reading_matches_slicers_own(node, tree):
    paint(node, tree, "tumor", np.s_[2:5, 2:5, 2:4])
    found = reading.segment_mask(node, tree_store.segment_id_of(node, "tumor"), annotation.reference_grid(node))
    assert np.count_nonzero(found) == 18
