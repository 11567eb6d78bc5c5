"""What the files of a model bundle contain: checks, defaults and the generated ``inference.json``.

Everything here is data: nothing from a bundle is executed or unpickled.  Only the standard library is imported.
"""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from hierseg.errors import BundleError
from hierseg.labeltree import LabelTree

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
METADATA = "configs/metadata.json"
INFERENCE = "configs/inference.json"
CONFIG = "configs/hierseg.json"
TREE = "configs/label_tree.json"
WEIGHTS = "models/model.safetensors"
CARD = "docs/README.md"
LICENSE = "LICENSE"
REQUIRED_FILES = (METADATA, INFERENCE, CONFIG, TREE, WEIGHTS, CARD, LICENSE)

DEFAULT_OVERLAP = 0.2
"""Of two neighboring tiles, where nothing is said: steps of 0.8 of a tile."""

NETWORKS = ("HierarchicalSegmenter",)
"""The closed list of networks."""

NORMALIZATIONS: dict[str, tuple[str, ...]] = {
    "minmax": (),
    "percentile": ("lower", "upper"),
    "center_percentile": ("lower", "upper"),
    "zscore": (),
    "range": ("lower", "upper"),
    "none": (),
}
"""The closed list of intensity normalizations and their numbers."""

_PICKLES = frozenset(
    [
        ".pt",
        ".pth",
        ".pkl",
        ".pickle",
        ".ts",
        ".bin",
        ".ckpt",
        ".joblib",
        ".npy",
        ".npz",
        ".h5",
        ".hdf5",
        ".onnx",
        ".model",
    ]
)
_SUFFIXES = frozenset([".json", ".safetensors", ".md", ".txt", ".png", ".jpg", ".jpeg", ".csv", ".yaml", ".yml", ""])
_MAGIC = {
    b"PK\x03\x04": "a zip archive, as torch.save writes",
    b"PK\x05\x06": "a zip archive",
    b"\x7fELF": "a program",
    b"MZ\x90\x00": "a program",
}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_VERSION = re.compile(r"\d+\.\d+\.\d+([-+.][A-Za-z0-9.+-]+)?")
_AXES = (frozenset("LR"), frozenset("AP"), frozenset("SI"))


def check_content_kind(relative: str, path: Path) -> None:
    """Refuse a file that could carry code: pickles by their ending and by their first bytes, and foreign kinds.

    Raises:
        BundleError: names the file.
    """
    suffix = PurePosixPath(relative).suffix.lower()
    if suffix in _PICKLES:
        raise BundleError(
            f"{path}: a bundle holds no '{suffix}' files, because opening a pickle can run any program; keep the weights as {WEIGHTS}."
        )
    if suffix not in _SUFFIXES:
        raise BundleError(
            f"{path}: '{suffix}' is not a kind of file that a bundle holds ({', '.join(sorted(_SUFFIXES - {''}))}); remove it."
        )
    with open(path, "rb") as file:
        start = file.read(9)
    for magic, what in _MAGIC.items():
        if start.startswith(magic):
            raise BundleError(
                f"{path}: this is {what}, not what its name says; a bundle holds data only, get it from another source."
            )
    if len(start) >= 2 and start[0] == 0x80 and start[1] <= 5 and suffix != ".safetensors":
        raise BundleError(
            f"{path}: this is a Python pickle, which can run any program when it is opened; get the bundle from another source."
        )
    # Eight bytes with the length of a JSON object: a pickle or anything else does not pass for safetensors.
    if suffix == ".safetensors" and (
        len(start) < 9 or start[8:9] != b"{" or int.from_bytes(start[:8], "little") > path.stat().st_size
    ):
        raise BundleError(f"{path}: not a safetensors file (a renamed pickle?); get the bundle from another source.")


def check_metadata(metadata: Mapping[str, Any], where: Path) -> None:
    """Check MONAI's required keys and ours.

    Raises:
        BundleError: names ``where`` and the key.
    """
    texts = (
        "name",
        "version",
        "monai_version",
        "pytorch_version",
        "numpy_version",
        "task",
        "description",
        "authors",
        "copyright",
        "intended_use",
        "license",
    )
    for key in texts:
        if not isinstance(metadata.get(key), str) or not metadata[key].strip():
            raise BundleError(f"{where}: '{key}' is {metadata.get(key)!r}; give a text.")
    if not _NAME.fullmatch(metadata["name"]):
        raise BundleError(f"{where}: the bundle's name is {metadata['name']!r}; use letters, digits, '_' and '-'.")
    if not _VERSION.fullmatch(metadata["version"]):
        raise BundleError(f"{where}: the version is {metadata['version']!r}; give three numbers such as 1.0.2.")
    packages = ("required_packages_version", "optional_packages_version")
    if not any(isinstance(metadata.get(key), Mapping) for key in packages):
        raise BundleError(
            f"{where}: lacks 'required_packages_version', an object of package names and versions; add it."
        )
    data = metadata.get("network_data_format")
    if not isinstance(data, Mapping) or not all(
        isinstance(data.get(side), Mapping) and data[side] for side in ("inputs", "outputs")
    ):
        raise BundleError(
            f"{where}: 'network_data_format' needs 'inputs' and 'outputs', each with 'channel_def'; add them."
        )
    for side in ("inputs", "outputs"):
        for key, entry in data[side].items():
            if not isinstance(entry, Mapping) or not isinstance(entry.get("channel_def"), Mapping):
                raise BundleError(
                    f"{where}: network_data_format, {side}, '{key}' has no 'channel_def'; name every channel there."
                )


