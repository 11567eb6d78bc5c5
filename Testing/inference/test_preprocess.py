"""What the network sees: intensities, channels on other grids, and label maps by votes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from hierseg.data.preprocess import Preprocessor, central_half, normalize
from hierseg.data.resampling import resample, resample_labels
from hierseg.errors import ConfigError, ImageError
from hierseg.imageio import Volume
from hierseg.labeltree import LabelTree
from standins.known_network import brain_tree

TREE = brain_tree()


def blob(
    shape: tuple[int, int, int], affine: np.ndarray, center: tuple[float, float, float], width: float
) -> np.ndarray:
    """A Gaussian at a place in mm."""
    voxels = np.stack(np.meshgrid(*[np.arange(size) for size in shape], indexing="ij"), axis=-1)
    places = voxels @ affine[:3, :3].T + affine[:3, 3]
    return np.exp(-0.5 * (((places - center) / width) ** 2).sum(axis=-1)).astype(np.float32)


def centered(shape: tuple[int, int, int], spacing: float, turn: tuple[float, float, float] = (0, 0, 0)) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", turn, degrees=True).as_matrix() * spacing
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine


@pytest.mark.parametrize("turn", [(0, 0, 0), (90, 0, 180), (20, -10, 35)])
@pytest.mark.parametrize("spacing", [0.7, 1.0, 2.6])
def test_resampling_keeps_places(turn: tuple[float, float, float], spacing: float) -> None:
    sizes = {0.7: 60, 1.0: 42, 2.6: 18}
    shape = (sizes[spacing], sizes[spacing] + 1, sizes[spacing] + 2)
    source = centered(shape, spacing, turn)
    target_shape, target = (15, 14, 16), centered((15, 14, 16), 1.3)
    image = torch.from_numpy(blob(shape, source, (2.0, -1.0, 3.0), 5.0))[None]
    found = resample(image, source, target, target_shape)[0].numpy()
    np.testing.assert_allclose(found, blob(target_shape, target, (2.0, -1.0, 3.0), 5.0), atol=0.1)
    weights = found / found.sum()
    expected = blob(target_shape, target, (2.0, -1.0, 3.0), 5.0)
    expected /= expected.sum()
    for axis in range(3):
        others = tuple({0, 1, 2} - {axis})
        line = np.arange(target_shape[axis])
        assert abs((weights.sum(axis=others) - expected.sum(axis=others)) @ line) < 0.05


def test_flips_and_permutations_are_exact_copies() -> None:
    image = np.random.default_rng(0).random((4, 5, 6)).astype(np.float32)
    affine = np.array([[0, -2.0, 0, 3], [0, 0, 2.0, 1], [-2.0, 0, 0, 9], [0, 0, 0, 1]])
    prepared = Preprocessor({"channels": [{"name": "a"}], "orientation": "RAS"}).image([Volume(image, affine)])
    np.testing.assert_array_equal(prepared.array[0], image.transpose(1, 2, 0)[::-1, :, ::-1])


def test_downsampling_averages() -> None:
    stripes = np.tile([0.0, 1.0], 16)[:, None, None].repeat(4, 1).repeat(4, 2).astype(np.float32)
    config = {"channels": [{"name": "a"}], "orientation": "RAS", "spacing": [4.0, 1.0, 1.0]}
    prepared = Preprocessor(config).image([Volume(stripes, np.eye(4))])
    assert prepared.shape == (8, 4, 4)
    assert np.abs(prepared.array[0, 1:-1] - 0.5).max() < 0.05


def test_channel_on_another_grid_is_brought_to_the_first_and_said() -> None:
    shape, affine = (30, 30, 30), centered((30, 30, 30), 1.0)
    other_shape, other = (16, 16, 10), centered((16, 16, 10), 2.0, (10, 0, 5))
    first = Volume(blob(shape, affine, (0, 0, 0), 4.0), affine, "first.nii")
    second = Volume(blob(other_shape, other, (1, 2, -1), 4.0) + 3, other, "second.nii")
    config = {"channels": [{"name": "T1"}, {"name": "T2"}], "orientation": "RAS"}
    prepared = Preprocessor(config).image([first, second])
    expected = blob(shape, affine, (1, 2, -1), 4.0) + 3
    inside = prepared.array[1] > 3.02
    np.testing.assert_allclose(prepared.array[1][inside], expected[inside], atol=0.1)
    assert prepared.array[1][0, 0, 0] == second.array.min(), "outside of the channel's view lies its minimum"
    assert len(prepared.notes) == 1
    assert "second.nii" in prepared.notes[0]
    assert "T2" in prepared.notes[0]


def test_channels_without_overlap_are_refused() -> None:
    array = np.random.default_rng(0).random((5, 5, 5)).astype(np.float32)
    far = np.eye(4)
    far[:3, 3] = 100
    with pytest.raises(ImageError, match=r"b\.nii.*'T2' does not overlap with a\.nii"):
        Preprocessor({"channels": [{"name": "T1"}, {"name": "T2"}]}).image(
            [Volume(array, np.eye(4), "a.nii"), Volume(array, far, "b.nii")]
        )


@pytest.mark.parametrize("count", [0, 1, 3])
def test_wrong_number_of_channels_names_them(count: int) -> None:
    array = np.random.default_rng(0).random((5, 5, 5)).astype(np.float32)
    with pytest.raises(ImageError, match="expects 2: FLAIR, T1"):
        Preprocessor({"channels": [{"name": "FLAIR"}, {"name": "T1"}]}).image(
            [Volume(array, np.eye(4), "a.nii")] * count
        )


@pytest.mark.parametrize(
    "config",
    [{"orientation": "RAA"}, {"orientation": "RASX"}, {"spacing": [1, 0, 1]}, {"spacing": [1, 1, 1, 1]}],
)
def test_wrong_settings(config: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(config))):
        Preprocessor({"channels": [{"name": "a"}], **config})


def test_normalizations() -> None:
    image = torch.tensor([0.0, 0.0, 10.0, 20.0, 30.0])
    assert normalize(image, {"type": "range", "lower": 10, "upper": 20}).tolist() == [0, 0, 0, 1, 1]
    assert normalize(image - 5, {"type": "minmax"}).tolist() == pytest.approx([0, 0, 1 / 3, 2 / 3, 1])
    assert normalize(torch.full((3,), 7.0), {"type": "minmax"}).tolist() == [0, 0, 0]
    zscore = normalize(image, {"type": "zscore"})
    assert zscore[0] == 0
    assert zscore[2:].mean().abs() < 1e-6
    assert abs(float(zscore[2:].std(unbiased=False)) - 1) < 1e-6
    percentile = normalize(torch.arange(1001.0), {"type": "percentile", "lower": 10, "upper": 90})
    assert percentile[100] == 0
    assert percentile[902] == 1
    assert abs(float(percentile[500]) - 0.5) < 0.01
    assert torch.equal(normalize(image, {"type": "none"}), image)
    with pytest.raises(ConfigError, match="histogram"):
        normalize(image, {"type": "histogram"})


def head(scalp: float) -> torch.Tensor:
    """A ball of tissue at 0.4..0.6 in a thin bright shell, off center in dark, noisy air."""
    generator = torch.Generator().manual_seed(0)
    place = torch.stack(torch.meshgrid(*[torch.arange(48.0)] * 3, indexing="ij"))
    radius = (place - torch.tensor([20.0, 24.0, 26.0]).view(3, 1, 1, 1)).norm(dim=0)
    image = 0.02 * torch.rand(48, 48, 48, generator=generator)
    image[radius < 16] = 0.4 + 0.2 * torch.rand(int((radius < 16).sum()), generator=generator)
    image[(radius >= 16) & (radius < 18)] = scalp
    return image


def test_percentiles_of_the_center_do_not_follow_the_scalp() -> None:
    how = {"type": "center_percentile", "lower": 0.5, "upper": 99.5}
    dim, bright = normalize(head(0.7), how), normalize(head(3.0), how)
    assert torch.allclose(dim[20, 24, 26], bright[20, 24, 26], atol=0.02)
    assert bright[20, 24, 26] > 0  # tissue uses the range from 0 to 1 ...
    assert bright[20, 24, 20:32].max() > 0.8
    assert bright.max() == 1  # ... and what is brighter is clipped
    whole = {"type": "percentile", "lower": 0.5, "upper": 99.5}
    assert normalize(head(3.0), whole)[20, 24, 20:32].max() < 0.3


def test_the_central_half_is_found_anywhere_and_in_any_shape() -> None:
    image = torch.zeros(40, 30, 20)
    image[10:30, 8:28, 2:18] = 1.0
    image[0, 0, 0] = 50.0  # a bright voxel in the air does not count
    box = central_half(image)
    assert [
        abs(part.start - start) <= 1 and abs(part.stop - stop) <= 1
        for part, start, stop in zip(box, (15, 13, 6), (25, 23, 14), strict=True)
    ] == [True] * 3
    for shape in ((1, 1, 1), (5, 1, 1), (2, 3, 4)):
        for flat in (torch.zeros(shape), torch.rand(shape)):
            assert flat[central_half(flat)].numel() >= 1


# -- label maps -----------------------------------------------------------------------------------------------------

U = TREE.unlabelled


def test_a_thin_stroke_survives_downsampling() -> None:
    labels = np.full((12, 12, 12), U)
    labels[5, 2:10, 5] = 1
    target = np.diag([3.0, 3.0, 3.0, 1.0])
    target[:3, 3] = 1.0
    found = resample_labels(labels, np.eye(4), target, (4, 4, 4), TREE)
    assert found[1, :, 1].tolist() == [1, 1, 1, 1]
    assert (found == 1).sum() == 4


def test_the_majority_of_the_labelled_votes_wins_and_ties_go_to_the_earlier_node() -> None:
    labels = np.full((4, 2, 2), U)
    labels[:2] = np.array([[[1, 1], [2, U]], [[2, 2], [U, U]]])  # 2 is the majority of the labelled
    labels[2:] = np.array([[[1, 2], [U, U]], [[U, U], [U, U]]])  # a tie
    target = np.diag([2.0, 2.0, 2.0, 1.0])
    target[:3, 3] = 0.5
    assert resample_labels(labels, np.eye(4), target, (2, 1, 1), TREE).ravel().tolist() == [2, 1]


def test_a_coarse_label_does_not_outvote_the_finer_one_beside_it() -> None:
    """A stroke in one slice of 1 mm, its parent painted all around, on a grid of 2 mm: the stroke is kept."""
    node = next(node for node in TREE.nodes if not TREE.is_leaf(node) and len(TREE.children(node)) > 1)
    first, second = TREE.children(node)[:2]
    labels = np.full((8, 8, 8), node.value)
    labels[3, 0:4] = first.value
    labels[3, 4:8] = second.value
    target = np.diag([2.0, 2.0, 2.0, 1.0])
    target[:3, 3] = 0.5
    found = resample_labels(labels, np.eye(4), target, (4, 4, 4), TREE)
    assert (found[1, :2] == first.value).all()
    assert (found[1, 2:] == second.value).all()
    assert (np.delete(found, 1, axis=0) == node.value).all()


def test_outside_of_the_source_is_unlabelled() -> None:
    labels = np.ones((2, 2, 2), np.uint8)
    assert (resample_labels(labels, np.eye(4), np.eye(4), (4, 2, 2), TREE)[2:] == U).all()
    oblique = centered((9, 9, 9), 1.0, (20, 30, 0))
    found = resample_labels(labels, np.eye(4), oblique, (9, 9, 9), TREE)
    assert 0 < (found == 1).sum() <= 12
    assert found[0, 0, 0] == U


@given(st.integers(0, 99), st.permutations([0, 1, 2]), st.tuples(*[st.integers(1, 3)] * 3))
def test_upsampled_labels_vote_back_to_themselves(seed: int, order: list[int], factors: tuple[int, int, int]) -> None:
    shape = (4, 5, 6)
    labels = np.random.default_rng(seed).choice([1, 2, 8, U], shape)
    source = centered(shape, 2.0, (10, 20, 30))
    # Each voxel is cut into factor³ smaller ones; then the axes are permuted.
    cut = np.diag([1 / factors[0], 1 / factors[1], 1 / factors[2], 1.0])
    cut[:3, 3] = [0.5 / factor - 0.5 for factor in factors]
    fine = (source @ cut)[:, [*order, 3]]
    fine_shape = [shape[axis] * factors[axis] for axis in order]
    up = resample_labels(labels, source, fine, fine_shape, TREE)
    assert (up != U).mean() == pytest.approx((labels != U).mean())
    np.testing.assert_array_equal(resample_labels(up, fine, source, shape, TREE), labels)


def test_an_image_and_its_label_map_land_together(tree: LabelTree) -> None:
    affine = np.diag([-1.0, 1.0, 2.0, 1.0])
    image = np.zeros((20, 16, 9), np.float32)
    image[4:12, 6:14, 2:6] = 1
    preprocessor = Preprocessor({"channels": [{"name": "a"}], "orientation": "LPI", "spacing": [2.0, 2.0, 2.0]})
    prepared = preprocessor.image([Volume(image, affine)])
    label = preprocessor.label(Volume(np.where(image > 0, 1, 0).astype(np.uint8), affine), prepared, tree)
    assert label.dtype == np.int64
    np.testing.assert_array_equal(label == 1, prepared.array[0] > 0.5)
