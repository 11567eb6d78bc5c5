"""Brushes: voxels of a grid from places in the patient, in mm."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import slicer
import vtk

from HierSubclassSegLib.scene import tags
from HierSubclassSegLib.scene.lattice import Grid


def dabs(
    segmentation_node: slicer.vtkMRMLSegmentationNode,
    grid: Grid,
    points: Sequence[Sequence[float]] | np.ndarray,
    radius: float,
    axis: int | None = None,
) -> np.ndarray:
    """The voxels whose centers lie within ``radius`` mm of any of the points of the world.

    Args:
        segmentation_node: its parent transform leads to the world.
        grid: its grid.
        points: ``(n, 3)`` RAS mm; a stroke is a row of points that lie closer than the radius.
        radius: mm.
        axis: 0, 1 or 2 confines each dab to the slice of the stored array in which its point lies, as a brush on a
            slice view does; None: a sphere.

    Returns:
        Bool (i, j, k) on the grid.

    Raises:
        SceneError: the parent transform is not linear.
    """
    to_world = world_matrix(segmentation_node) @ grid.to_ras
    to_index = np.linalg.inv(to_world)
    mask = np.zeros(grid.shape, bool)
    # The sphere's extent in voxels along each index axis: the row norms of the map from mm to voxels.
    reach = radius * np.linalg.norm(to_index[:3, :3], axis=1)
    for point in np.asarray(points, float).reshape(-1, 3):
        center = to_index[:3, :3] @ point + to_index[:3, 3]
        low = np.maximum(np.ceil(center - reach - 1e-6).astype(int), 0)
        high = np.minimum(np.floor(center + reach + 1e-6).astype(int) + 1, grid.shape)
        if axis is not None:
            center[axis] = round(float(center[axis]))
            low[axis] = max(0, int(center[axis]))
            high[axis] = min(grid.shape[axis], int(center[axis]) + 1)
        if (low >= high).any():
            continue
        axes = np.meshgrid(*(np.arange(lo, hi) for lo, hi in zip(low, high, strict=True)), indexing="ij")
        distance = np.linalg.norm((np.stack(axes, axis=-1) - center) @ to_world[:3, :3].T, axis=-1)
        mask[tuple(slice(lo, hi) for lo, hi in zip(low, high, strict=True))] |= distance <= radius + 1e-9
    return mask


def as_mask(voxels: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Voxels given as bool ``shape`` or as integer indices ``(n, 3)``, as bool; indices outside the grid are left out.

    Raises:
        SceneError: they are given in another way.
    """
    voxels = np.asarray(voxels)
    if voxels.dtype == bool and voxels.shape == shape:
        return voxels
    if voxels.ndim == 2 and voxels.shape[1] == 3 and np.issubdtype(voxels.dtype, np.integer):
        inside = voxels[((voxels >= 0) & (voxels < shape)).all(axis=1)]
        mask = np.zeros(shape, bool)
        mask[tuple(inside.T)] = True
        return mask
    raise tags.SceneError(
        f"the voxels are {voxels.dtype} of shape {voxels.shape}; give bool of shape {shape} or integer indices (n, 3)."
    )


def world_matrix(segmentation_node: slicer.vtkMRMLSegmentationNode) -> np.ndarray:
    """4×4 from the segmentation's own coordinates to the world.

    Raises:
        SceneError: its parent transform is not linear.
    """
    transform = segmentation_node.GetParentTransformNode()
    if transform is None:
        return np.eye(4)
    if not transform.IsTransformToWorldLinear():
        raise tags.SceneError(
            f"segmentation '{segmentation_node.GetName()}' is under a non-linear transform; harden it first."
        )
    matrix = vtk.vtkMatrix4x4()
    transform.GetMatrixTransformToWorld(matrix)
    return np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])
