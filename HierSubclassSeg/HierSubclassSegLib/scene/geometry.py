"""World space: where a voxel of a volume or segmentation lies, and the same place on another grid.

All matrices here are 4 × 4 float64 numpy arrays that map voxel indices (i, j, k) to RAS millimeters.  A node's *own*
matrix ends in its own coordinate system; its *world* matrix also applies its parent transforms.  Any invertible
matrix will do: oblique, anisotropic, left-handed, even sheared.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
import vtk

from HierSubclassSegLib.scene.tags import SceneError

#: two grids are the same if no corner is further apart than this share of a voxel
SAME_GRID_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Grid:
    """A voxel grid: its shape (x, y, z), its own matrix and its world matrix."""

    shape: tuple[int, int, int]
    affine: np.ndarray
    world: np.ndarray

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in milliliters."""
        return abs(float(np.linalg.det(self.affine[:3, :3]))) / 1000.0

    def part(self, box: tuple[tuple[int, int, int], tuple[int, int, int]]) -> Grid:
        """The grid of a box of its voxels: lower corner (included), upper corner (excluded)."""
        shift = np.eye(4)
        shift[:3, 3] = box[0]
        x, y, z = (high - low for low, high in zip(*box, strict=True))
        return Grid((x, y, z), self.affine @ shift, self.world @ shift)


def from_vtk(matrix: vtk.vtkMatrix4x4) -> np.ndarray:
    """A vtk matrix as a 4 × 4 array."""
    return np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])


def to_vtk(affine: np.ndarray) -> vtk.vtkMatrix4x4:
    """A 4 × 4 array as a vtk matrix."""
    matrix = vtk.vtkMatrix4x4()
    for row in range(4):
        for column in range(4):
            matrix.SetElement(row, column, float(affine[row, column]))
    return matrix


def parent_to_world(node: slicer.vtkMRMLTransformableNode) -> np.ndarray:
    """What the node's parent transforms do to its coordinates; the identity without a parent.

    Raises:
        SceneError: a parent transform is not linear.
    """
    transform = node.GetParentTransformNode()
    if transform is None:
        return np.eye(4)
    matrix = vtk.vtkMatrix4x4()
    if not transform.IsTransformToWorldLinear() or not transform.GetMatrixTransformToWorld(matrix):
        raise SceneError(
            f"'{node.GetName()}' is under the non-linear transform '{transform.GetName()}', which no label map can follow; "
            "harden the transform on it first (Transforms module, Harden)."
        )
    return from_vtk(matrix)


def volume_affine(volume_node: slicer.vtkMRMLVolumeNode) -> np.ndarray:
    """The volume's own matrix."""
    matrix = vtk.vtkMatrix4x4()
    volume_node.GetIJKToRASMatrix(matrix)
    return from_vtk(matrix)


def volume_grid(volume_node: slicer.vtkMRMLVolumeNode) -> Grid:
    """The grid of a volume.

    Raises:
        SceneError: the volume is empty, or under a non-linear transform.
    """
    image = volume_node.GetImageData()
    if image is None or 0 in image.GetDimensions():
        raise SceneError(f"the volume '{volume_node.GetName()}' has no voxels; load an image into it.")
    affine = volume_affine(volume_node)
    return Grid(tuple(image.GetDimensions()), affine, parent_to_world(volume_node) @ affine)


def image_affine(image: slicer.vtkOrientedImageData) -> np.ndarray:
    """The own matrix of a segment's label map; indices count from the grid's origin, not from the crop's."""
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    return from_vtk(matrix)


def same_place(a: np.ndarray, b: np.ndarray, shape: tuple[int, ...]) -> bool:
    """Whether two matrices put every voxel of a grid of that shape at the same place, to a thousandth of a voxel."""
    corners = np.array(np.meshgrid(*[[0, max(size - 1, 1)] for size in shape[:3]], [1])).reshape(4, -1)
    smallest = float(np.linalg.norm(b[:3, :3], axis=0).min())
    return float(np.abs((a - b) @ corners).max()) <= SAME_GRID_TOLERANCE * smallest


def whole_voxel_shift(source: np.ndarray, target: np.ndarray, shape: tuple[int, ...]) -> tuple[int, int, int] | None:
    """The shift s with target voxel v = source voxel v + s, or None if the grids differ by more than whole voxels."""
    between = np.linalg.inv(source) @ target
    shift = np.rint(between[:3, 3])
    exact = np.eye(4)
    exact[:3, 3] = shift
    return (int(shift[0]), int(shift[1]), int(shift[2])) if same_place(source @ exact, target, shape) else None


