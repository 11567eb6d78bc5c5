"""A marked voxel lies at the same place in the world after every way through the scene."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hierseg.dataset import Dataset
from hierseg.errors import ImageError
from HierSubclassSegLib.scene import (
    annotation,
    export,
    export_summary,
    geometry,
    labelmaps,
    load_case,
    nifti,
    prediction,
    reading,
    storage,
    tags,
)
from scene.places import AFFINES

SHAPE = (7, 6, 5)
MARK = (5, 1, 3)


def parent(scene):
    """A parent transform that turns, shifts and mirrors."""
    matrix = np.array([[0.0, -1.0, 0.0, 12.0], [1.0, 0.0, 0.0, -7.5], [0.0, 0.0, -1.0, 3.25], [0.0, 0.0, 0.0, 1.0]])
    node = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    node.SetMatrixTransformToParent(geometry.to_vtk(matrix))
    return node, matrix


def world_of(segmentation_node, segment_id):
    """World places of a segment's voxels, from Slicer's own label map of it, without our reading code."""
    import slicer

    image = slicer.vtkOrientedImageData()
    segmentation_node.GetBinaryLabelmapRepresentation(segment_id, image)
    found = np.argwhere(geometry.array_of(image)) + np.array(image.GetExtent()[::2])
    places = geometry.image_affine(image) @ np.c_[found, np.ones(len(found))].T
    return (geometry.parent_to_world(segmentation_node) @ places)[:3].T


@pytest.mark.parametrize("transformed", [False, True], ids=["", "parent transform"])
@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES.keys())
def test_marked_voxel_keeps_its_place(scene, make_volume, tree, tmp_path, affine, transformed):
    volume = make_volume(SHAPE, affine)
    matrix = np.eye(4)
    if transformed:
        node, matrix = parent(scene)
        volume.SetAndObserveTransformNodeID(node.GetID())
    expected = (matrix @ affine @ np.array([*MARK, 1.0]))[:3]
    labels = np.zeros(SHAPE, np.uint8)
    labels[MARK] = tree.node("left cortex").value

    predicted = prediction.create_prediction(
        [volume], tree, labels, bundle_id="b@1", affine=geometry.volume_affine(volume)
    )
    np.testing.assert_allclose(world_of(predicted, "HierSubclassSeg_3"), [expected], atol=1e-4)
    annotated = annotation.annotation_from_prediction(predicted, superclasses_only=False)
    np.testing.assert_allclose(world_of(annotated, "HierSubclassSeg_3"), [expected], atol=1e-4)

    dataset = Dataset.create(tmp_path / "data", "d", ["T1"], tree)
    case = export.export_case(annotated, dataset)
    image = nibabel.load(dataset.label_path(case))
    np.testing.assert_allclose((matrix @ image.affine @ np.array([*MARK, 1.0]))[:3], expected, atol=1e-4)
    assert np.argwhere(np.asarray(image.dataobj) == 3).tolist() == [list(MARK)]

    loaded = load_case.load_case(dataset, case.id, scene)
    np.testing.assert_allclose(world_of(loaded.annotation, "HierSubclassSeg_3"), [expected], atol=1e-4)

    storage.save_segmentation(annotated, tmp_path / "a.seg.nrrd")
    again = storage.load_segmentation(scene, tmp_path / "a.seg.nrrd", volume)
    np.testing.assert_allclose(world_of(again, "HierSubclassSeg_3"), [expected], atol=1e-4)


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES.keys())
def test_segments_on_another_grid_and_transform_are_resampled_through_world_space(scene, make_volume, tree, affine):
    volume = make_volume(SHAPE, affine)
    other = make_volume((20, 20, 20), np.diag([0.5, 0.5, 0.5, 1.0]))
    # The other volume is placed so that its voxel (10, 10, 10) is the marked voxel's middle, under a transform.
    transform, matrix = parent(scene)
    other.SetAndObserveTransformNodeID(transform.GetID())
    own = np.linalg.inv(matrix) @ affine @ np.array([*MARK, 1.0])
    where = np.diag([0.2, 0.2, 0.2, 1.0])
    where[:3, 3] = own[:3] - 2.0
    other.SetIJKToRASMatrix(geometry.to_vtk(where))
    labels = np.full((20, 20, 20), tree.unlabelled, np.uint8)
    labels[9:12, 9:12, 9:12] = tree.node("edema").value
    drawn = annotation.create_annotation([other], tree)
    labelmaps.fill(drawn, tree, labels, where)
    found = reading.read(drawn, tree, geometry.volume_grid(volume))
    assert np.argwhere(found == tree.node("edema").value).tolist() == [list(MARK)]


def test_channels_on_other_grids_are_resampled_and_said(scene, make_volume, tree, tmp_path):
    first = make_volume((8, 8, 8), name="first")
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = 0.5
    second = geometry.make_volume(scene, np.zeros((4, 4, 4), np.float32), affine, "second")
    # A ramp along x in world millimeters stays that ramp on the first volume's grid.
    geometry.array_of(second.GetImageData())[...] = (0.5 + 2 * np.arange(4, dtype=np.float32))[:, None, None]
    node = annotation.create_annotation([first, second], tree)
    tree_store_segment(node, tree)
    dataset = Dataset.create(tmp_path / "data", "d", ["A", "B"], tree)
    assert any("'second' lies on another grid" in note for note in export_summary.summarize_export(node).notes)
    case = export.export_case(node, dataset)
    image = nibabel.load(dataset.image_paths(case)[1])
    np.testing.assert_allclose(np.asarray(image.dataobj)[1:6, 3, 3], np.arange(1, 6), atol=1e-5)
    np.testing.assert_allclose(image.affine, np.eye(4))
    assert "'second' lies on another grid" in case.provenance["notes"][0]


def tree_store_segment(node, tree):
    labels = np.full(annotation.reference_grid(node).shape, tree.unlabelled, tree.dtype)
    labels[2, 2, 2] = tree.node("tumor").value
    labelmaps.fill(node, tree, labels, annotation.reference_grid(node).affine)


def test_non_linear_transform_is_refused(scene, make_volume, tree, tmp_path):
    volume = make_volume(name="scan")
    node = annotation.create_annotation([volume], tree)
    warp = scene.AddNewNodeByClass("vtkMRMLBSplineTransformNode", "warp")
    import vtk

    spline = vtk.vtkThinPlateSplineTransform()
    points = vtk.vtkPoints()
    for x, y, z in ((0, 0, 0), (9, 0, 0), (0, 9, 0), (0, 0, 9), (9, 9, 9)):
        points.InsertNextPoint(x, y, z)
    moved = vtk.vtkPoints()
    moved.DeepCopy(points)
    moved.SetPoint(4, 12.0, 9.0, 9.0)
    spline.SetSourceLandmarks(points)
    spline.SetTargetLandmarks(moved)
    spline.SetBasisToR()
    warp.SetAndObserveTransformToParent(spline)
    volume.SetAndObserveTransformNodeID(warp.GetID())
    with pytest.raises(tags.SceneError, match=r"'scan' is under the non-linear transform 'warp'.*[Hh]arden"):
        export.export_case(node, Dataset.create(tmp_path / "data", "d", ["T1"], tree))


def test_label_maps_on_one_lattice_are_copied_not_resampled():
    a = AFFINES["oblique"]
    shift = np.eye(4)
    shift[:3, 3] = (3, -2, 1)
    assert geometry.whole_voxel_shift(a, a @ shift, SHAPE) == (3, -2, 1)
    shift[0, 3] = 3.4
    assert geometry.whole_voxel_shift(a, a @ shift, SHAPE) is None


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES.keys())
@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "i4", "f4", "f8"])
def test_nifti_is_what_nibabel_reads(tmp_path, affine, dtype):
    array = np.arange(np.prod(SHAPE)).reshape(SHAPE).astype(dtype)
    nifti.write_nifti(tmp_path / "a.nii.gz", array, affine)
    image = nibabel.load(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(np.asarray(image.dataobj), array)
    assert image.get_data_dtype() == array.dtype
    np.testing.assert_array_equal(image.get_sform(), affine.astype(np.float32).astype(np.float64))
    np.testing.assert_allclose(image.get_qform(), affine, atol=1e-4)
    assert image.header.get_xyzt_units()[0] == "mm"
    back, where = nifti.read_nifti(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(back, array)
    np.testing.assert_array_equal(where, image.affine)


def test_sheared_grid_has_an_sform_only(tmp_path):
    affine = np.array([[1.0, 0.3, 0.0, 1.0], [0.0, 2.0, 0.1, 2.0], [0.0, 0.0, 3.0, 3.0], [0, 0, 0, 1]])
    nifti.write_nifti(tmp_path / "a.nii", np.zeros(SHAPE, np.uint8), affine)
    image = nibabel.load(tmp_path / "a.nii")
    assert (int(image.header["qform_code"]), int(image.header["sform_code"])) == (0, 1)
    np.testing.assert_allclose(image.affine, affine, atol=1e-6)


@given(array=hnp.arrays(np.uint8, st.tuples(*[st.integers(1, 5)] * 3)), seed=st.integers(0, 1000))
def test_any_turn_survives_as_a_quaternion(tmp_path_factory, array, seed):
    rotation = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0]
    affine = np.eye(4)
    affine[:3, :3] = rotation @ np.diag([1.0, 2.0, 0.5])
    path = tmp_path_factory.mktemp("turn") / "a.nii"
    nifti.write_nifti(path, array, affine)
    np.testing.assert_allclose(nibabel.load(path).get_qform(), affine, atol=1e-3)


@pytest.mark.parametrize("make", ["nibabel big endian", "scaled", "qform only", "trailing axis"])
def test_nifti_of_other_writers(tmp_path, make):
    affine = AFFINES["oblique, left-handed"]
    array = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
    expected = array.astype(float)
    image = nibabel.Nifti1Image(array, affine)
    if make == "nibabel big endian":
        image = nibabel.Nifti1Image(array, affine, nibabel.Nifti1Header(endianness=">"))
    elif make == "scaled":
        image = nibabel.Nifti1Image(array / 8.0, affine)
        image.set_data_dtype(np.int16)
        expected = array / 8.0
    elif make == "qform only":
        image.set_sform(None, 0)
        image.set_qform(affine, 1)
    else:
        image = nibabel.Nifti1Image(array[..., None, None], affine)
    nibabel.save(image, tmp_path / "a.nii.gz")
    back, where = nifti.read_nifti(tmp_path / "a.nii.gz")
    np.testing.assert_allclose(back, expected, atol=0.01)
    np.testing.assert_allclose(where, affine, atol=1e-4)


@pytest.mark.parametrize("content", [b"", b"\x1f\x8bbroken", b"not an image at all" * 40, None])
def test_damaged_files_are_named(tmp_path, content):
    path = tmp_path / "bad.nii.gz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ImageError, match=r"bad\.nii\.gz"):
        nifti.read_nifti(path)


def test_a_file_that_ends_early_is_named(tmp_path):
    nifti.write_nifti(tmp_path / "a.nii", np.zeros(SHAPE, np.int16), np.eye(4))
    content = (tmp_path / "a.nii").read_bytes()
    (tmp_path / "a.nii").write_bytes(content[:-10])
    with pytest.raises(ImageError, match="ends early"):
        nifti.read_nifti(tmp_path / "a.nii")
