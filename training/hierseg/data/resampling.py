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
    matrix = voxel_map(source_affine, target_affine)
    order = parallel_axes(matrix, target_shape)
    if order is None:
        return _resample_oblique(image, matrix, target_shape, fill, antialias)
    result = image.permute(0, *(axis + 1 for axis in order))
    jobs = []
    for axis, source_axis in enumerate(order):
        positions = _snap(matrix[source_axis, 3] + matrix[source_axis, axis] * np.arange(target_shape[axis]))
        jobs.append(
            (
                target_shape[axis] / max(1, result.shape[axis + 1]),
                axis,
                positions,
                abs(float(matrix[source_axis, axis])),
            )
        )
    for _, axis, positions, step in sorted(jobs, key=lambda job: job[0]):  # what shrinks most comes first
        result = _resample_axis(result, axis + 1, positions, step)
    if fill is not None:
        outside = [
            (positions < -0.5) | (positions > image.shape[order[axis] + 1] - 0.5)
            for _, axis, positions, _ in sorted(jobs, key=lambda job: job[1])
        ]
        if any(mask.any() for mask in outside):
            x, y, z = (torch.from_numpy(mask).to(image.device) for mask in outside)
            mask = x[:, None, None] | y[None, :, None] | z[None, None, :]
            values = torch.tensor(list(fill), dtype=result.dtype, device=result.device)
            result = torch.where(mask, values[:, None, None, None], result)
    return result.contiguous()


def _snap(positions: np.ndarray) -> np.ndarray:
    """Positions that are integers but for rounding become integers: copies are then exact."""
    nearest = np.rint(positions)
    return np.where(np.abs(positions - nearest) < 1e-3, nearest, positions)


def _resample_axis(image: torch.Tensor, axis: int, positions: np.ndarray, step: float) -> torch.Tensor:
    index, weight = axis_weights(positions, image.shape[axis], step)
    columns = torch.from_numpy(index).to(image.device)
    if index.shape[1] == 1:
        chosen = np.arange(image.shape[axis])
        return image if np.array_equal(index[:, 0], chosen) else image.index_select(axis, columns[:, 0])
    shape = [1] * image.dim()
    shape[axis] = -1
    weights = torch.from_numpy(weight).to(image.device, image.dtype)
    result = image.index_select(axis, columns[:, 0]).mul_(weights[:, 0].view(shape))
    for tap in range(1, index.shape[1]):
        result.addcmul_(image.index_select(axis, columns[:, tap]), weights[:, tap].view(shape))
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
