"""Segmentations of 3D Slicer, with our tags and plain ones."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 -- the name that its own documentation uses

from hierseg.cli import main
from hierseg.dataset import Dataset
from hierseg.errors import HiersegError
from hierseg.imageio import read_volume
from hierseg.importers.seg_nrrd import SegNrrd, read_seg_header
from hierseg.importers.seg_nrrd_folder import seg_nrrd_source
from hierseg.labeltree import LabelTree
from importers.published import AFFINE, SHAPE, picture, write_nifti

TREE = LabelTree.from_dict(
    {
        "format_version": 1,
        "name": "t",
        "unlabelled": 255,
        "nodes": [
            {"name": "background", "value": 0},
            {"name": "organ", "value": 10},
            {"name": "left", "parent": "organ", "value": 1},
            {"name": "right", "parent": "organ", "value": 2},
            {"name": "bone", "value": 7, "aliases": ["Knochen"]},
        ],
    }
)
Box = tuple[slice, slice, slice]


def box(*ends: tuple[int, int]) -> Box:
    x, y, z = (slice(*end) for end in ends)
    return x, y, z


def write_segments(
    path: Path,
    segments: Sequence[tuple[str, int, int, Box]],
    *,
    shape: Sequence[int] = SHAPE,
    affine: np.ndarray = AFFINE,
    more: Mapping[str, str] | None = None,
) -> Path:
    """A file as Slicer writes it: (name, layer, value, voxels) of each segment, layers as components."""
    layers = np.zeros((*shape, max(layer for _, layer, _, _ in segments) + 1), np.uint8)
    for _, layer, value, voxels in segments:
        layers[(*voxels, layer)] = value
    stored = np.ascontiguousarray(layers.transpose(2, 1, 0, 3))
    image = sitk.GetImageFromArray(stored[..., 0] if stored.shape[-1] == 1 else stored, isVector=stored.shape[-1] > 1)
    lps = np.diag([-1.0, -1, 1, 1]) @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    for number, (name, layer, value, _) in enumerate(segments):
        keys = {"ID": f"Segment_{number}", "Name": name, "Layer": str(layer), "LabelValue": str(value), "Tags": "a:b|"}
        for key, text in keys.items():
            image.SetMetaData(f"Segment{number}_{key}", text)
    for key, text in (more or {}).items():
        image.SetMetaData(key, text)
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path), useCompression=True)
    return path


WHOLE = box((0, 5), (0, 5), (0, 3))
LEFT, RIGHT = box((0, 2), (0, 5), (0, 3)), box((1, 4), (0, 5), (0, 3))


def test_the_deepest_node_wins_and_of_siblings_the_latest(tmp_path: Path) -> None:
    path = write_segments(
        tmp_path / "a.seg.nrrd",
        [
            ("left", 0, 3, LEFT),
            ("right", 1, 1, RIGHT),
            ("organ", 2, 1, WHOLE),
            ("Knochen", 0, 4, box((5, 6), (0, 1), (0, 1))),
        ],
    )
    found = SegNrrd(path).read(TREE)
    expected = np.full(SHAPE, 255, np.uint8)
    expected[WHOLE], expected[LEFT], expected[RIGHT] = 10, 1, 2
    expected[5, 0, 0] = 7
    np.testing.assert_array_equal(found.volume.array, expected)
    np.testing.assert_allclose(found.volume.affine, AFFINE)
    overlap = 1 * 5 * 3  # one plane of x is left and right
    assert f"overlap in {overlap} voxels" in " ".join(found.notes)
    assert SegNrrd(path, complete=True).read(TREE).outside == 0


def test_a_parent_drawn_after_its_child_does_not_hide_it(tmp_path: Path) -> None:
    one = [("organ", 0, 1, WHOLE), ("left", 1, 1, LEFT)]
    arrays = [
        SegNrrd(write_segments(tmp_path / f"{index}.seg.nrrd", order)).read(TREE).volume.array
        for index, order in enumerate((one, one[::-1]))
    ]
    np.testing.assert_array_equal(*arrays)
    assert set(np.unique(arrays[0])) == {1, 10, 255}


def test_an_old_file_without_layers_in_its_header(tmp_path: Path) -> None:
    path = write_segments(tmp_path / "a.seg.nrrd", [("left", 0, 1, LEFT), ("bone", 1, 1, box((5, 6), (0, 7), (0, 1)))])
    image = sitk.ReadImage(str(path))
    for key in image.GetMetaDataKeys():
        if key.endswith(("Layer", "LabelValue")):
            image.EraseMetaData(key)
    sitk.WriteImage(image, str(path))
    array = SegNrrd(path).read(TREE).volume.array
    assert (array[LEFT] == 1).all()
    assert (array[5, :, 0] == 7).all()


def test_cropped_and_shifted_segmentations_find_their_place(tmp_path: Path) -> None:
    """Slicer crops what it saves to what is segmented."""
    write_nifti(tmp_path / "in/scan.nii.gz", picture(1))
    cropped = AFFINE.copy()
    cropped[:3, 3] = (AFFINE @ [2, 3, 1, 1])[:3]
    write_segments(
        tmp_path / "in/scan.seg.nrrd", [("left", 0, 1, box((0, 1), (0, 2), (0, 1)))], shape=(2, 3, 2), affine=cropped
    )
    TREE.save(tmp_path / "tree.json")
    out = tmp_path / "out"
    command = ["import", "seg-nrrd", str(tmp_path / "in"), "--out", str(out), "--tree", str(tmp_path / "tree.json")]
    assert main(command) == 0
    array = read_volume(out / "labels/scan.nii.gz").array
    expected = np.full(SHAPE, 255)
    expected[2, 3:5, 1] = 1
    np.testing.assert_array_equal(array, expected)
    np.testing.assert_array_equal(read_volume(out / "images/scan_image.nii.gz").array, picture(1))
    assert "--complete" in (out / "import-report.txt").read_text(encoding="utf-8")
    assert main([*command, "--complete"]) == 0
    np.testing.assert_array_equal(read_volume(out / "labels/scan.nii.gz").array, np.where(expected == 255, 0, expected))


def test_names_make_a_flat_tree_and_channels_are_found(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    for name in ("anna", "bert"):
        for index, channel in enumerate(("T1", "FLAIR")):
            write_nifti(folder / f"{name}_{channel}.nii.gz", picture(index))
    write_segments(folder / "anna.seg.nrrd", [("liver", 0, 1, LEFT)])
    write_segments(folder / "bert.seg.nrrd", [("spleen", 0, 1, LEFT), ("liver", 0, 2, box((4, 5), (0, 1), (0, 1)))])
    write_segments(folder / "carl.seg.nrrd", [("liver", 0, 1, LEFT)])
    write_nifti(folder / "doris/T1.nii.gz", picture(3))
    write_nifti(folder / "doris/FLAIR.nii.gz", picture(4))
    write_segments(folder / "doris/Segmentation.seg.nrrd", [("liver", 0, 1, LEFT)])
    out = tmp_path / "out"
    assert main(["import", "seg-nrrd", str(folder), "--out", str(out), "--channels", "T1,FLAIR"]) == 0
    dataset = Dataset.open(out)
    assert [(node.name, node.value) for node in dataset.tree.nodes] == [("liver", 1), ("spleen", 2)]
    assert {case.id for case in dataset.cases()} == {"anna", "bert", "doris"}
    bert = read_volume(out / "labels/bert.nii.gz").array
    assert (bert[LEFT] == 2).all()
    assert bert[4, 0, 0] == 1
    np.testing.assert_array_equal(read_volume(out / "images/doris_FLAIR.nii.gz").array, picture(4))
    report = json.loads((out / "import-report.json").read_text(encoding="utf-8"))
    assert "no image of the channel 'T1'" in next(r["reason"] for r in report["cases"] if r["name"] == "carl")


def test_segments_of_no_node(tmp_path: Path) -> None:
    path = write_segments(tmp_path / "a.seg.nrrd", [("left", 0, 1, LEFT), ("junk", 1, 1, WHOLE)])
    found = SegNrrd(path).read(TREE)
    assert "junk" in found.notes[0]
    assert set(np.unique(found.volume.array)) == {1, 255}
    path = write_segments(tmp_path / "b.seg.nrrd", [("junk", 0, 1, WHOLE)])
    with pytest.raises(HiersegError, match="none of its segments"):
        SegNrrd(path).read(TREE)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"Segment0_Layer": "five"}, "damaged"),
        ({"Segment0_Layer": "5"}, "layer"),
        ({"Segment0_Tags": "HierSubclassSeg.TreeJSON:{oops|"}, "label tree in the file is damaged"),
    ],
)
def test_damaged_headers(tmp_path: Path, more: Mapping[str, str], said: str) -> None:
    path = write_segments(tmp_path / "a.seg.nrrd", [("left", 0, 1, LEFT)], more=more)
    with pytest.raises(HiersegError, match=said):
        SegNrrd(path).read(TREE)


def test_an_image_is_no_segmentation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((2, 3, 4), np.uint8)), str(tmp_path / "a.seg.nrrd"))
    with pytest.raises(HiersegError, match="no segment"):
        read_seg_header(tmp_path / "a.seg.nrrd")
    (tmp_path / "empty").mkdir()
    with pytest.raises(HiersegError, match=r"no \.seg\.nrrd file"):
        seg_nrrd_source(tmp_path / "empty")
    write_nifti(tmp_path / "in/a.nii.gz", picture(0))
    (tmp_path / "in/a.seg.nrrd").write_bytes(b"NRRD0004\nbroken")
    assert main(["import", "seg-nrrd", str(tmp_path / "in"), "--out", str(tmp_path / "o")]) == 2
    assert "a.seg.nrrd" in capsys.readouterr().err
