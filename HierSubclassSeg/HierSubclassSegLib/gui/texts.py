"""Words for what the compute and scene halves report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slicer.i18n import tr as _

from hierseg.bundle import Bundle
from HierSubclassSegLib.compute import models
from HierSubclassSegLib.compute.overall import Overall
from HierSubclassSegLib.scene.inputs import InputCheck


def about_model(bundle: Bundle, expected: tuple[float, str] | None = None) -> str:
    """What it is for, and in a line modality, license, measured quality and the time it takes here.

    Args:
        bundle: the model.
        expected: seconds and device; None where it has not run on this computer.
    """
    parts = [part for part in (models.modality(bundle), models.license_name(bundle)) if part]
    parts.append(quality(models.measured(bundle)))
    if expected is not None:
        parts.append(
            _("about {time} on {device} here").format(time=duration(expected[0]), device=device_word(expected[1]))
        )
    facts = " · ".join(parts)
    task = str(bundle.metadata.get("task") or "")
    return f"{task}\n{facts}" if task else facts


def quality(found: models.Measured | None) -> str:
    """The mean Dice and what it was measured on."""
    if found is None:
        return _("no measured result")
    low, high = round(found.lowest), round(found.highest)
    dice = f"{low}" if low == high else f"{low}–{high}"
    if found.slices:
        return _("mean Dice {dice} % on slices held out of the training").format(dice=dice)
    if found.scans == 1:
        return _("mean Dice {dice} % on 1 scan").format(dice=dice)
    return _("mean Dice {dice} % on {count} scans").format(dice=dice, count=found.scans)


def device_word(name: str) -> str:
    """A device's name in a sentence."""
    return _("the processor") if not name or name == "cpu" else name


def model_tip(bundle: Bundle) -> str:
    """What the model is for."""
    metadata = bundle.metadata
    lines = [bundle.id, str(metadata.get("description") or ""), str(metadata.get("intended_use") or "")]
    lines.append(_("Labels: {tree}, {count} structures").format(tree=bundle.tree.name, count=len(bundle.tree.leaves)))
    lines.append(_("Measured results and limits: {path}").format(path=bundle.folder / "docs" / "README.md"))
    return "\n".join(line for line in lines if line)


def stage(word: str) -> str:
    """The worker's stage for people."""
    words = {
        "start": _("Starting"),
        "send": _("Sending the image"),
        "load model": _("Loading the model"),
        "preprocess": _("Preparing the image"),
        "network": _("Segmenting"),
        "restore": _("Putting together"),
    }
    return words.get(word, word)


def progress(state: Overall) -> str:
    """Stage, percent and time left."""
    text = f"{stage(state.stage)} · {100 * state.fraction:.0f} %"
    if state.seconds_left is not None:
        text += " · " + _("about {time} left").format(time=duration(state.seconds_left))
    return text


def duration(seconds: float) -> str:
    """Seconds for people."""
    if seconds < 60:
        return _("{count} s").format(count=max(1, round(seconds)))
    return _("{count} min").format(count=max(1, round(seconds / 60)))


def inputs(check: InputCheck) -> str:
    """One sentence on what does not fit; empty if everything does."""
    if check.hardening:
        return _("'{name}' is under a non-linear transform: harden it first (Transforms module, Harden).").format(
            name=check.hardening[0]
        )
    if check.empty:
        return _("'{name}' has no voxels: choose another volume.").format(name=check.empty[0])
    if check.missing:
        return _("Choose a volume for {channels}.").format(channels=", ".join(check.missing))
    if check.twice:
        return _("'{name}' is chosen twice; the model expects different images.").format(name=check.twice)
    if check.resampled:
        return _("'{name}' lies on another grid and will be resampled.").format(name="', '".join(check.resampled))
    return ""


def device(entry: Mapping[str, Any]) -> str:
    """A device with what was found: name, memory."""
    label = str(entry.get("label") or "")
    memory = entry.get("memory")
    size = f", {int(memory) / 2**30:.0f} GB" if memory else ""
    if entry["name"] == "cpu":
        return _("CPU")
    return f"{label or entry['name']} ({entry['name']}{size})"


def volume(ml: float | None) -> str:
    """Milliliters with the digits that mean something."""
    if ml is None:
        return ""
    if 0 < ml < 0.1:
        return f"{ml:.2f}"
    return f"{ml:.1f}" if ml < 100 else f"{ml:.0f}"
