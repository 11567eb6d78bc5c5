"""From a file's own grid to what the network sees: orientation, spacing, intensities.

Training and inference share this one class, so that a network meets the same thing in both.  The target grid has the
configuration's orientation (the closest axes of the image, flipped and permuted, never rotated) and spacing, is
centered on the image's field of view and covers all of it.  Its affine is exact: whatever the network marks there
has a place in millimeters, and comes back to the same place.

For 2D networks the slices lie along the last axis: the image's axis of largest spacing, unless the configuration's
``slice_axis`` names another (an axis of the oriented array).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform

from hierseg.data.resampling import resample, resample_labels, same_grid, voxel_map
from hierseg.errors import ConfigError, ImageError
from hierseg.imageio import Volume, check_geometry, check_intensities, spacing_of
from hierseg.labeltree import LabelTree

__all__ = ["Geometry", "Prepared", "Preprocessor", "normalize"]

_SAME_SPACING = 0.01
"""Relative difference below which an axis keeps its own spacing: resampling would only blur."""
_MOST_SAMPLES = 1_000_000
_TILE = 16, 32


@dataclass(frozen=True)
class Geometry:
    """The grid of an image: spatial shape, affine (voxel index → mm in RAS), and where it came from."""

    shape: tuple[int, int, int]
    affine: np.ndarray
    path: Path | str = ""

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel edges in mm."""
        return spacing_of(self.affine)


@dataclass(frozen=True)
class Prepared:
    """An image as the network sees it.

    Attributes:
        array: float32 ``(C, X, Y, Z)``; for 2D networks the slices lie along Z.
        affine: 4×4 of this grid, voxel index → mm in RAS.
        source: the grid of the first channel's file, to which results return.
        notes: sentences for the user (a channel lay on another grid).
    """

    array: np.ndarray
    affine: np.ndarray
    source: Geometry
    notes: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int, int]:
        """Spatial shape."""
        x, y, z = self.array.shape[1:]
        return x, y, z


