"""Settings: merged from several sources, every key checked, mistakes told in a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from engine.blobs import TREE, blob, save
from hierseg import resources
from hierseg.dataset import Dataset
from hierseg.engine.config import TrainConfig, parse_overrides, read_config_file
from hierseg.engine.held_cases import split_cases
from hierseg.errors import ConfigError


def test_later_sources_win_and_groups_are_merged() -> None:
    config = TrainConfig.from_dict(
        {"iterations": 5, "losses": {"mix": 0}}, {"losses": {"marginal": 2}, "patch_size": [32, 32]}
    )
    assert (config.iterations, config.losses.mix, config.losses.marginal, config.losses.partial) == (5, 0.0, 2.0, 1.0)
    assert config.spatial_dims == 2 or config.patch_size == (32, 32)


def test_a_configuration_survives_yaml() -> None:
    config = TrainConfig.from_dict(
        {"ema": 0.99, "mix": {"mode": "off"}, "spacing": [1, 2, 3], "normalization": {"type": "zscore"}}
    )
    assert TrainConfig.from_dict(yaml.safe_load(yaml.safe_dump(config.to_dict()))) == config


@pytest.mark.parametrize("name", resources.names("configs"))
def test_shipped_configurations_are_valid(name: str) -> None:
    content = read_config_file(resources.path("configs", name))
    assert content
    config = TrainConfig.from_dict(content)
    for key, value in content.items():
        assert key in config.to_dict(), f"{key} is no setting"
        if not isinstance(value, dict | list):
            assert config.to_dict()[key] == value


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"learnig_rate": 1}, "'learning_rate'"),
        ({"losses": {"marginl": 1}}, "'losses.marginal'"),
        ({"marginal": 1}, "'losses.marginal'"),
        ({"iterations": "many"}, "'iterations' is 'many'; it must be a whole number"),
        ({"iterations": 0}, "1 or more"),
        ({"iterations": 2.5}, "must be a whole number"),
        ({"method": "magic"}, "choose one of ess, two_head"),
        ({"mix": {"mode": "all"}}, "full, mixup, pseudo, off"),
        ({"mix": {"alpha_low": 0.8, "alpha_high": 0.7}}, "two rising numbers from 0 to 1"),
        ({"mix": {"alpha_high": 1.5}}, "two rising numbers from 0 to 1"),
        ({"patch_size": [64]}, "three sizes for 3D"),
        ({"spacing": [1, 1]}, "three positive numbers"),
        ({"losses": 3}, "it is a group"),
        ({"augmentation": {"flip_axes": [3]}}, "axis 3"),
        ({"learning_rate": float("nan")}, "'learning_rate' is nan"),
        ({"losses": {"superclass": 0, "partial": 0}}, "weight 0"),
        ({"overlap": 1}, "less than 1"),
        ({"ema": 1.0}, "less than 1"),
    ],
)
def test_mistakes_are_told(given: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        TrainConfig.from_dict(given)
    assert said in caught.value.sentence


def test_overrides_from_the_command_line() -> None:
    found = parse_overrides(
        ["iterations=7", "mix.mode=off", "mix.ramp=true", "patch_size=[16, 32, 16]", "ema=null", "learning_rate=1e-3"]
    )
    config = TrainConfig.from_dict(found)
    assert (config.iterations, config.mix.mode, config.mix.ramp, config.ema, config.learning_rate) == (
        7,
        "off",
        True,
        None,
        0.001,
    )
    with pytest.raises(ConfigError, match="no '='"):
        parse_overrides(["iterations"])


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such configuration"):
        read_config_file(tmp_path / "none.yaml")
    (tmp_path / "list.yaml").write_text("- 1\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="found list"):
        read_config_file(tmp_path / "list.yaml")
    (tmp_path / "broken.yaml").write_text("a: [1\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="not valid YAML"):
        read_config_file(tmp_path / "broken.yaml")
    (tmp_path / "empty.yaml").write_text("", encoding="utf-8")
    assert read_config_file(tmp_path / "empty.yaml") == {}


def test_cases_are_held_out_by_group_and_only_where_there_are_enough(tmp_path: Path) -> None:
    dataset = Dataset.create(tmp_path / "data", "data", ["MRI"], TREE)
    image, label = blob(0, 16)
    for number in range(6):
        save(dataset, f"case{number}", image, label, group=f"patient{number // 2}")
    training, held, notes = split_cases(dataset, 0.2)
    assert len(held) == 2
    assert len({case.group for case in held}) == 1
    assert not {case.id for case in held} & {case.id for case in training}
    assert notes == []
    assert split_cases(dataset, 0.2)[1] == held
    assert len(split_cases(dataset, 0.9)[0]) == 2  # one group is always left to train on
    assert split_cases(dataset, 0.2, 4)[1:] == (
        [],
        ["There are 3 groups of cases only: all of it is trained on, nothing is left for validation."],
    )
    assert split_cases(dataset, 0)[1] == []
    save(dataset, "chosen", image, label, split="validation")
    assert [case.id for case in split_cases(dataset, 0.2)[1]] == ["chosen"]
    assert len(split_cases(dataset, 0.2)[0]) == 6
