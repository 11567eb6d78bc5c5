"""Voxels: the lattice of a segmentation, boxes of it, and arrays that lie somewhere on it.

Arrays are indexed (i, j, k).  Label maps are cropped, so an array comes with the *lattice index* of its first voxel; a
*box* is a part of the lattice.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import slicer
import vtk
from vtk.util import numpy_support

from HierSubclassSegLib.scene import tags

#: lower corner (included) and upper corner (excluded), in voxels of the reference lattice
Box = tuple[tuple[int, int, int], tuple[int, int, int]]
_TILE = 16


@dataclass(frozen=True)
class Grid:
    """The lattice that all label maps of a segmentation lie on.

    Attributes:
        shape: voxels along i, j, k.
        origin: lattice index of voxel (0, 0, 0): zero unless the reference geometry says otherwise.
        to_ras: 4×4, voxel (i, j, k) to the segmentation's own coordinates in mm (not its parent transform's world).
    """

    shape: tuple[int, int, int]
    origin: tuple[int, int, int]
    to_ras: np.ndarray

    @property
    def box(self) -> Box:
        """The whole grid."""
        return self.origin, tuple(o + n for o, n in zip(self.origin, self.shape, strict=True))  # type: ignore[return-value]

    @classmethod
    def of(cls, segmentation_node: slicer.vtkMRMLSegmentationNode) -> Grid:
        """The segmentation's reference grid.

        Raises:
            SceneError: it has neither a reference geometry nor voxels.
        """
        segmentation = segmentation_node.GetSegmentation()
        name = slicer.vtkSegmentationConverter.GetReferenceImageGeometryParameterName()
        text = segmentation.GetConversionParameter(name) or segmentation.DetermineCommonLabelmapGeometry(
            slicer.vtkSegmentation.EXTENT_UNION_OF_SEGMENTS, vtk.vtkStringArray()
        )
        image = slicer.vtkOrientedImageData()
        if not text or not slicer.vtkSegmentationConverter.DeserializeImageGeometry(text, image, False):
            raise tags.SceneError(
                f"segmentation '{segmentation_node.GetName()}' has no voxel grid yet; choose the volume that it belongs to."
            )
        extent = image.GetExtent()
        matrix = vtk.vtkMatrix4x4()
        image.GetImageToWorldMatrix(matrix)
        to_ras = np.array([[matrix.GetElement(r, c) for c in range(4)] for r in range(4)])
        origin = extent[0], extent[2], extent[4]
        to_ras[:3, 3] += to_ras[:3, :3] @ np.array(origin)
        shape = tuple(max(0, extent[2 * a + 1] - extent[2 * a] + 1) for a in range(3))
        return cls(shape, origin, to_ras)

    def new_image(self, array: np.ndarray, lower: tuple[int, int, int]) -> slicer.vtkOrientedImageData:
        """An oriented image of the array (i, j, k), its voxel (0, 0, 0) at lattice index ``lower``; copies the data."""
        image = slicer.vtkOrientedImageData()
        upper = [low + size - 1 for low, size in zip(lower, array.shape, strict=True)]
        image.SetExtent(lower[0], upper[0], lower[1], upper[1], lower[2], upper[2])
        flat = np.ascontiguousarray(array.transpose(2, 1, 0)).reshape(-1)
        scalars = numpy_support.numpy_to_vtk(flat, deep=True)
        # As vtkImageData.AllocateScalars names them: Slicer's DICOM SEG exporter takes an image without that name for empty.
        scalars.SetName("ImageScalars")
        image.GetPointData().SetScalars(scalars)
        matrix = vtk.vtkMatrix4x4()
        for row in range(3):
            for column in range(3):
                matrix.SetElement(row, column, self.to_ras[row, column])
            matrix.SetElement(row, 3, self.to_ras[row, 3] - self.to_ras[row, :3] @ np.array(self.origin))
        image.SetImageToWorldMatrix(matrix)
        return image


def view(image: slicer.vtkOrientedImageData | None) -> tuple[np.ndarray, tuple[int, int, int]]:
    """The image's voxels as an array (i, j, k) that shares its memory, and the lattice index of its first voxel."""
    scalars = image.GetPointData().GetScalars() if image is not None else None
    if image is None or scalars is None or scalars.GetNumberOfTuples() == 0:
        return np.zeros((0, 0, 0), np.uint8), (0, 0, 0)
    extent = image.GetExtent()
    size = [extent[2 * axis + 1] - extent[2 * axis] + 1 for axis in range(3)]
    array = numpy_support.vtk_to_numpy(scalars).reshape(size[2], size[1], size[0]).transpose(2, 1, 0)
    return array, (extent[0], extent[2], extent[4])


