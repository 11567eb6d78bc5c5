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
    weights = {key: value for key, value in vars(config.losses).items() if value}
    assert weights == {"superclass": 1.0, "partial": 1.0, "mix": 1.0}
    assert (config.augmentation.flip_axes, config.augmentation.affine_probability) == ((), 0)
    assert config.augmentation.intensity_probability == 0
    assert config.gradient_clip == 0


@pytest.mark.parametrize(
    ("kind", "phantom", "size", "patch"), [("acdc", "acdc", 32, "[32,32]"), ("brats2021", "brats", 24, "[16,16,16]")]
)
def test_import_and_train(tmp_path: Path, kind: str, phantom: str, size: int, patch: str) -> None:
    raw, data, run = tmp_path / "raw", tmp_path / "data", tmp_path / "run"
    assert main(["phantom", phantom, "--cases", "6", "--size", str(size), "--raw", "--out", str(raw)]) == 0
    split = "official" if kind == "acdc" else "none"
    assert main(["import", kind, str(raw), "--out", str(data), "--fine", "2", "--split", split]) == 0
    small = [f"patch_size={patch}", "iterations=2", "width=4", "batch_size=2", "num_workers=0", "validation.interval=0"]
    settings = [word for setting in small for word in ("--set", setting)]
    assert main(["train", str(data), "--out", str(run), "--config", kind, "--device", "cpu", *settings]) == 0
    bundle = Bundle.open(run / "bundle")
    assert {channel["normalization"]["type"] for channel in bundle.config["channels"]} == {"minmax"}
