"""From a published folder to a trained model, with the settings of paper A."""

from __future__ import annotations

from pathlib import Path

import pytest

from hierseg.bundle import Bundle
from hierseg.cli import main
from hierseg.engine.config import TrainConfig, read_config_file


@pytest.mark.parametrize(("name", "batch", "patch"), [("acdc", 24, (256, 256)), ("brats2021", 4, (96, 96, 96))])
def test_the_settings_are_the_paper_s(name: str, batch: int, patch: tuple[int, ...]) -> None:
    """Numbers from the paper's sections 3 and 2.3; what only the published code has is a comment in the file."""
    config = TrainConfig.from_dict(read_config_file(name))
    assert (config.method, config.iterations, config.batch_size, config.patch_size) == ("ess", 40000, batch, patch)
    assert (config.learning_rate, config.momentum, config.schedule, config.warmup) == (0.01, 0.9, "linear", 0)
    assert config.fine_share == 0.5
    assert config.normalization == {"type": "minmax"}
    assert (config.mix.mode, config.mix.tau_start, config.mix.tau_end) == ("full", 1.0, 0.4)
    assert (config.mix.alpha_low, config.mix.alpha_high, config.mix.ramp) == (0.5, 1.0, False)
    assert config.prior_concatenation
    assert config.separate_normalization
    losses = config.losses
    assert (losses.superclass, losses.partial, losses.mix, losses.cross_entropy, losses.dice) == (1, 1, 1, 0.5, 0.5)
    assert losses.marginal == losses.keep == losses.split == losses.wasserstein == losses.tree_cross_entropy == 0
    assert (config.augmentation.flip_axes, config.augmentation.affine_probability) == ((), 0)
    assert config.augmentation.intensity_probability == 0
    assert config.gradient_clip == 0


def test_import_and_train(tmp_path: Path) -> None:
    raw, data, run = tmp_path / "raw", tmp_path / "data", tmp_path / "run"
    assert main(["phantom", "acdc", "--cases", "6", "--size", "32", "--raw", "--out", str(raw)]) == 0
    assert main(["import", "acdc", str(raw), "--out", str(data), "--fine", "2", "--split", "official"]) == 0
    small = ["patch_size=[32,32]", "iterations=2", "width=4", "batch_size=2", "validation.interval=0"]
    settings = [word for setting in small for word in ("--set", setting)]
    assert main(["train", str(data), "--out", str(run), "--config", "acdc", "--device", "cpu", *settings]) == 0
    bundle = Bundle.open(run / "bundle")
    assert {channel["normalization"]["type"] for channel in bundle.config["channels"]} == {"minmax"}