def crop(array: np.ndarray, lower: tuple[int, int, int], box: Box, values: int | Collection[int]) -> np.ndarray:
    """Where the array, which lies at ``lower``, has the value (one of the values), as a bool array of the box."""
    result = np.zeros(size(box), dtype=bool, order="F")
    source, target = [], []
    for axis in range(3):
        start = max(box[0][axis], lower[axis])
        stop = min(box[1][axis], lower[axis] + array.shape[axis])
        if start >= stop:
            return result
        source.append(slice(start - lower[axis], stop - lower[axis]))
        target.append(slice(start - box[0][axis], stop - box[0][axis]))
    part = array[tuple(source)]
    wanted = {values} if isinstance(values, int) else set(values)
    low, high = min(wanted, default=0), max(wanted, default=-1)
    if low == high:
        np.equal(part, low, out=result[tuple(target)])
    elif high - low + 1 == len(wanted):
        # A row of values, as our own layers have: two comparisons instead of a look-up of every voxel.
        result[tuple(target)] = (part >= low) & (part <= high)
    elif wanted:
        result[tuple(target)] = np.isin(part, list(wanted))
    return result


def bounds(mask: np.ndarray) -> Box | None:
    """The smallest box that holds every true voxel, in the array's own indices; None if there is none."""
    # The first axis is the one along which the memory of a label map runs.
    shadow = np.logical_or.reduce(mask, axis=0)
    j, k = _ends(np.logical_or.reduce(shadow, axis=1)), _ends(np.logical_or.reduce(shadow, axis=0))
    if j is None or k is None:
        return None
    i = _ends(np.logical_or.reduce(mask[:, j[0] : j[1], k[0] : k[1]], axis=(1, 2)))
    return None if i is None else ((i[0], j[0], k[0]), (i[1], j[1], k[1]))


def _ends(line: np.ndarray) -> tuple[int, int] | None:
    found = np.flatnonzero(line)
    return None if found.size == 0 else (int(found[0]), int(found[-1]) + 1)


def slices(box: Box) -> tuple[slice, ...]:
    """The box as an index."""
    return tuple(slice(low, high) for low, high in zip(*box, strict=True))


def size(box: Box) -> tuple[int, ...]:
    """The shape of an array of the box."""
    return tuple(high - low for low, high in zip(*box, strict=True))


def tiles(array: np.ndarray) -> Iterator[tuple[slice, slice, slice]]:
    """Parts of an array (i, j, k) for copying it between numpy's and vtk's order of memory, one small step each.

    A copy that runs along i reads a C-ordered array with large strides: a part as deep along k as a line of the
    processor's cache, and narrow enough along j to stay in it, reads every byte from memory once.
    """
    depth = max(1, 64 // array.dtype.itemsize)
    for k in range(0, array.shape[2], depth):
        for j in range(0, array.shape[1], _TILE):
            yield slice(None), slice(j, j + _TILE), slice(k, k + depth)


def shifted(box: Box, by: tuple[int, int, int]) -> Box:
    """The box moved by a number of voxels along each axis."""
    (a, b, c), (d, e, f) = box
    return (a + by[0], b + by[1], c + by[2]), (d + by[0], e + by[1], f + by[2])


def union_box(boxes: Iterable[Box]) -> Box | None:
    """The smallest box that holds all of them; None for none."""
    found = list(boxes)
    if not found:
        return None
    low = [min(box[0][axis] for box in found) for axis in range(3)]
    high = [max(box[1][axis] for box in found) for axis in range(3)]
    return (low[0], low[1], low[2]), (high[0], high[1], high[2])
