"""What an image file says of itself before its voxels are read: how large it is and how it lies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from hierseg.errors import ImageError
from hierseg.imageio import DICOM_ENDINGS, ITK_ENDINGS, NIFTI_ENDINGS, Volume, check_geometry, telling
from hierseg.itk import dicom_series, itk_header


@dataclass(frozen=True)
class Header:
    """An image without its voxels.

    Attributes:
        shape: ``(x, y, z)`` or, with frames, ``(x, y, z, t)``.
        affine: 4×4, voxel index → millimeters in RAS.
        itemsize: bytes of a voxel in memory.
        held: whether the voxels are in memory already.
    """

    shape: tuple[int, ...]
    affine: np.ndarray
    itemsize: int
    held: bool = False

    @property
    def frames(self) -> int:
        """Number of frames, 1 for 3D."""
        return self.shape[3] if len(self.shape) > 3 else 1

    @classmethod
    def of(cls, volume: Volume) -> Header | None:
        """Of an image in memory; None where its array or affine is none of an image's."""
        return cls.of_array(volume.array, volume.affine)

    @classmethod
    def of_array(cls, array: np.ndarray, affine: np.ndarray) -> Header | None:
        """As :meth:`of`."""
        try:
            check_geometry(affine, "")
        except ImageError:
            return None
        return cls(array.shape, affine, array.dtype.itemsize, held=True) if array.ndim in (3, 4) else None


def read_header(path: str | Path) -> Header | None:
    """The header of a file, or of the DICOM series that would be read from a folder.

    None where there is no image: reading it says what is wrong.
    """
    path = Path(path)
    name = path.name.lower()
    try:
        with telling(path):
            if path.is_dir():
                files, _ = dicom_series(path)
                shape, affine, itemsize = itk_header(files[0])
                shape = (*shape[:2], shape[2] * len(files)) if len(shape) == 3 else (*shape, len(files))
            elif name.endswith(NIFTI_ENDINGS):
                image: Any = nib.load(path)
                shape, affine = image.shape, np.array(image.affine, dtype=np.float64)
                scaled = image.header.get_slope_inter() not in ((None, None), (1.0, 0.0))
                kind = image.get_data_dtype()
                itemsize = 4 if scaled or kind.kind == "f" else kind.itemsize
            elif name.endswith(ITK_ENDINGS + DICOM_ENDINGS):
                shape, affine, itemsize = itk_header(str(path))
            else:
                return None
            check_geometry(affine, str(path))
    except ImageError:
        return None
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    whole = tuple(int(size) for size in (*shape, *[1] * (3 - len(shape))))
    return Header(whole, affine, itemsize) if len(whole) <= 4 and min(whole) > 0 else None
