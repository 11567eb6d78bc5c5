"""What is predicted: images, label trees and networks of the benchmark, all made from a seed.

Images are bodies in air: smooth random intensities inside an ellipsoid, nothing outside; in one case the structures fill
a small part of the body, and the rest is dim background.  Networks are random, but
their heads are calibrated on one tile (:func:`calibrate`), so that they are sure of air, sure of most other voxels, and
every leaf wins somewhere: label maps of two programs can then be compared, and no class is absent, which would spare
the engine its resampling.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from hierseg.data.preprocess import Preprocessor
from hierseg.imageio import Volume
from hierseg.inference.benchmark import random_tree
from hierseg.networks import HierarchicalSegmenter

_BODY = 0.9
"""How far a body reaches from the middle, as a share of half the image's edges."""
_DIM, _BRIGHT, _WHITE = 100, 400, 1000
"""Intensities: of background inside a body, between it and the structures, and of the brightest."""
OVERLAP = 0.25
"""MONAI's default, so every row has this many tiles; nnU-Net's step is then 0.75 of a tile."""


@dataclass(frozen=True)
class Case:
    """An image, a network and how often they are timed.

    Attributes:
        name: of the case; anything for a point of a curve.
        title: for tables.
        shape: of the image, ``(x, y, z)``.
        spacing: of the image, mm.
        grid: spacing of the network's grid, mm; the same as ``spacing`` where nothing is resampled.
        leaves: of the label tree.
        channels: of the image.
        patch: a tile's edges, two for a 2D network.
        repeats: timed runs in one process.
        default: part of the set that is run without ``--full``.
        without: rows that are left out.
        reach: of the structures, from the middle, as a share of half the image's edges.
    """

    name: str
    title: str
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    grid: tuple[float, float, float]
    leaves: int
    channels: int = 1
    patch: tuple[int, ...] = (96, 96, 96)
    repeats: int = 1
    default: bool = False
    without: tuple[str, ...] = ()
    reach: float = _BODY

    @property
    def dims(self) -> int:
        """Spatial dimensions of the network."""
        return len(self.patch)

    @property
    def voxels(self) -> int:
        """Of the image."""
        return int(np.prod(self.shape))

    @property
    def resamples(self) -> bool:
        """Whether the network's grid is another one than the image's."""
        return self.grid != self.spacing

    def affine(self) -> np.ndarray:
        """Left-handed, as many NIfTI files are: what comes back has to be flipped."""
        return np.diag([-self.spacing[0], self.spacing[1], self.spacing[2], 1.0])

    def config(self) -> dict[str, Any]:
        """What a bundle's ``hierseg.json`` would say."""
        norm = {"type": "range", "lower": 0, "upper": _WHITE}
        return {
            "channels": [{"name": f"channel {index}", "normalization": norm} for index in range(self.channels)],
            "orientation": "RAS",
            "spacing": list(self.grid),
            "patch_size": list(self.patch),
            "overlap": OVERLAP,
            "spatial_dims": self.dims,
        }

    def network_grid(self) -> tuple[int, int, int]:
        """Shape of the image as the network sees it."""
        shape, _affine = Preprocessor(self.config()).grid(self.shape, self.affine())
        return shape

    def tiles(self) -> int:
        """How many tiles every row computes: as few as the overlap allows, along each axis."""
        grid, step = self.network_grid(), 1 - OVERLAP
        along = [
            1 + max(0, math.ceil((size - edge) / (step * edge))) for size, edge in zip(grid, self.patch, strict=False)
        ]
        return math.prod(along) * (grid[2] if self.dims == 2 else 1)

    def to_json(self) -> dict[str, Any]:
        """For another process."""
        return asdict(self)

    @staticmethod
    def from_json(data: dict[str, Any]) -> Case:
        """The inverse of :meth:`to_json`."""
        return Case(**{key: tuple(value) if isinstance(value, list) else value for key, value in data.items()})


def cube(name: str, edge: int, leaves: int, **more: Any) -> Case:
    """A cube of 1 mm voxels that is not resampled."""
    one = (1.0, 1.0, 1.0)
    return Case(name, f"brain {edge}³, {leaves} leaves", (edge, edge, edge), one, one, leaves, **more)


