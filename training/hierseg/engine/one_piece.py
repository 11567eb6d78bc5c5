"""Which nodes are one piece, found on validation cases; see :mod:`hierseg.inference.one_piece`.

A node is taken to be one piece where every reference shows it so, and where leaving the largest predicted piece alone makes
its mean Dice better, and no other node's worse by as much.  nnU-Net asks for the latter alone, which may take the second
of two lesions away.  Lesions of which each validation case happens to show one are not told from organs, so that fewer than
:data:`LEAST` cases decide nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from hierseg.data.caching import CaseCache
from hierseg.evaluation.metrics import mean_score, node_scores
from hierseg.imageio import spacing_of
from hierseg.inference import decode, predict_prepared
from hierseg.inference.one_piece import apart, join_pieces
from hierseg.labeltree import LabelTree, Node
from hierseg.networks import HierarchicalSegmenter

LEAST = 3
"""Cases that have to show a node."""
LOOSE = 0.01
"""Share of a node's voxels that may lie apart in a reference: a thin part may be cut by the grid."""


def choose_one_piece(
    model: HierarchicalSegmenter,
    cache: CaseCache,
    config: Mapping[str, Any],
    *,
    cancelled: Callable[[], bool] | None = None,
) -> list[str]:
    """Predict the cases and find the nodes that are one piece.

    Args:
        model: on its device.
        cache: of the validation cases.
        config: of the bundle (patch size, overlap).
        cancelled: ends the work.

    Returns:
        Names in the tree's order.
    """
    cases = []
    for position in range(len(cache)):
        case = cache[position]
        found = decode(predict_prepared(model, case.image, config, tree=model.tree, cancelled=cancelled), model.tree)
        labels = model.tree.leaf_values[found.leaf.cpu().numpy()].astype(model.tree.dtype)
        cases.append((labels, np.asarray(case.label), spacing_of(case.affine)))
    return pieces_of(cases, model.tree)


def pieces_of(cases: Sequence[tuple[np.ndarray, np.ndarray, Sequence[float]]], tree: LabelTree) -> list[str]:
    """The nodes that are one piece in these cases.

    Args:
        cases: predicted and reference node values ``(x, y, z)`` and spacing of each.
        tree: of the labels.
    """
    wanted = [node for node in tree.nodes if node != tree.background and _is_one(cases, tree, node)]
    chosen: list[str] = []
    scores = _scores(cases, tree, chosen)
    # Parents first, each on top of those before it.
    for node in sorted(wanted, key=lambda node: len(tree.ancestors(node))):
        after = _scores(cases, tree, [*chosen, node.name])
        if _better(scores, after, node.name):
            chosen.append(node.name)
            scores = after
    return [node.name for node in tree.nodes if node.name in chosen]


def _is_one(cases: Sequence[tuple[np.ndarray, np.ndarray, Sequence[float]]], tree: LabelTree, node: Node) -> bool:
    above = [ancestor.value for ancestor in tree.ancestors(node)]
    members = [node.value, *(below.value for below in tree.descendants(node))]
    shown = 0
    for _, reference, _ in cases:
        count = int(np.isin(reference, members).sum())
        # Where voxels are unlabelled, or only known as a part of what holds the node, nobody can tell.
        if count == 0 or np.isin(reference, [*above, tree.unlabelled]).any():
            continue
        shown += 1
        if apart(reference, tree, node).sum() > LOOSE * count:
            return False
    return shown >= LEAST


def _scores(
    cases: Sequence[tuple[np.ndarray, np.ndarray, Sequence[float]]], tree: LabelTree, nodes: Sequence[str]
) -> dict[str, float | None]:
    """Mean Dice of every node, with these nodes in one piece."""
    found = []
    for labels, reference, spacing in cases:
        changed = labels.copy()
        join_pieces(changed, tree, nodes, spacing)
        found.append(node_scores(changed, reference, tree))
    return {
        node.name: mean_score(
            {str(index): scores[node.name] for index, scores in enumerate(found)}, map(str, range(len(found)))
        )
        for node in tree.nodes
    }


def _better(before: Mapping[str, float | None], after: Mapping[str, float | None], node: str) -> bool:
    gains = {
        name: after[name] - score  # type: ignore[operator]  # what the reference shows does not change
        for name, score in before.items()
        if score is not None
    }
    return gains.get(node, 0.0) > 0 and min(gains.values()) > -gains[node]
