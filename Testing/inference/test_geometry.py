"""What is marked comes back at the same physical place, whatever the file's axes, spacing, orientation or format."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from hierseg.data.preprocess import Preprocessor
from hierseg.imageio import Volume, read_volume, write_volume
from hierseg.inference import Predictor
from standins.grids import grids, least_voxels, marked_box
from standins.known_network import Threshold, brain_tree

TREE = brain_tree()
CONFIG: dict[str, Any] = {
    "channels": [{"name": "MRI", "normalization": {"type": "none"}}],
    "orientation": "RAS",
    "spacing": None,
    "patch_size": [32, 32, 32],
    "overlap": 0.5,
    "spatial_dims": 3,
}


def extent(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First and last index of the set voxels along each axis."""
    voxels = np.argwhere(mask)
    assert len(voxels), "nothing came back"
    return voxels.min(axis=0), voxels.max(axis=0)


@given(
    st.data(),
    grids(),
    st.sampled_from(["nii.gz", "nii", "nrrd", "mha"]),
    st.sampled_from([None, 1.0, 2.0]),
    st.sampled_from(["RAS", "LPS", "PIR"]),
)
def test_marked_box_comes_back_within_half_a_voxel(
    data: Any, grid: Any, ending: str, spacing: float | None, orientation: str
) -> None:
    shape, affine = grid
    box = marked_box(data.draw, shape, [least_voxels(step, spacing) for step in np.linalg.norm(affine[:3, :3], axis=0)])
    image = np.zeros(shape, np.float32)
    image[box] = 1.0
    assume(image.min() < image.max())  # a constant image is refused
    config = {**CONFIG, "orientation": orientation, "spacing": None if spacing is None else [spacing] * 3}
    with tempfile.TemporaryDirectory() as folder:
        write_volume(Path(folder) / f"image.{ending}", image, affine)
        volume = read_volume(Path(folder) / f"image.{ending}")
        prediction = Predictor(Threshold(TREE), config, device="cpu").predict([volume])
        write_volume(Path(folder) / f"labels.{ending}", prediction.labels, prediction.affine)
        written = read_volume(Path(folder) / f"labels.{ending}")
    assert written.array.shape == shape
    np.testing.assert_allclose(written.affine, affine, atol=2e-5)  # NIfTI keeps 24 bits of each number
    np.testing.assert_allclose(written.affine, volume.affine, atol=1e-6)
    low, high = extent(written.array == TREE.node("core").value)
    # Indices are whole: within half a voxel means the same voxel.
    assert low.tolist() == [part.start for part in box]
    assert high.tolist() == [part.stop - 1 for part in box]


@given(grids(), st.booleans())
def test_two_dimensional_network_gives_the_same_stack(grid: Any, lengthwise: bool) -> None:
    shape, affine = grid
    rng = np.random.default_rng(0)
    image = (rng.random(shape) > 0.5).astype(np.float32)
    image.flat[0], image.flat[-1] = 0.0, 1.0
    config = {**CONFIG, "spatial_dims": 2, "patch_size": [8, 8], **({"slice_axis": 0} if lengthwise else {})}
    prediction = Predictor(Threshold(TREE), config, device="cpu").predict([Volume(image, affine)])
    np.testing.assert_array_equal(prediction.labels == TREE.node("core").value, image > 0.5)


def test_slices_of_a_2d_network_lie_across_the_largest_spacing() -> None:
    rng = np.random.default_rng(0)
    volume = Volume(rng.random((5, 20, 30)).astype(np.float32), np.diag([8.0, 1.0, 1.0, 1.0]))
    config = {**CONFIG, "spatial_dims": 2, "spacing": [2.0, 2.0, 2.0], "patch_size": [8, 8]}
    prepared = Preprocessor(config).image([volume])
    assert prepared.shape == (10, 15, 5)


@pytest.mark.parametrize(
    ("codes", "array_axis", "towards_start"), [("RAS", 0, False), ("LAS", 0, True), ("PSR", 2, False)]
)
def test_sides_follow_the_affine(codes: str, array_axis: int, towards_start: bool) -> None:
    affine = _affine_of(codes)
    image = np.zeros((12, 12, 12), np.float32)
    index: list[Any] = [slice(4, 8)] * 3
    index[array_axis] = slice(0, 4) if towards_start else slice(8, 12)
    image[tuple(index)] = 1.0
    prepared = Preprocessor(CONFIG).image([Volume(image, affine)])
    assert np.argwhere(prepared.array[0] > 0.5)[:, 0].min() == 8, (
        "the right side is at the end of the first axis in RAS"
    )


def _affine_of(codes: str) -> np.ndarray:
    affine = np.zeros((4, 4))
    for axis, code in enumerate(codes):
        row, sign = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}[code]
        affine[row, axis] = sign
    affine[3, 3] = 1
    return affine