def check_config(config: Mapping[str, Any], where: Path) -> None:
    """Check the content of ``hierseg.json``; keys that this version does not know are let be.

    Raises:
        BundleError: names ``where``, the key, what was found and what it should be.
    """

    def refuse(key: str, wanted: str) -> BundleError:
        return BundleError(f"{where}: '{key}' is {config.get(key)!r}; {wanted}.")

    if config.get("format_version") != FORMAT_VERSION:
        raise refuse("format_version", f"this program reads {FORMAT_VERSION}: update it, or get a matching bundle")
    network = config.get("network")
    if (
        not isinstance(network, Mapping)
        or not isinstance(network.get("name"), str)
        or not isinstance(network.get("arguments", {}), Mapping)
    ):
        raise refuse("network", "give an object with 'name' and 'arguments'")
    dims = config.get("spatial_dims")
    if type(dims) is not int or dims not in (2, 3):
        raise refuse("spatial_dims", "give 2 or 3")
    channels = config.get("channels")
    if not isinstance(channels, list) or not channels:
        raise refuse("channels", "list at least one image channel")
    for channel in channels:
        _check_channel(channel, where)
    _check_agreement(network, dims, channels, where)
    orientation = config.get("orientation")
    if (
        not isinstance(orientation, str)
        or len(orientation) != 3
        or sorted(_axis_of(letter) for letter in orientation) != [0, 1, 2]
    ):
        raise refuse("orientation", "give three letters such as RAS, one each of L/R, P/A and I/S")
    axis = config.get("slice_axis")
    if axis is not None and (type(axis) is not int or not 0 <= axis <= 2):
        raise refuse("slice_axis", "give 0, 1 or 2, or null for the axis of the largest spacing")
    spacing = config.get("spacing")
    if spacing is not None and not (_numbers(spacing, 3) and all(value > 0 for value in spacing)):
        raise refuse("spacing", "give three positive numbers in mm, or null to keep that of the image")
    patch = config.get("patch_size")
    if (
        not isinstance(patch, list)
        or len(patch) != dims
        or not all(type(value) is int and value > 0 for value in patch)
    ):
        raise refuse("patch_size", f"give {dims} positive integers")
    overlap = config.get("overlap", DEFAULT_OVERLAP)
    if not _numbers([overlap], 1) or not 0 <= overlap < 1:
        raise refuse("overlap", "give a number from 0 to below 1")
    limits = config.get("thresholds", {})
    if not isinstance(limits, Mapping) or not all(
        _numbers([limit], 1) and 0 <= limit <= 1 for limit in limits.values()
    ):
        raise refuse("thresholds", "give an object of node names or paths and numbers from 0 to 1")
    pieces = config.get("one_piece", [])
    if not isinstance(pieces, list) or not all(isinstance(name, str) for name in pieces):
        raise refuse("one_piece", "give a list of node names or paths")
    coarse = config.get("coarse_pass")
    if coarse is not None and not _is_coarse_pass(coarse):
        raise refuse(
            "coarse_pass",
            "give null, or an object with 'factor' (three integers from 1 to 8), 'threshold' and 'branch_threshold' (0 to 1, or null)",
        )
    if not isinstance(config.get("modality", ""), str):
        raise refuse("modality", "give a text such as MR or CT")


def _is_coarse_pass(found: Any) -> bool:
    if not isinstance(found, Mapping):
        return False
    factor: Any = found.get("factor")
    limits: list[Any] = [found.get("threshold")]
    if found.get("branch_threshold") is not None:
        limits.append(found["branch_threshold"])
    return (
        isinstance(factor, list)
        and len(factor) == 3
        and all(type(step) is int and 1 <= step <= 8 for step in factor)
        and _numbers(limits, len(limits))
        and all(0 < limit < 1 for limit in limits)
    )


def _check_agreement(network: Mapping[str, Any], dims: int, channels: list[Any], where: Path) -> None:
    """What the network takes must be what the rest of the file prepares for it."""
    if network["name"] not in NETWORKS:
        raise BundleError(
            f"{where}: the network is '{network['name']}'; this program builds {', '.join(NETWORKS)} only: update it, or get a matching bundle."
        )
    arguments = network.get("arguments", {})
    for key, other, found in (("in_channels", "channels", len(channels)), ("spatial_dims", "spatial_dims", dims)):
        if key in arguments and arguments[key] != found:
            raise BundleError(
                f"{where}: the network's '{key}' is {arguments[key]!r}, but '{other}' makes it {found}; get the bundle again."
            )


