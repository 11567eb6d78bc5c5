"""Words for training runs."""

from __future__ import annotations

import time

from slicer.i18n import tr as _

from hierseg.dataset import Dataset
from hierseg.labeltree import LabelTree
from HierSubclassSegLib.compute.history import History, NodeChange
from HierSubclassSegLib.compute.runs import KnownRun
from HierSubclassSegLib.compute.training import TrainingStatus
from HierSubclassSegLib.gui import texts

_SHOWN = 3


def preset(name: str) -> str:
    """A preset for people."""
    return {"quick": _("Quick"), "standard": _("Standard"), "thorough": _("Thorough")}.get(name, name)


def state(word: str) -> str:
    """A run's state for people."""
    words = {
        "starting": _("starting"),
        "running": _("running"),
        "stopping": _("stopping"),
        "finished": _("finished"),
        "stopped": _("stopped"),
        "failed": _("failed"),
    }
    return words.get(word, word)


def stage(status: TrainingStatus) -> str:
    """Stage, percent and time left."""
    words = {
        "starting": _("Starting"),
        "preparing training cases": _("Preparing images"),
        "preparing validation cases": _("Preparing images"),
        "measuring the start model": _("Measuring the starting model"),
        "training": _("Training"),
        "waiting": _("Waiting for a prediction"),
        "validating": _("Measuring"),
        "writing the bundle": _("Writing the model"),
    }
    parts = [words.get(status.stage, status.stage) or _("Starting")]
    if status.state == "stopping":
        parts = [_("Stopping; the best model is kept")]
    if status.iterations and status.state != "starting":
        parts.append(f"{100 * status.fraction:.0f} %")
    if status.seconds_left is not None and status.state == "running" and status.iteration > 1:
        parts.append(_("about {time} left").format(time=texts.duration(status.seconds_left)))
    return " · ".join(parts)


def run_title(run: KnownRun, status: TrainingStatus) -> str:
    """A run in the list of runs."""
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(run.began))
    parts = [when, run.dataset, preset(run.preset) if run.preset else "", state(status.state)]
    return " · ".join(part for part in parts if part)


def dataset(opened: Dataset, tree: LabelTree | None) -> str:
    """What is in a dataset folder, and what its tree has that a model's lacks.

    Args:
        opened: the folder.
        tree: the starting model's.
    """
    annotated = [case for case in opened.cases("training") if case.label is not None]
    parts = [
        _("{count} annotated cases").format(count=len(annotated)) if len(annotated) != 1 else _("1 annotated case")
    ]
    held = sum(case.label is not None for case in opened.cases("validation"))
    if held:
        parts.append(_("{count} for validation").format(count=held))
    parts.append(_("labels: {tree}").format(tree=opened.tree.name))
    if tree is not None:
        known = {node.path for node in tree.nodes}
        new = [node.name for node in opened.tree.nodes if node.path not in known]
        if new:
            names = ", ".join(new[:_SHOWN]) + (" …" if len(new) > _SHOWN else "")
            parts.append(_("new: {names}").format(names=names))
    return " · ".join(parts)


def work(iterations: int, seconds: float | None) -> str:
    """How long a preset takes."""
    if seconds is None:
        return _("{count} iterations; how long they take here is known after the first ones").format(count=iterations)
    return _("{count} iterations, about {time} as measured on this computer").format(
        count=iterations, time=texts.duration(seconds)
    )


def reference(history: History) -> str:
    """What the scores were measured on, and how much to believe them."""
    if history.held == "cases":
        count = int(history.start.get("validation") or 0)
        where = (
            _("Dice on 1 case that was not trained on.")
            if count == 1
            else _("Dice on {count} cases that were not trained on.").format(count=count)
        )
        return where + " " + _("The best weights were chosen by them.")
    if history.held == "slices":
        return _(
            "No case could be held out: Dice on annotated slices that were left out of the training. "
            "They come from the same images, so other images may score lower."
        )
    if history.start:
        return _("Nothing could be held out, so nothing was measured: look at results before you rely on them.")
    return ""


def warning(history: History) -> str:
    """What the run said of its data that its owner should know; what is held out is said by :func:`reference`."""
    told = (
        "held out",
        "left for validation",
        "keep their output weights",
        "trunk was copied",
        "start from",
        "nothing is mixed",
    )
    return next((note for note in history.notes if not any(words in note for words in told)), "")


def losers(changes: list[NodeChange]) -> str:
    """A warning of structures that became worse; empty if none did."""
    lost = sorted((change for change in changes if change.lost), key=lambda change: change.points or 0.0)
    if not lost:
        return ""
    names = ", ".join(f"{change.name} ({change.points:+.1f})" for change in lost[:_SHOWN])
    more = _(" and {count} more").format(count=len(lost) - _SHOWN) if len(lost) > _SHOWN else ""
    return _("Worse than the starting model by more than 2 points: {names}{more}.").format(names=names, more=more)


def percent(score: float | None) -> str:
    """A Dice score."""
    return "–" if score is None else f"{100 * score:.1f}"
