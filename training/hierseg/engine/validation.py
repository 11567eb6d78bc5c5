"""Measuring a model on whole held-out cases."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hierseg.data.caching import CaseCache
from hierseg.data.translation import translation_table
from hierseg.evaluation.metrics import mean_score, node_scores
from hierseg.inference import decode, predict_prepared
from hierseg.labeltree import LabelTree
from hierseg.networks import HierarchicalSegmenter


@dataclass(frozen=True)
class Measurement:
    """Scores of a model on the validation cases.

    Attributes:
        iteration: iterations done when it was taken.
        scores: Dice by case and node; None where a case's reference does not show the node.
    """

    iteration: int
    scores: dict[str, dict[str, float | None]]

    def mean(self, node: str) -> float | None:
        """The node's Dice, averaged over the cases that show it."""
        return mean_score({case: found.get(node) for case, found in self.scores.items()}, self.scores)

    def summary(self, tree: LabelTree) -> tuple[float | None, str]:
        """One number to compare models by, and what it is the mean of.

        Subclasses if any was measured (background and other top-level leaves left out), else superclasses.
        """
        means = {node.name: self.mean(node.name) for node in tree.nodes}
        subclasses = mean_score(means, [leaf.name for leaf in tree.leaves if leaf.parent is not None])
        if subclasses is not None:
            return subclasses, "mean Dice of the subclasses"
        inner = mean_score(means, [node.name for node in tree.top_level if not tree.is_leaf(node)])
        if inner is not None:
            return inner, "mean Dice of the superclasses"
        return mean_score(means, [node.name for node in tree.top_level]), "mean Dice of the top-level nodes"

    def among(self, other: Measurement) -> Measurement:
        """The scores of those nodes alone that another measurement has as well, so that means can be compared."""
        return Measurement(
            self.iteration,
            {
                case: {node: None if other.mean(node) is None else score for node, score in found.items()}
                for case, found in self.scores.items()
            },
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"iteration": self.iteration, "scores": self.scores}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Measurement:
        """The opposite of :meth:`to_dict`."""
        return cls(int(content["iteration"]), {case: dict(found) for case, found in content["scores"].items()})


def measure(
    model: HierarchicalSegmenter,
    cache: CaseCache,
    positions: Sequence[int],
    config: Mapping[str, Any],
    iteration: int,
    *,
    tree: LabelTree | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Measurement:
    """Predict whole cases and score them on the network's grid.

    Args:
        model: on its device.
        tree: of the reference, where it is another one than the model's; nodes that the model does not know get no score.
        cache: of the validation cases.
        positions: which of them.
        config: of the bundle (patch size, overlap).
        iteration: iterations done.
        cancelled: ends the work.
    """
    own = model.tree
    tree = own if tree is None else tree
    values = translation_table(own, tree)[own.leaf_values]
    unknown = {node.name for node in tree.nodes} - {node.name for node in tree.nodes if node.path in _paths(own)}
    scores: dict[str, dict[str, float | None]] = {}
    for position in positions:
        case = cache[position]
        probabilities = predict_prepared(model, case.image, config, tree=own, cancelled=cancelled)
        labels = values[decode(probabilities, own).leaf.cpu().numpy()]
        found = node_scores(labels, np.asarray(case.label), tree)
        scores[case.id] = {name: None if name in unknown else score for name, score in found.items()}
    return Measurement(iteration, scores)


def _paths(tree: LabelTree) -> set[str]:
    return {node.path for node in tree.nodes}