class Preprocessor:
    """Prepares images and label maps as a bundle's ``hierseg.json`` says.

    Args:
        config: with ``channels``, ``orientation``, ``spacing`` and ``spatial_dims``.
        device: where resampling is computed.

    Raises:
        ConfigError: an entry is out of range.
    """

    def __init__(self, config: Mapping[str, Any], device: str | torch.device = "cpu") -> None:
        self.channels: list[Mapping[str, Any]] = list(config["channels"])
        self.spatial_dims = int(config.get("spatial_dims", 3))
        self.slice_axis: int | None = config.get("slice_axis")
        self.device = torch.device(device)
        self.orientation = str(config.get("orientation", "RAS")).upper()
        if sorted(_DIRECTION.get(letter, "?") for letter in self.orientation) != ["AP", "LR", "SI"]:
            raise ConfigError(
                f"the orientation is {self.orientation!r}; give three letters, one of L/R, of A/P and of S/I each, such as 'RAS'."
            )
        spacing = config.get("spacing")
        values = [None] * 3 if spacing is None else [*spacing, *([None] * (3 - len(spacing)))]
        if len(values) != 3 or any(value is not None and not value > 0 for value in values):
            raise ConfigError(
                f"the spacing is {spacing!r}; give three numbers above 0 in mm, or null to keep an axis as it is."
            )
        if self.spatial_dims == 2:
            values[2] = None  # a 2D network takes slices as they are
        self.spacing: list[float | None] = values

    @property
    def channel_names(self) -> list[str]:
        """The names of the channels, in the network's order."""
        return [str(channel["name"]) for channel in self.channels]

    def grid(self, shape: Sequence[int], affine: np.ndarray) -> tuple[tuple[int, int, int], np.ndarray]:
        """The network's grid for an image: shape and affine."""
        turn = ornt_transform(io_orientation(affine), axcodes2ornt(tuple(self.orientation)))
        oriented = np.asarray(affine, np.float64) @ inv_ornt_aff(turn, tuple(shape))
        sizes = np.empty(3, dtype=np.int64)
        sizes[turn[:, 0].astype(int)] = list(shape)
        if self.spatial_dims == 2:
            order = self._slices_last(spacing_of(oriented))
            sizes, oriented = sizes[order], oriented[:, [*order, 3]]
        scale = np.ones(3)
        for axis, (own, wanted) in enumerate(zip(spacing_of(oriented), self.spacing, strict=True)):
            if wanted is not None and abs(wanted / own - 1.0) > _SAME_SPACING:
                scale[axis] = wanted / own
        target = np.array([max(1, math.ceil(size / step - 1e-3)) for size, step in zip(sizes, scale, strict=True)])
        stretch = np.diag([*scale, 1.0])
        stretch[:3, 3] = (sizes - 1) / 2 - scale * (target - 1) / 2  # both grids have their center at the same place
        return (int(target[0]), int(target[1]), int(target[2])), oriented @ stretch

    def _slices_last(self, spacing: Sequence[float]) -> list[int]:
        axis = self.slice_axis
        if axis is None:
            largest = max(spacing)
            axis = max(index for index, value in enumerate(spacing) if value > largest * (1 - _SAME_SPACING))
        return [*(other for other in range(3) if other != axis), axis]

    def image(self, volumes: Sequence[Volume]) -> Prepared:
        """Prepare one image, given as one 3D volume a channel.

        Channels on other grids are resampled through world space onto the first one's.

        Raises:
            ImageError: wrong number of channels, frames, unusable geometry or intensities, or no overlap.
        """
        self._check_channels(volumes)
        first = volumes[0]
        shape, affine = self.grid(first.shape, first.affine)
        notes: list[str] = [note for volume in volumes for note in volume.notes]
        rows = []
        for channel, volume in zip(self.channels, volumes, strict=True):
            tensor = torch.from_numpy(_floats(volume.array))[None].to(self.device)
            fill = None
            if not same_grid(first.shape, first.affine, volume.shape, volume.affine):
                fill = [float(volume.array.min())]
                notes.append(self._overlap(channel["name"], volume, first))
            moved = resample(tensor, volume.affine, affine, shape, fill=fill)
            rows.append(normalize(moved, channel.get("normalization", {"type": "none"})))
        array = torch.cat(rows).cpu().numpy()
        return Prepared(
            array, affine, Geometry(first.shape, np.array(first.affine, np.float64), first.path), tuple(notes)
        )

    def label(self, volume: Volume, like: Prepared, tree: LabelTree) -> np.ndarray:
        """Bring a label map onto a prepared image's grid by votes (:func:`resample_labels`), int64 node values."""
        return resample_labels(volume.array, volume.affine, like.affine, like.shape, tree)

    def _check_channels(self, volumes: Sequence[Volume]) -> None:
        names = ", ".join(self.channel_names)
        if len(volumes) != len(self.channels):
            raise ImageError(
                f"{_where(volumes[0]) if volumes else 'the case'}: {len(volumes)} image{'s' if len(volumes) != 1 else ''} given, but the model expects "
                f"{len(self.channels)}: {names}; give exactly these, in this order or as NAME=FILE."
            )
        for volume in volumes:
            if volume.array.ndim != 3:
                raise ImageError(
                    f"{_where(volume)}: the image's array has the size {volume.array.shape} where one 3D image is needed; take one frame or channel."
                )
            check_geometry(volume.affine, _where(volume))
            check_intensities(volume.array, _where(volume))

    def _overlap(self, name: str, volume: Volume, first: Volume) -> str:
        matrix = voxel_map(volume.affine, first.affine)
        axes = [np.linspace(0, size - 1, min(size, 24)) for size in first.shape]
        points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3) @ matrix[:3, :3].T + matrix[:3, 3]
        inside = ((points >= -0.5) & (points <= np.array(volume.shape) - 0.5)).all(axis=1).mean()
        if not inside:
            raise ImageError(
                f"{_where(volume)}: the channel '{name}' does not overlap with {_where(first)}; check that both show the same patient and place."
            )
        return f"{_where(volume)}: the channel '{name}' lies on another grid and was resampled onto that of {_where(first)}, {inside:.0%} of which it covers."


