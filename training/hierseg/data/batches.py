"""Batches: patches cut, mixed and augmented, as a map from the iteration to its batch."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from hierseg.data.caching import CaseCache
from hierseg.data.cases import TrainingCase
from hierseg.data.sampling import COARSE, Draw, TwoStreamSampler, crop, window
from hierseg.data.transforms import PatchTransform, side_axis
from hierseg.labeltree import LabelTree
from hierseg.mix.boxes import Box, mixed_patch, superclass_boxes

if TYPE_CHECKING:
    from hierseg.engine.config import TrainConfig


@dataclass(frozen=True)
class Batch:
    """What a training step gets.

    Attributes:
        iteration: counted from 0.
        cases: the id of each row's case.
        image: float32 ``(B, C, *spatial)``.
        label: node values, int64 ``(B, *spatial)``.
        rows: the coarse rows that have a mixed counterpart, int64 ``(M,)``.
        mixed_image: float32 ``(M, C, *spatial)``.
        mixed_label: node values of the partner where it was blended in, unlabelled elsewhere, ``(M, *spatial)``.
        mixed_weight: how much of the partner each voxel of the mixed image is, ``(M, *spatial)``.
        coarse: the rows cut around coarse voxels, int64; those of the others are fine.
    """

    iteration: int
    cases: tuple[str, ...]
    image: torch.Tensor
    label: torch.Tensor
    rows: torch.Tensor
    mixed_image: torch.Tensor
    mixed_label: torch.Tensor
    mixed_weight: torch.Tensor
    coarse: torch.Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.long))

    def to(self, device: torch.device) -> Batch:
        """The batch on a device."""
        names = ("image", "label", "rows", "mixed_image", "mixed_label", "mixed_weight", "coarse")
        return replace(self, **{name: getattr(self, name).to(device, non_blocking=True) for name in names})

    def split(self, parts: int) -> list[Batch]:
        """The same patches in smaller batches; fine and coarse ones are dealt out in turn.

        Args:
            parts: how many; at most one a patch.
        """
        size = len(self.cases)
        parts = min(parts, size)
        return [self] if parts == 1 else [self._only(list(range(part, size, parts))) for part in range(parts)]

    def _only(self, kept: list[int]) -> Batch:
        place = {row: index for index, row in enumerate(kept)}
        mixed = [number for number, row in enumerate(self.rows.tolist()) if row in place]

        def renumbered(rows: torch.Tensor) -> torch.Tensor:
            return rows.new_tensor([place[row] for row in rows.tolist() if row in place])

        return Batch(
            iteration=self.iteration,
            cases=tuple(self.cases[row] for row in kept),
            image=self.image[kept],
            label=self.label[kept],
            rows=renumbered(self.rows),
            mixed_image=self.mixed_image[mixed],
            mixed_label=self.mixed_label[mixed],
            mixed_weight=self.mixed_weight[mixed],
            coarse=renumbered(self.coarse),
        )


class Batches(Dataset[Batch]):
    """``batches[iteration]`` is that iteration's batch, always the same one.

    Args:
        cache: the training cases.
        sampler: which patches an iteration sees.
        config: patch size and augmentation.
        tree: of the labels.
    """

    def __init__(self, cache: CaseCache, sampler: TwoStreamSampler, config: TrainConfig, tree: LabelTree) -> None:
        self.cache, self.sampler, self.config, self.tree = cache, sampler, config, tree
        dims = config.spatial_dims
        self._mixing = config.method == "ess" and config.mix.mode != "off" and config.losses.mix > 0
        self._known_boxes: dict[int, dict[str, Box]] = {}
        self._plain = PatchTransform(config.augmentation, tree, dims)
        self._mixed = PatchTransform(
            config.augmentation,
            tree,
            dims,
            images=("image", "mixed_image"),
            labels=("label", "mixed_label"),
            weights=("mixed_weight",),
        )

    def __len__(self) -> int:
        return self.config.iterations

    def __getitem__(self, iteration: int) -> Batch:
        draws = self.sampler.draws(iteration)
        patches = [self._patch(draw) for draw in draws]
        rows = [row for row, patch in enumerate(patches) if "mixed_image" in patch]
        size = self.config.patch_size
        channels = patches[0]["image"].shape[0]

        def stack(key: str, empty: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
            found = [patches[row][key] for row in rows]
            return torch.stack(found) if found else torch.zeros(empty, dtype=dtype)

        return Batch(
            iteration=iteration,
            cases=tuple(self.cache.cases[draw.case].id for draw in draws),
            image=torch.stack([patch["image"] for patch in patches]),
            label=torch.stack([patch["label"] for patch in patches]),
            rows=torch.tensor(rows, dtype=torch.long),
            mixed_image=stack("mixed_image", (0, channels, *size), torch.float32),
            mixed_label=stack("mixed_label", (0, *size), torch.int64),
            mixed_weight=stack("mixed_weight", (0, *size), torch.float32),
            coarse=torch.tensor([row for row, draw in enumerate(draws) if draw.stream == COARSE], dtype=torch.long),
        )

    def _patch(self, draw: Draw) -> dict[str, torch.Tensor]:
        case = self.cache[draw.case]
        dims, size = self.config.spatial_dims, self.config.patch_size
        image, label = _slice(case, draw.center, dims)
        start = window(draw.center[:dims], size, label.shape)
        patch = {
            "image": crop(image, start, size, _floor(image, start)),
            "label": crop(label, start, size, self.tree.unlabelled),
        }
        sides = side_axis(case.affine, dims)
        if draw.partner is None or draw.partner_center is None or not self._mixing:
            return self._plain(patch, draw.seed, sides)
        return self._mixed(patch | self._mix(draw, image, label, start), draw.seed, sides)

    def _mix(self, draw: Draw, image: np.ndarray, label: np.ndarray, start: tuple[int, ...]) -> dict[str, np.ndarray]:
        """The same patch of the case with its partner mixed in (paper A, section 2.3)."""
        assert draw.partner is not None
        assert draw.partner_center is not None
        config, dims, size = self.config, self.config.spatial_dims, self.config.patch_size
        partner_image, partner_label = _slice(self.cache[draw.partner], draw.partner_center, dims)
        # What of the window lies in the image; the rest is padding.
        bounds = tuple(
            (max(begin, 0), min(begin + edge, length))
            for begin, edge, length in zip(start, size, label.shape, strict=True)
        )
        alpha = float(np.random.default_rng([draw.seed, 1]).uniform(config.mix.alpha_low, config.mix.alpha_high))
        found = mixed_patch(
            image,
            label,
            partner_image,
            partner_label,
            self.tree,
            alpha,
            bounds,
            boxes=self._boxes(draw.case) if dims == 3 else None,
            partner_boxes=self._boxes(draw.partner) if dims == 3 else None,
        )
        inside = tuple(begin - low for begin, (low, _) in zip(start, bounds, strict=True))
        return {
            "mixed_image": crop(found.image, inside, size, _floor(image, start)),
            "mixed_label": crop(found.label, inside, size, self.tree.unlabelled),
            "mixed_weight": crop(found.weight, inside, size, 0.0),
        }

    def _boxes(self, position: int) -> dict[str, Box]:
        if position not in self._known_boxes:
            self._known_boxes[position] = superclass_boxes(self.cache[position].label, self.tree)
        return self._known_boxes[position]


def _slice(case: TrainingCase, center: tuple[int, int, int], spatial_dims: int) -> tuple[np.ndarray, np.ndarray]:
    """Image and label of the whole case in 3D, of the center's slice in 2D."""
    if spatial_dims == 3:
        return case.image, case.label
    return case.image[..., center[2]], case.label[..., center[2]]


def _floor(image: np.ndarray, start: tuple[int, ...]) -> float | np.ndarray:
    """What a patch is padded with where the image is smaller: each channel's minimum, as in inference."""
    if min(start) >= 0:
        return 0.0
    minimum: np.ndarray = image.min(axis=tuple(range(1, image.ndim)), keepdims=True)
    return minimum


def _prepare_worker(number: int) -> None:
    """Ctrl-C reaches all processes of a terminal: the training decides when to end, and then ends its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def iterate(batches: Batches, start: int) -> Iterator[Batch]:
    """The batches from iteration ``start`` on, prepared by ``num_workers`` processes (0: in this one)."""
    workers = batches.config.num_workers
    loader = DataLoader(
        batches,
        batch_size=None,
        sampler=range(start, batches.config.iterations),
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        worker_init_fn=_prepare_worker,
    )
    yield from loader
