"""Classes that are hidden from a training, to see whether the model notices what it never learned.

The setting ``hold_out`` names nodes; their voxels are unlabelled for the training and for the scores.  At the end the
published model predicts the validation cases, and the probability of its most probable leaf is compared between the
voxels of its own classes and those of the hidden ones (:mod:`hierseg.evaluation.out_of_distribution`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from hierseg.data.cases import ChangeLabel, load_case
from hierseg.data.preprocess import Preprocessor
from hierseg.dataset import Case, Dataset
from hierseg.errors import ConfigError
from hierseg.evaluation.out_of_distribution import Separation, separation, some
from hierseg.inference import predict_prepared
from hierseg.labeltree import LabelTree
from hierseg.networks import HierarchicalSegmenter


def hidden_values(tree: LabelTree, names: Sequence[str]) -> list[int]:
    """Values of the named nodes and all below them.

    Raises:
        LabelTreeError: there is no such node.
        ConfigError: nothing would be left to learn.
    """
    nodes = [tree.node(name) for name in names]
    values = {value.value for node in nodes for value in (node, *tree.descendants(node))}
    if not {leaf.value for leaf in tree.leaves} - values:
        raise ConfigError("'hold_out' hides every leaf of the label tree; leave some to learn.")
    return sorted(values)


def hide(values: Sequence[int]) -> ChangeLabel:
    """A function that makes these values unlabelled."""

    def change(label: np.ndarray, unlabelled: int) -> np.ndarray:
        changed: np.ndarray = np.where(np.isin(label, values), np.asarray(unlabelled, dtype=label.dtype), label)
        return changed

    return change


def notice_hidden(
    model: HierarchicalSegmenter,
    dataset: Dataset,
    cases: Sequence[Case],
    config: Mapping[str, Any],
    names: Sequence[str],
    *,
    cancelled: Callable[[], bool] | None = None,
) -> Separation:
    """Compare the largest leaf probability of known and hidden voxels.

    Args:
        model: on its device.
        dataset: with the label maps as they are.
        cases: that were not trained on.
        config: of the bundle.
        names: of the hidden nodes.
        cancelled: ends the work.
    """
    tree, preprocessor = dataset.tree, Preprocessor(config)
    values = hidden_values(tree, names)
    known: list[np.ndarray] = []
    unknown: list[np.ndarray] = []
    for case in cases:
        prepared = load_case(dataset, case, preprocessor, need_label=False)
        found = predict_prepared(model, prepared.image, config, tree=tree, cancelled=cancelled)
        score = found.leaf.max(dim=0).values.cpu().numpy()
        hidden = np.isin(prepared.label, values)
        for mask, into in ((~hidden & (prepared.label != tree.unlabelled), known), (hidden, unknown)):
            into.append(some(score[mask]))
    return separation(np.concatenate(known or [np.zeros(0)]), np.concatenate(unknown or [np.zeros(0)]))
