"""What a training run is told: a frozen record, read from YAML, with every key checked.

A configuration is merged from four sources, later ones winning: the defaults below, what the start bundle of
``--init`` was made with (its network, spacing, orientation, normalization and patch), a YAML file, and
``--set key=value``.  Groups are written with a dot on the command line: ``--set losses.marginal=1``.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_type_hints

import yaml

from hierseg.bundle_format import DEFAULT_OVERLAP
from hierseg.engine.settings import (
    HEADS,
    METHOD_HEADS,
    METHODS,
    Augmentation,
    Consistency,
    Losses,
    Mix,
    Validation,
)
from hierseg.engine.values import convert, plain_value
from hierseg.errors import ConfigError

__all__ = [
    "Augmentation",
    "Consistency",
    "Losses",
    "Mix",
    "TrainConfig",
    "Validation",
    "parse_overrides",
    "read_config_file",
]

DEFAULT_NORMALIZATION: dict[str, Any] = {"type": "percentile", "lower": 0.5, "upper": 99.5}


@dataclass(frozen=True)
class TrainConfig:
    """All settings of a training run; ``training/README.md`` explains how to choose them.

    Attributes:
        tree: ``dataset`` learns the dataset's label tree, ``start`` that of the start bundle: what the dataset tells apart
            beyond it is merged.
        hold_out: names of nodes whose voxels are hidden from the training, to see whether the model notices at the end that it
            does not know them.
        method: one of :data:`hierseg.engine.settings.METHODS`; docs/methods.md says what each does.
        iterations: optimizer steps.
        batch_size: patches a step.
        fine_share: share of the patches around leaf-labelled voxels; the others lie around coarse ones.  Half in paper A.
        patch_size: three numbers for a 3D network, two for a 2D one (slices along the last axis).
        spacing: millimeters a voxel after resampling, or None to keep each image's own.
        orientation: axis codes such as ``RAS``.
        normalization: one rule for all channels, or one for each channel by name.
        overlap: of the sliding window, 0 to below 1.
        head: the network's output layers, one of :data:`hierseg.engine.settings.HEADS`; ``auto`` takes the method's own.
        trunk, width, prior_concatenation, separate_normalization, trunk_arguments: the network; the two switches belong
            to the head ``two_heads``.
        learning_rate, momentum, weight_decay, schedule, warmup, gradient_clip: stochastic gradient descent;
            ``schedule`` is ``linear``, ``poly`` or ``constant``, ``warmup`` counts iterations.
        learning_rate_trunk: factor on the learning rate of the trunk.
        freeze: ``none``, ``trunk`` (its weights stay), ``norm`` (batch normalization keeps its statistics), ``others``
            (both, and so do the branches of all top-level nodes whose subclasses are those of the start model) or ``auto``
            (both, and so do the branches of all top-level nodes that no case shows a subclass of).
        ema: decay of the averaged weights that are validated and published, or None.
        seed: of everything random.
        deterministic: refuse GPU operations whose result may differ from run to run.
        amp: ``auto`` (on where a CUDA GPU runs it), True (on the CPU: bfloat16, several times faster where the CPU computes
            in it, but not the same bit for bit in every run) or False.
        num_workers: processes that prepare batches; 0 prepares them in the training process.
        cache: ``memory``, ``disk`` or ``none``: where preprocessed cases are kept.
        cache_folder: for ``disk``; the run folder's ``cache`` if None.
        checkpoint_interval: iterations between two saves of ``last.pt``.
        log_interval: iterations between two entries of the log (and looks at the loss on a GPU).
    """

    tree: str = "dataset"
    hold_out: tuple[str, ...] = ()
    method: str = "ess"
    iterations: int = 2000
    batch_size: int = 4
    fine_share: float = 0.5
    patch_size: tuple[int, ...] = (64, 64, 64)
    spacing: tuple[float, ...] | None = None
    orientation: str = "RAS"
    normalization: dict[str, Any] = field(default_factory=lambda: dict(DEFAULT_NORMALIZATION))
    overlap: float = DEFAULT_OVERLAP
    head: str = "auto"
    trunk: str = "unet"
    width: int | None = None
    prior_concatenation: bool = True
    separate_normalization: bool = True
    trunk_arguments: dict[str, Any] = field(default_factory=dict)
    learning_rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 1e-4
    schedule: str = "linear"
    warmup: int = 0
    gradient_clip: float = 12.0
    learning_rate_trunk: float = 1.0
    freeze: str = "none"
    ema: float | None = None
    losses: Losses = field(default_factory=Losses)
    mix: Mix = field(default_factory=Mix)
    consistency: Consistency = field(default_factory=Consistency)
    augmentation: Augmentation = field(default_factory=Augmentation)
    validation: Validation = field(default_factory=Validation)
    seed: int = 1234
    deterministic: bool = False
    amp: bool | str = "auto"
    num_workers: int = 0
    cache: str = "memory"
    cache_folder: str | None = None
    checkpoint_interval: int = 100
    log_interval: int = 10

    def __post_init__(self) -> None:
        _check(self)

    @property
    def spatial_dims(self) -> int:
        """2 or 3, by the length of the patch size."""
        return len(self.patch_size)

    @property
    def network_head(self) -> str:
        """The output layers: as set, else the method's own."""
        return METHOD_HEADS.get(self.method, "two_heads") if self.head == "auto" else self.head

    @property
    def patch_share(self) -> float:
        """The share of fine patches: all for the method that learns from nothing else."""
        return 1.0 if self.method == "unet" else self.fine_share

    @property
    def needs_start(self) -> bool:
        """Whether training goes on comparing with the model that it started from."""
        return self.losses.keep > 0 or self.freeze in ("others", "auto")

    def to_dict(self) -> dict[str, Any]:
        """As it is written to ``config.yaml`` and into checkpoints: plain values only."""
        plain: dict[str, Any] = plain_value(dataclasses.asdict(self))
        return plain

    @classmethod
    def from_dict(cls, *sources: Mapping[str, Any]) -> TrainConfig:
        """Merge sources over the defaults, later ones winning; groups are merged key by key.

        Raises:
            ConfigError: a key is unknown (the nearest known one is named) or a value does not fit.
        """
        merged: dict[str, Any] = {}
        for source in sources:
            _merge(merged, source)
        built = _build(cls, merged, "")
        assert isinstance(built, cls)
        return built


