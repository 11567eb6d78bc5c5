"""Moving images and label maps from one voxel grid to another, by their affines.

A grid is a shape and an affine (voxel index → mm).  Both directions are needed: images go to the network's grid and
probabilities come back.  If the axes of the two grids are parallel, which is nearly always so, each axis is
resampled by itself: a weighted sum of a few slices, linear between voxels, with a wider triangle when the target is
coarser (otherwise fine detail would turn into noise); a mere flip or permutation copies voxels exactly.
Oblique to each other, the grids are joined by trilinear interpolation through world space.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from hierseg.labeltree import LabelTree, Node

_PARALLEL_TOLERANCE = 1e-2
"""Grids count as parallel if no voxel is moved by more than this fraction of a voxel by it."""
_CHUNK_VOXELS = 4_000_000


def voxel_map(source_affine: np.ndarray, target_affine: np.ndarray) -> np.ndarray:
    """The 4×4 matrix from voxel indices of the target grid to those of the source grid."""
    matrix: np.ndarray = np.linalg.solve(np.asarray(source_affine, np.float64), np.asarray(target_affine, np.float64))
    return matrix


def same_grid(
    shape: Sequence[int],
    affine: np.ndarray,
    other_shape: Sequence[int],
    other_affine: np.ndarray,
    tolerance: float = 1e-3,
) -> bool:
    """Whether two grids have the same shape and no corner differs by more than ``tolerance`` voxels."""
    if tuple(shape) != tuple(other_shape):
        return False
    ends = np.array([[*corner, 1.0] for corner in itertools.product(*((0, size - 1) for size in shape))])
    moved = ends @ voxel_map(affine, other_affine).T
    return bool(np.abs(moved - ends)[:, :3].max() <= tolerance)


def parallel_axes(matrix: np.ndarray, shape: Sequence[int]) -> tuple[int, int, int] | None:
    """For each target axis the source axis that it runs along, or None if the grids are oblique to each other.

    Args:
        matrix: from :func:`voxel_map`.
        shape: of the target grid.
    """
    linear = np.abs(matrix[:3, :3])
    order = [int(row) for row in linear.argmax(axis=0)]
    if sorted(order) != [0, 1, 2]:
        return None
    off = linear * np.array([max(size - 1, 0) for size in shape])
    off[order, [0, 1, 2]] = 0.0
    return (order[0], order[1], order[2]) if off.sum(axis=1).max() <= _PARALLEL_TOLERANCE else None


def resample(
    image: torch.Tensor,
    source_affine: np.ndarray,
    target_affine: np.ndarray,
    target_shape: Sequence[int],
    *,
    fill: Sequence[float] | None = None,
    antialias: bool = True,
) -> torch.Tensor:
    """Resample channels onto another grid, linearly.

    Args:
        image: ``(C, X, Y, Z)`` floats, on any device.
        source_affine: of ``image``.
        target_affine: of the result.
        target_shape: spatial shape of the result.
        fill: one value a channel for what lies outside of the source's voxels; None repeats the border voxel.
        antialias: average along axes that get coarser; without it, values are taken at the target's points.

    Returns:
        ``(C, *target_shape)`` on the same device.
    """
    plan = Resampler(image.shape[1:], source_affine, target_affine, target_shape, image.device, antialias=antialias)
    return plan(image, fill).contiguous()


class Resampler:
    """:func:`resample` between two grids for many images: what depends on the grids alone is computed once.

    Args:
        source_shape: spatial shape of the images.
        source_affine: of the images.
        target_affine: of the results.
        target_shape: spatial shape of the results.
        device: where the images are.
        antialias: as in :func:`resample`.
    """

    def __init__(
        self,
        source_shape: Sequence[int],
        source_affine: np.ndarray,
        target_affine: np.ndarray,
        target_shape: Sequence[int],
        device: torch.device,
        *,
        antialias: bool = True,
    ) -> None:
        self._matrix = voxel_map(source_affine, target_affine)
        self._shape, self._antialias = tuple(target_shape), antialias
        self._order = parallel_axes(self._matrix, target_shape)
        self._outside: list[np.ndarray] = []
        axes = []
        for axis, source_axis in enumerate(self._order or ()):
            size, row = source_shape[source_axis], self._matrix[source_axis]
            positions = _snap(row[3] + row[axis] * np.arange(target_shape[axis]))
            self._outside.append((positions < -0.5) | (positions > size - 0.5))
            index, weight = axis_weights(positions, size, abs(float(row[axis])))
            if index.shape[1] > 1 or not np.array_equal(index[:, 0], np.arange(size)):
                axes.append((target_shape[axis] / size, _Axis.between(axis + 1, index, weight, device)))
        # What shrinks most comes first; of equals the last axis, whose voxels are picked one by one, while they are few.
        self._axes = [axis for _, axis in sorted(axes, key=lambda pair: (pair[0], -pair[1].dim))]

    @property
    def copies(self) -> bool:
        """Whether the images come out as they are, but for the order of their axes."""
        return self._order is not None and not self._axes

    def __call__(self, image: torch.Tensor, fill: Sequence[float] | None = None) -> torch.Tensor:
        """The image ``(C, *source_shape)`` as ``(C, *target_shape)``: a view of it where nothing has to be computed."""
        if self._order is None:
            return _resample_oblique(image, self._matrix, self._shape, fill, self._antialias)
        result = image.permute(0, *(axis + 1 for axis in self._order))
        for axis in self._axes:
            result = axis.resampled(result)
        if fill is not None and any(mask.any() for mask in self._outside):
            x, y, z = (torch.from_numpy(mask).to(image.device) for mask in self._outside)
            mask = x[:, None, None] | y[None, :, None] | z[None, None, :]
            values = torch.tensor(list(fill), dtype=result.dtype, device=result.device)
            result = torch.where(mask, values[:, None, None, None], result)
        return result


def _snap(positions: np.ndarray) -> np.ndarray:
    """Positions that are integers but for rounding become integers: copies are then exact."""
    nearest = np.rint(positions)
    return np.where(np.abs(positions - nearest) < 1e-3, nearest, positions)


class _Axis(NamedTuple):
    """How one axis is resampled.

    Attributes:
        dim: of the image.
        columns: int64, for each tap the source's voxels.
        weights: float32, for each tap their weights, shaped for multiplication; none where voxels are copied.
    """

    dim: int
    columns: list[torch.Tensor]
    weights: list[torch.Tensor]

    @classmethod
    def between(cls, dim: int, index: np.ndarray, weight: np.ndarray, device: torch.device) -> _Axis:
        """From what :func:`axis_weights` gives."""
        shape = [1, 1, 1, 1]
        shape[dim] = -1
        columns = [torch.from_numpy(np.ascontiguousarray(column)).to(device) for column in index.T]
        weights = [torch.from_numpy(np.ascontiguousarray(column)).to(device).view(shape) for column in weight.T]
        return cls(dim, columns, weights if len(columns) > 1 else [])

    def resampled(self, image: torch.Tensor) -> torch.Tensor:
        result = image.index_select(self.dim, self.columns[0])
        if self.weights:
            result.mul_(self.weights[0].to(image.dtype))
        for columns, weights in zip(self.columns[1:], self.weights[1:], strict=True):
            result.addcmul_(image.index_select(self.dim, columns), weights.to(image.dtype))
        return result


def axis_weights(positions: np.ndarray, size: int, step: float) -> tuple[np.ndarray, np.ndarray]:
    """Which voxels of an axis make up each target position, and with which weights.

    Args:
        positions: target positions in voxels of the source axis; beyond the ends the border voxel is repeated.
        size: voxels of the source axis.
        step: distance between target positions; above 1 the triangle is that much wider.

    Returns:
        Indices int64 and weights float32, both ``(positions, taps)``; the weights of a position sum to 1.
    """
    support = step if step > 1.0 + 1e-3 else 1.0
    if support == 1.0 or size == 1:
        positions = np.clip(positions, 0, size - 1)
        if np.array_equal(positions, np.rint(positions)):
            return positions.astype(np.int64)[:, None], np.ones((len(positions), 1), np.float32)
    positions = np.clip(positions, -0.5, size - 0.5)
    first = np.floor(positions - support).astype(np.int64) + 1
    index = first[:, None] + np.arange(math.ceil(2 * support))
    weight = np.maximum(0.0, 1.0 - np.abs(index - positions[:, None]) / support)
    weight[(index < 0) | (index >= size)] = 0.0
    weight /= weight.sum(axis=1, keepdims=True)
    used = weight.any(axis=0)
    return np.clip(index, 0, size - 1)[:, used], weight[:, used].astype(np.float32)


def _resample_oblique(
    image: torch.Tensor, matrix: np.ndarray, shape: Sequence[int], fill: Sequence[float] | None, antialias: bool
) -> torch.Tensor:
    # A source much finer than the target is first coarsened on its own axes: trilinear interpolation alone would skip voxels.
    steps = np.linalg.norm(np.linalg.inv(matrix[:3, :3]), axis=0)
    coarse = [
        max(1, round(size * max(step, 1e-6))) if antialias and step < 0.67 else size
        for size, step in zip(image.shape[1:], steps, strict=True)
    ]
    sizes = np.array(image.shape[1:], dtype=np.float64)
    if coarse != list(image.shape[1:]):
        scale = sizes / np.array(coarse)
        grid = np.diag([*scale, 1.0])
        grid[:3, 3] = (scale - 1) / 2
        image = resample(image, np.eye(4), grid, coarse)
        matrix = np.linalg.solve(grid, matrix)
        sizes = np.array(coarse, dtype=np.float64)
    device = image.device
    # grid_sample wants positions in -1..1 over the edges of the volume, last axis first.
    unit = np.eye(4)
    unit[:3, :3] = np.diag(2.0 / sizes)
    unit[:3, 3] = 1.0 / sizes - 1.0
    scaled = torch.tensor((unit @ matrix)[:3], dtype=torch.float32, device=device)
    y, z = torch.meshgrid(torch.arange(shape[1], device=device), torch.arange(shape[2], device=device), indexing="ij")
    result = torch.empty((image.shape[0], *shape), dtype=image.dtype, device=device)
    values = None if fill is None else torch.tensor(list(fill), dtype=image.dtype, device=device)[:, None, None, None]
    rows = max(1, _CHUNK_VOXELS // max(1, shape[1] * shape[2]))
    for start in range(0, shape[0], rows):
        x = torch.arange(start, min(start + rows, shape[0]), device=device)
        places = torch.stack(
            [x[:, None, None].expand(-1, *y.shape), y.expand(len(x), -1, -1), z.expand(len(x), -1, -1)], dim=-1
        )
        places = places.to(torch.float32) @ scaled[:, :3].T + scaled[:, 3]
        part = F.grid_sample(
            image[None],
            places.flip(-1)[None].to(image.dtype),
            mode="bilinear",
            padding_mode="border",
            align_corners=False,
        )[0]
        if values is not None:
            part = torch.where((places.abs() > 1.0).any(dim=-1), values, part)
        result[:, start : start + len(x)] = part
    return result


def resample_labels(
    labels: np.ndarray,
    source_affine: np.ndarray,
    target_affine: np.ndarray,
    target_shape: Sequence[int],
    tree: LabelTree,
) -> np.ndarray:
    """Resample a label map by votes, so that thin strokes survive downsampling.

    Every labelled source voxel votes for the target voxel that it falls in.  The majority of the labelled votes wins,
    from the top of the tree down, so that a coarse label supports the finer ones in it; the earlier node in the tree
    on a tie.  Along axes that get finer, and wherever nobody voted, the nearest source
    voxel counts.  Outside of the source everything is unlabelled.

    Args:
        labels: ``(X, Y, Z)`` node values of ``tree``.
        source_affine: of ``labels``.
        target_affine: of the result.
        target_shape: of the result.
        tree: gives the values and ``unlabelled``.

    Returns:
        int64 node values, ``target_shape``.
    """
    matrix = voxel_map(source_affine, target_affine)
    order = parallel_axes(matrix, target_shape)
    if order is None:
        return _vote_oblique(labels, matrix, target_shape, tree)
    labels = labels.transpose(order)
    places: list[np.ndarray] = []
    for axis, source_axis in enumerate(order):
        offset, step, size = matrix[source_axis, 3], matrix[source_axis, axis], labels.shape[axis]
        if abs(step) <= 1.0 + 1e-3:
            wanted = _snap(offset + step * np.arange(target_shape[axis]))
            nearest = np.floor(wanted + 0.5).astype(np.int64)
            labels = labels.take(np.clip(nearest, 0, size - 1), axis=axis)
            outside = (nearest < 0) | (nearest >= size)
            if outside.any():
                labels[(slice(None),) * axis + (outside,)] = tree.unlabelled
            places.append(np.arange(target_shape[axis]))
        else:
            places.append(np.floor((np.arange(size) - offset) / step + 0.5).astype(np.int64))
    if labels.shape == tuple(target_shape) and all(
        np.array_equal(place, np.arange(size)) for place, size in zip(places, target_shape, strict=True)
    ):
        return labels.astype(np.int64)
    for axis, place in enumerate(places):
        inside = (place >= 0) & (place < target_shape[axis])
        labels = labels.compress(inside, axis=axis)
        places[axis] = place[inside]
    x, y, z = places
    flat = (x[:, None, None] * target_shape[1] + y[None, :, None]) * target_shape[2] + z[None, None, :]
    return _majority(labels, flat, int(np.prod(target_shape)), tree).reshape(target_shape)


def _majority(labels: np.ndarray, flat: np.ndarray, size: int, tree: LabelTree) -> np.ndarray:
    """The node that the labelled voxels of each target voxel elect; ``unlabelled`` where there is none.

    The election goes down the tree: of a node's children, the one with the most votes at or below it is taken, as
    long as there is any.  A coarse label does not vote against the finer one of its neighbor, which it includes: else
    a stroke in one thin slice would lose to the parent's label in the slice beside it.
    """
    result = np.full(size, tree.unlabelled, dtype=np.int64)

    def elect(parent: Node | None, values: np.ndarray, target: np.ndarray) -> None:
        """``values`` and ``target`` of the voxels at or below ``parent``; its children are elected among them."""
        children = tree.children(parent)
        below = [(child, (child, *tree.descendants(child))) for child in children]
        branch = tree.lookup({node.value: number for number, (_, nodes) in enumerate(below) for node in nodes}, -1)[
            values
        ]
        won = result[target] == (tree.unlabelled if parent is None else parent.value)
        values, target, branch = values[won], target[won], branch[won]
        most = np.zeros(size, dtype=np.int64)
        for number, child in enumerate(children):
            votes = np.bincount(target[branch == number], minlength=size)
            better = votes > most
            result[better] = child.value
            most[better] = votes[better]
        for number, child in enumerate(children):
            if not tree.is_leaf(child) and (chosen := branch == number).any():
                elect(child, values[chosen], target[chosen])

    known = labels != tree.unlabelled
    elect(None, labels[known], np.broadcast_to(flat, labels.shape)[known])
    return result


def _vote_oblique(labels: np.ndarray, matrix: np.ndarray, shape: Sequence[int], tree: LabelTree) -> np.ndarray:
    shape = tuple(shape)
    inverse = np.linalg.inv(matrix)
    voxels = np.argwhere(labels != tree.unlabelled)
    target = np.floor(voxels @ inverse[:3, :3].T + inverse[:3, 3] + 0.5).astype(np.int64)
    inside = ((target >= 0) & (target < np.array(shape))).all(axis=1)
    voxels, target = voxels[inside], target[inside]
    voted = _majority(labels[tuple(voxels.T)], np.ravel_multi_index(tuple(target.T), shape), int(np.prod(shape)), tree)
    silent = np.flatnonzero(voted == tree.unlabelled)
    places = np.stack(np.unravel_index(silent, shape), axis=1)
    source = np.floor(places @ matrix[:3, :3].T + matrix[:3, 3] + 0.5).astype(np.int64)
    inside = ((source >= 0) & (source < np.array(labels.shape))).all(axis=1)
    voted[silent[inside]] = labels[tuple(source[inside].T)]
    return voted.reshape(shape)
