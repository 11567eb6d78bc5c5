"""Before the first iteration: settings from their sources, the network, and the start bundle's weights."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from hierseg.bundle import Bundle
from hierseg.courtesy import usable_cores
from hierseg.dataset import Case, Dataset
from hierseg.engine.config import DEFAULT_NORMALIZATION, TrainConfig, read_config_file
from hierseg.engine.settings import METHOD_HEADS
from hierseg.errors import ConfigError
from hierseg.labeltree import LabelTree
from hierseg.networks import HierarchicalSegmenter
from hierseg.networks.transfer import initialize_from
from hierseg.networks.weights import load_model

_NETWORK_KEYS = ("head", "trunk", "width", "prior_concatenation", "separate_normalization")


def resolve_config(
    given: TrainConfig | Mapping[str, Any] | str | Path | None,
    start: Bundle | None,
    saved: Mapping[str, Any] | None,
    channels: Sequence[str],
) -> TrainConfig:
    """Merge the settings of a run: defaults, the start bundle's or the checkpoint's, then what was given.

    Args:
        given: a complete configuration, only the keys that differ, or a YAML file of those.
        start: the bundle of ``--init``.
        saved: the configuration in the checkpoint that is resumed; it already contains the start bundle's settings.
        channels: of the dataset.

    Raises:
        ConfigError: a setting is unknown, out of range, or contradicts the start bundle or the checkpoint.
    """
    if isinstance(given, TrainConfig):
        given = given.to_dict()
        explicit = False
    else:
        given = read_config_file(given) if isinstance(given, str | Path) else dict(given or {})
        explicit = True
    base = saved if saved is not None else (bundle_settings(start, channels) if start is not None else {})
    config = (
        TrainConfig.from_dict(base, given)
        if explicit or (saved is None and start is None)
        else TrainConfig.from_dict(given, base)
    )
    for key in (*_NETWORK_KEYS, "trunk_arguments"):
        own, theirs = getattr(config, key), base.get(key)
        if key == "head":
            own = config.network_head
            theirs = METHOD_HEADS.get(base["method"], "two_heads") if theirs == "auto" else theirs
        if key in base and own != theirs:
            what = "the checkpoint" if saved is not None else f"the start bundle {start.id if start else ''}"
            raise ConfigError(f"'{key}' is {own!r}, but {what} was made with {theirs!r}; leave the setting out.")
    if start is not None and config.spatial_dims != int(start.config["spatial_dims"]):
        raise ConfigError(
            f"'patch_size' has {config.spatial_dims} numbers, but the start bundle {start.id} is a {start.config['spatial_dims']}D model."
        )
    if config.losses.keep > 0 and start is None and saved is None:
        raise ConfigError("'losses.keep' keeps what a start model knows; give one by --init, or set it to 0.")
    return config


def bundle_settings(bundle: Bundle, channels: Sequence[str]) -> dict[str, Any]:
    """What a bundle says about preprocessing and network, as settings of a training run.

    Raises:
        ConfigError: the dataset's channels cannot be the bundle's.
    """
    theirs = [str(channel["name"]) for channel in bundle.config["channels"]]
    if len(theirs) != len(channels) or (sorted(theirs) == sorted(channels) and theirs != list(channels)):
        raise ConfigError(
            f"the dataset's channels are {', '.join(channels)}, but the start bundle {bundle.id} expects {', '.join(theirs)}; "
            "make a dataset with these channels in this order, or train without --init."
        )
    arguments = dict(bundle.config["network"].get("arguments", {}))
    settings: dict[str, Any] = {key: arguments.pop(key) for key in _NETWORK_KEYS if key in arguments}
    # Bundles of before there was a choice have the two heads.
    settings.setdefault("head", "two_heads")
    settings["trunk_arguments"] = {
        key: value for key, value in arguments.items() if key not in ("in_channels", "spatial_dims")
    }
    settings |= {
        key: bundle.config[key] for key in ("patch_size", "spacing", "orientation", "overlap") if key in bundle.config
    }
    rules = [channel.get("normalization", {"type": "none"}) for channel in bundle.config["channels"]]
    settings["normalization"] = dict(zip(channels, rules, strict=True))
    return settings


def is_alike(config: TrainConfig, start: Bundle, channels: Sequence[str]) -> bool:
    """Whether images are prepared as the start bundle wants them, so that both models can be measured on the same arrays."""
    found = bundle_settings(start, channels)
    keys = ("spacing", "orientation", "normalization")
    theirs = TrainConfig.from_dict({key: found[key] for key in keys if key in found})
    return all(getattr(config, key) == getattr(theirs, key) for key in keys)


def bundle_config(
    config: TrainConfig, channels: Sequence[str], model: HierarchicalSegmenter | None, start: Bundle | None = None
) -> dict[str, Any]:
    """The content of ``hierseg.json`` for a run; also what preprocesses its images.

    Raises:
        ConfigError: a normalization is given for a channel that the dataset does not have.
    """
    rules = config.normalization
    if "type" not in rules:
        foreign = [name for name in rules if name not in channels]
        if foreign:
            raise ConfigError(
                f"'normalization' names the channel '{foreign[0]}'; the dataset's channels are {', '.join(channels)}."
            )
    single = rules if "type" in rules else None
    return {
        "network": {"name": "HierarchicalSegmenter", "arguments": dict(model.arguments) if model is not None else {}},
        "channels": [
            {"name": name, "normalization": dict(single or rules.get(name, DEFAULT_NORMALIZATION))} for name in channels
        ],
        "orientation": config.orientation,
        "spacing": None if config.spacing is None else list(config.spacing),
        "patch_size": list(config.patch_size),
        "overlap": config.overlap,
        "thresholds": {},
        "one_piece": [],
        "spatial_dims": config.spatial_dims,
        "modality": str(start.config.get("modality", "")) if start is not None else "",
    }


def build_model(config: TrainConfig, tree: LabelTree, channels: int) -> HierarchicalSegmenter:
    """A fresh network, its weights a function of the seed.

    Raises:
        ConfigError: an argument is unknown, or the patch does not fit the network.
    """
    torch.manual_seed(config.seed)
    try:
        model = HierarchicalSegmenter(
            tree,
            channels,
            config.spatial_dims,
            head=config.network_head,
            trunk=config.trunk,
            width=config.width,
            prior_concatenation=config.prior_concatenation,
            separate_normalization=config.separate_normalization,
            **config.trunk_arguments,
        )
    except TypeError as error:
        raise ConfigError(
            f"'trunk_arguments' does not fit the trunk '{config.trunk}' ({error}); correct it."
        ) from error
    step = model.divisor
    if any(size % step for size in config.patch_size):
        raise ConfigError(
            f"'patch_size' is {list(config.patch_size)}; with the trunk '{config.trunk}' every size must be a multiple of {step}."
        )
    if all(size == step for size in config.patch_size):
        # A mixed batch may have one row, and batch normalization cannot work on a single voxel.
        raise ConfigError(f"'patch_size' is {list(config.patch_size)}; at least one size must be larger than {step}.")
    return model


def start_from(model: HierarchicalSegmenter, bundle: Bundle) -> tuple[HierarchicalSegmenter, list[str]]:
    """Initialize a network with a bundle's weights; returns the bundle's own model and sentences on what was matched."""
    start = load_model(bundle)
    report = initialize_from(model, start.state_dict(), bundle.tree)
    return start, report.sentences()


def fingerprint(dataset: Dataset, cases: Sequence[Case]) -> str:
    """A hash of the cases' files (content of label maps, size of images), the channels and the tree."""
    digest = hashlib.sha256(repr((dataset.tree.canonical_json, dataset.channels)).encode())
    for case in sorted(cases, key=lambda case: case.id):
        label = dataset.label_path(case)
        digest.update(repr((case.id, [path.stat().st_size for path in dataset.image_paths(case)])).encode())
        digest.update(label.read_bytes() if label is not None else b"")
    return digest.hexdigest()


def thread_count(threads: int | None) -> int:
    """Threads to compute with: as given, else what the machine lets this process use, less one for its user."""
    if threads is not None:
        if threads < 1:
            raise ConfigError(f"--threads is {threads}; give 1 or more.")
        return threads
    usable = usable_cores()
    return max(1, usable - 1)


def memory_format(device: torch.device, spatial_dims: int) -> torch.memory_format:
    """Channels last on the CPU: 3D convolutions take half the time there (measured: 0.97 s instead of 2.0 s a step)."""
    if device.type != "cpu":
        return torch.contiguous_format
    return torch.channels_last_3d if spatial_dims == 3 else torch.channels_last


def mixed_precision(amp: bool | str, device: torch.device) -> torch.dtype | None:
    """The type to compute in under autocast; None for single precision."""
    if device.type != "cuda":
        # Not by itself on the CPU: bfloat16 sums there were seen to differ from run to run, and resuming is to be exact.
        return torch.bfloat16 if amp is True and device.type == "cpu" else None
    if amp is False:
        return None
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
