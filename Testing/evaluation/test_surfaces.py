"""Surface distances: by MONAI's metrics, by SciPy's distance transform, and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance, compute_surface_dice
from scipy.ndimage import binary_erosion, distance_transform_edt, gaussian_filter

from hierseg.evaluation.surface import surface_scores

SPACING = (0.7, 1.5, 3.0)


def blob(seed: int, shape: tuple[int, ...] = (14, 12, 9)) -> np.ndarray:
    """A random structure of one or several parts."""
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=shape), 1.5)
    return np.asarray(noise > np.quantile(noise, 0.8))


@pytest.mark.parametrize("seed", range(8))
def test_monai_agrees(seed: int) -> None:
    prediction, reference = blob(seed), blob(seed + 100)
    found = surface_scores(prediction, reference, SPACING, tolerance=1.6)
    assert found is not None
    one, other = (torch.from_numpy(mask)[None, None] for mask in (prediction, reference))
    settings = {"include_background": True, "spacing": SPACING}
    assert found.hausdorff95 == pytest.approx(
        float(compute_hausdorff_distance(one, other, percentile=95, **settings)), rel=1e-5
    )
    assert found.mean_distance == pytest.approx(
        float(compute_average_surface_distance(one, other, symmetric=True, **settings)), rel=1e-5
    )
    assert found.surface_dice == pytest.approx(float(compute_surface_dice(one, other, [1.6], **settings)), rel=1e-5)


@pytest.mark.parametrize("seed", range(8))
def test_scipy_s_distance_transform_agrees(seed: int) -> None:
    prediction, reference = blob(seed), blob(seed + 50)
    found = surface_scores(prediction, reference, SPACING, tolerance=2.0)
    assert found is not None
    edges = [np.pad(mask, 1) ^ binary_erosion(np.pad(mask, 1)) for mask in (prediction, reference)]
    fields = [distance_transform_edt(~edge, sampling=SPACING) for edge in edges]
    there, back = fields[1][edges[0]], fields[0][edges[1]]
    both = np.concatenate([there, back])
    assert found.hausdorff95 == pytest.approx(max(np.percentile(there, 95), np.percentile(back, 95)), rel=1e-5)
    assert found.mean_distance == pytest.approx(both.mean(), rel=1e-5)
    assert found.surface_dice == pytest.approx((both <= 2.0).mean(), abs=1e-6)


def test_two_voxels_by_hand() -> None:
    prediction, reference = np.zeros((9, 9, 9), bool), np.zeros((9, 9, 9), bool)
    prediction[2, 4, 1], reference[2, 4, 4] = True, True
    found = surface_scores(prediction, reference, SPACING, tolerance=8.9)
    assert found is not None
    assert (found.hausdorff95, found.mean_distance, found.surface_dice) == (9.0, 9.0, 0.0)
    found = surface_scores(prediction, reference, SPACING, tolerance=9.0)
    assert found is not None
    assert found.surface_dice == 1.0


def test_a_structure_moved_by_one_voxel() -> None:
    """A cube of 3 voxels moved along z: of its 26 surface voxels the lower face comes to lie in the old hollow."""
    prediction, reference = np.zeros((9, 9, 9), bool), np.zeros((9, 9, 9), bool)
    reference[3:6, 3:6, 3:6], prediction[3:6, 3:6, 4:7] = True, True
    found = surface_scores(prediction, reference, (1.0, 1.0, 1.0), tolerance=0.5)
    assert found is not None
    # Far from each other's surface, either way: the outer face of 9 voxels, and the one over the other's center.
    assert found.mean_distance == pytest.approx(20 / 52)
    assert found.surface_dice == pytest.approx(32 / 52)
    assert found.hausdorff95 == 1.0


@pytest.mark.parametrize(("one", "other"), [(True, False), (False, True), (False, False)])
def test_empty_structures_have_no_distance(one: bool, other: bool) -> None:
    full = np.ones((3, 3, 3), bool)
    assert surface_scores(full & one, full & other, (1, 1, 1), 1.0) is None


def test_equal_structures_in_a_single_slice() -> None:
    flat = blob(1, (20, 20, 1))
    found = surface_scores(flat, flat, SPACING, 0.0)
    assert found is not None
    assert (found.hausdorff95, found.mean_distance, found.surface_dice) == (0.0, 0.0, 1.0)