_ACDC = (1.5, 1.5, 10.0)
_CT = {"shape": (512, 512, 400), "spacing": (0.8, 0.8, 1.0), "grid": (1.5, 1.5, 1.5)}
# Where the better settings run out of memory, the usual ones do before them.
_USUAL = ("monai", "nnunet")
CASES: dict[str, Case] = {
    case.name: case
    for case in (
        Case(
            "cardiac-2d", "cardiac stack 216 × 256 × 10, 2D, 4 leaves", (216, 256, 10), _ACDC, _ACDC, 4,
            patch=(192, 192), default=True,
        ),
        cube("brain-160", 160, 61, default=True),
        cube("brain-208", 208, 61),
        cube("brain-256", 256, 61),
        cube("brain-304", 304, 61, without=("nnunet", "openvino", "skipping")),
        replace(cube("part-256", 256, 61, reach=0.33), title="brain 256³, 61 leaves, structures in the middle third"),
        Case(
            "brats", "BraTS-size 4 × 240 × 240 × 155, 4 leaves", (240, 240, 155), (1.0,) * 3, (1.0,) * 3, 4, channels=4,
        ),
        Case("ct-61", "CT 512 × 512 × 400, 61 leaves", leaves=61, without=_USUAL, **_CT),
        Case("ct-117", "CT 512 × 512 × 400, 117 leaves", leaves=117, without=_USUAL, **_CT),
    )
}  # fmt: skip
TINY = cube("tiny", 48, 9, patch=(32, 32, 32))
"""To see whether the benchmark works at all."""


def image(case: Case, seed: int, channel: int = 0) -> Volume:
    """One channel of a case's image, int16, made plane by plane: large ones need no more memory than themselves."""
    rng = np.random.default_rng([seed, channel])
    knots = rng.random((8, 8, 8))
    along = [_linear(size, 8) for size in case.shape]
    places = [np.linspace(-1, 1, size) if size > 1 else np.zeros(1) for size in case.shape]
    distance = places[0][:, None] ** 2 + places[1][None] ** 2
    result = np.empty(case.shape, np.int16)
    # A stack of few thick slices has no air above and below.
    flat = case.shape[2] < 32
    for index in range(case.shape[2]):
        smooth = along[0] @ np.tensordot(knots, along[2][index], axes=(2, 0)) @ along[1].T
        value = 500 + 500 * smooth + rng.normal(0, 5, smooth.shape)
        away = np.sqrt(distance + (0.0 if flat else places[2][index] ** 2))
        value = np.where(away < case.reach, value, _DIM + rng.normal(0, 5, smooth.shape))
        result[:, :, index] = np.where(away < max(_BODY, case.reach), value, 0)
    return Volume(result, case.affine())


def _linear(size: int, knots: int) -> np.ndarray:
    """Weights ``(size, knots)`` of linear interpolation between evenly spread knots."""
    at = np.linspace(0, knots - 1, size) if size > 1 else np.array([(knots - 1) / 2])
    return np.maximum(0.0, 1.0 - np.abs(at[:, None] - np.arange(knots)[None]))


def network(case: Case, seed: int) -> HierarchicalSegmenter:
    """The case's network with random weights, not yet calibrated: ``unet``, width 16 in 3D and 32 in 2D."""
    torch.manual_seed(seed)
    return HierarchicalSegmenter(random_tree(case.leaves), case.channels, case.dims).eval()


_SURE, _SURE_OF_LEAF, _SURE_OF_AIR = 12.0, 4.0, 40.0
"""Standard deviations of the logits after calibration."""
_COARSE = 0.05


def calibrate(model: HierarchicalSegmenter, tile: torch.Tensor) -> None:
    """Give a random network the statistics and the heads of one that has learned something.

    Coarse features count little beside fine ones, so that a voxel looks nearly the same from two tiles.  Batch
    normalization takes the tile's statistics.  Over the tile's structures each superclass's logit gets mean 0 and
    deviation 12; a leaf's, that logit plus something of deviation 4, so that the two heads agree as they do after
    training; the background's is fitted by least squares to +40 around them and −40 in them.

    Args:
        model: changed in place.
        tile: ``(1, C, *spatial)``, with structures and with background, which is darker.
    """
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    body = structures(tile)
    hooks = []
    with torch.no_grad():
        # The last joining of levels sees the skip connection's channels first, then those from below.
        last = model.trunk.body.upcat_1.convs.conv_0.conv.weight
        last[:, last.shape[0] :] *= _COARSE
        model.train()
        model(tile)
        model.eval()
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for superclass, leaf in zip(model.heads.superclass, model.heads.leaf, strict=True):
            fit = _fit_air if isinstance(leaf, nn.Identity) else _spread_superclass
            hooks.append(superclass.register_forward_hook(_adjusting(fit, body)))
            if not isinstance(leaf, nn.Identity):
                hooks.append(leaf.register_forward_hook(_adjusting(_spread_leaves, body)))
        model(tile)
    for hook in hooks:
        hook.remove()


