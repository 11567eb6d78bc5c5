"""What goes through SimpleITK: NRRD, MetaImage and DICOM, which speak LPS and order arrays the other way round.

Arrays leave this module as ``(x, y, z[, t])`` with a RAS affine, and come in so; :mod:`hierseg.imageio` is the door.
"""

from __future__ import annotations

import contextlib
import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813 -- the name that its own documentation uses

from hierseg.errors import ImageError

_THICKNESS = "0018|0050"
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def read_itk(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Array and affine of one file.

    Raises:
        ImageError: voxels are colors, vectors or complex.
        RuntimeError: from ITK, the file cannot be read.
        zlib.error, EOFError: its compressed voxels are damaged or cut short.
    """
    image = sitk.ReadImage(str(path))
    _check_compressed(path)
    return _from_itk(image, path)


def read_header(path: Path) -> dict[str, str]:
    """The keys and values in a file's header, without its voxels.

    Raises:
        RuntimeError: from ITK, the file cannot be read.
    """
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    return {key: reader.GetMetaData(key) for key in reader.GetMetaDataKeys()}


def read_layers(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The layers of a segmentation that Slicer saved, ``(x, y, z, layer)``, and the affine.

    Raises:
        RuntimeError: from ITK, the file cannot be read.
        zlib.error, EOFError: its compressed voxels are damaged or cut short.
    """
    image = sitk.ReadImage(str(path))
    _check_compressed(path)
    if image.GetNumberOfComponentsPerPixel() == 1:
        array, affine = _from_itk(image, path)
        return array[..., None], affine
    # Slicer stores layers as the components of a voxel: NRRD's axis of the kind "list".
    _, affine = _from_itk(sitk.VectorIndexSelectionCast(image, 0), path)
    layers = sitk.GetArrayViewFromImage(image).transpose(2, 1, 0, 3)
    return np.array(layers), affine


def _check_compressed(path: Path) -> None:
    """Compare compressed voxels with the checksum behind them, which ITK does not do."""
    with open(path, "rb") as file:
        start = file.read(2**16)
        nrrd = start.startswith(b"NRRD")
        end = re.search(rb"\r?\n\r?\n" if nrrd else rb"ElementDataFile = LOCAL\r?\n", start)
        if end is None:
            return
        header = start[: end.start()]
        compressed = rb"(?m)^encoding: *gz(ip)?\s*$" if nrrd else rb"(?m)^CompressedData = True\s*$"
        if not re.search(compressed, header) or re.search(rb"(?m)^data ?file:", header):
            return
        file.seek(end.end())
        stream = zlib.decompressobj(zlib.MAX_WBITS | 32)  # gzip in NRRD, zlib in MetaImage
        while not stream.eof:
            block = file.read(2**16)
            if not block:
                raise EOFError("the compressed voxels end too early")
            stream.decompress(block)


def itk_header(file: str) -> tuple[tuple[int, ...], np.ndarray, int]:
    """Shape, affine and bytes of a voxel in memory, without reading voxels.

    Raises:
        RuntimeError: from ITK, the file cannot be read.
    """
    reader = sitk.ImageFileReader()
    reader.SetFileName(file)
    reader.ReadImageInformation()
    itemsize = sitk.GetArrayFromImage(sitk.Image([1] * reader.GetDimension(), reader.GetPixelID())).dtype.itemsize
    affine = _affine(reader.GetDimension(), reader.GetDirection(), reader.GetSpacing(), reader.GetOrigin())
    return tuple(reader.GetSize()), affine, min(itemsize, 4)


def dicom_series(folder: Path) -> tuple[list[str], list[str]]:
    """The files of the DICOM series in a folder, in the order of their slices, and notes; of several, the largest one.

    Raises:
        ImageError: there is no series, or no largest one.
    """
    with _without_warnings():
        found = {
            name: sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), name)
            for name in sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
        }
    series = {name: files for name, files in found.items() if files}
    if not series:
        raise ImageError(
            f"{folder}: the folder holds no DICOM series; give the folder in which the .dcm files lie, or an image file."
        )
    notes = []
    by_size = sorted(series, key=lambda name: (-len(series[name]), name))
    if len(by_size) > 1:
        listed = "; ".join(f"{_series_title(series[name][0])}, {len(series[name])} files" for name in by_size)
        if len(series[by_size[0]]) == len(series[by_size[1]]):
            raise ImageError(
                f"{folder}: the folder holds {len(by_size)} series ({listed}) and no largest one; put the one you mean into a folder of its own."
            )
        notes.append(f"{folder}: the folder holds {len(by_size)} series ({listed}); the largest is taken.")
    return list(series[by_size[0]]), notes


