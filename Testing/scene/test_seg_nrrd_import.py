"""What the module saves as ``.seg.nrrd``, the import reads as the same node values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hierseg.cli import main
from hierseg.dataset import Dataset
from hierseg.imageio import read_volume, write_volume
from hierseg.importers.seg_nrrd import SegNrrd, read_seg_header
from hierseg.labeltree import LabelTree
from HierSubclassSegLib.scene import (
    annotation,
    export,
    geometry,
    labelmaps,
    lattice,
    marks,
    reading,
    storage,
    tree_store,
)

TREE = LabelTree.from_dict(
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
OBLIQUE = np.array([[0.8, -0.6, 0, 5], [0.6, 0.8, 0, -7], [0, 0, 3, 2], [0, 0, 0, 1.0]])
LEFT_HANDED = np.diag([1.0, 2, -3, 1])


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(labels=hnp.arrays(np.uint8, (3, 4, 5), elements=st.sampled_from([0, 1, 2, 3, 10, 255])))
def test_any_map_of_nodes_survives(one_scene, tmp_path_factory, labels):
    folder = tmp_path_factory.mktemp("seg")
    volume = geometry.make_volume(one_scene.scene, np.zeros((3, 4, 5), np.uint8), OBLIQUE, "v")
    node = annotation.create_annotation([volume], TREE)
    labelmaps.fill(node, TREE, labels, geometry.volume_affine(volume))
    if (labels != 255).any():
        storage.save_segmentation(node, folder / "a.seg.nrrd")
        assert read_seg_header(folder / "a.seg.nrrd").tree == TREE
        image = np.random.default_rng(0).normal(size=labels.shape).astype(np.float32)
        write_volume(folder / "a.nii.gz", image, OBLIQUE)
        assert main(["import", "seg-nrrd", str(folder), "--out", str(folder / "out")]) == 0
        np.testing.assert_array_equal(read_volume(folder / "out/labels/a.nii.gz").array, labels)
    one_scene.scene.Clear(False)


@pytest.mark.parametrize("affine", [OBLIQUE, LEFT_HANDED], ids=["oblique", "left-handed"])
def test_export_and_import_agree_with_complete_slices(scene, tmp_path: Path, affine: np.ndarray) -> None:
    """The dataset folder from Slicer's panel and the one from the saved files are the same case."""
    image = np.random.default_rng(1).integers(0, 99, (4, 5, 6)).astype(np.int16)
    volume = geometry.make_volume(scene, image, affine, "v")
    node = annotation.create_annotation([volume], TREE)
    labels = np.full((4, 5, 6), 255, np.uint8)
    labels[1:3, 1:4, 2:5], labels[2, 2, 2:4], labels[2, 3, 3] = 10, 2, 3
    labelmaps.fill(node, TREE, labels, geometry.volume_affine(volume))
    marks.set_slice_complete(node, 2, 1)
    marks.set_slice_complete(node, 0, 3)
    marks.set_slice_complete(node, 1, 2, TREE.node("a"))
    dataset = Dataset.create(tmp_path / "panel", "d", ["image"], TREE)
    case = export.export_case(node, dataset, case_id="a")
    storage.save_segmentation(node, tmp_path / "files" / "a.seg.nrrd")
    write_volume(tmp_path / "files" / "a.nii.gz", image, affine)
    assert main(["import", "seg-nrrd", str(tmp_path / "files"), "--out", str(tmp_path / "out")]) == 0
    imported = Dataset.open(tmp_path / "out").case("a")
    theirs, ours = (read_volume(folder / "labels/a.nii.gz") for folder in (tmp_path / "panel", tmp_path / "out"))
    np.testing.assert_array_equal(ours.array, theirs.array)
    np.testing.assert_allclose(ours.affine, theirs.affine, atol=1e-5)
    assert (ours.array == 0).sum() > 20
    assert list(imported.slices_complete) == list(case.slices_complete)


def test_overlapping_siblings_are_read_as_the_module_reads_them(scene, tmp_path: Path) -> None:
    volume = geometry.make_volume(scene, np.zeros((4, 5, 6), np.uint8), OBLIQUE, "v")
    node = annotation.create_annotation([volume], TREE)
    rng = np.random.default_rng(5)
    grid = lattice.Grid((4, 5, 6), (0, 0, 0), geometry.volume_affine(volume))
    for name in ("c", "b", "d", "a"):
        mask = (rng.random(grid.shape) < 0.5).astype(np.uint8)
        tree_store.add_segment(node, TREE, name, labelmap=grid.new_image(mask, grid.origin))
    expected = reading.read(node, TREE, geometry.volume_grid(volume))
    storage.save_segmentation(node, tmp_path / "a.seg.nrrd")
    found = SegNrrd(tmp_path / "a.seg.nrrd").read(TREE)
    write_volume(tmp_path / "a.nii.gz", rng.random((4, 5, 6)), OBLIQUE)
    assert main(["import", "seg-nrrd", str(tmp_path), "--out", str(tmp_path / "out")]) == 0
    np.testing.assert_array_equal(read_volume(tmp_path / "out/labels/a.nii.gz").array, expected)
    assert "overlap" in " ".join(found.notes)
