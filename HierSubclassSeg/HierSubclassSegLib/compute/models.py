"""The model bundles that a user can choose from, and what can be said of each in a line.

The user's own models come first, then the shipped ones.  Only the shared vocabulary is used, so a list is there before
anything is installed.
"""

from __future__ import annotations

import re
import shutil
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


@dataclass(frozen=True)
class Measured:
    """What a model scored on images that it was not trained on.

    Attributes:
        lowest, highest: mean Dice of the leaves in percent, over the scans; both the mean where only that is known.
        scans: how many.
        slices: only slices of them were held out of the training, not the whole scans.
    """

    lowest: float
    highest: float
    scans: int
    slices: bool = False


def measured(bundle: Bundle) -> Measured | None:
    """What the card's table, or the metadata that a training wrote, say; None if nothing was measured."""
    try:
        row = _MEASURED_ROW.search(bundle.card)
    except (OSError, UnicodeDecodeError):
        return None
    numbers = [float(text) for text in re.findall(r"\d+(?:\.\d+)?", row.group(1))] if row else []
    if numbers:
        return Measured(min(numbers), max(numbers), len(numbers))
    scores, training = bundle.metadata.get("scores"), bundle.metadata.get("training")
    if not isinstance(scores, dict) or not isinstance(training, dict):
        return None
    found = [scores.get(leaf.name) for leaf in bundle.tree.leaves]
    known = [float(score) for score in found if isinstance(score, (int, float))]
    if not known:
        return None
    mean = 100.0 * sum(known) / len(known)
    return Measured(mean, mean, int(training.get("validation_cases") or 0), training.get("measured_on") == "slices")


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
