"""The arguments of a network, as data: which there are, of which type, and in which range.

They come out of bundles and configurations that somebody else may have written.  What passes here can be built
without a library's error, and without allocating more memory than a network of that kind can sensibly need.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hierseg.errors import ConfigError
from hierseg.networks.single_heads import SINGLE_HEADS
from hierseg.networks.trunks import BACKBONES, TRUNKS

Rule = tuple[str, Callable[[Any], bool]]


def _integer(low: int, high: int) -> Rule:
    return f"an integer from {low} to {high}", lambda value: type(value) is int and low <= value <= high


def _levels(low: int, high: int) -> Rule:
    def good(value: Any) -> bool:
        return (
            isinstance(value, list | tuple)
            and low <= len(value) <= high
            and all(type(n) is int and 1 <= n <= 16 for n in value)
        )

    return f"a list of {low} to {high} integers from 1 to 16", good


HEADS = ("two_heads", *SINGLE_HEADS)
"""Output layers of a network."""

_SWITCH: Rule = ("true or false", lambda value: isinstance(value, bool))
_WIDTH = _integer(1, 128)
_COMMON: dict[str, Rule] = {
    "in_channels": _integer(1, 1000),
    "spatial_dims": ("2 or 3", lambda value: type(value) is int and value in (2, 3)),
    "head": (f"one of {', '.join(HEADS)}", lambda value: isinstance(value, str) and value in HEADS),
    "trunk": (f"one of {', '.join(TRUNKS)}", lambda value: isinstance(value, str) and value in TRUNKS),
    "width": (f"{_WIDTH[0]}, or null", lambda value: value is None or _WIDTH[1](value)),
    "prior_concatenation": _SWITCH,
    "separate_normalization": _SWITCH,
    "dropout": (
        "a number from 0 to below 1",
        lambda value: isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1,
    ),
}
_OF_TRUNK: dict[str, dict[str, Rule]] = {
    "segresnet": {"blocks_down": _levels(2, 7), "blocks_up": _levels(1, 6)},
    "dynunet": {"levels": _integer(3, 8)},
    "flexible_unet": {
        "backbone": (f"one of {', '.join(BACKBONES)}", lambda value: isinstance(value, str) and value in BACKBONES)
    },
}


def check_arguments(arguments: Mapping[str, Any]) -> None:
    """Check the arguments of a ``HierarchicalSegmenter``, apart from its tree.

    Raises:
        ConfigError: names the argument that is unknown, missing or out of range, and what it may be.
    """
    for name in ("in_channels", "spatial_dims"):
        if name not in arguments:
            raise ConfigError(f"the network has no '{name}'; give {_COMMON[name][0]}.")
    trunk = arguments.get("trunk", "unet")
    rules = {**_COMMON, **(_OF_TRUNK.get(trunk, {}) if isinstance(trunk, str) else {})}
    # Known arguments first: a wrong trunk should be reported as such, not by what it does not know.
    for name, (wanted, good) in rules.items():
        if name in arguments and not good(arguments[name]):
            raise ConfigError(f"the network's '{name}' is {arguments[name]!r}; give {wanted}.")
    unknown = [name for name in arguments if name not in rules]
    if unknown:
        raise ConfigError(
            f"the network with the trunk '{trunk}' has no argument {unknown[0]!r}; it has {', '.join(rules)}."
        )
