"""Working on a case: loaded, changed, saved, changed elsewhere, removed from the scene."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from hierseg.dataset import Dataset
from hierseg.errors import HiersegError
from HierSubclassSegLib.scene import annotation, export, geometry, labelmaps, marks, nifti, open_case, reading
from HierSubclassSegLib.scene.open_case import Elsewhere, OpenCase
from HierSubclassSegLib.ticks import Ticks, finish

AFFINE = np.array([[-2.0, 0, 0, 10], [0, 2.0, 0.2, 3], [0, -0.2, 2.0, 1], [0, 0, 0, 1]])
SHAPE = (10, 9, 8)


@pytest.fixture
def dataset(tmp_path, tree):
    made = Dataset.create(tmp_path / "data", "data", ["FLAIR", "T1"], tree)
    labels = np.full(SHAPE, 255, np.uint8)
    labels[:5], labels[2, 2, 2:4], labels[6:8] = 10, 1, 3
    labels[:, :, 7][labels[:, :, 7] == 255] = 0
    image = np.random.default_rng(0).integers(0, 99, SHAPE).astype(np.int16)
    for case_id, label in (("one", labels), ("two", None)):
        made.save_case(
            case_id,
            [partial(nifti.write_nifti, array=image + index, affine=AFFINE) for index in range(2)],
            None if label is None else partial(nifti.write_nifti, array=label, affine=AFFINE),
            slices_complete=[] if label is None else [{"axis": 2, "indices": [7], "node": None}],
        )
    return made


def load(dataset, scene, case_id="one"):
    return finish(OpenCase.load_steps(dataset, case_id, scene))


def change(opened, tree):
    """Mark a voxel of a free place as brain."""
    node = opened.annotation
    labels = reading.read(node, tree, annotation.reference_grid(node))
    labels[9, 0, 0] = 20
    for segment_id in list(node.GetSegmentation().GetSegmentIDs()):
        node.GetSegmentation().RemoveSegment(segment_id)
    labelmaps.fill(node, tree, labels, annotation.reference_grid(node).affine)


def is_dirty(opened):
    return finish(opened.dirty_steps())


def test_a_loaded_case_is_clean_until_it_is_changed_and_clean_when_saved(scene, dataset, tree):
    before = {path: path.read_bytes() for path in (dataset.folder / "images").iterdir()}
    opened = load(dataset, scene)
    assert opened.id == "one"
    assert opened.surely_clean()
    assert not is_dirty(opened)
    change(opened, tree)
    assert not opened.surely_clean()
    assert is_dirty(opened)
    case = finish(opened.save_steps(dataset))
    assert case.id == "one"
    assert not is_dirty(opened)
    assert nifti.read_nifti(dataset.label_path(case))[0][9, 0, 0] == 20
    assert {path: path.read_bytes() for path in (dataset.folder / "images").iterdir()} == before


def test_what_is_only_rearranged_is_not_dirty(scene, dataset, tree):
    opened = load(dataset, scene)
    node = opened.annotation
    node.GetSegmentation().CollapseBinaryLabelmaps(False)
    segment = node.GetSegmentation().GetNthSegment(0)
    segment.GetRepresentation("Binary labelmap").Modified()
    assert not opened.surely_clean()
    assert not is_dirty(opened)
    assert opened.surely_clean(), "looked once, known from then on"
    marks.set_slice_complete(node, 2, 3)
    assert is_dirty(opened)


def test_a_case_without_annotation_is_clean_when_opened(scene, dataset):
    opened = load(dataset, scene, "two")
    assert not is_dirty(opened)


def test_images_are_written_again_only_if_they_changed(scene, dataset, tree):
    opened = load(dataset, scene)
    images = dataset.image_paths(dataset.case("one"))
    times = [path.stat().st_mtime_ns for path in images]
    volume = export.volumes_for(opened.annotation)[1]
    geometry.array_of(volume.GetImageData())[0, 0, 0] = 1234
    volume.GetImageData().Modified()
    finish(opened.save_steps(dataset))
    assert [path.stat().st_mtime_ns == time for path, time in zip(images, times, strict=True)] == [True, False]
    assert nifti.read_nifti(images[1])[0][0, 0, 0] == 1234


def test_a_scene_loaded_again_knows_what_was_saved(scene, dataset, tree):
    opened = OpenCase(load(dataset, scene).annotation)
    assert not is_dirty(opened)
    assert opened.elsewhere(dataset) is Elsewhere.NOTHING


def test_changes_elsewhere_are_noticed(scene, dataset, tree):
    opened = load(dataset, scene)
    other = Dataset.open(dataset.folder)
    other.set_extra("one", "status", "Flagged")
    assert opened.elsewhere(dataset) is Elsewhere.NOTHING
    copy = finish(OpenCase.load_steps(other, "one", scene))
    change(copy, tree)
    finish(copy.save_steps(other))
    assert opened.elsewhere(dataset) is Elsewhere.CHANGED
    new = finish(opened.save_steps(dataset, as_new=True))
    assert new.id != "one"
    assert len(dataset.cases()) == 3
    assert opened.elsewhere(dataset) is Elsewhere.NOTHING
    other.reload()
    other.remove_case(new.id)
    assert opened.elsewhere(dataset) is Elsewhere.REMOVED
    finish(opened.save_steps(dataset))
    assert dataset.case(new.id).label is not None


def test_only_loaded_nodes_are_removed(scene, dataset):
    mine = geometry.make_volume(scene, np.zeros((3, 3, 3), np.int16), np.eye(4), "mine")
    before = {scene.GetNthNode(index) for index in range(scene.GetNumberOfNodes())}
    load(dataset, scene)
    note = annotation.create_annotation([mine], dataset.tree)
    assert len(open_case.loaded_nodes(scene)) == 3
    open_case.remove_loaded(scene)
    assert open_case.loaded_nodes(scene) == []
    kept = {scene.GetNthNode(index) for index in range(scene.GetNumberOfNodes())}
    assert before | {note} <= kept
    assert mine in kept


def test_loading_that_is_ended_early_leaves_nothing(scene, dataset):
    before = scene.GetNumberOfNodesByClass("vtkMRMLVolumeNode")
    loading = Ticks(OpenCase.load_steps(dataset, "one", scene))
    while loading.step(0.0):
        if scene.GetNumberOfNodesByClass("vtkMRMLVolumeNode") > before:
            loading.cancel()
    assert loading.cancelled
    assert scene.GetNumberOfNodesByClass("vtkMRMLVolumeNode") == before
    assert open_case.loaded_nodes(scene) == []


def test_a_full_disk_leaves_the_saved_state(scene, dataset, tree, monkeypatch):
    opened = load(dataset, scene)
    change(opened, tree)
    label = dataset.label_path(dataset.case("one"))
    before = label.read_bytes()

    def full(*_arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(nifti, "_write_steps", full)
    with pytest.raises(HiersegError, match="No space left on device"):
        finish(opened.save_steps(dataset))
    assert label.read_bytes() == before
    assert is_dirty(opened)
