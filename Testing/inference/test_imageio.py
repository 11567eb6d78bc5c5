"""Images keep their place through every format; what cannot be an image is refused in one sentence."""

from __future__ import annotations

import errno
import gzip
import locale
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 -- the name that its own documentation uses

from hierseg.errors import ImageError, LabelTreeError
from hierseg.imageio import Volume, check_intensities, image_stem, read_label, read_volume, write_volume
from hierseg.labeltree import LabelTree

OBLIQUE = np.array([[-0.9, 0.2, 0.0, 12.5], [0.2, 0.9, 0.0, -30.0], [0.0, 0.0, 2.5, 7.25], [0, 0, 0, 1.0]])


def cube(*shape: int, dtype: type = np.int16) -> np.ndarray:
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


@pytest.mark.parametrize("ending", ["nii.gz", "nii", "nrrd", "mha"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
def test_array_and_affine_survive_every_format(tmp_path: Path, ending: str, dtype: type) -> None:
    array = cube(5, 6, 7, dtype=dtype)
    write_volume(tmp_path / f"a.{ending}", array, OBLIQUE)
    volume = read_volume(tmp_path / f"a.{ending}")
    assert volume.array.dtype == dtype
    np.testing.assert_array_equal(volume.array, array)
    np.testing.assert_allclose(volume.affine, OBLIQUE, atol=1e-6)
    assert list(tmp_path.iterdir()) == [tmp_path / f"a.{ending}"]


@pytest.mark.parametrize("ending", ["nii.gz", "nrrd", "mha"])
def test_files_agree_with_simpleitk_on_where_a_voxel_lies(tmp_path: Path, ending: str) -> None:
    write_volume(tmp_path / f"a.{ending}", cube(5, 6, 7), OBLIQUE)
    image = sitk.ReadImage(str(tmp_path / f"a.{ending}"))
    lps = np.array(image.TransformIndexToPhysicalPoint((4, 2, 6)))
    np.testing.assert_allclose(lps * [-1, -1, 1], (OBLIQUE @ [4, 2, 6, 1])[:3], atol=1e-5)
    assert image.GetPixel(4, 2, 6) == cube(5, 6, 7)[4, 2, 6]


@pytest.mark.parametrize("ending", ["nii.gz", "nrrd", "mha"])
def test_frames_and_trailing_axes(tmp_path: Path, ending: str) -> None:
    write_volume(tmp_path / f"a.{ending}", cube(3, 4, 5, 2), OBLIQUE)
    volume = read_volume(tmp_path / f"a.{ending}")
    assert volume.frames == 2
    np.testing.assert_array_equal(volume.frame(1).array, cube(3, 4, 5, 2)[..., 1])
    write_volume(tmp_path / f"b.{ending}", cube(3, 4, 5, 1), OBLIQUE)
    single = read_volume(tmp_path / f"b.{ending}")
    assert single.array.shape == (3, 4, 5)
    assert single.frames is None


@pytest.mark.parametrize("ending", ["nii.gz", "nrrd", "mha"])
def test_a_damaged_byte_in_a_compressed_file_is_seen(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    write_volume(path, np.random.default_rng(0).normal(size=(20, 20, 20)).astype(np.float32), OBLIQUE)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 50] = bytes(50)
    path.write_bytes(bytes(content))
    with pytest.raises(ImageError, match=f"a.{ending}: the image is damaged"):
        read_volume(path)


def test_nifti_in_micrometers_with_quaternion_only(tmp_path: Path) -> None:
    affine = np.diag([-500.0, 500.0, 700.0, 1.0])
    image = nib.Nifti1Image(cube(3, 4, 5), affine)
    image.set_sform(None, code=0)
    image.set_qform(affine, code=1)
    image.header.set_xyzt_units("micron")
    nib.save(image, tmp_path / "a.nii")
    np.testing.assert_allclose(read_volume(tmp_path / "a.nii").affine, np.diag([-0.5, 0.5, 0.7, 1]), atol=1e-6)


def test_nifti_without_orientation_says_so(tmp_path: Path) -> None:
    image = nib.Nifti1Image(cube(3, 4, 5), None)
    image.set_sform(None, code=0)
    image.set_qform(None, code=0)
    nib.save(image, tmp_path / "a.nii")
    assert "left and right" in read_volume(tmp_path / "a.nii").notes[0]


def test_nrrd_that_speaks_ras(tmp_path: Path) -> None:
    header = (
        "NRRD0005\ntype: short\ndimension: 3\nspace: right-anterior-superior\nsizes: 3 4 5\nspace directions: (0,2,0) (-1,0,0) (0,0,3)\n"
        "kinds: domain domain domain\nendian: little\nencoding: raw\nspace origin: (10,-20,30)\n\n"
    )
    (tmp_path / "a.nrrd").write_bytes(header.encode() + cube(3, 4, 5).tobytes(order="F"))
    volume = read_volume(tmp_path / "a.nrrd")
    np.testing.assert_array_equal(volume.array, cube(3, 4, 5))
    np.testing.assert_allclose(volume.affine, [[0, -1, 0, 10], [2, 0, 0, -20], [0, 0, 3, 30], [0, 0, 0, 1]])


def test_header_with_its_data_in_another_file(tmp_path: Path) -> None:
    for header, data in (("a.nhdr", "a.raw"), ("b.mhd", "b.raw")):
        sitk.WriteImage(sitk.GetImageFromArray(cube(5, 4, 3)), str(tmp_path / header))
        np.testing.assert_array_equal(read_volume(tmp_path / header).array, cube(5, 4, 3).transpose())
        next(iter([*tmp_path.glob(f"{data}*"), tmp_path / data])).unlink()
        with pytest.raises(ImageError, match=header):
            read_volume(tmp_path / header)


def test_one_flat_image_is_one_slice(tmp_path: Path) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(cube(4, 6)), str(tmp_path / "a.mha"))
    assert read_volume(tmp_path / "a.mha").array.shape == (6, 4, 1)


def test_stem() -> None:
    assert image_stem("x/a.b.nii.gz") == "a.b"
    assert image_stem("x/T1.NRRD") == "T1"
    assert image_stem("x/series") == "series"


# -- DICOM ----------------------------------------------------------------------------------------------------------


def write_series(
    folder: Path,
    array: np.ndarray,
    positions: np.ndarray,
    *,
    uid: str = "1.2.3",
    turn: float = 0.0,
    name: str = "s",
    thickness: float | None = None,
) -> None:
    """A series with one file a slice: rows along R→L turned in plane, ``positions`` of the slices in LPS."""
    folder.mkdir(exist_ok=True)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    row = np.array([np.cos(turn), np.sin(turn), 0])
    column = np.array([-np.sin(turn), np.cos(turn), 0])
    for index, position in enumerate(positions):
        image = sitk.GetImageFromArray(array[:, :, index].T[None].astype(np.int16))
        image.SetSpacing((0.8, 0.8, 3.0))
        tags = {
            "0008|0060": "MR",
            "0008|103e": name,
            "0020|000d": "1.2.9",
            "0020|000e": uid,
            "0020|0013": str(index + 1),
            "0008|0018": f"{uid}.{index + 1}",
            "0020|0032": "\\".join(f"{value:.6f}" for value in position),
            "0020|0037": "\\".join(f"{value:.9f}" for value in [*row, *column]),
        }
        if thickness is not None:
            tags["0018|0050"] = str(thickness)
        for tag, value in tags.items():
            image.SetMetaData(tag, value)
        direction = np.stack([row, column, np.cross(row, column)], axis=1)
        image.SetDirection(direction.ravel().tolist())
        image.SetOrigin(position.tolist())
        writer.SetFileName(str(folder / f"{name}{(index * 7) % 100:03d}.dcm"))  # file names do not follow the slices
        # Writing decimal numbers into DICOM, ITK sets the locale "C" and leaves it so (SimpleITK 2.5.7).
        before = locale.setlocale(locale.LC_ALL)
        writer.Execute(image)
        locale.setlocale(locale.LC_ALL, before)


def line(count: int, step: float = 3.0, lean: float = 0.0) -> np.ndarray:
    return np.array([[-50.0, -40.0 + lean * index, 10.0 + step * index] for index in range(count)])


def test_dicom_series(tmp_path: Path) -> None:
    array = cube(6, 5, 4)
    write_series(tmp_path / "d", array, line(4), turn=0.3)
    volume = read_volume(tmp_path / "d")
    np.testing.assert_array_equal(volume.array, array)
    column = np.array([np.cos(0.3), np.sin(0.3), 0])
    place = np.array([-50, -40, 10]) + 5 * 0.8 * column + np.array([0, 0, 3.0 * 2])
    np.testing.assert_allclose((volume.affine @ [5, 0, 2, 1])[:3], place * [-1, -1, 1], atol=1e-4)


def test_largest_dicom_series_is_taken_and_said(tmp_path: Path) -> None:
    write_series(tmp_path / "d", cube(6, 5, 4), line(4), name="big")
    write_series(tmp_path / "d", cube(6, 5, 2), line(2), uid="1.2.4", name="scout")
    volume = read_volume(tmp_path / "d")
    assert volume.array.shape == (6, 5, 4)
    assert "big" in volume.notes[0]
    assert "scout" in volume.notes[0]


def test_two_equal_dicom_series_are_refused(tmp_path: Path) -> None:
    write_series(tmp_path / "d", cube(6, 5, 2), line(2), name="one")
    write_series(tmp_path / "d", cube(6, 5, 2), line(2), uid="1.2.4", name="two")
    with pytest.raises(ImageError, match=r"'one'.*'two'|'two'.*'one'"):
        read_volume(tmp_path / "d")


def test_missing_slice_and_tilted_gantry_are_refused_with_their_numbers(tmp_path: Path) -> None:
    write_series(tmp_path / "gap", cube(6, 5, 4), line(5)[[0, 1, 3, 4]])
    with pytest.raises(ImageError, match="3 to 6 mm"):
        read_volume(tmp_path / "gap")
    write_series(tmp_path / "tilt", cube(6, 5, 4), line(4, lean=1.0))
    with pytest.raises(ImageError, match=r"sheared by 18\.4"):
        read_volume(tmp_path / "tilt")


def test_slices_thinner_than_their_distance_are_said(tmp_path: Path) -> None:
    write_series(tmp_path / "gaps", cube(6, 5, 4), line(4), thickness=2.0)
    (note,) = read_volume(tmp_path / "gaps").notes
    assert note.startswith(f"{tmp_path / 'gaps'}: the slices are 2 mm thick and 3 mm apart; the 1 mm between two")
    write_series(tmp_path / "whole", cube(6, 5, 4), line(4), thickness=3.0)
    assert read_volume(tmp_path / "whole").notes == ()


def test_folder_without_dicom(tmp_path: Path) -> None:
    (tmp_path / "readme.txt").write_text("nothing here", encoding="utf-8")
    with pytest.raises(ImageError, match="no DICOM series"):
        read_volume(tmp_path)


# -- bad input ------------------------------------------------------------------------------------------------------


def _cut(path: Path, write: Callable[[Path], None], keep: float) -> None:
    write(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])


