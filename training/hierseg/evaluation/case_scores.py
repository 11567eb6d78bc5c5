"""All scores of one case: of every node of the tree, and of the errors as a whole.

A reference may be sparse and coarse.  What counts for which node is said in :mod:`hierseg.evaluation.metrics`.  Volumes
and surfaces are measured only where the reference says of every voxel whether it belongs to the node.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from hierseg.evaluation.metrics import Overlap, confusion, overlaps_of
from hierseg.evaluation.surface import surface_scores
from hierseg.labeltree import LabelTree, Node

DEFAULT_TOLERANCE = 2.0
"""mm within which two surfaces count as the same."""
UNLABELLED = "unlabelled"
SCORED, MISSED, INVENTED, ABSENT = "scored", "missed", "invented", "absent"
METRICS = (
    "dice",
    "hausdorff95",
    "surface_distance",
    "surface_dice",
    "volume_error",
    "sensitivity",
    "balanced_accuracy",
)
WHOLE = ("tree_distance", "error_distance", "wrong")
"""Numbers of a case as a whole: fields of :class:`CaseScores`."""
LOWER_IS_BETTER = ("hausdorff95", "surface_distance", "volume_error", *WHOLE)


@dataclass(frozen=True)
class NodeScores:
    """One node in one case.  None: there is no such number; it is never replaced by 0 or by a perfect one.

    Attributes:
        state: ``scored``; ``missed`` (in the reference, nowhere predicted: Dice is 0, there is no distance);
            ``invented`` (predicted, not in the reference); ``absent`` (in neither).
        complete: whether the reference says of every voxel whether it belongs to the node.
        dice, sensitivity, balanced_accuracy: 0 to 1, over the voxels that count.
        hausdorff95, surface_distance: mm.
        surface_dice: 0 to 1.
        reference_ml, predicted_ml: volumes.
        volume_error: (predicted − reference) / reference, without its sign.
    """

    state: str
    complete: bool
    dice: float | None = None
    hausdorff95: float | None = None
    surface_distance: float | None = None
    surface_dice: float | None = None
    volume_error: float | None = None
    sensitivity: float | None = None
    balanced_accuracy: float | None = None
    reference_ml: float | None = None
    predicted_ml: float | None = None


class Mistake(NamedTuple):
    """Voxels that are wrong in the same way.

    Attributes:
        reference, predicted: names of nodes; ``unlabelled`` for a prediction that is none.
        distance: between the two in the tree, 0 to 1.
        voxels: how many.
    """

    reference: str
    predicted: str
    distance: float
    voxels: int


@dataclass(frozen=True)
class CaseScores:
    """A case.

    Attributes:
        nodes: scores by node name.
        tree_distance: mean distance in the tree between prediction and reference over the labelled voxels, 0 to 1;
            None if nothing is labelled.
        error_distance: the same over the wrong voxels alone: how bad the errors are; None if there is none.
        wrong: share of the labelled voxels that are wrong.
        labelled: number of labelled voxels.
        errors: what was taken for what, the most voxels first.
    """

    nodes: dict[str, NodeScores]
    tree_distance: float | None
    error_distance: float | None
    wrong: float | None
    labelled: int = 0
    errors: tuple[Mistake, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def score_case(
    prediction: np.ndarray,
    reference: np.ndarray,
    tree: LabelTree,
    spacing: Sequence[float],
    *,
    tolerance: float = DEFAULT_TOLERANCE,
    surfaces: bool = True,
) -> CaseScores:
    """Score one case.

    Args:
        prediction: node values ``(x, y, z)``.
        reference: the same.
        tree: of both.
        spacing: mm a voxel along each axis.
        tolerance: mm, for the surface Dice.
        surfaces: whether to measure surfaces, which takes longest.

    Raises:
        ImageError: the shapes differ.
        LabelTreeError: a map carries a value that is not in the tree.
    """
    table = confusion(prediction, reference, tree)
    overlaps = overlaps_of(table, tree)
    liters = float(np.prod(spacing)) / 1000.0
    nodes = {}
    for node in tree.nodes:
        overlap = overlaps[node.name]
        complete = overlap.counted == reference.size
        measured: dict[str, float | None] = {}
        if complete:
            measured = {
                "reference_ml": overlap.reference * liters,
                "predicted_ml": overlap.predicted * liters,
                "volume_error": abs(overlap.predicted - overlap.reference) / overlap.reference
                if overlap.reference
                else None,
            }
        if complete and surfaces and overlap.reference and overlap.predicted:
            inside = _inside(tree, node)
            found = surface_scores(inside[prediction], inside[reference], spacing, tolerance)
            if found is not None:
                measured["hausdorff95"] = found.hausdorff95
                measured["surface_distance"] = found.mean_distance
                measured["surface_dice"] = found.surface_dice
        nodes[node.name] = NodeScores(
            _state(overlap),
            complete,
            dice=overlap.dice,
            sensitivity=overlap.sensitivity,
            balanced_accuracy=overlap.balanced_accuracy,
            **measured,
        )
    return CaseScores(nodes, **_tree_errors(table, tree))


def node_distances(tree: LabelTree) -> np.ndarray:
    """Distances in the tree, float64 ``(nodes + 1, nodes)``: of each predicted node (last: unlabelled) from each reference node.

    The edges' weights along the path between the two, over ``tree.distance_scale``.  A prediction at or below the
    reference's node contradicts nothing and has the distance 0; for two leaves this is ``tree.distance``.
    """
    weights = np.array([node.edge_weight for node in tree.nodes])
    place = {node.name: index for index, node in enumerate(tree.nodes)}
    above = np.zeros((len(tree.nodes) + 1, len(tree.nodes)), dtype=bool)  # an unlabelled voxel is at the root
    for index, node in enumerate(tree.nodes):
        above[index, [index, *(place[other.name] for other in tree.ancestors(node))]] = True
    distance = (above[:, None, :] ^ above[None, :-1, :]) @ weights
    # above[p, r]: the reference's node r is p or lies above it.
    result: np.ndarray = np.where(above, 0.0, distance) / tree.distance_scale
    return result


def wrong_pairs(tree: LabelTree) -> np.ndarray:
    """Whether a prediction is wrong, bool ``(nodes + 1, nodes)``, in the order of :func:`node_distances`: it is neither the
    reference's node nor below it.
    """
    place = {node.name: index for index, node in enumerate(tree.nodes)}
    wrong = np.ones((len(tree.nodes) + 1, len(tree.nodes)), dtype=bool)
    for index, node in enumerate(tree.nodes):
        wrong[[index, *(place[below.name] for below in tree.descendants(node))], index] = False
    return wrong


def _tree_errors(table: np.ndarray, tree: LabelTree) -> dict[str, Any]:
    """The fields of :class:`CaseScores` that are about the errors as a whole."""
    counts = table[:, :-1]
    total = int(counts.sum())
    if total == 0:
        return {"tree_distance": None, "error_distance": None, "wrong": None}
    distance = node_distances(tree)
    wrong = np.where(wrong_pairs(tree), counts, 0)
    cost, number = float((counts * distance).sum()), int(wrong.sum())
    names = [*(node.name for node in tree.nodes), UNLABELLED]
    errors = [
        Mistake(names[truth], names[found], round(float(distance[found, truth]), 6), int(wrong[found, truth]))
        for found, truth in np.argwhere(wrong)
    ]
    return {
        "tree_distance": cost / total,
        "error_distance": cost / number if number else None,
        "wrong": number / total,
        "labelled": total,
        "errors": tuple(sorted(errors, key=lambda one: -one.voxels)),
    }


def _state(overlap: Overlap) -> str:
    if overlap.reference:
        return SCORED if overlap.predicted else MISSED
    return INVENTED if overlap.predicted else ABSENT


def _inside(tree: LabelTree, node: Node) -> np.ndarray:
    """A bool table over label values: whether a voxel of that value belongs to the node."""
    values = {below.value: 1 for below in (node, *tree.descendants(node))}
    result: np.ndarray = tree.lookup(values, 0).astype(bool)
    return result
