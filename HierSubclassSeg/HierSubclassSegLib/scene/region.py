"""A part of a volume: the box of voxels that a region of interest (ROI) touches, cut out before and put back after.

A model is run on the box; what it says is put into maps of the whole volume, in which nothing is known outside the box.
A rotated ROI gives the smallest box of whole voxels around it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import slicer
import vtk

from hierseg.labeltree import LabelTree
from HierSubclassSegLib.scene import geometry
from HierSubclassSegLib.scene.tags import SceneError

LEAST = 4
"""A box thinner than this many voxels is a slip of the mouse, not a region."""


@dataclass(frozen=True)
class Region:
    """A box of voxels.

    Attributes:
        start: first voxel (i, j, k).
        stop: one after the last.
        shape: of the whole volume.
    """

    start: tuple[int, int, int]
    stop: tuple[int, int, int]
    shape: tuple[int, int, int]

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """For indexing arrays (x, y, z)."""
        i, j, k = (slice(low, high) for low, high in zip(self.start, self.stop, strict=True))
        return i, j, k

    def crop(self, array: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The box of an array (a view) and its matrix."""
        inside = affine.copy()
        inside[:3, 3] = (affine @ np.array([*self.start, 1.0]))[:3]
        return array[self.slices], inside

    def paste(self, array: np.ndarray, outside: float) -> np.ndarray:
        """A map of the whole volume: the array in the box, a constant elsewhere."""
        whole = np.full(self.shape, outside, array.dtype)
        whole[self.slices] = array
        return whole


def region_of(roi: slicer.vtkMRMLMarkupsROINode, volume: slicer.vtkMRMLVolumeNode) -> Region:
    """The voxels of a volume that a ROI touches.

    Raises:
        SceneError: the ROI is not complete, or lies outside the volume; or as for ``geometry.volume_grid``.
    """
    grid = geometry.volume_grid(volume)
    size = np.array(roi.GetSize())
    if not (size > 0).all():
        raise SceneError(f"the region '{roi.GetName()}' has no size yet; place it in the views, or choose no region.")
    placed = vtk.vtkMatrix4x4()
    placed.DeepCopy(roi.GetObjectToWorldMatrix())
    signs = np.array(np.meshgrid([-1, 1], [-1, 1], [-1, 1])).reshape(3, -1)
    corners = np.vstack([signs * size[:, None] / 2.0, np.ones(signs.shape[1])])
    voxels = (np.linalg.inv(grid.world) @ geometry.from_vtk(placed) @ corners)[:3]
    # A voxel's center has whole numbers; it reaches half a voxel to each side.
    low = np.maximum(np.floor(voxels.min(axis=1) + 0.5).astype(int), 0)
    high = np.minimum(np.ceil(voxels.max(axis=1) + 0.5).astype(int), grid.shape)
    if (high - low < np.minimum(LEAST, grid.shape)).any():
        raise SceneError(
            f"the region '{roi.GetName()}' does not reach into the volume '{volume.GetName()}'; move it there, or choose no region."
        )
    start, stop = (tuple(int(value) for value in values) for values in (low, high))
    return Region((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]), grid.shape)


def whole_maps(
    region: Region | None,
    tree: LabelTree,
    labels: np.ndarray,
    confidence: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray | None]:
    """What was predicted in a region as maps of the whole volume; without a region as it is."""
    if region is None:
        return labels, confidence
    return (
        region.paste(labels, tree.unlabelled),
        None if confidence is None else region.paste(confidence, 0),
    )
