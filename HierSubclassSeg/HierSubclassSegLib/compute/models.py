"""The model bundles that a user can choose from, and what can be said of each in a line.

The user's own models come first, then the shipped ones.  Only the shared vocabulary is used, so a list is there before
anything is installed.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hierseg.bundle import Bundle, list_bundles
from hierseg.errors import BundleError
from hierseg.resources import models_folder

_MEASURED_ROW = re.compile(r"^\|\s*\*{0,2}mean of the leaves\*{0,2}\s*\|(.*)\|\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Models:
    """What was found in the folders of models.

    Attributes:
        bundles: the usable ones by id; of two with one id the user's own.
        problems: a sentence for each folder that is no usable bundle.
    """

    bundles: dict[str, Bundle]
    problems: tuple[str, ...]


def find_models(*folders: str | Path) -> Models:
    """Look through the user's and the shipped folders of models (or the given ones)."""
    bundles: dict[str, Bundle] = {}
    problems = []
    for found in list_bundles(*folders):
        if isinstance(found, Bundle):
            bundles.setdefault(found.id, found)
        else:
            problems.append(found.sentence)
    return Models(bundles, tuple(problems))


def channel_names(bundle: Bundle) -> list[str]:
    """What the model calls its input channels, in its order."""
    return [str(channel["name"]) for channel in bundle.config["channels"]]


def modality(bundle: Bundle) -> str:
    """``MR``, ``CT``, ...; empty where the bundle does not say."""
    return str(bundle.config.get("modality") or "")


def license_name(bundle: Bundle) -> str:
    """The license in a word or two; empty where the bundle does not say."""
    return str(bundle.metadata.get("license") or "")


def measured(bundle: Bundle) -> tuple[float, float, int] | None:
    """Lowest and highest mean Dice of the leaves (percent) and the number of scans; None if the card has no such row."""
    try:
        row = _MEASURED_ROW.search(bundle.card)
    except (OSError, UnicodeDecodeError):
        return None
    numbers = [float(text) for text in re.findall(r"\d+(?:\.\d+)?", row.group(1))] if row else []
    return (min(numbers), max(numbers), len(numbers)) if numbers else None


def is_own(bundle: Bundle) -> bool:
    """Whether the bundle lies in the user's folder, so that it may be deleted."""
    return bundle.folder.resolve().parent == models_folder().resolve()


def delete_model(bundle: Bundle) -> None:
    """Delete a bundle of the user's.

    Raises:
        BundleError: it is a shipped one, or the folder cannot be removed.
    """
    if not is_own(bundle):
        raise BundleError(
            f"{bundle.id}: this model came with the extension and stays; only imported ones can be deleted."
        )
    try:
        shutil.rmtree(bundle.folder)
    except OSError as error:
        raise BundleError(
            f"{bundle.folder}: cannot be deleted ({error.strerror or error}); close what uses it."
        ) from error


def default_model(models: Models, wanted: str = "") -> Bundle | None:
    """The wanted model if it is there, else the first one."""
    if wanted in models.bundles:
        return models.bundles[wanted]
    return next(iter(models.bundles.values()), None)


def bundle_ids(models: Models) -> Sequence[str]:
    """The ids in the order of a list."""
    return list(models.bundles)