def resample(image: vtk.vtkImageData, source: np.ndarray, grid: Grid, *, linear: bool, fill: float) -> vtk.vtkImageData:
    """An image on another grid, through world space.

    Args:
        image: scalars over indices that ``source`` maps to world; its extent may start anywhere.
        source: the image's world matrix.
        grid: where the result lies, extent from 0.
        linear: trilinear interpolation; else the nearest voxel.
        fill: value outside the image.

    Returns:
        A plain image (spacing 1, origin 0) of the grid's shape and the image's scalar type.
    """
    plain = vtk.vtkImageData()
    plain.ShallowCopy(image)
    plain.SetOrigin(0.0, 0.0, 0.0)
    plain.SetSpacing(1.0, 1.0, 1.0)
    plain.SetDirectionMatrix(1, 0, 0, 0, 1, 0, 0, 0, 1)
    between = vtk.vtkTransform()
    between.SetMatrix(to_vtk(np.linalg.inv(source) @ grid.world))
    reslice = vtk.vtkImageReslice()
    reslice.SetInputData(plain)
    reslice.SetResliceTransform(between)
    reslice.SetOutputOrigin(0.0, 0.0, 0.0)
    reslice.SetOutputSpacing(1.0, 1.0, 1.0)
    reslice.SetOutputExtent(0, grid.shape[0] - 1, 0, grid.shape[1] - 1, 0, grid.shape[2] - 1)
    reslice.SetBackgroundLevel(fill)
    # Without this, vtk would stretch the transform's bounds instead of following it voxel by voxel.
    reslice.TransformInputSamplingOff()
    if linear:
        reslice.SetInterpolationModeToLinear()
    else:
        reslice.SetInterpolationModeToNearestNeighbor()
    reslice.Update()
    return reslice.GetOutput()


def array_of(image: vtk.vtkImageData) -> np.ndarray:
    """The scalars as an array (x, y, z) or (x, y, z, components): a view, so writing to it writes to the image."""
    from vtk.util import numpy_support

    scalars = image.GetPointData().GetScalars()
    flat = numpy_support.vtk_to_numpy(scalars)
    components = scalars.GetNumberOfComponents()
    size_x, size_y, size_z = image.GetDimensions()
    if components == 1:
        return flat.reshape(size_z, size_y, size_x).transpose(2, 1, 0)
    return flat.reshape(size_z, size_y, size_x, components).transpose(2, 1, 0, 3)


def image_like(
    dtype: Any, shape: tuple[int, ...], offset: tuple[int, ...] = (0, 0, 0), oriented: bool = False, zeros: bool = True
) -> vtk.vtkImageData:
    """A new image of zeros (or of whatever was in memory) with vtk's own memory; fill it through :func:`array_of`."""
    from vtk.util import numpy_support

    image = slicer.vtkOrientedImageData() if oriented else vtk.vtkImageData()
    image.SetExtent(*[bound for start, size in zip(offset, shape, strict=False) for bound in (start, start + size - 1)])
    image.AllocateScalars(numpy_support.get_vtk_array_type(np.dtype(dtype)), shape[3] if len(shape) > 3 else 1)
    if zeros:
        array_of(image)[...] = 0
    return image


def vtk_scalars_dtype(dtype: np.dtype) -> np.dtype:
    """The nearest numpy type that vtk and every Slicer file format hold: no bool, no half floats, no 64-bit integers."""
    dtype = np.dtype(dtype)
    if dtype == np.bool_:
        return np.dtype(np.uint8)
    if dtype in (np.dtype(np.float16), np.dtype(np.longdouble)):
        return np.dtype(np.float32) if dtype == np.float16 else np.dtype(np.float64)
    if dtype.kind in "iu" and dtype.itemsize == 8:
        return np.dtype(np.float64)
    return dtype.newbyteorder("=")


def make_volume(
    scene: slicer.vtkMRMLScene,
    array: np.ndarray,
    affine: np.ndarray,
    name: str,
    class_name: str = "vtkMRMLScalarVolumeNode",
) -> slicer.vtkMRMLVolumeNode:
    """A new volume node with the array's voxels (x, y, z) at the given own matrix."""
    array = np.asarray(array, dtype=vtk_scalars_dtype(array.dtype))
    image = image_like(array.dtype, array.shape)
    array_of(image)[...] = array
    return add_volume(scene, image, affine, name, class_name)


def add_volume(
    scene: slicer.vtkMRMLScene,
    image: vtk.vtkImageData,
    affine: np.ndarray,
    name: str,
    class_name: str = "vtkMRMLScalarVolumeNode",
) -> slicer.vtkMRMLVolumeNode:
    """A new volume node that shows an image, which is not copied, at the given own matrix."""
    node = scene.AddNewNodeByClass(class_name, name)
    node.SetIJKToRASMatrix(to_vtk(affine))
    node.SetAndObserveImageData(image)
    node.CreateDefaultDisplayNodes()
    return node


def place_beside(node: slicer.vtkMRMLTransformableNode, volume_node: slicer.vtkMRMLVolumeNode) -> None:
    """Put a node under the volume's parent transform, and beside it in the subject hierarchy where both have items."""
    node.SetAndObserveTransformNodeID(volume_node.GetTransformNodeID())
    scene = volume_node.GetScene()
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene) if scene else None
    if hierarchy is None:
        return
    volume_item, item = hierarchy.GetItemByDataNode(volume_node), hierarchy.GetItemByDataNode(node)
    if volume_item and item:
        hierarchy.SetItemParent(item, hierarchy.GetItemParent(volume_item))