def _check_channel(channel: Any, where: Path) -> None:
    if not isinstance(channel, Mapping) or not isinstance(channel.get("name"), str) or not channel["name"]:
        raise BundleError(f"{where}: a channel is {channel!r}; give an object with 'name' and 'normalization'.")
    normalization = channel.get("normalization")
    kind = normalization.get("type") if isinstance(normalization, Mapping) else None
    if not isinstance(normalization, Mapping) or not isinstance(kind, str) or kind not in NORMALIZATIONS:
        raise BundleError(
            f"{where}: channel '{channel['name']}' has the normalization {normalization!r}; types are {', '.join(NORMALIZATIONS)}."
        )
    limits = [normalization.get(key) for key in NORMALIZATIONS[kind]]
    if limits and not (_numbers(limits, 2) and float(limits[0] or 0) < float(limits[1] or 0)):
        raise BundleError(
            f"{where}: channel '{channel['name']}' is normalized from {limits[0]!r} to {limits[1]!r}; give 'lower' and 'upper', two numbers in ascending order."
        )
    if "percentile" in kind and not all(0 <= float(limit or 0) <= 100 for limit in limits):
        raise BundleError(
            f"{where}: channel '{channel['name']}' is normalized from percentile {limits[0]!r} to {limits[1]!r}; give 'lower' and 'upper' from 0 to 100."
        )


def _numbers(values: Any, count: int) -> bool:
    return (
        isinstance(values, list)
        and len(values) == count
        and all(
            isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")
            for value in values
        )
    )


def _axis_of(letter: str) -> int:
    return next((index for index, axis in enumerate(_AXES) if letter in axis), -1)


def complete_metadata(
    metadata: Mapping[str, Any], config: Mapping[str, Any], tree: LabelTree, name: str
) -> dict[str, Any]:
    """Metadata with every key that MONAI requires: what is missing is filled from the configuration and the tree."""
    versions = {package: _version_of(package) for package in ("monai", "torch", "numpy", "hierseg")}
    channels = [channel["name"] for channel in config["channels"]]
    patch = list(config["patch_size"])
    kind = {"type": "image", "is_patch_data": True, "dtype": "float32", "spatial_shape": patch}
    defaults = {
        "name": re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-") or "model",
        "version": "0.1.0",
        "changelog": {},
        "monai_version": versions["monai"],
        "pytorch_version": versions["torch"],
        "numpy_version": versions["numpy"],
        "required_packages_version": {"hierseg": versions["hierseg"], "safetensors": _version_of("safetensors")},
        "task": f"Hierarchical segmentation: {tree.name}",
        "description": f"Segments {len(tree.leaves)} structures under {len(tree.top_level)} top-level nodes of the label tree '{tree.name}'.",
        "authors": "not stated",
        "copyright": "not stated",
        "intended_use": "Research only. Not a medical device: a person checks every result.",
        "license": f"see the file {LICENSE}",
        "network_data_format": {
            "inputs": {
                "image": {
                    **kind,
                    "format": str(config.get("modality") or "magnitude"),
                    "modality": str(config.get("modality") or "n/a"),
                    "num_channels": len(channels),
                    "value_range": [],
                    "channel_def": {str(index): channel for index, channel in enumerate(channels)},
                }
            },
            "outputs": {
                "pred": {
                    **kind,
                    "format": "segmentation",
                    "num_channels": len(tree.leaves),
                    "value_range": [],
                    "channel_def": {str(index): leaf.name for index, leaf in enumerate(tree.leaves)},
                }
            },
        },
    }
    return {**defaults, **metadata}


def _version_of(package: str) -> str:
    from hierseg import __version__

    if package == "hierseg":
        return __version__
    try:
        return importlib.metadata.version(package).split("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return "not stated"


def inference_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The content of ``inference.json`` for ``python -m monai.bundle run``, which executes it at its user's choice.

    It needs ``hierseg`` installed.  ``network_def`` and ``inferer`` serve programs that bring their own images;
    ``run`` does the same as ``hierseg predict`` with ``images`` (a list of cases) and ``output_dir``.
    """
    return {
        "imports": [
            "$import torch",
            "$from hierseg.bundle import Bundle",
            "$from hierseg.cli import main as hierseg_command",
        ],
        "bundle_root": ".",
        "images": [],
        "output_dir": "$@bundle_root + '/eval'",
        "device": "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
        "bundle": "$Bundle.open(@bundle_root)",
        "network_def": {"_target_": "hierseg.networks.weights.load_model", "bundle": "@bundle"},
        "network": "$@network_def.to(@device)",
        "inferer": {
            "_target_": "SlidingWindowInferer",
            "roi_size": list(config["patch_size"]),
            "sw_batch_size": 1,
            "overlap": config.get("overlap", DEFAULT_OVERLAP),
            "mode": "gaussian",
        },
        "initialize": ["$@bundle"],
        "run": ["$hierseg_command(['predict', @bundle_root, *@images, '--out', @output_dir])"],
    }
