"""One case of a published data set into memory, with everything checked that the dataset folder promises.

The first channel's grid is the case's.  What lies elsewhere is refused, or brought there if that was asked for:
a header that is a little wrong should be seen by somebody, not averaged away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hierseg.data.resampling import resample, resample_labels, same_grid, voxel_map
from hierseg.data.translation import coarsened
from hierseg.errors import ImageError
from hierseg.imageio import Volume, check_intensities, read_volume
from hierseg.importers.source import Labels, Picture, SourceCase
from hierseg.labeltree import LabelTree

GRID_TOLERANCE = 0.01
"""Voxels by which two grids may differ: coordinates in headers are rounded."""


@dataclass(frozen=True)
class CaseData:
    """A case in memory.

    Attributes:
        images: one a channel, all on one grid.
        label: node values on that grid, or None.
        slices_complete: as in the dataset folder.
        notes: what was done to the case.
    """

    images: tuple[Volume, ...]
    label: np.ndarray | None
    slices_complete: Sequence[Mapping[str, Any]]
    notes: tuple[str, ...]


def read_case(case: SourceCase, tree: LabelTree, *, fine: bool = True, bring: bool = False) -> CaseData:
    """Read a case.

    Args:
        case: from a :class:`~hierseg.importers.source.Source`.
        tree: what its label map is checked against.
        fine: False: every voxel gets its top-level node.
        bring: resample what lies on another grid than the first channel instead of refusing it.

    Raises:
        ImageError: a file cannot be read, is on another grid, or shows nothing.
        LabelTreeError: a voxel has a value that is not in the tree.
    """
    images = _read_pictures(case.images)
    first, notes = images[0], [*case.notes, *dict.fromkeys(note for image in images for note in image.notes)]
    for number, image in enumerate(images):
        check_intensities(image.array, str(image.path))
        if not _same(image, first):
            _refuse_unless(bring, image, first)
            images[number] = _brought(image, first)
            notes.append(f"{image.path} was resampled onto the grid of {first.path}.")
    if case.label is None:
        return CaseData(tuple(images), None, (), tuple(notes))
    labels = case.label.read(tree)
    array, more = _on_grid(labels, first, tree, bring)
    complete = _complete(labels, first)
    for entry in complete if labels.fill is not None else ():
        if entry["node"] is None:
            place = (slice(None),) * entry["axis"] + (list(entry["indices"]),)
            part = array[place]
            array[place] = np.where(part == tree.unlabelled, tree.dtype.type(labels.fill), part)
    if not fine:
        # What was complete down to the leaves is not any more.
        array, complete = coarsened(array, tree), []
    return CaseData(tuple(images), array, complete, (*notes, *labels.notes, *more))


def _read_pictures(pictures: Sequence[Picture]) -> list[Volume]:
    files: dict[Path, Volume] = {}
    images = []
    for picture in pictures:
        if picture.path not in files:
            files[picture.path] = read_volume(picture.path)
        volume = files[picture.path]
        found = volume.frames or 1
        if picture.frames is not None and found != picture.frames:
            raise ImageError(
                f"{picture.path}: the image has {found} channels (size {_size(volume.array)}), the data set lists {picture.frames}; correct the list or the image."
            )
        if picture.frame is None and volume.frames is not None:
            raise ImageError(
                f"{picture.path}: the image has {found} frames (size {_size(volume.array)}) where one 3D image is needed; give one frame."
            )
        if picture.frame is not None and picture.frame >= found:
            raise ImageError(
                f"{picture.path}: frame {picture.frame + 1} is asked for, the image has {found}; correct the number."
            )
        images.append(volume if picture.frame is None else volume.frame(picture.frame))
    return images


def _on_grid(labels: Labels, first: Volume, tree: LabelTree, bring: bool) -> tuple[np.ndarray, list[str]]:
    """The label map on the image's grid, and what was done."""
    volume, notes = labels.volume, []
    array = np.asarray(volume.array)
    if array.ndim != 3:
        raise ImageError(f"{volume.path}: the label map has the size {_size(array)} where a 3D one is needed.")
    if not _same(volume, first):
        if not labels.anywhere:
            _refuse_unless(bring, volume, first)
            notes.append(f"{volume.path} was brought onto the grid of {first.path}, by votes of its voxels.")
        known = (array != tree.unlabelled).any()
        # Votes are counted where something is known; what lies outside of the map is filled in after them.
        array = resample_labels(array, volume.affine, first.affine, first.shape, tree).astype(tree.dtype)
        if known and (array == tree.unlabelled).all():
            raise ImageError(f"{volume.path}: nothing of it lies in {first.path}; check that both show the same place.")
    if labels.outside is not None:
        array = np.where(array == tree.unlabelled, tree.dtype.type(labels.outside), array)
    return array, notes


def _complete(labels: Labels, first: Volume) -> list[dict[str, Any]]:
    """The complete slices along the image's stored axes; none where the two grids do not share their planes."""
    if labels.counted_on is None:
        return [dict(entry) for entry in labels.slices_complete]
    between = voxel_map(first.affine, labels.counted_on)
    turn = np.rint(between[:3, :3])
    if not np.allclose(between[:3, :3], turn, atol=1e-3) or not (np.abs(turn).sum(axis=0) == 1).all():
        return []
    found = []
    for entry in labels.slices_complete:
        axis = int(np.flatnonzero(turn[:, entry["axis"]])[0])
        moved = np.rint(between[axis, 3] + turn[axis, entry["axis"]] * np.asarray(entry["indices"], dtype=np.float64))
        indices = sorted(int(index) for index in moved if 0 <= index < first.shape[axis])
        found.append({**entry, "axis": axis, "indices": indices})
    return [entry for entry in found if entry["indices"]]


def _same(volume: Volume, first: Volume) -> bool:
    return same_grid(volume.shape, volume.affine, first.shape, first.affine, GRID_TOLERANCE)


def _refuse_unless(bring: bool, volume: Volume, first: Volume) -> None:
    if bring:
        return
    what = (
        f"has the size {_size(volume.array)}, {first.path} has {_size(first.array)}"
        if volume.shape != first.shape
        else f"lies up to {_farthest(volume, first):.3g} mm away from {first.path}, of the same size"
    )
    raise ImageError(
        f"{volume.path}: {what}; correct the file, or let it be resampled with '--resample' if the headers are right."
    )


def _farthest(volume: Volume, first: Volume) -> float:
    corners = np.array(np.meshgrid(*((0, size - 1) for size in first.shape), [1.0])).reshape(4, -1)
    return float(np.linalg.norm(((volume.affine - first.affine) @ corners)[:3], axis=0).max())


def _brought(image: Volume, first: Volume) -> Volume:
    import torch

    channel = torch.from_numpy(np.ascontiguousarray(image.array, dtype=np.float32))[None]
    moved = resample(channel, image.affine, first.affine, first.shape, fill=[float(image.array.min())])
    return replace(image, array=moved[0].numpy(), affine=first.affine)


def _size(array: np.ndarray) -> str:
    return " × ".join(str(size) for size in array.shape)