def _noise(path: Path) -> None:
    write_volume(path, np.random.default_rng(0).integers(0, 999, (9, 9, 9)).astype(np.int16), np.eye(4))


def _rgb_nifti(path: Path) -> None:
    nib.save(nib.Nifti1Image(np.zeros((3, 3, 3), np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])), np.eye(4)), path)


def _sheared(path: Path) -> None:
    nib.save(
        nib.Nifti1Image(cube(3, 3, 3), np.array([[1, 0, 0.2, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])), path
    )


def _singular(path: Path) -> None:
    image = nib.Nifti1Image(cube(3, 3, 3), np.eye(4))
    image.header["srow_z"] = 0
    image.header["qform_code"] = 0
    image.header["sform_code"] = 1
    image.to_filename(path)
    raw = bytearray(path.read_bytes())
    raw[312:328] = np.zeros(4, np.float32).tobytes()  # srow_z
    raw[252:256] = np.array([0, 1], np.int16).tobytes()
    path.write_bytes(raw)


BAD: dict[str, tuple[str, Callable[[Path], Any], str]] = {
    "missing": ("a.nii.gz", lambda path: None, "no such file"),
    "empty": ("a.nii.gz", lambda path: path.write_bytes(b""), "empty"),
    "text": ("a.nii.gz", lambda path: path.write_text("hello", encoding="utf-8"), "damaged"),
    "text in gzip": ("a.nii.gz", lambda path: path.write_bytes(gzip.compress(b"hello" * 99)), "damaged"),
    "cut .nii.gz": ("a.nii.gz", lambda path: _cut(path, _noise, 0.6), "damaged"),
    "cut .nii": ("a.nii", lambda path: _cut(path, _noise, 0.6), "damaged"),
    "cut .nrrd": ("a.nrrd", lambda path: _cut(path, _noise, 0.6), "damaged"),
    "cut .mha": ("a.mha", lambda path: _cut(path, _noise, 0.6), "damaged"),
    "unknown ending": ("a.png", lambda path: path.write_bytes(b"x"), "no image format"),
    "1D": ("a.nii", lambda path: nib.save(nib.Nifti1Image(cube(7, 1, 1).reshape(7), np.eye(4)), path), "1 axis"),
    "5D": ("a.nii", lambda path: nib.save(nib.Nifti1Image(cube(3, 3, 3, 1, 3), np.eye(4)), path), "5 axes"),
    "RGB .nii": ("a.nii", _rgb_nifti, "color"),
    "RGB .nrrd": ("a.nrrd", lambda path: sitk.WriteImage(sitk.GetImageFromArray(np.zeros((3, 3, 3, 3), np.uint8), isVector=True), str(path)), "color"),
    "complex": ("a.nii", lambda path: nib.save(nib.Nifti1Image(np.ones((3, 3, 3), np.complex64), np.eye(4)), path), "complex"),
    "shear": ("a.nii", _sheared, r"sheared by 11\.3"),
    "singular": ("a.nii", _singular, "singular"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_images_get_one_sentence_with_the_file(tmp_path: Path, case: str) -> None:
    name, make, expected = BAD[case]
    make(tmp_path / name)
    with pytest.raises(ImageError, match=expected) as caught:
        read_volume(tmp_path / name)
    assert str(tmp_path / name) in caught.value.sentence
    assert "\n" not in caught.value.sentence


@pytest.mark.parametrize(
    ("value", "expected"), [(np.nan, "1 of 27 voxels are NaN"), (np.inf, "infinite"), (0, "constant")]
)
def test_bad_intensities(value: float, expected: str) -> None:
    array = np.zeros((3, 3, 3), np.float32)
    array[1, 1, 1] = value
    with pytest.raises(ImageError, match=expected):
        check_intensities(array, "scan")


def test_labels_are_whole_numbers_of_the_tree(tmp_path: Path, tree: LabelTree) -> None:
    write_volume(tmp_path / "a.nii.gz", np.full((3, 3, 3), 8, np.float32), np.eye(4))
    assert read_label(tmp_path / "a.nii.gz", tree).array.dtype == np.uint8
    write_volume(tmp_path / "b.nii.gz", np.full((3, 3, 3), 0.5, np.float32), np.eye(4))
    with pytest.raises(ImageError, match=r"whole numbers.*0\.5"):
        read_label(tmp_path / "b.nii.gz", tree)
    write_volume(tmp_path / "c.nii.gz", np.full((3, 3, 3), 77, np.uint8), np.eye(4))
    with pytest.raises(LabelTreeError, match=r"c\.nii\.gz.*77"):
        read_label(tmp_path / "c.nii.gz", tree)


# -- writing --------------------------------------------------------------------------------------------------------


@pytest.mark.may_skip("Windows has no limit on the size of files")
@pytest.mark.skipif(sys.platform == "win32", reason="no limit on the size of files")
@pytest.mark.parametrize("ending", ["nii.gz", "nrrd"])
def test_full_disk_leaves_nothing(tmp_path: Path, ending: str) -> None:
    # A limit on the file size makes the operating system itself refuse, in a process of its own.
    code = (
        "import resource, signal, sys, numpy as np; from hierseg.imageio import write_volume; from hierseg.errors import ImageError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
        "try: write_volume(sys.argv[1], np.random.default_rng(0).integers(0, 9999, (40, 40, 40)).astype(np.int16), np.eye(4))\n"
        "except ImageError as error: print(error.sentence)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code, str(tmp_path / f"a.{ending}")]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=True, env=environment)
    assert f"a.{ending}: " in done.stdout
    assert ".tmp-" not in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_full_disk_is_called_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(nib, "save", full)
    with pytest.raises(ImageError, match="the disk is full, nothing was written"):
        write_volume(tmp_path / "a.nii.gz", cube(3, 3, 3), np.eye(4))
    assert list(tmp_path.iterdir()) == []


def test_unknown_ending_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"\.nii\.gz"):
        write_volume(tmp_path / "a.png", cube(3, 3, 3), np.eye(4))


def test_volume_tells_its_spacing() -> None:
    volume = Volume(cube(3, 4, 5), OBLIQUE)
    np.testing.assert_allclose(volume.spacing, (np.hypot(0.9, 0.2), np.hypot(0.9, 0.2), 2.5))
    assert volume.shape == (3, 4, 5)
