"""Mixing a fine-labelled case into a coarsely labelled one, superclass region by superclass region.

Each top-level node with at least two leaves has a *box* in a case: the bounds of all voxels that carry it or
anything below it.  The partner's box is resized onto the case's box of the same node; where the resized partner is
labelled with a leaf of the node, and the case itself carries the node, the two images are blended.

Boxes belong to whole cases, never to patches: a small patch of a large structure would otherwise get a whole
structure squeezed into it.  Patches are nevertheless cheap, because only the voxels of the patch are resampled, and
they are bit for bit the crop of the mixed whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hierseg.errors import DatasetError
from hierseg.labeltree import LabelTree

Box = tuple[tuple[int, int], ...]
"""First and one-past-last index, for each spatial axis."""


@dataclass(frozen=True)
class MixedCase:
    """A mixed image and what is known about it from the partner.

    Attributes:
        image: float32 ``(C, *spatial)``; equals the case's own image where ``weight`` is 0.
        label: int64 ``(*spatial)``, the partner's leaf values where blended, unlabelled elsewhere.
        weight: float32 ``(*spatial)``, the partner's share of image and label: α where blended, 0 elsewhere.
    """

    image: np.ndarray
    label: np.ndarray
    weight: np.ndarray


def superclass_boxes(node_map: np.ndarray, tree: LabelTree) -> dict[str, Box]:
    """The box of every top-level node with at least two leaves that occurs in a case, by name.

    Args:
        node_map: ``(*spatial)`` node values of a whole case.
        tree: the label tree.
    """
    top = tree.top_value_table[node_map]
    boxes: dict[str, Box] = {}
    for node in tree.top_level:
        if len(tree.leaves_under(node)) < 2:
            continue
        mask = top == node.value
        bounds = []
        for axis in range(mask.ndim):
            hit = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
            if hit.size == 0:
                break
            bounds.append((int(hit[0]), int(hit[-1]) + 1))
        if len(bounds) == mask.ndim:
            boxes[node.name] = tuple(bounds)
    return boxes


def mix_case(
    image: np.ndarray,
    node_map: np.ndarray,
    partner_image: np.ndarray,
    partner_map: np.ndarray,
    tree: LabelTree,
    alpha: float,
) -> MixedCase:
    """Mix the partner's superclass regions into a whole case.

    Args:
        image: ``(C, *spatial)`` of the case that is to get subclass supervision.
        node_map: ``(*spatial)`` its node values.
        partner_image: ``(C, *other)`` of a case with leaf-labelled voxels.
        partner_map: ``(*other)`` its node values.
        tree: the label tree.
        alpha: the partner's share, 0 to 1.

    Raises:
        DatasetError: the arrays do not belong together.
    """
    whole = tuple((0, size) for size in node_map.shape)
    return mixed_patch(image, node_map, partner_image, partner_map, tree, alpha, whole)


def mixed_patch(
    image: np.ndarray,
    node_map: np.ndarray,
    partner_image: np.ndarray,
    partner_map: np.ndarray,
    tree: LabelTree,
    alpha: float,
    window: Box,
    *,
    boxes: Mapping[str, Box] | None = None,
    partner_boxes: Mapping[str, Box] | None = None,
) -> MixedCase:
    """The crop of :func:`mix_case` to a window, without computing the rest.

    Args:
        image: ``(C, *spatial)`` of the whole case.
        node_map: ``(*spatial)`` its node values.
        partner_image: ``(C, *other)`` of the whole partner.
        partner_map: ``(*other)`` its node values.
        tree: the label tree.
        alpha: the partner's share, 0 to 1.
        window: the patch, inside the case; padding, if any, is added to the result.
        boxes: :func:`superclass_boxes` of the case, if they are known already.
        partner_boxes: those of the partner.

    Raises:
        DatasetError: the arrays do not belong together, or the window reaches outside the case.
    """
    _check(image, node_map, partner_image, partner_map, window)
    boxes = superclass_boxes(node_map, tree) if boxes is None else boxes
    partner_boxes = superclass_boxes(partner_map, tree) if partner_boxes is None else partner_boxes
    crop = tuple(slice(*bounds) for bounds in window)
    mixed = np.array(image[(slice(None), *crop)], dtype=np.float32)
    label = np.full(mixed.shape[1:], tree.unlabelled, dtype=np.int64)
    weight = np.zeros(mixed.shape[1:], dtype=np.float32)
    for name, box in boxes.items():
        if name not in partner_boxes:
            continue
        shared = [(max(low, start), min(high, stop)) for (low, high), (start, stop) in zip(box, window, strict=True)]
        if any(low >= high for low, high in shared):
            continue
        at = tuple(slice(low - start, high - start) for (low, high), (start, _) in zip(shared, window, strict=True))
        value = tree.node(name).value
        steps = [_Axis(bounds, own, other) for bounds, own, other in zip(shared, box, partner_boxes[name], strict=True)]
        theirs = partner_map[np.ix_(*(step.nearest for step in steps))]
        own_map = node_map[tuple(slice(low, high) for low, high in shared)]
        fine = (tree.leaf_index_table[theirs] >= 0) & (tree.top_value_table[theirs] == value)
        blended = fine & (tree.top_value_table[own_map] == value)
        if not blended.any():
            continue
        resized = _linear(partner_image, steps)
        here = mixed[(slice(None), *at)]
        here[:, blended] = (1.0 - np.float32(alpha)) * here[:, blended] + np.float32(alpha) * resized[:, blended]
        label[at][blended] = theirs[blended]
        weight[at][blended] = alpha
    return MixedCase(mixed, label, weight)


class _Axis:
    """Where the voxels of a patch lie in the partner, along one axis.

    Voxel r of n in the box has its center at (r + 1/2) / n of the box's length, in both cases.
    """

    def __init__(self, bounds: tuple[int, int], own: tuple[int, int], other: tuple[int, int]) -> None:
        steps = np.arange(bounds[0] - own[0], bounds[1] - own[0])
        size, other_size = own[1] - own[0], other[1] - other[0]
        self.nearest = other[0] + ((2 * steps + 1) * other_size) // (2 * size)
        place = np.clip((steps + 0.5) * (other_size / size) - 0.5, 0.0, other_size - 1.0)
        below = np.floor(place).astype(np.int64)
        self.below = other[0] + below
        self.above = other[0] + np.minimum(below + 1, other_size - 1)
        self.share = (place - below).astype(np.float32)


def _linear(image: np.ndarray, steps: list[_Axis]) -> np.ndarray:
    """Linear interpolation of ``(C, *other)``, one axis after the other; only what the patch needs is read."""
    part = image[(slice(None), *(slice(int(step.below[0]), int(step.above[-1]) + 1) for step in steps))].astype(
        np.float32
    )
    for axis, step in enumerate(steps, start=1):
        first = int(step.below[0])
        share = step.share.reshape([-1 if other == axis else 1 for other in range(part.ndim)])
        low, high = part.take(step.below - first, axis=axis), part.take(step.above - first, axis=axis)
        part = low + share * (high - low)
    return part


def _check(
    image: np.ndarray, node_map: np.ndarray, partner_image: np.ndarray, partner_map: np.ndarray, window: Box
) -> None:
    for what, picture, labels in (("case", image, node_map), ("partner", partner_image, partner_map)):
        if picture.shape[1:] != labels.shape:
            raise DatasetError(
                f"the {what}'s image has the shape {picture.shape} and its label map {labels.shape}; they must be on one grid."
            )
    if image.shape[0] != partner_image.shape[0] or image.ndim != partner_image.ndim:
        raise DatasetError(
            f"a case of shape {image.shape} cannot be mixed with one of shape {partner_image.shape}; channels and dimensions must be equal."
        )
    if len(window) != node_map.ndim or any(
        not 0 <= low < high <= size for (low, high), size in zip(window, node_map.shape, strict=True)
    ):
        raise DatasetError(
            f"the window {window} does not lie in a case of shape {node_map.shape}; crop inside it and pad afterwards."
        )