_CHOICES = {
    "tree": ("dataset", "start"),
    "method": METHODS,
    "head": ("auto", *HEADS),
    "schedule": ("linear", "poly", "constant"),
    "freeze": ("none", "trunk", "norm", "others", "auto"),
    "cache": ("memory", "disk", "none"),
    "validation.thresholds": ("auto", "always", "never"),
    "validation.one_piece": ("auto", "never"),
    "mix.mode": ("full", "mixup", "pseudo", "off"),
    "amp": ("auto", True, False),
}
_GROUPS = {
    "losses": Losses,
    "mix": Mix,
    "consistency": Consistency,
    "augmentation": Augmentation,
    "validation": Validation,
}
_AT_LEAST: dict[str, float] = {
    "iterations": 1, "batch_size": 1, "learning_rate": 0, "momentum": 0, "weight_decay": 0, "warmup": 0, "gradient_clip": 0,
    "learning_rate_trunk": 0, "num_workers": 0, "checkpoint_interval": 1, "log_interval": 1, "seed": 0, "overlap": 0,
    "validation.fraction": 0, "validation.interval": 0, "validation.slices": 0, "validation.true_positive_rate": 0,
    "validation.least_groups": 2, "losses.superclass": 0, "losses.partial": 0, "losses.mix": 0,
    "losses.marginal": 0, "losses.keep": 0, "losses.split": 0, "losses.cross_entropy": 0,
    "losses.dice": 0, "losses.negative": 0, "losses.wasserstein": 0, "losses.tree_cross_entropy": 0, "losses.node_dice": 0, "losses.triplet": 0,
    "consistency.weight": 0, "consistency.ramp_up": 0, "consistency.decay": 0, "consistency.passes": 1, "consistency.noise": 0, "fine_share": 0, "mix.alpha_low": 0, "mix.tau_end": 0, "ema": 0,
}  # fmt: skip
_BELOW: dict[str, float] = {
    "overlap": 1,
    "validation.fraction": 1,
    "validation.slices": 1,
    "ema": 1,
    "consistency.decay": 1,
    "momentum": 1,
}


def read_config_file(path: str | Path) -> dict[str, Any]:
    """The content of a YAML configuration; a name without a folder may also be a shipped one, such as ``finetune``.

    Raises:
        ConfigError: there is no such file, or it is not a YAML mapping.
    """
    path = Path(path)
    if not path.exists() and path.parent == Path():
        from hierseg import resources

        shipped = Path(resources.path("configs", path.name if path.suffix else f"{path.name}.yaml"))
        path = shipped if shipped.exists() else path
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such configuration; give the path of a YAML file.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: the configuration cannot be read ({error}).") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML ({' '.join(str(error).split())}); correct the file.") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: a configuration is a list of 'key: value' lines; found {type(content).__name__}.")
    return content


def parse_overrides(pairs: Sequence[str]) -> dict[str, Any]:
    """``["iterations=10", "mix.mode=off"]`` as a nested mapping; values are read as YAML.

    Raises:
        ConfigError: a pair has no ``=``, or its value is not YAML.
    """
    result: dict[str, Any] = {}
    for pair in pairs:
        key, mark, text = pair.partition("=")
        if not mark or not key.strip():
            raise ConfigError(f"--set {pair!r} has no '='; write --set key=value.")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"--set {pair!r}: the value cannot be read as YAML; quote it.") from error
        if key.strip() == "mix.mode" and value is False:
            value = "off"
        _merge(result, nested(key.strip(), value))
    return result


def nested(key: str, value: Any) -> dict[str, Any]:
    """A setting that is written with a dot where it is in a group, as a mapping: ``mix.mode`` is ``{"mix": {"mode": …}}``."""
    for part in reversed(key.split(".")):
        value = {part: value}
    found: dict[str, Any] = value
    return found