def _floats(array: np.ndarray) -> np.ndarray:
    """float32 in C order.

    Slicer's voxels run the other way round: a copy that goes along x would read each byte of memory many times, so such
    an array is copied in parts, as deep along z as a line of the processor's cache and narrow along y.
    """
    if array.flags.c_contiguous:
        return np.ascontiguousarray(array, dtype=np.float32)
    result = np.empty(array.shape, np.float32)
    for z in range(0, array.shape[2], _TILE[1]):
        for y in range(0, array.shape[1], _TILE[0]):
            part = slice(None), slice(y, y + _TILE[0]), slice(z, z + _TILE[1])
            result[part] = array[part]
    return result


_DIRECTION = {"L": "LR", "R": "LR", "A": "AP", "P": "AP", "S": "SI", "I": "SI"}


def _where(volume: Volume) -> str:
    return str(volume.path) or "the image"


def normalize(image: torch.Tensor, how: Mapping[str, Any]) -> torch.Tensor:
    """Normalize intensities.

    Args:
        image: any shape, floats.
        how: ``{"type": "minmax"}`` (smallest and largest value become 0 and 1), ``{"type": "percentile", "lower": 0.5, "upper": 99.5}`` (percentiles of the voxels above the minimum
            become 0 and 1, clipped), ``{"type": "center_percentile", ...}`` (the same, but percentiles of the central
            half of what the image shows: in a head scan, of the brain without scalp fat and neck), ``{"type": "zscore"}`` (mean 0 and deviation 1 over the nonzero voxels, zeros
            stay 0), ``{"type": "range", "lower": a, "upper": b}`` (a and b become 0 and 1, clipped), or
            ``{"type": "none"}``.

    Raises:
        ConfigError: the type is unknown.
    """
    kind = how.get("type", "none")
    if kind == "none":
        return image
    if kind == "minmax":
        low, high = float(image.min()), float(image.max())
        return (image - low) / max(high - low, 1e-12)
    if kind == "range":
        low, high = float(how["lower"]), float(how["upper"])
        return ((image - low) / max(high - low, 1e-12)).clamp_(0.0, 1.0)
    if kind in ("percentile", "center_percentile"):
        part = image if kind == "percentile" else image[central_half(image)]
        low, high = _percentiles(part, float(how.get("lower", 0.5)), float(how.get("upper", 99.5)))
        return ((image - low) / max(high - low, 1e-12)).clamp_(0.0, 1.0)
    if kind == "zscore":
        inside = image != 0
        values = image[inside].double()
        if values.numel() == 0:
            return image
        mean, deviation = float(values.mean()), float(values.std(unbiased=False))
        return torch.where(inside, (image - mean) / max(deviation, 1e-8), torch.zeros_like(image))
    raise ConfigError(
        f"there is no normalization {kind!r}; choose minmax, percentile, center_percentile, zscore, range or none."
    )


def central_half(image: torch.Tensor) -> tuple[slice, ...]:
    """The box of half the extent, along every axis, in the middle of what an image shows.

    The extent is that of the voxels brighter than the mean, without the outermost hundredth at each end, so that a
    bright voxel in the air does not count.
    """
    bright = image > image.double().mean()
    box = []
    for axis in range(image.ndim):
        others = tuple(other for other in range(image.ndim) if other != axis)
        along = bright.sum(dim=others).cumsum(0).double() if others else bright.cumsum(0).double()
        total = float(along[-1])
        first = int((along < 0.01 * total).sum())
        last = int((along < 0.99 * total).sum())
        quarter = (last - first) // 4
        box.append(slice(first + quarter, max(last - quarter, first + quarter) + 1))
    return tuple(box)


def _percentiles(image: torch.Tensor, lower: float, upper: float) -> tuple[float, float]:
    values = image[image > image.min()].flatten()
    if values.numel() == 0:
        value = float(image.min())
        return value, value + 1.0
    values = values[:: max(1, values.numel() // _MOST_SAMPLES)]
    low, high = np.percentile(values.cpu().numpy(), [lower, upper])
    return float(low), float(high)
