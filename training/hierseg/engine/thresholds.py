"""Thresholds below which a node is not accepted, chosen on validation cases.

Without a background in the tree nothing is ever "none of these": every voxel gets some leaf, also those that show
what nobody ever annotated.  A prediction is therefore accepted level by level, from the top, while the node's
probability is at least its threshold (:mod:`hierseg.inference.restore`): a voxel is a leaf, or only its superclass,
or unlabelled, that is, out of distribution.

A node's threshold is the largest one that leaves a wanted share of its annotated voxels above it.  A voxel has to pass
every level, so that the share of a leaf's voxels that keep the leaf is at most that of the leaf alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from hierseg.data.caching import CaseCache
from hierseg.inference import predict_prepared
from hierseg.inference.window import Probabilities
from hierseg.labeltree import LabelTree, Node
from hierseg.networks import HierarchicalSegmenter

_BINS = 10000
"""Of the histograms: thresholds are multiples of 1/10000."""


def choose_thresholds(
    model: HierarchicalSegmenter,
    cache: CaseCache,
    config: Mapping[str, Any],
    rate: float,
    *,
    cancelled: Callable[[], bool] | None = None,
) -> dict[str, float]:
    """Predict the cases and find each node's threshold.

    Args:
        model: on its device.
        cache: of the validation cases.
        config: of the bundle (patch size, overlap).
        rate: share of a node's voxels that shall pass, 0 to 1.
        cancelled: ends the work.

    Returns:
        A threshold by node name; nodes that no case shows have none.
    """
    tree = model.tree
    counts = {node.name: np.zeros(_BINS, dtype=np.int64) for node in tree.nodes}
    for position in range(len(cache)):
        case = cache[position]
        found = predict_prepared(model, case.image, config, tree=tree, cancelled=cancelled)
        add_counts(counts, found, np.asarray(case.label), tree)
    return {name: threshold_of(count, rate) for name, count in counts.items() if count.any()}


def add_counts(counts: dict[str, np.ndarray], probabilities: Probabilities, label: np.ndarray, tree: LabelTree) -> None:
    """Add the probability that each node has in its own voxels to its histogram.

    Args:
        counts: by node name, ``(bins,)`` each; changed in place.
        probabilities: of one case.
        label: node values on the same grid.
        tree: of both.
    """
    for row, node in enumerate(tree.nodes):
        values = [node.value, *(below.value for below in tree.descendants(node))]
        own = torch.from_numpy(np.isin(label, values)).to(probabilities.leaf.device)
        if own.any():
            p = node_probability(probabilities, tree, row)[own].double().cpu().numpy()
            bins = np.minimum((p * _BINS).astype(np.int64), _BINS - 1)
            counts[node.name] += np.bincount(bins, minlength=_BINS)


def node_probability(probabilities: Probabilities, tree: LabelTree, row: int) -> torch.Tensor:
    """The probability that acceptance looks at, ``(X, Y, Z)``: the superclass output's at the top, else the leaves' sum.

    Args:
        probabilities: of one case.
        tree: of the model.
        row: of the node in ``tree.nodes``.
    """
    node: Node = tree.nodes[row]
    if node.parent is None:
        return probabilities.superclass[[top.name for top in tree.top_level].index(node.name)]
    return probabilities.leaf[torch.from_numpy(tree.membership[row]).to(probabilities.leaf.device)].sum(dim=0)


def threshold_of(count: np.ndarray, rate: float) -> float:
    """The largest lower edge of a bin at or above which ``rate`` of the counted voxels lie."""
    above = np.cumsum(count[::-1])[::-1]
    enough = np.flatnonzero(above >= rate * count.sum() - 1e-9)
    return float(enough[-1]) / len(count)