def _merge(target: dict[str, Any], source: Mapping[str, Any]) -> None:
    for key, value in source.items():
        if key in _GROUPS and isinstance(value, Mapping) and isinstance(target.get(key), dict):
            _merge(target[key], value)
        else:
            target[key] = dict(value) if isinstance(value, Mapping) else value


def _build(kind: type, content: Mapping[str, Any], prefix: str) -> Any:
    hints = get_type_hints(kind)
    values: dict[str, Any] = {}
    for key, value in content.items():
        name = f"{prefix}{key}"
        if key not in hints:
            raise ConfigError(_unknown(str(key), list(hints), prefix))
        if prefix == "" and key in _GROUPS:
            if not isinstance(value, Mapping):
                raise ConfigError(f"'{name}' is {value!r}; it is a group, write its keys below it.")
            values[key] = _build(_GROUPS[key], value, f"{key}.")
        else:
            # YAML reads a bare `off` as false.
            values[key] = convert("off" if name == "mix.mode" and value is False else value, hints[key], name)
    return kind(**values)


def _unknown(key: str, known: list[str], prefix: str) -> str:
    if prefix == "":
        known = known + [f"{group}.{item.name}" for group, kind in _GROUPS.items() for item in dataclasses.fields(kind)]
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)
    nested = [name for name in known if name.endswith(f".{key}")]
    nearest = nested[0] if nested else near[0]
    return f"the configuration has the unknown key '{prefix}{key}'; the nearest known key is '{'' if prefix == '' else prefix}{nearest}'."


def _check(config: TrainConfig) -> None:
    flat: dict[str, Any] = {}
    for key, value in vars(config).items():
        flat.update({f"{key}.{name}": item for name, item in vars(value).items()} if key in _GROUPS else {key: value})
    for key, choices in _CHOICES.items():
        if flat[key] not in choices:
            raise ConfigError(f"'{key}' is {flat[key]!r}; choose one of {', '.join(map(str, choices))}.")
    for key, low in _AT_LEAST.items():
        if flat[key] is not None and flat[key] < low:
            raise ConfigError(f"'{key}' is {flat[key]}; give {low} or more.")
    for key, high in _BELOW.items():
        if flat[key] is not None and flat[key] >= high:
            raise ConfigError(f"'{key}' is {flat[key]}; give less than {high}.")
    if len(config.patch_size) not in (2, 3) or min(config.patch_size) < 1:
        raise ConfigError(f"'patch_size' is {list(config.patch_size)}; give three sizes for 3D or two for 2D.")
    if config.spacing is not None and (len(config.spacing) != 3 or min(config.spacing) <= 0):
        raise ConfigError(f"'spacing' is {list(config.spacing)}; give three positive numbers of millimeters, or null.")
    if config.validation.true_positive_rate > 1:
        raise ConfigError(
            f"'validation.true_positive_rate' is {config.validation.true_positive_rate}; give a number from 0 to 1."
        )
    if config.fine_share > 1:
        raise ConfigError(f"'fine_share' is {config.fine_share}; give a number from 0 to 1.")
    if not config.mix.alpha_low <= config.mix.alpha_high <= 1:
        raise ConfigError(
            f"'mix.alpha_low' and 'mix.alpha_high' are {config.mix.alpha_low} and {config.mix.alpha_high}; give two rising numbers from 0 to 1."
        )
    for axis in config.augmentation.flip_axes:
        if not 0 <= axis < config.spatial_dims:
            raise ConfigError(
                f"'augmentation.flip_axes' names axis {axis}; a patch of this configuration has axes 0 to {config.spatial_dims - 1}."
            )
    weights = config.losses
    learning = (weights.superclass, weights.partial, weights.marginal, weights.wasserstein, weights.tree_cross_entropy)
    if max(learning) <= 0:
        raise ConfigError(
            "every loss that learns from labels has the weight 0; give 'losses.superclass', 'losses.partial' or 'losses.marginal' a weight."
        )
    if weights.cross_entropy + weights.dice <= 0:
        raise ConfigError("'losses.cross_entropy' and 'losses.dice' are both 0; give one of them a share.")
    if weights.level_weights is not None and min(weights.level_weights, default=-1.0) < 0:
        raise ConfigError(f"'losses.level_weights' is {list(weights.level_weights)}; give numbers of 0 or more.")
    _check_method(config)


def _check_method(config: TrainConfig) -> None:
    """What method, output layers and freezing say about each other."""
    head = config.network_head
    if config.method in ("unet", "nl") and head == "two_heads":
        raise ConfigError(
            f"the method '{config.method}' teaches the leaf output alone, and the network has one for superclasses beside it; "
            "use 'head: leaf', or the method two_head."
        )
    if (config.method == "regions") != (head == "regions"):
        raise ConfigError(
            f"'method' is {config.method} and 'head' is {head}; the method and the head 'regions' go together."
        )
    if config.method == "cps" and config.freeze != "none":
        raise ConfigError(
            f"'freeze' is {config.freeze}, but the second network of the method 'cps' begins with random weights; set it to none."
        )
