"""Distances between the surfaces of two structures, in millimeters.

The surface of a structure is its voxels that touch one outside of it through a face, as MONAI defines it
(``monai.metrics.utils.get_edge_surface_distance``, which is used here, once for all three numbers).  With d(a) the
distance of a surface voxel of one structure from the nearest one of the other, over both directions:

* ``hausdorff95``: the 95th percentile of d, of the direction in which it is larger;
* ``mean_distance``: the mean of d over all voxels of both surfaces (average symmetric surface distance);
* ``surface_dice``: the share of all voxels of both surfaces with d not above the tolerance (normalized surface Dice,
  Nikolov et al., arXiv 1809.04430, counting voxels instead of areas).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class SurfaceScores:
    """How far two surfaces are apart.

    Attributes:
        hausdorff95: mm.
        mean_distance: mm.
        surface_dice: 0 to 1.
    """

    hausdorff95: float
    mean_distance: float
    surface_dice: float


def surface_scores(
    prediction: np.ndarray, reference: np.ndarray, spacing: Sequence[float], tolerance: float
) -> SurfaceScores | None:
    """Compare two structures.

    Args:
        prediction: bool, ``(x, y, z)``.
        reference: the same shape.
        spacing: mm a voxel along each axis.
        tolerance: mm within which surfaces count as the same.

    Returns:
        The scores; None if one of the two is empty, between which there is no distance.
    """
    import torch
    from monai.metrics.utils import get_edge_surface_distance

    if not prediction.any() or not reference.any():
        return None
    box = _box(prediction | reference)
    with warnings.catch_warnings():
        # MONAI warns of a deprecated argument that MONAI itself passes.
        warnings.simplefilter("ignore", FutureWarning)
        _, distances, _ = get_edge_surface_distance(
            torch.from_numpy(np.ascontiguousarray(prediction[box])),
            torch.from_numpy(np.ascontiguousarray(reference[box])),
            spacing=[float(edge) for edge in spacing],
            symmetric=True,
            warn_empty=False,
        )
    there, back = (np.asarray(one, dtype=np.float64) for one in distances)
    both = np.concatenate([there, back])
    return SurfaceScores(
        hausdorff95=float(max(np.percentile(there, 95), np.percentile(back, 95))),
        mean_distance=float(both.mean()),
        surface_dice=float((both <= tolerance).mean()),
    )


def _box(mask: np.ndarray) -> tuple[slice, ...]:
    """The smallest box around what is True: MONAI is given no more than that."""
    found = []
    for axis in range(mask.ndim):
        along = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        found.append(slice(int(along[0]), int(along[-1]) + 1))
    return tuple(found)