def structures(tile: torch.Tensor) -> torch.Tensor:
    """Bool ``(*spatial)``: where a tile ``(1, C, *spatial)`` shows structures."""
    return tile[0].amax(dim=0) > _BRIGHT / _WHITE


_Fit = Callable[[nn.Module, torch.Tensor, torch.Tensor], None]


def _adjusting(fit: _Fit, body: torch.Tensor) -> Callable[..., torch.Tensor]:
    """A hook that changes a 1×1 convolution once its input ``(1, C, *spatial)`` is known, and applies it again."""

    def hook(module: nn.Module, inputs: tuple[torch.Tensor, ...], _output: torch.Tensor) -> torch.Tensor:
        fit(module, inputs[0][0], body)
        return module.forward(inputs[0])

    return hook


def _spread_superclass(module: nn.Module, features: torch.Tensor, body: torch.Tensor) -> None:
    _standardize(module, features[:, body], _SURE)


def _spread_leaves(module: nn.Module, features: torch.Tensor, body: torch.Tensor) -> None:
    # The last channel is the superclass's logit (prior concatenation).
    module.weight[:, -1] = 0.0
    _standardize(module, features[:, body], _SURE_OF_LEAF)
    module.weight[:, -1] = 1.0


def _standardize(module: nn.Module, values: torch.Tensor, deviation: float) -> None:
    outputs = module.weight.flatten(1) @ values
    scale = deviation / outputs.std(dim=1).clamp_min(1e-6)
    module.bias.copy_(-outputs.mean(dim=1) * scale)
    module.weight.mul_(scale.reshape(-1, *[1] * (module.weight.ndim - 1)))


def _fit_air(module: nn.Module, features: torch.Tensor, body: torch.Tensor) -> None:
    values = features.flatten(1).T.double()
    design = torch.cat([values, torch.ones(len(values), 1, dtype=torch.float64)], dim=1)
    wanted = torch.where(body.flatten(), -_SURE_OF_AIR, _SURE_OF_AIR).double()
    square = design.T @ design + 1e-6 * len(values) * torch.eye(design.shape[1], dtype=torch.float64)
    solution = torch.linalg.solve(square, design.T @ wanted)
    module.weight.copy_(solution[:-1].reshape(module.weight.shape))
    module.bias.copy_(solution[-1:])


def calibration_tile(case: Case, volumes: list[Volume]) -> torch.Tensor:
    """A tile with both structures and background: ``(1, C, *patch)``, around the structures' far end along x."""
    axes = range(case.dims)
    middle = [0.5 * (1 + case.reach) if axis == 0 else 0.5 for axis in range(3)]
    edges = [
        int(np.ceil(case.patch[axis] * case.grid[axis] / case.spacing[axis])) if axis in axes else 1
        for axis in range(3)
    ]
    starts = [
        int(np.clip(round(share * size - edge / 2), 0, max(0, size - edge)))
        for share, size, edge in zip(middle, case.shape, edges, strict=True)
    ]
    place = tuple(slice(start, start + edge) for start, edge in zip(starts, edges, strict=True))
    # A single slice would leave a 2D network's preparation without a thickest axis.
    place = place if case.dims == 3 else (*place[:2], slice(starts[2], starts[2] + 2))
    cut = [Volume(np.ascontiguousarray(volume.array[place]), volume.affine) for volume in volumes]
    array = Preprocessor(case.config()).image(cut).array
    array = array[..., 0] if case.dims == 2 else array
    array = array[(slice(None), *(slice(0, edge) for edge in case.patch))]
    missing = [(0, edge - size) for edge, size in zip(case.patch, array.shape[1:], strict=True)]
    return torch.from_numpy(np.pad(array, [(0, 0), *missing]))[None]


def files(case: Case, folder: Path) -> list[Path]:
    """Where a case's channels lie."""
    return [folder / f"{case.name}_{index}.nii" for index in range(case.channels)]
