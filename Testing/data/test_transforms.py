"""Augmentation: everything of a patch moves together, sides are swapped, and what comes in from outside is unlabelled."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hierseg.data.transforms import PatchTransform, side_axis
from hierseg.engine.config import Augmentation
from hierseg.labeltree import LabelTree

SIDED = LabelTree.from_dict(
    {
        "format_version": 1,
        "name": "sided",
        "unlabelled": 255,
        "nodes": [
            {"name": "background", "value": 0},
            {"name": "kidney", "value": 9},
            {"name": "left kidney", "parent": "kidney", "value": 3, "opposite": "right kidney"},
            {"name": "right kidney", "parent": "kidney", "value": 7, "opposite": "left kidney"},
        ],
    }
)
STILL = Augmentation(flip_axes=(), affine_probability=0, intensity_probability=0)
VALUES = np.array([0, 9, 3, 7, 255], np.uint8)


def patch(seed: int = 0, shape: tuple[int, ...] = (12, 10, 8)) -> dict[str, np.ndarray]:
    label = np.random.default_rng(seed).choice(VALUES, size=shape)
    return {"image": label[None].astype(np.float32) / 255, "label": label}


def test_nothing_switched_on_changes_nothing() -> None:
    given = patch()
    found = PatchTransform(STILL, SIDED, 3)(given, seed=1, sides=0)
    assert found["label"].dtype == torch.int64
    assert found["image"].dtype == torch.float32
    assert np.array_equal(found["label"].numpy(), given["label"])
    assert np.array_equal(found["image"].numpy(), given["image"])


def test_mirroring_across_the_sides_swaps_opposites_and_other_mirroring_does_not() -> None:
    given = patch()
    swapped = given["label"].copy()
    swapped[given["label"] == 3], swapped[given["label"] == 7] = 7, 3
    for axis, sides, expected in [
        (0, 0, swapped[::-1]),
        (0, 1, given["label"][::-1]),
        (1, 0, given["label"][:, ::-1]),
        (2, 2, swapped[..., ::-1]),
    ]:
        transform = PatchTransform(
            Augmentation(flip_axes=(axis,), flip_probability=1, affine_probability=0, intensity_probability=0), SIDED, 3
        )
        found = transform(given, seed=1, sides=sides)
        assert np.array_equal(found["label"].numpy(), expected)
        assert np.array_equal(found["image"].numpy()[0], np.flip(given["image"][0], axis))


@pytest.mark.parametrize("dims", [2, 3])
def test_an_affine_moves_all_arrays_alike_and_fills_with_unlabelled(dims: int) -> None:
    settings = Augmentation(flip_axes=(), affine_probability=1, rotation=40, scale=0.3, intensity_probability=0)
    transform = PatchTransform(
        settings,
        SIDED,
        dims,
        images=("image", "mixed_image"),
        labels=("label", "mixed_label"),
        weights=("mixed_weight",),
    )
    label = np.zeros((32, 24, 16)[:dims], np.uint8)
    label[(slice(8, 20),) * dims] = 3
    image = (label == 3)[None].astype(np.float32)
    given = {"image": image, "mixed_image": image * 2, "label": label, "mixed_label": label, "mixed_weight": image[0]}
    filled = 0
    for seed in range(6):
        found = transform(given, seed=seed, sides=0)
        assert torch.equal(found["label"], found["mixed_label"])
        assert torch.allclose(found["image"] * 2, found["mixed_image"])
        inside = found["label"] == 3
        assert not torch.equal(inside, torch.from_numpy(label == 3))
        # Node values are never blended, and follow the image's edge to within the voxel where it is blurred.
        assert set(found["label"].unique().tolist()) <= {0, 3, 255}
        assert (found["image"][0][inside] >= 0.5**dims - 0.01).all()
        assert torch.equal(found["mixed_weight"] > 0, inside)
        filled += int((found["label"] == 255).sum())
    assert filled > 0


def test_the_same_seed_gives_the_same_patch_and_another_seed_another() -> None:
    transform = PatchTransform(Augmentation(), SIDED, 3)
    given = patch()
    outcomes = [transform(given, seed=seed, sides=0) for seed in (5, 6, 5)]
    assert torch.equal(outcomes[0]["image"], outcomes[2]["image"])
    assert torch.equal(outcomes[0]["label"], outcomes[2]["label"])
    assert not torch.equal(outcomes[0]["image"], outcomes[1]["image"])


def test_intensities_change_and_labels_do_not() -> None:
    transform = PatchTransform(Augmentation(flip_axes=(), affine_probability=0, intensity_probability=1), SIDED, 3)
    given = patch()
    found = transform(given, seed=3, sides=0)
    assert np.array_equal(found["label"].numpy(), given["label"])
    assert not np.allclose(found["image"].numpy(), given["image"])
    assert torch.isfinite(found["image"]).all()


def test_the_side_axis_follows_the_affine() -> None:
    assert side_axis(np.eye(4), 3) == 0
    assert side_axis(np.eye(4)[:, [2, 1, 0, 3]], 3) == 2
    assert side_axis(np.eye(4)[:, [2, 1, 0, 3]], 2) is None