def read_dicom_folder(folder: Path) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Array, affine and notes of the DICOM series in a folder; of several, the one with most files.

    Raises:
        ImageError: there is no series, or no largest one, or slices are at unequal distances.
        RuntimeError: from ITK, a file cannot be read.
    """
    files, notes = dicom_series(folder)
    if len(files) == 1:
        array, affine = _from_itk(sitk.ReadImage(files[0]), folder)
        return array, affine, notes
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(files)
    with _without_warnings():  # distances between slices are checked below, in a sentence
        array, affine = _from_itk(reader.Execute(), folder)
    positions = _slice_positions(files)
    if positions is not None:
        _check_slice_distances(positions, affine, folder)
        # The step between slices comes from their positions: a tilted gantry then shows as shear.
        affine[:3, 2] = (positions[-1] - positions[0]) / (len(positions) - 1)
        affine[:3, 3] = positions[0]
        notes += _gaps(files[0], float(np.linalg.norm(affine[:3, 2])), folder)
    return array, affine, notes


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """ITK's own warnings go to stderr in its own words; what matters is told in ours."""
    shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(shown)


def write_itk(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
    """Write a compressed NRRD or MetaImage file.

    Raises:
        RuntimeError: from ITK, the file cannot be written.
    """
    dimension = array.ndim
    lps = _LPS_TO_RAS @ affine
    spacing = np.ones(dimension)
    spacing[:3] = np.linalg.norm(lps[:3, :3], axis=0)
    direction, origin = np.eye(dimension), np.zeros(dimension)
    direction[:3, :3] = lps[:3, :3] / spacing[:3]
    origin[:3] = lps[:3, 3]
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.transpose()), isVector=False)
    image.SetSpacing(spacing.tolist())
    image.SetDirection(direction.ravel().tolist())
    image.SetOrigin(origin.tolist())
    sitk.WriteImage(image, str(path), useCompression=True)


def _from_itk(image: sitk.Image, path: Path) -> tuple[np.ndarray, np.ndarray]:
    components = image.GetNumberOfComponentsPerPixel()
    if components > 1 or "complex" in image.GetPixelIDTypeAsString():
        raise ImageError(
            f"{path}: every voxel has {max(2, components)} components (color, vector or complex); give a gray-scale image."
        )
    dimension = image.GetDimension()
    array = sitk.GetArrayFromImage(image).transpose()
    if array.dtype == np.float64:
        array = array.astype(np.float32)
    return array, _affine(dimension, image.GetDirection(), image.GetSpacing(), image.GetOrigin())


def _affine(
    dimension: int, direction: Sequence[float], spacing: Sequence[float], origin: Sequence[float]
) -> np.ndarray:
    spatial = min(3, dimension)
    affine = np.eye(4)
    axes = np.array(direction).reshape(dimension, dimension)[:spatial, :spatial]
    affine[:spatial, :spatial] = axes * np.array(spacing[:spatial])
    affine[:spatial, 3] = origin[:spatial]
    result: np.ndarray = _LPS_TO_RAS @ affine
    return result


def _series_title(file: str) -> str:
    header = _dicom_header(file)
    text = header.GetMetaData("0008|103e").strip() if header.HasMetaDataKey("0008|103e") else ""
    return f"'{text or 'without description'}'"


def _dicom_header(file: str) -> sitk.ImageFileReader:
    reader = sitk.ImageFileReader()
    reader.SetFileName(file)
    reader.SetImageIO("GDCMImageIO")
    reader.ReadImageInformation()
    return reader


def _slice_positions(files: Sequence[str]) -> np.ndarray | None:
    """Positions of the slices' first voxels in RAS, ``(slices, 3)``; None where a file does not say."""
    found = []
    for file in files:
        header = _dicom_header(file)
        if not header.HasMetaDataKey("0020|0032"):
            return None
        found.append([float(number) for number in header.GetMetaData("0020|0032").split("\\")])
    return np.array(found) @ _LPS_TO_RAS[:3, :3]


def _gaps(file: str, step: float, folder: Path) -> list[str]:
    """A note where slices are thinner than their distance: what lies between them was never imaged."""
    header = _dicom_header(file)
    text = header.GetMetaData(_THICKNESS).strip() if header.HasMetaDataKey(_THICKNESS) else ""
    try:
        thickness = float(text or "nan")
    except ValueError:
        return []
    if not 0.0 < thickness < step - max(0.02 * step, 0.01):
        return []
    note = (
        f"{folder}: the slices are {thickness:.3g} mm thick and {step:.3g} mm apart; "
        f"the {step - thickness:.3g} mm between two of them were not imaged, what is marked there is a guess."
    )
    return [note]


def _check_slice_distances(positions: np.ndarray, affine: np.ndarray, folder: Path) -> None:
    normal = np.cross(affine[:3, 0], affine[:3, 1])
    steps = np.abs(np.diff(positions @ (normal / np.linalg.norm(normal))))
    low, high = float(steps.min()), float(steps.max())
    if high - low > max(0.02 * float(np.median(steps)), 0.01):
        raise ImageError(
            f"{folder}: the slices of the series are {low:.3g} to {high:.3g} mm apart (slices missing, or several scans in one series); "
            "export the series again, complete, or resample it to equal distances."
        )
