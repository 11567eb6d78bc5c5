"""Taking over while a node is refined: everywhere inside it, in one slice, or one connected component."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from HierSubclassSegLib.scene import takeover
from HierSubclassSegLib.scene.annotation import prediction_of, reference_grid
from HierSubclassSegLib.scene.painting import RefineSession


@dataclass(frozen=True)
class OneSlice:
    """A slice of the stored array."""

    axis: int
    index: int


@dataclass(frozen=True)
class Component:
    """What is connected with a place (RAS mm of the world) and predicted to be the same subclass as there."""

    place: tuple[float, float, float]


Scope = OneSlice | Component | None


def take_over_scope(session: RefineSession, scope: Scope, min_confidence: float | None = None) -> int:
    """Copy what was predicted at and below the refined node, as one undo step.

    Args:
        session: refines a node, or the top level.
        scope: where; None: everywhere.
        min_confidence: only where the model was at least this sure, 0..1.

    Returns:
        The number of voxels copied.

    Raises:
        SceneError: there is no prediction or, with ``min_confidence``, no confidence volume.
    """
    annotation, tree = session.segmentation_node, session.tree
    nodes = [session.refined] if session.refined is not None else list(tree.top_level)
    where = None
    if isinstance(scope, OneSlice):
        where = takeover.slice_mask(reference_grid(annotation), scope.axis, scope.index)
    elif isinstance(scope, Component):
        where = _component(session, scope)
        if where is None:
            return 0
    if len(nodes) == 1:
        # The session saves a state for undo only if there is something to copy.
        return session.take_over(nodes[0], where, min_confidence=min_confidence)
    with session.step():
        return sum(session.take_over(node, where, min_confidence=min_confidence) for node in nodes)


def _component(session: RefineSession, scope: Component) -> np.ndarray | None:
    annotation, tree = session.segmentation_node, session.tree
    predicted_by = prediction_of(annotation)
    if predicted_by is None:
        return None
    grid = reference_grid(annotation)
    inverse = np.linalg.inv(grid.world)
    seed = np.rint(inverse[:3, :3] @ np.array(scope.place) + inverse[:3, 3]).astype(int)
    if (seed < 0).any() or (seed >= grid.shape).any():
        return None
    at = int(seed[0]), int(seed[1]), int(seed[2])
    labels = takeover.predicted_labels(predicted_by, tree, grid)
    value = int(labels[at])
    if value == tree.unlabelled:
        return None
    # The child of the refined node that was predicted there, with all that is below it.
    there = tree.by_value(value)
    child = next((n for n in (there, *tree.ancestors(there)) if tree.parent(n) == session.refined), None)
    if child is None:
        return None
    values = {other.value: 1 for other in (child, *tree.descendants(child))}
    return takeover.component_mask(tree.lookup(values, 0).astype(bool)[labels], at)
