"""Reading and writing images so that every voxel keeps its physical place.

In memory an image is a :class:`Volume`: an array in the order ``(x, y, z)`` or ``(x, y, z, t)`` and a 4×4 affine
that takes voxel indices to millimeters in RAS (right, anterior, superior are positive), whatever the file's own
convention.  NIfTI is RAS and goes through nibabel; NRRD, MetaImage and DICOM are LPS and go through SimpleITK,
which orders arrays the other way round: both are turned here, once, and nowhere else.

What cannot be a faithful image is refused here with one sentence: unreadable files, color or vector voxels,
geometry that is singular or sheared (as CT with a tilted gantry).  Intensities are looked at in
:func:`check_intensities`, because labels may well be constant.
"""

from __future__ import annotations

import contextlib
import errno
import gzip
import math
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError, ImageDataError

from hierseg.atomic import replacing
from hierseg.errors import ImageError, LabelTreeError
from hierseg.itk import read_dicom_folder, read_itk, write_itk
from hierseg.labeltree import LabelTree

__all__ = [
    "MAX_SHEAR_DEGREES",
    "Volume",
    "check_geometry",
    "check_intensities",
    "image_stem",
    "read_label",
    "read_volume",
    "spacing_of",
    "telling",
    "write_volume",
]

NIFTI_ENDINGS = (".nii.gz", ".nii")
ITK_ENDINGS = (".nrrd", ".nhdr", ".mha", ".mhd")
DICOM_ENDINGS = (".dcm", ".ima")
MAX_SHEAR_DEGREES = 0.1
"""Axes may deviate so much from right angles; rounded direction cosines in files stay far below."""

_NIFTI_UNIT_MM = {"meter": 1000.0, "mm": 1.0, "micron": 0.001, "unknown": 1.0}


@dataclass(frozen=True)
class Volume:
    """An image with its place in the patient.

    Attributes:
        array: ``(x, y, z)`` or, with frames, ``(x, y, z, t)``.
        affine: 4×4, voxel index → millimeters in RAS, float64.
        path: where it came from, for messages; empty for an array from memory.
        notes: sentences that the user should read (a series was chosen, axes were dropped).
    """

    array: np.ndarray
    affine: np.ndarray
    path: Path | str = ""
    notes: tuple[str, ...] = field(default=(), compare=False)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along the three spatial axes."""
        x, y, z = self.array.shape[:3]
        return x, y, z

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel edges in mm, in the order of the array's axes."""
        return spacing_of(self.affine)

    @property
    def frames(self) -> int | None:
        """Number of frames of a 4D image, None for 3D."""
        return self.array.shape[3] if self.array.ndim == 4 else None

    def frame(self, index: int) -> Volume:
        """One frame as a 3D volume; a 3D volume is its own frame."""
        return self if self.frames is None else replace(self, array=self.array[..., index])


def spacing_of(affine: np.ndarray) -> tuple[float, float, float]:
    """Voxel edges in mm: the lengths of the affine's columns."""
    x, y, z = np.linalg.norm(np.asarray(affine, dtype=np.float64)[:3, :3], axis=0)
    return float(x), float(y), float(z)


def image_stem(path: str | Path) -> str:
    """The file's name without its image ending (``a.nii.gz`` → ``a``); a folder's own name."""
    name = Path(path).name or Path(path).resolve().name
    for ending in (*NIFTI_ENDINGS, *ITK_ENDINGS, *DICOM_ENDINGS):
        if name.lower().endswith(ending) and len(name) > len(ending):
            return name[: -len(ending)]
    return name


# -- checks ---------------------------------------------------------------------------------------------------------


def check_geometry(affine: np.ndarray, where: str) -> None:
    """Refuse an affine that is not finite, is singular, or is sheared.

    Raises:
        ImageError: names ``where``; for shear, the angle.
    """
    affine = np.asarray(affine, dtype=np.float64)
    if affine.shape != (4, 4) or not np.isfinite(affine).all():
        raise ImageError(f"{where}: the image's affine is not a 4×4 matrix of finite numbers; correct the header.")
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if lengths.min() <= 1e-9 or abs(np.linalg.det(affine[:3, :3] / np.maximum(lengths, 1e-300))) < 1e-6:
        raise ImageError(
            f"{where}: the image's affine is singular (voxel edges {_numbers(lengths)} mm); correct the header."
        )
    axes = affine[:3, :3] / lengths
    cosines = np.abs(np.array([axes[:, 0] @ axes[:, 1], axes[:, 0] @ axes[:, 2], axes[:, 1] @ axes[:, 2]]))
    angle = math.degrees(math.asin(min(1.0, float(cosines.max()))))
    if angle > MAX_SHEAR_DEGREES:
        raise ImageError(
            f"{where}: the image's axes are sheared by {angle:.2f}° (as with a tilted gantry), which no segmentation can follow; "
            "resample it onto a grid with right angles."
        )


