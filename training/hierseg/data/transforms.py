"""Random changes of a patch: mirroring that knows sides, MONAI's affine, and MONAI's intensity transforms.

All arrays of a patch (image, node values, and for HierarchicalMix the mixed image, its labels and weights) change
place together.  Node values travel through the affine as node index + 1, so that what comes in from outside the
patch is 0: unlabelled, never some node that happens to have the value 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from monai.data.meta_obj import get_track_meta, set_track_meta
from monai.transforms import (
    Compose,
    RandAdjustContrastd,
    RandAffined,
    RandGaussianNoised,
    RandGaussianSmoothd,
    RandScaleIntensityd,
    RandShiftIntensityd,
)
from nibabel.orientations import aff2axcodes

from hierseg.labeltree import LabelTree

if TYPE_CHECKING:
    from hierseg.engine.config import Augmentation


class PatchTransform:
    """Augments one patch.

    Args:
        settings: what may change and how much.
        tree: of the labels.
        spatial_dims: of the patch.
        images: keys of the patch that are intensities, ``(C, *spatial)``.
        labels: keys that are node values, ``(*spatial)``.
        weights: keys that are other maps, ``(*spatial)``, 0 outside.
    """

    def __init__(
        self,
        settings: Augmentation,
        tree: LabelTree,
        spatial_dims: int,
        *,
        images: Sequence[str] = ("image",),
        labels: Sequence[str] = ("label",),
        weights: Sequence[str] = (),
    ) -> None:
        self.settings, self.tree = settings, tree
        self.images, self.labels, self.weights = tuple(images), tuple(labels), tuple(weights)
        self._index = torch.from_numpy(tree.node_index_table + 1)
        self._value = torch.from_numpy(np.concatenate([[tree.unlabelled], tree.values]))
        self._opposite = torch.from_numpy(tree.opposite_value_table)
        self._affine = _affine(settings, spatial_dims, self.images, (*self.labels, *self.weights))
        self._intensity = _intensity(settings, self.images)

    def __call__(self, patch: Mapping[str, np.ndarray], seed: int, sides: int | None) -> dict[str, torch.Tensor]:
        """The changed patch: images float32, node values int64, weights float32.

        Args:
            patch: arrays by key; all keys of this transform.
            seed: determines the change.
            sides: the axis from one side of the body to the other (see :func:`side_axis`); None if the patch has
                none, as a sagittal slice.
        """
        moved = {
            key: torch.from_numpy(np.ascontiguousarray(patch[key], dtype=np.float32))
            for key in (*self.images, *self.weights)
        }
        moved |= {key: torch.from_numpy(np.ascontiguousarray(patch[key]).astype(np.int64)) for key in self.labels}
        rng = np.random.default_rng(seed)
        for axis in self.settings.flip_axes:
            if rng.random() < self.settings.flip_probability:
                self._flip(moved, axis, swap=axis == sides)
        was_tracking = get_track_meta()
        set_track_meta(False)  # a patch knows no place in the patient any more; carrying one along costs time
        try:
            if self._affine is not None and rng.random() < self.settings.affine_probability:
                self._turn(moved, int(rng.integers(2**31)))
            if self._intensity is not None:
                self._intensity.set_random_state(seed=int(rng.integers(2**31)))
                changed = self._intensity({key: moved[key] for key in self.images})
                moved |= {key: torch.as_tensor(changed[key]) for key in self.images}
        finally:
            set_track_meta(was_tracking)
        return moved

    def _flip(self, moved: dict[str, torch.Tensor], axis: int, *, swap: bool) -> None:
        for key in self.images:
            moved[key] = moved[key].flip(axis + 1)
        for key in (*self.labels, *self.weights):
            moved[key] = moved[key].flip(axis)
        if swap and self.tree.opposites:
            for key in self.labels:
                moved[key] = self._opposite[moved[key]]

    def _turn(self, moved: dict[str, torch.Tensor], seed: int) -> None:
        assert self._affine is not None
        content = {key: moved[key] for key in self.images}
        content |= {key: self._index[moved[key]].float()[None] for key in self.labels}
        content |= {key: moved[key][None] for key in self.weights}
        self._affine.set_random_state(seed=seed)
        turned = self._affine(content)
        for key in self.images:
            moved[key] = torch.as_tensor(turned[key])
        for key in self.labels:
            moved[key] = self._value[torch.as_tensor(turned[key])[0].round().long()]
        for key in self.weights:
            moved[key] = torch.as_tensor(turned[key])[0]


def side_axis(affine: np.ndarray, spatial_dims: int) -> int | None:
    """The array axis that runs between the left and the right side of the body; None if a 2D patch has none."""
    for axis, letter in enumerate(aff2axcodes(affine)[:spatial_dims]):
        if letter in ("L", "R"):
            return axis
    return None


def _affine(
    settings: Augmentation, spatial_dims: int, images: tuple[str, ...], maps: tuple[str, ...]
) -> RandAffined | None:
    if settings.affine_probability <= 0 or (settings.rotation == 0 and settings.scale == 0):
        return None
    angle = float(np.deg2rad(settings.rotation))
    return RandAffined(
        keys=(*images, *maps),
        prob=1.0,
        rotate_range=angle if spatial_dims == 2 else (angle,) * 3,
        scale_range=(settings.scale,) * spatial_dims,
        mode=("bilinear",) * len(images) + ("nearest",) * len(maps),
        padding_mode=("border",) * len(images) + ("zeros",) * len(maps),
    )


def _intensity(settings: Augmentation, images: tuple[str, ...]) -> Compose | None:
    chance = settings.intensity_probability
    if chance <= 0:
        return None
    steps = []
    if settings.contrast > 0:
        steps.append(
            RandAdjustContrastd(
                images, prob=chance, gamma=(max(0.1, 1.0 - settings.contrast), 1.0 + 2.0 * settings.contrast)
            )
        )
    if settings.brightness > 0:
        steps.append(RandScaleIntensityd(images, factors=settings.brightness, prob=chance))
        steps.append(RandShiftIntensityd(images, offsets=settings.brightness, prob=chance))
    if settings.blur > 0:
        steps.append(RandGaussianSmoothd(images, *((0.0, settings.blur),) * 3, prob=chance))
    if settings.noise > 0:
        steps.append(RandGaussianNoised(images, prob=chance, std=settings.noise))
    return Compose(steps) if steps else None
