"""Two models on the same annotated cases, node by node: is the second better, and what did it lose?

Each model predicts every case on the case's own grid, prepared as that model wants it; both predictions are read under the
dataset's label tree (:mod:`hierseg.data.translation`).  A node that a model does not know has no score of that model.
What a model was trained on is not known here: whoever compares chooses cases that neither was trained on.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hierseg.bundle import Bundle
from hierseg.data.heldout import HeldSlices
from hierseg.data.translation import translate
from hierseg.dataset import Case, Dataset
from hierseg.errors import DatasetError, ImageError
from hierseg.evaluation.metrics import mean_score, node_scores
from hierseg.imageio import Volume, read_label, read_volume
from hierseg.labeltree import LabelTree

WARN_POINTS = 2.0
"""A node that loses more Dice points than this is warned of."""

Scores = dict[str, dict[str, float | None]]


@dataclass(frozen=True)
class Comparison:
    """Scores of two models.

    Attributes:
        tree: whose nodes are scored.
        models: the ids of both.
        scores: of each model: Dice by case and node, None where the reference or the model lacks the node.
        held: held-out slices that the scores were restricted to, by case; empty for whole cases.
    """

    tree: LabelTree
    models: tuple[str, str]
    scores: tuple[Scores, Scores]
    held: dict[str, HeldSlices]

    def means(self) -> dict[str, tuple[float | None, float | None]]:
        """Dice of both models by node, each averaged over the cases that show the node."""
        first, second = self.scores
        return {
            node.name: (
                mean_score({case: row.get(node.name) for case, row in first.items()}, first),
                mean_score({case: row.get(node.name) for case, row in second.items()}, second),
            )
            for node in self.tree.nodes
        }

    def lost(self) -> list[tuple[str, float]]:
        """Nodes that the second model does worse by more than :data:`WARN_POINTS`, with the points, worst first."""
        changes = [
            (name, 100.0 * (after - before))
            for name, (before, after) in self.means().items()
            if before is not None and after is not None
        ]
        return sorted((one for one in changes if one[1] < -WARN_POINTS), key=lambda one: one[1])

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "models": list(self.models),
            "nodes": {
                name: {
                    "before": before,
                    "after": after,
                    "points": None if before is None or after is None else round(100.0 * (after - before), 2),
                }
                for name, (before, after) in self.means().items()
            },
            "lost": [name for name, _points in self.lost()],
            "cases": sorted(self.scores[0]),
            "held_slices": {case: found.to_dict() for case, found in self.held.items()},
        }


def compare(
    bundles: tuple[Bundle, Bundle],
    dataset: Dataset,
    cases: Sequence[Case],
    *,
    held: Mapping[str, HeldSlices] | None = None,
    device: str = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> Comparison:
    """Predict and score; one model after the other, so that only one takes memory.

    Args:
        bundles: before and after.
        dataset: the folder of the cases.
        cases: annotated ones.
        held: restricts a case's reference to these slices.
        device: where to predict.
        progress: called with the predictions made and to make.

    Raises:
        DatasetError: there is no case, or one without a label map.
        ImageError: a case cannot be read, or does not have the model's channels.
    """
    from hierseg.inference import Predictor

    if not cases:
        raise DatasetError(f"{dataset.folder}: there is no annotated case to compare on; name some, or annotate one.")
    references = {case.id: _reference(dataset, case, (held or {}).get(case.id)) for case in cases}
    found: list[Scores] = []
    for turn, bundle in enumerate(bundles):
        predictor = Predictor(bundle, device=device)
        known = {node.path for node in bundle.tree.nodes}
        unknown = {node.name for node in dataset.tree.nodes if node.path not in known}
        scores: Scores = {}
        for number, case in enumerate(cases):
            volumes = [read_volume(path) for path in dataset.image_paths(case)]
            if len(volumes) != len(bundle.config["channels"]):
                raise ImageError(
                    f"case '{case.id}': it has {len(volumes)} images, but {bundle.id} expects {len(bundle.config['channels'])}; "
                    "compare models that were made for this dataset's channels."
                )
            labels = translate(predictor.predict(volumes).labels, bundle.tree, dataset.tree)
            reference = references[case.id]
            if labels.shape != reference.array.shape or not np.allclose(reference.affine, volumes[0].affine, atol=1e-2):
                raise ImageError(
                    f"case '{case.id}': the label map lies on another grid than the image; save the case again from Slicer."
                )
            row = node_scores(labels, np.asarray(reference.array), dataset.tree)
            scores[case.id] = {name: None if name in unknown else score for name, score in row.items()}
            if progress is not None:
                progress(turn * len(cases) + number + 1, 2 * len(cases))
        found.append(scores)
        del predictor
        gc.collect()
    return Comparison(dataset.tree, (bundles[0].id, bundles[1].id), (found[0], found[1]), dict(held or {}))


def _reference(dataset: Dataset, case: Case, held: HeldSlices | None) -> Volume:
    path = dataset.label_path(case)
    if path is None:
        raise DatasetError(
            f"{dataset.folder}: case '{case.id}' has no label map to compare with; choose annotated cases."
        )
    volume = read_label(path, dataset.tree)
    if held is None:
        return volume
    return Volume(held.only(np.asarray(volume.array), dataset.tree.unlabelled), volume.affine, volume.path)