def check_intensities(array: np.ndarray, where: str) -> None:
    """Refuse an image that holds NaN or infinity, or one value only.

    Raises:
        ImageError: names ``where`` and what was found.
    """
    if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
        count = int(array.size - np.isfinite(array).sum())
        raise ImageError(
            f"{where}: {count} of {array.size} voxels are NaN or infinite; replace them, for example by 0."
        )
    low, high = array.min(), array.max()
    if low == high:
        raise ImageError(
            f"{where}: all voxels have the value {low:g}; there is nothing to see in a constant image, check the file."
        )


# -- reading --------------------------------------------------------------------------------------------------------


def read_volume(path: str | Path) -> Volume:
    """Read NIfTI, NRRD, MetaImage, or a folder that holds a DICOM series.

    Axes of length 1 behind the third are dropped; a 2D image becomes one slice.

    Raises:
        ImageError: the file is missing, damaged, of another kind, or has voxels or a geometry that cannot be used.
    """
    path = Path(path)
    if not path.exists():
        raise ImageError(f"{path}: there is no such file or folder; check the path.")
    name = path.name.lower()
    with telling(path):
        if path.is_dir():
            array, affine, notes = read_dicom_folder(path)
        elif path.stat().st_size == 0:
            raise ImageError(f"{path}: the file is empty (0 bytes); copy it again.")
        elif name.endswith(NIFTI_ENDINGS):
            array, affine, notes = _read_nifti(path)
        elif name.endswith(ITK_ENDINGS + DICOM_ENDINGS):
            array, affine = read_itk(path)
            notes = []
        else:
            raise ImageError(
                f"{path}: this is no image format that can be read; give {', '.join(NIFTI_ENDINGS + ITK_ENDINGS)} or a folder with a DICOM series."
            )
    array, more = _three_axes(array, path)
    check_geometry(affine, str(path))
    return Volume(array, affine, path, tuple(notes + more))


def read_label(path: str | Path, tree: LabelTree, *, values: Mapping[int, int] | None = None) -> Volume:
    """Read a label map and check every value against the tree; the array has the tree's integer type.

    Args:
        path: the file.
        tree: what its values, or those of ``values``, mean.
        values: what each number (0 or more) in the file is in the tree; None if the numbers are the tree's own.

    Raises:
        ImageError: as :func:`read_volume`, or a value is not an integer.
        LabelTreeError: a value belongs to no node.
    """
    volume = read_volume(path)
    array = volume.array
    if not np.issubdtype(array.dtype, np.integer):
        rounded = np.rint(array)
        if not np.array_equal(rounded, array):
            wrong = array[rounded != array].flat[0]
            raise ImageError(
                f"{path}: a label map holds whole numbers, this one holds {wrong:g}; give the label map, not an image or probabilities."
            )
        array = rounded.astype(np.int64)
    if values is None:
        tree.check_values(array, str(path))
        return replace(volume, array=array.astype(tree.dtype))
    present = np.unique(array).tolist()
    foreign = [value for value in present if value not in values]
    if foreign:
        raise LabelTreeError(
            f"{path}: label value {foreign[0]} is not in the data set's list of labels ({len(foreign)} such values); "
            "correct the label map or the list."
        )
    table = np.zeros(max(present) + 1, dtype=tree.dtype)
    for value in present:
        table[value] = values[value]
    return replace(volume, array=table[array])


@contextlib.contextmanager
def telling(path: Path) -> Iterator[None]:
    """Turn what the reading libraries raise into one sentence; their own text goes into the hint."""
    try:
        yield
    except MemoryError as error:
        raise ImageError(f"{path}: there is not enough memory to read this image; free some, or crop it.") from error
    except PermissionError as error:
        raise ImageError(f"{path}: no permission to read it; change its permissions or choose another file.") from error
    except (
        ImageFileError,
        HeaderDataError,
        ImageDataError,
        OSError,
        EOFError,
        zlib.error,
        ValueError,
        RuntimeError,
        KeyError,
    ) as error:
        raise ImageError(
            f"{path}: the image is damaged, cut short, or not of the kind that its name says; copy or export it again.",
            hint=_last_line(error),
        ) from error


