"""The whole way behind one class: frames, channels, thresholds, devices."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from hierseg.errors import ConfigError, ImageError
from hierseg.imageio import Volume
from hierseg.inference import Cancelled, Predictor, resolve_device
from hierseg.labeltree import LabelTree
from hierseg.networks import HierarchicalSegmenter
from standins.known_network import Threshold, brain_tree

AFFINE = np.diag([2.0, 1.0, 0.5, 1.0])


def steps(shape: tuple[int, ...] = (8, 6, 4)) -> np.ndarray:
    """Background, then core, then edema along the first axis."""
    image = np.zeros(shape, np.float32)
    image[3:6], image[6:] = 1.0, 2.0
    return image


def test_volumes_and_confidence_by_node(network: Threshold, config: dict[str, Any]) -> None:
    prediction = Predictor(network, config, device="cpu").predict([Volume(steps(), AFFINE)])
    milliliters = prediction.volumes_ml()
    assert milliliters["core"] == pytest.approx(3 * 6 * 4 / 1000)
    assert milliliters["edema"] == pytest.approx(2 * 6 * 4 / 1000)
    assert milliliters["tumor"] == pytest.approx(5 * 6 * 4 / 1000)
    assert milliliters["healthy"] == 0
    assert set(prediction.mean_confidence()) == {"background", "core", "edema"}
    assert set(prediction.stages) == {"preprocess", "network", "decode", "restore"}
    assert prediction.labels.flags["C_CONTIGUOUS"]


def test_each_frame_is_predicted_by_itself(network: Threshold, config: dict[str, Any]) -> None:
    second = steps()[::-1]
    both = Volume(np.stack([steps(), second], axis=-1), AFFINE)
    predictor = Predictor(network, config, device="cpu")
    seen: list[tuple[str, float]] = []
    prediction = predictor.predict([both], progress=lambda stage, part: seen.append((stage, part)))
    assert prediction.labels.shape == prediction.confidence.shape == (8, 6, 4, 2)
    for index in range(2):
        alone = predictor.predict([both.frame(index)])
        np.testing.assert_array_equal(prediction.labels[..., index], alone.labels)
    assert prediction.volumes_ml()["edema"] == [pytest.approx(0.048), pytest.approx(0.048)]
    for stage in ("preprocess", "network", "restore"):
        parts = [part for name, part in seen if name == stage]
        assert parts == sorted(parts)
        assert parts[-1] == 1.0


def test_channels_with_and_without_frames(config: dict[str, Any]) -> None:
    tree = brain_tree()
    torch.manual_seed(0)
    model = HierarchicalSegmenter(tree, 2, 3, width=2)
    config = {**config, "channels": [{"name": "A"}, {"name": "B"}]}
    moving = Volume(np.random.default_rng(0).random((8, 6, 4, 3)).astype(np.float32), AFFINE, "moving.nii")
    still = Volume(np.random.default_rng(1).random((8, 6, 4)).astype(np.float32), AFFINE, "still.nii")
    predictor = Predictor(model, config, device="cpu")
    assert predictor.predict([moving, still]).labels.shape == (8, 6, 4, 3)
    longer = Volume(np.random.default_rng(2).random((8, 6, 4, 5)).astype(np.float32), AFFINE, "longer.nii")
    with pytest.raises(ImageError, match="number of frames"):
        predictor.predict([moving, longer])


def test_thresholds_of_the_configuration_hold_unless_others_are_given(
    network: Threshold, config: dict[str, Any], tree: LabelTree
) -> None:
    image = np.full((4, 4, 4), 0.6, np.float32)
    image[0] = 0.0
    predictor = Predictor(network, {**config, "thresholds": {"core": 0.8}}, device="cpu")
    assert predictor.predict([Volume(image, AFFINE)]).labels[2, 2, 2] == tree.node("tumor").value
    assert predictor.predict([Volume(image, AFFINE)], thresholds={}).labels[2, 2, 2] == tree.node("core").value


def test_same_input_same_bits(config: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = HierarchicalSegmenter(brain_tree(), 1, 3, width=2)
    volume = Volume(np.random.default_rng(0).random((20, 18, 9)).astype(np.float32), AFFINE)
    predictor = Predictor(model, {**config, "spacing": [1.0, 1.0, 1.0]}, device="cpu")
    first, second = predictor.predict([volume]), predictor.predict([volume])
    np.testing.assert_array_equal(first.labels, second.labels)
    np.testing.assert_array_equal(first.confidence, second.confidence)


def test_cancelling(network: Threshold, config: dict[str, Any]) -> None:
    with pytest.raises(Cancelled):
        Predictor(network, config, device="cpu").predict([Volume(steps(), AFFINE)], cancelled=lambda: True)


@pytest.mark.parametrize("name", ["toaster", "cuda:99", "xpu"])
def test_unknown_device(name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        resolve_device(name)


def test_network_without_configuration(network: Threshold) -> None:
    with pytest.raises(ConfigError, match="configuration"):
        Predictor(network)


@pytest.mark.parametrize("value", [np.nan, 7.0])
def test_image_that_cannot_be_used_is_named(network: Threshold, config: dict[str, Any], value: float) -> None:
    with pytest.raises(ImageError, match=r"scan\.nii"):
        Predictor(network, config, device="cpu").predict(
            [Volume(np.full((4, 4, 4), value, np.float32), AFFINE, "scan.nii")]
        )
