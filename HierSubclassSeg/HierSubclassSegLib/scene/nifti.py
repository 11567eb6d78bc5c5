"""NIfTI-1 files, written and read so that no number changes on the way.

Slicer's own writers split the geometry into spacing, direction and origin, refuse sheared grids, and its readers may
flip a left-handed volume's axes: voxel indices (complete slices!) would no longer mean the same.  Here the voxels stay
in memory order and the affine is the file's ``sform``, as 32-bit floats.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from hierseg.errors import ImageError
from HierSubclassSegLib.ticks import Steps, finish

_CODES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
_CODE_OF = {np.dtype(kind): code for code, kind in _CODES.items()}
_HEADER_BYTES = 348
_VOXELS_AT = 352
# Level 4 takes half the time of the default for a few percent more bytes, and somebody waits for it.
_COMPRESSION = 4
# Bytes that one step packs or unpacks: some 10 ms.
_STEP_BYTES = 1 << 20
_FED_BYTES = 1 << 17


def write_nifti(path: str | Path, array: np.ndarray, affine: np.ndarray) -> None:
    """Write a volume; gzipped if the name ends in ``.gz``.  Equal input gives equal bytes.

    Args:
        path: the file.
        array: ``(x, y, z)``, of a type that NIfTI-1 knows.
        affine: 4 × 4, voxel to RAS millimeters; kept as 32-bit floats.

    Raises:
        ImageError: the array's type or shape has no place in NIfTI-1.
    """
    finish(write_steps(path, array, affine))


def write_steps(path: str | Path, array: np.ndarray, affine: np.ndarray) -> Steps[None]:
    """:func:`write_nifti` in small steps; arguments and errors as there.  Half a file stays if it is ended early."""
    path = Path(path)
    dtype = np.dtype(array.dtype).newbyteorder("<")
    if array.ndim != 3 or dtype.newbyteorder("=") not in _CODE_OF or max(array.shape) > 32767:
        raise ImageError(
            f"{path}: an array of shape {array.shape} and type {array.dtype} cannot be written as NIfTI-1; give three axes of at most 32767 numbers."
        )
    affine = np.asarray(affine, dtype=np.float64)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    header = bytearray(_VOXELS_AT)
    struct.pack_into("<i", header, 0, _HEADER_BYTES)
    struct.pack_into("<8h", header, 40, 3, *array.shape, 1, 1, 1, 1)
    struct.pack_into("<2h", header, 70, _CODE_OF[dtype.newbyteorder("=")], dtype.itemsize * 8)
    handed = 1.0 if np.linalg.det(affine[:3, :3]) >= 0 else -1.0
    struct.pack_into("<8f", header, 76, handed, *spacing, 0, 0, 0, 0)
    struct.pack_into("<3f", header, 108, _VOXELS_AT, 1.0, 0.0)
    header[123] = 2  # millimeters
    quaternion = _quaternion(affine, spacing, handed)
    # Without a qform some readers put the image elsewhere; a sheared grid has none.
    struct.pack_into("<2h", header, 252, 0 if quaternion is None else 1, 1)
    struct.pack_into("<6f", header, 256, *(quaternion or (0.0, 0.0, 0.0)), *affine[:3, 3])
    struct.pack_into("<12f", header, 280, *affine[:3].ravel())
    header[344:348] = b"n+1\0"
    with open(path, "wb") as raw:
        if path.name.endswith(".gz"):
            with gzip.GzipFile(filename="", mode="wb", compresslevel=_COMPRESSION, fileobj=raw, mtime=0) as packed:
                yield from _write_steps(packed, header, array, dtype)
        else:
            yield from _write_steps(raw, header, array, dtype)


def read_nifti(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Read a volume as stored: array ``(x, y, z)`` and 4 × 4 affine (the sform if it has one, else the qform).

    Scaled values (``scl_slope``) become 32-bit floats; trailing axes of one are dropped.

    Raises:
        ImageError: the file is missing, damaged, or not a 3D NIfTI-1 file.
    """
    return finish(read_steps(path))


def read_steps(path: str | Path, packed: bytes | None = None) -> Steps[tuple[np.ndarray, np.ndarray]]:
    """:func:`read_nifti` in small steps; errors as there.  The file is open in the first step only.

    Args:
        path: the file.
        packed: its bytes, if they have been read already.
    """
    path = Path(path)
    try:
        packed = path.read_bytes() if packed is None else packed
        content = bytearray()
        for piece in unpacked(packed):
            content += piece
            yield min(0.9, len(content) / (4 * len(packed) + 1))
    except (OSError, EOFError, zlib.error) as error:
        raise ImageError(
            f"{path}: this file cannot be read ({error}); put the file back or save the case again."
        ) from error
    shape, dtype, start, slope, intercept = _header(path, content)
    voxels = int(np.prod(shape))
    if len(content) < start + voxels * dtype.itemsize:
        raise ImageError(f"{path}: the file ends early ({len(content)} bytes); it is damaged, save the case again.")
    stored = np.frombuffer(content, dtype, voxels, start).reshape(shape, order="F")
    array = stored.astype(dtype.newbyteorder("="), copy=False)
    if np.isfinite(slope) and slope != 0 and (slope, intercept) != (1.0, 0.0):
        array = np.empty(shape, np.float32, order="F")
        for k in range(shape[2]):
            array[:, :, k] = stored[:, :, k] * np.float64(slope) + np.float64(intercept)
            yield 0.9
    return array, _affine(content, _order(content) or "<")


