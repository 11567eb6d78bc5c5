"""Surface distances: by MONAI's metrics, by SciPy's distance transform, and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.metrics import (
    compute_average_surface_distance,
    compute_dice,
    compute_hausdorff_distance,
    compute_surface_dice,
)
from scipy.ndimage import binary_erosion, distance_transform_edt, gaussian_filter

from engine.blobs import TREE
from hierseg.evaluation.case_scores import score_case
from hierseg.evaluation.surface import surface_scores

SPACING = (0.7, 1.5, 3.0)


def blob(seed: int, shape: tuple[int, ...] = (14, 12, 9)) -> np.ndarray:
    """A random structure of one or several parts."""
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=shape), 1.5)
    return np.asarray(noise > np.quantile(noise, 0.8))


SHAPES = st.tuples(st.integers(4, 14), st.integers(4, 12), st.integers(1, 9))
SPACINGS = st.tuples(*(st.sampled_from([0.5, 0.7, 1.0, 1.6, 3.0, 5.0]),) * 3)


@settings(max_examples=25, deadline=None)
@given(SHAPES, SPACINGS, st.integers(0, 10_000), st.integers(0, 10_000))
def test_monai_agrees(shape: tuple[int, ...], spacing: tuple[float, ...], one_seed: int, other_seed: int) -> None:
    prediction, reference = blob(one_seed, shape), blob(other_seed, shape)
    found = surface_scores(prediction, reference, spacing, tolerance=1.65)
    assert found is not None
    one, other = (torch.from_numpy(mask)[None, None] for mask in (prediction, reference))
    given_to = {"include_background": True, "spacing": spacing}
    assert found.hausdorff95 == pytest.approx(
        float(compute_hausdorff_distance(one, other, percentile=95, **given_to)), rel=1e-5, abs=1e-6
    )
    assert found.mean_distance == pytest.approx(
        float(compute_average_surface_distance(one, other, symmetric=True, **given_to)), rel=1e-5, abs=1e-6
    )
    assert found.surface_dice == pytest.approx(float(compute_surface_dice(one, other, [1.65], **given_to)), rel=1e-5)


@settings(max_examples=40, deadline=None)
@given(SHAPES, SPACINGS, st.integers(0, 10_000), st.integers(0, 10_000))
def test_scipy_s_distance_transform_agrees(
    shape: tuple[int, ...], spacing: tuple[float, ...], one_seed: int, other_seed: int
) -> None:
    prediction, reference = blob(one_seed, shape), blob(other_seed, shape)
    found = surface_scores(prediction, reference, spacing, tolerance=2.05)
    assert found is not None
    edges = [np.pad(mask, 1) ^ binary_erosion(np.pad(mask, 1)) for mask in (prediction, reference)]
    fields = [distance_transform_edt(~edge, sampling=spacing) for edge in edges]
    there, back = fields[1][edges[0]], fields[0][edges[1]]
    both = np.concatenate([there, back])
    assert found.hausdorff95 == pytest.approx(
        max(np.percentile(there, 95), np.percentile(back, 95)), rel=1e-5, abs=1e-6
    )
    assert found.mean_distance == pytest.approx(both.mean(), rel=1e-5, abs=1e-6)
    assert found.surface_dice == pytest.approx((both <= 2.05).mean(), abs=1e-6)


@settings(max_examples=25, deadline=None)
@given(SHAPES, SPACINGS, st.integers(0, 10_000))
def test_the_scores_of_a_case_are_monai_s(shape: tuple[int, ...], spacing: tuple[float, ...], seed: int) -> None:
    """Whole label maps through the tree: every node's Dice and distances are those of its own mask."""
    rng = np.random.default_rng(seed)
    maps = [rng.choice([0, 1, 2], shape, p=[0.6, 0.2, 0.2]).astype(np.uint8) for _ in range(2)]
    found = score_case(*maps, TREE, spacing)
    for node, values in {"background": [0], "tumor": [1, 2], "core": [1], "edema": [2]}.items():
        masks = [np.isin(one, values) for one in maps]
        one, other = (torch.from_numpy(mask)[None, None] for mask in masks)
        scores = found.nodes[node]
        if not masks[1].any():
            assert scores.dice is None
            continue
        assert scores.dice == pytest.approx(float(compute_dice(one, other)), rel=1e-6)
        if masks[0].any():
            distance = compute_hausdorff_distance(one, other, include_background=True, percentile=95, spacing=spacing)
            assert scores.hausdorff95 == pytest.approx(float(distance), rel=1e-5, abs=1e-6)


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
