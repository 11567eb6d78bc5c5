"""The bundle at the end of a run, with a model card that says what was measured, and what was not."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hierseg.bundle import Bundle, write_bundle
from hierseg.dataset import Dataset
from hierseg.engine.config import TrainConfig
from hierseg.engine.validation import Measurement
from hierseg.labeltree import LabelTree
from hierseg.networks.weights import save_weights


@dataclass(frozen=True)
class Story:
    """What the model card tells.

    Attributes:
        config: the settings.
        iterations: done when the published weights were taken.
        training: ids of the cases trained on.
        measurement: of the published weights; None if there was no validation case.
        start: id of the bundle that training started from.
        notes: sentences for the reader, as what was missing in the data.
        baseline: of the start model on the same reference; None if it was not measured.
        held: ``cases`` or ``slices``: what the measurements were taken on.
    """

    config: TrainConfig
    iterations: int
    training: Sequence[str]
    measurement: Measurement | None
    start: str | None
    notes: Sequence[str]
    baseline: Measurement | None = None
    held: str = "cases"


def publish(
    folder: Path,
    dataset: Dataset,
    state: dict[str, torch.Tensor],
    config: dict[str, Any],
    story: Story,
    *,
    name: str | None = None,
) -> Bundle:
    """Write the bundle; weights in half precision.

    Args:
        folder: where.
        dataset: that was trained on.
        state: the weights.
        config: the content of ``hierseg.json``.
        story: for the card.
        name: of the bundle; made from the dataset's if None.
    """
    default = (
        f"{dataset.name} {story.config.method}"
        if story.start is None
        else f"{story.start.split('@')[0]} {dataset.name}"
    )
    slug = re.sub(r"[^A-Za-z0-9_]+", "-", name or default).strip("-_") or "model"
    version = f"0.1.0+{time.strftime('%Y%m%d.%H%M%S', time.gmtime())}"
    metadata: dict[str, Any] = {
        "name": slug,
        "version": version,
        "description": f"Segments {len(dataset.tree.leaves)} leaf structures of the label tree '{dataset.tree.name}'; trained on '{dataset.name}'.",
        "training": {
            "method": story.config.method,
            "iterations": story.iterations,
            "training_cases": len(story.training),
            "validation_cases": 0 if story.measurement is None else len(story.measurement.scores),
            "measured_on": None if story.measurement is None else story.held,
            "started_from": story.start,
        },
        "scores": None
        if story.measurement is None
        else {node.name: story.measurement.mean(node.name) for node in dataset.tree.nodes},
    }
    return write_bundle(
        folder,
        config=config,
        metadata=metadata,
        tree=dataset.tree,
        write_weights=lambda path: save_weights(state, path, half=True),
        card=model_card(slug, dataset, story),
        license_text=(
            f"These weights were trained on the dataset '{dataset.name}'"
            + (f", starting from the model {story.start}" if story.start else "")
            + ".\nWhoever owns these decides on what may be done with the weights; ask before passing them on.\n"
        ),
    )


def model_card(name: str, dataset: Dataset, story: Story) -> str:
    """The card, in Markdown."""
    config = story.config
    lines = [
        f"# {name}",
        "",
        (
            f"Segments the label tree '{dataset.tree.name}' ({len(dataset.tree.top_level)} top-level nodes, {len(dataset.tree.leaves)} leaves) "
            f"in {config.spatial_dims}D images with the channels {', '.join(dataset.channels)}."
        ),
        "",
        "Research only. Not a medical device: a person checks every result.",
        "",
        "## Training",
        "",
        f"- Dataset '{dataset.name}': {len(story.training)} training case{'' if len(story.training) == 1 else 's'}.",
        f"- Method `{config.method}`, {story.iterations} iterations of {config.batch_size} patches of {' × '.join(map(str, config.patch_size))} voxels.",
        f"- Started from {story.start}." if story.start else "- Started from random weights.",
        *[f"- {note}" for note in story.notes],
        "",
        "## What was measured",
        "",
        *_measured(dataset.tree, story),
        "",
    ]
    return "\n".join(lines)


def _measured(tree: LabelTree, story: Story) -> list[str]:
    measurement, before = story.measurement, story.baseline
    if measurement is None:
        return ["Not measured: no validation case."]
    cases = list(measurement.scores)
    shown = ", ".join(cases[:10]) + (f" and {len(cases) - 10} more" if len(cases) > 10 else "")
    count = f"{len(cases)} case{'' if len(cases) == 1 else 's'}"
    where = (
        f"annotated slices of {count} ({shown}) that the weights were not trained on, while other slices of the same images were"
        if story.held == "slices"
        else f"{count} that the weights were not trained on ({shown})"
    )
    lines = [
        (
            f"Dice on {where}, on the network's grid. "
            "The checkpoint was chosen by these cases, so that new cases may score lower. "
            "Unlabelled voxels are left out; a voxel known only as an inner node scores that node and its ancestors."
        ),
        "",
        "| node | mean Dice | cases |" + (f" {story.start} |" if before is not None else ""),
        "|---|---|---|" + ("---|" if before is not None else ""),
    ]
    for node in tree.nodes:
        shown_in = sum(found.get(node.name) is not None for found in measurement.scores.values())
        mean = measurement.mean(node.name)
        row = f"| {node.path} | {'not in the reference' if mean is None else f'{mean:.3f}'} | {shown_in} |"
        if before is not None:
            start = before.mean(node.name)
            row += f" {'–' if start is None or mean is None else f'{start:.3f}'} |"
        lines.append(row)
    return lines