def _read_nifti(path: Path) -> tuple[np.ndarray, np.ndarray, list[str]]:
    image: Any = nib.load(path)
    kind = image.get_data_dtype()
    if kind.fields is not None or kind.kind not in "iufb":
        raise ImageError(
            f"{path}: voxels are of the type {kind.names or kind} (color or complex); give a gray-scale image."
        )
    if path.name.lower().endswith(".gz") and hasattr(image, "from_stream"):
        with gzip.open(path) as stream:
            array = np.asanyarray(type(image).from_stream(stream).dataobj)
            # The checksum lies behind the last voxel: a file with a damaged byte shows itself only there.
            while stream.read(2**20):
                pass
    else:
        array = np.asanyarray(image.dataobj)
    if array.dtype.kind == "f" and array.dtype != np.float32:
        array = array.astype(np.float32)
    affine = np.array(image.affine, dtype=np.float64)
    if not np.linalg.det(affine[:3, :3]) and int(image.header["qform_code"]) > 0:
        affine = np.array(image.get_qform(), dtype=np.float64)
    scale = _NIFTI_UNIT_MM.get(image.header.get_xyzt_units()[0], 1.0)
    affine[:3] *= scale
    notes = []
    if int(image.header["sform_code"]) == 0 and int(image.header["qform_code"]) == 0:
        notes.append(f"{path}: the file does not say how it lies in the patient; left and right may be swapped.")
    return array, affine, notes


def _three_axes(array: np.ndarray, path: Path) -> tuple[np.ndarray, list[str]]:
    if array.size == 0:
        raise ImageError(f"{path}: the image has no voxels (size {_numbers(array.shape)}); check the file.")
    shape = list(array.shape)
    while len(shape) > 3 and shape[-1] == 1:
        shape.pop()
    notes = (
        []
        if len(shape) == array.ndim
        else [f"{path}: {array.ndim - len(shape)} axes of length 1 at the end were dropped."]
    )
    if len(shape) < 2:
        raise ImageError(f"{path}: the image has {len(shape)} axis; give an image with 2, 3 or 4 axes.")
    if len(shape) == 2:
        shape.append(1)
    if len(shape) > 4:
        raise ImageError(
            f"{path}: the image has {len(shape)} axes (size {_numbers(shape)}); give one with 3, or with 4 for frames."
        )
    return array.reshape(shape), notes


# -- writing --------------------------------------------------------------------------------------------------------


def write_volume(path: str | Path, array: np.ndarray, affine: np.ndarray, *, shown: str | Path | None = None) -> None:
    """Write an image atomically, in the format that its ending names; integers are written as they are, never scaled.

    Args:
        path: ends in ``.nii``, ``.nii.gz``, ``.nrrd`` or ``.mha``.
        array: ``(x, y, z)`` or ``(x, y, z, t)``; bool becomes uint8, 64-bit types become 32-bit ones.
        affine: 4×4, voxel index → millimeters in RAS.
        shown: the name for error messages, where ``path`` is a temporary file.

    Raises:
        ImageError: the ending is unknown, the disk is full, or the folder cannot be written.
    """
    path = Path(path)
    shown = path if shown is None else shown
    narrow = {"bool": np.uint8, "int64": np.int32, "uint64": np.uint32, "float64": np.float32, "float16": np.float32}
    array = np.asarray(array)
    array = array.astype(narrow[array.dtype.name]) if array.dtype.name in narrow else array
    name = path.name.lower()
    if not name.endswith((*NIFTI_ENDINGS, ".nrrd", ".mha")):
        raise ImageError(f"{shown}: images are written as .nii.gz, .nii, .nrrd or .mha; give the file such an ending.")
    try:
        with replacing(path) as temporary:
            if name.endswith(NIFTI_ENDINGS):
                _write_nifti(temporary, array, np.asarray(affine, dtype=np.float64))
            else:
                write_itk(temporary, array, np.asarray(affine, dtype=np.float64))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ImageError(
                f"{shown}: the disk is full, nothing was written; free some space or choose another folder."
            ) from error
        raise ImageError(
            f"{shown}: the file cannot be written ({error.strerror or error}); choose a folder that you may write to."
        ) from error
    except RuntimeError as error:
        raise ImageError(
            f"{shown}: the file cannot be written; the disk may be full, or the folder not yours.",
            hint=_last_line(error),
        ) from error


def _write_nifti(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
    image = nib.Nifti1Image(array, affine)
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    image.header.set_xyzt_units("mm", "sec" if array.ndim == 4 else "unknown")
    nib.save(image, path)


def _last_line(error: Exception) -> str:
    """The last line of a library's message, which names the cause; the lines above name its source files."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else ""


def _numbers(values: Any) -> str:
    return " × ".join(f"{value:g}" for value in values)