def unpacked(packed: bytes) -> Iterator[bytes]:
    """The content of a file, gzipped or not, in pieces.

    Raises:
        EOFError: it ends early.
        zlib.error: it is damaged.
    """
    if packed[:2] != b"\x1f\x8b":
        for start in range(0, len(packed), _STEP_BYTES):
            yield packed[start : start + _STEP_BYTES]
        return
    at, one = 0, zlib.decompressobj(wbits=31)
    while at < len(packed) or one.unconsumed_tail:
        if not one.unconsumed_tail:
            given = packed[at : at + _FED_BYTES]
            at += len(given)
        else:
            given = one.unconsumed_tail
        yield one.decompress(given, _STEP_BYTES)
        if one.eof:
            # Another member may follow; zeros may fill up a block.
            rest = one.unused_data
            at -= len(rest)
            while at < len(packed) and packed[at] == 0:
                at += 1
            one = zlib.decompressobj(wbits=31)
            if at >= len(packed):
                return
    # What the packed bytes still hold when all of them have been given.
    while piece := one.decompress(b"", _STEP_BYTES):
        yield piece
    if not one.eof:
        raise EOFError("it ends early")


def header_of(path: Path, content: bytes | bytearray) -> tuple[tuple[int, ...], np.dtype, int, np.ndarray]:
    """Shape, type, where the voxels begin, and the affine, from the first bytes of a file.

    Raises:
        ImageError: it is not a 3D NIfTI-1 file.
    """
    return (*_header(path, content)[:3], _affine(content, _order(content) or "<"))


def _header(path: Path, content: bytes | bytearray) -> tuple[tuple[int, ...], np.dtype, int, float, float]:
    order = _order(content)
    if order is None or content[344:347] != b"n+1":
        raise ImageError(f"{path}: this is not a NIfTI-1 file; save it as .nii.gz from Slicer.")
    count, *shape = struct.unpack_from(order + "8h", content, 40)
    shape = shape[: max(count, 0)]
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    code = struct.unpack_from(order + "h", content, 70)[0]
    if len(shape) != 3 or min(shape) < 1 or code not in _CODES:
        raise ImageError(
            f"{path}: holds shape {tuple(shape)} of NIfTI type {code}; give one 3D image of plain numbers."
        )
    start, slope, intercept = struct.unpack_from(order + "3f", content, 108)
    return tuple(shape), np.dtype(order + _CODES[code]), int(start), slope, intercept


def _order(content: bytes | bytearray) -> str | None:
    """The byte order in which the header makes sense, or None."""
    whole = len(content) >= _VOXELS_AT
    return next((mark for mark in "<>" if whole and struct.unpack_from(mark + "i", content)[0] == _HEADER_BYTES), None)


def _write_steps(
    target: BinaryIO | gzip.GzipFile, header: bytearray, array: np.ndarray, dtype: np.dtype
) -> Steps[None]:
    target.write(header)
    # A few planes at a time: no second copy of the whole volume.
    planes = max(1, _STEP_BYTES // max(1, array[:, :, 0].size * dtype.itemsize)) if array.size else 1
    for k in range(0, array.shape[2], planes):
        target.write(np.asarray(array[:, :, k : k + planes], dtype=dtype).tobytes(order="F"))
        yield k / array.shape[2]


def _quaternion(affine: np.ndarray, spacing: np.ndarray, handed: float) -> tuple[float, float, float] | None:
    """The qform's b, c, d, or None if the axes are not at right angles."""
    rotation = affine[:3, :3] / spacing
    rotation[:, 2] *= handed
    if not np.allclose(rotation.T @ rotation, np.eye(3), atol=1e-5):
        return None
    # The eigenvector of the largest eigenvalue (Bar-Itzhack 2000), which holds for every rotation angle.
    r = rotation
    k = np.array(
        [
            [r[0, 0] + r[1, 1] + r[2, 2], r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1]],
            [r[2, 1] - r[1, 2], r[0, 0] - r[1, 1] - r[2, 2], r[0, 1] + r[1, 0], r[0, 2] + r[2, 0]],
            [r[0, 2] - r[2, 0], r[0, 1] + r[1, 0], r[1, 1] - r[0, 0] - r[2, 2], r[1, 2] + r[2, 1]],
            [r[1, 0] - r[0, 1], r[0, 2] + r[2, 0], r[1, 2] + r[2, 1], r[2, 2] - r[0, 0] - r[1, 1]],
        ]
    )
    vector = np.linalg.eigh(k)[1][:, -1]
    vector = vector if vector[0] >= 0 else -vector
    return float(vector[1]), float(vector[2]), float(vector[3])


def _affine(content: bytes | bytearray, order: str) -> np.ndarray:
    affine = np.eye(4)
    qform, sform = struct.unpack_from(order + "2h", content, 252)
    handed, *spacing = struct.unpack_from(order + "4f", content, 76)
    if sform > 0:
        affine[:3] = np.array(struct.unpack_from(order + "12f", content, 280), dtype=np.float64).reshape(3, 4)
    elif qform > 0:
        b, c, d, *offset = struct.unpack_from(order + "6f", content, 256)
        a = np.sqrt(max(0.0, 1.0 - b * b - c * c - d * d))
        rotation = np.array(
            [
                [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
                [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
                [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
            ]
        )
        affine[:3, :3] = rotation * np.array([spacing[0], spacing[1], spacing[2] * (-1.0 if handed < 0 else 1.0)])
        affine[:3, 3] = offset
    else:
        affine[:3, :3] = np.diag([value or 1.0 for value in spacing])
    return affine
