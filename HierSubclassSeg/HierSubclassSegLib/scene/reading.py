"""From the segments of a segmentation node to a label map: which node a voxel gets.

The deepest node that covers it.  Where segments contradict each other (siblings overlap, a child lies outside its
parent; both can only come from edits elsewhere), the latest segment wins, level by level from the top.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import slicer

from hierseg.labeltree import LabelTree, Node
from HierSubclassSegLib.scene import geometry, lattice, layers, tags, tree_store
from HierSubclassSegLib.ticks import Steps, finish

# Planes that are decided together: few enough to stay in the processor's cache.
_PLANES_AT_ONCE = 8


def read(
    segmentation_node: slicer.vtkMRMLSegmentationNode,
    tree: LabelTree,
    grid: geometry.Grid,
    nodes_of: Mapping[str, Node] | None = None,
) -> np.ndarray:
    """The label map that the segments say: the deepest node at each voxel, ``unlabelled`` where there is none.

    Siblings that overlap: the one with the latest segment (of its own or of a descendant) at that voxel wins, level
    by level from the top.  A child outside its parent counts as inside it.  Segments of no node are left out.

    Args:
        segmentation_node: any segmentation whose segments carry our tags.
        tree: its tree.
        grid: where the result lies; other grids and parent transforms are resampled through world space, nearest voxel.
        nodes_of: the node of each segment by ID, for a segmentation without tags; default: what the tags say.

    Returns:
        Node values ``(x, y, z)``, of the tree's dtype.

    Raises:
        SceneError: the segmentation is under a non-linear transform.
    """
    return finish(read_steps(segmentation_node, tree, grid, nodes_of))


def read_steps(
    segmentation_node: slicer.vtkMRMLSegmentationNode,
    tree: LabelTree,
    grid: geometry.Grid,
    nodes_of: Mapping[str, Node] | None = None,
) -> Steps[np.ndarray]:
    """:func:`read` in small steps; arguments, result and errors as there.

    Slicer writes into label maps in place: what changes between two steps is half in the result.
    """
    if nodes_of is None:
        nodes_of = {
            segment_id: tree.node(path)
            for path, segment_id in tree_store.segments_by_path(segmentation_node, tree).items()
        }
    parts, nodes = _parts(segmentation_node, nodes_of, grid)
    yield 0.0
    # x varies fastest in vtk's memory: arrays of the same order are several times faster to combine.
    result = np.empty(grid.shape, dtype=tree.dtype, order="F")
    if not nodes:
        result[...] = tree.unlabelled
    else:
        rule = _Rule(tree, nodes)
        for start in range(0, grid.shape[2], _PLANES_AT_ONCE):
            planes = (start, min(start + _PLANES_AT_ONCE, grid.shape[2]))
            rule.decide([part for part in parts if part.within(planes)], planes, result[:, :, slice(*planes)])
            yield start / grid.shape[2]
    return result


@dataclass(frozen=True)
class _Part:
    """A layer on a grid: its values, where they lie, and the rank of each value's segment (0: none of interest)."""

    values: np.ndarray
    place: tuple[slice, slice, slice]
    rank: np.ndarray

    def within(self, planes: tuple[int, int]) -> bool:
        """Whether it reaches into these planes along z."""
        return self.place[2].start < planes[1] and planes[0] < self.place[2].stop

    def ranks(self, planes: tuple[int, int]) -> tuple[np.ndarray, tuple[slice, slice, slice]]:
        """The ranks in these planes, and their place in an array of just these planes."""
        low, high = max(self.place[2].start, planes[0]), min(self.place[2].stop, planes[1])
        values = self.values[:, :, low - self.place[2].start : high - self.place[2].start]
        return self.rank[values], (*self.place[:2], slice(low - planes[0], high - planes[0]))


class _Rule:
    """Which node a voxel gets from the segments that cover it; a segment's rank is 1 + its place in the list."""

    def __init__(self, tree: LabelTree, nodes: Sequence[Node]) -> None:
        self._unlabelled = tree.unlabelled
        chains = [[*reversed(tree.ancestors(node)), node] for node in nodes]
        numbers = {node.name: number for number, node in enumerate(tree.nodes, 1)}
        self._values = np.array([tree.unlabelled, *(node.value for node in tree.nodes)], dtype=tree.dtype)
        # (depth, rank): the number of the rank's node at that depth, 0 where its chain has ended.
        depths = max(len(chain) for chain in chains)
        self._at = np.zeros((depths, len(nodes) + 1), dtype=np.uint16)
        for rank, chain in enumerate(chains, 1):
            self._at[: len(chain), rank] = [numbers[node.name] for node in chain]
        # Deeper nodes first in rank order would do for voxels whose segments lie on one chain of the tree: "key" is
        # that order, and two ranks agree if one's chain is a part of the other's.
        order = sorted(range(len(nodes)), key=lambda index: (nodes[index].depth, index))
        self._key = np.zeros(len(nodes) + 1, dtype=np.uint16)
        self._key[[index + 1 for index in order]] = np.arange(1, len(nodes) + 1)
        value_of = np.zeros(len(nodes) + 1, dtype=tree.dtype)
        value_of[0] = tree.unlabelled
        value_of[self._key[1:]] = [node.value for node in nodes]
        self._value_of_key = value_of
        agree = np.ones((len(nodes) + 1, len(nodes) + 1), dtype=bool)
        for rank, chain in enumerate(chains, 1):
            above = {node.name for node in chain}
            agree[rank, self._key[1:]] = [
                nodes[rank - 1].name in {node.name for node in other} or other[-1].name in above for other in chains
            ]
        self._agree = agree

    def decide(self, parts: Sequence[_Part], planes: tuple[int, int], result: np.ndarray) -> None:
        """Write the node values of some planes into ``result``, a view of just these planes."""
        found = [part.ranks(planes) for part in parts]
        deepest = np.zeros(result.shape, dtype=np.uint16, order="F")
        for ranks, place in found:
            np.maximum(deepest[place], self._key[ranks], out=deepest[place])
        result[...] = self._value_of_key[deepest]
        if len(found) < 2:
            return
        conflict = np.zeros(result.shape, dtype=bool, order="F")
        for ranks, place in found:
            conflict[place] |= ~self._agree[ranks, deepest[place]]
        if conflict.any():
            where = np.nonzero(conflict)
            result[where] = self._by_the_book([_at_voxels(ranks, place, where) for ranks, place in found])

    def _by_the_book(self, ranks: Sequence[np.ndarray]) -> np.ndarray:
        """Level by level from the top, for voxels whose segments contradict each other: ``(layers, voxels)``."""
        stacked = np.stack(ranks)
        winner = np.zeros(stacked.shape[1], dtype=np.uint16)
        result = np.full(stacked.shape[1], self._unlabelled, dtype=self._values.dtype)
        for depth, at in enumerate(self._at):
            above = self._at[depth - 1][stacked] if depth else np.zeros_like(stacked)
            latest = np.where((at[stacked] > 0) & (above == winner), stacked, 0).max(axis=0)
            winner = at[latest]
            result = np.where(winner > 0, self._values[winner], result)
            if not winner.any():
                break
        return result


def _at_voxels(ranks: np.ndarray, place: Sequence[slice], where: Sequence[np.ndarray]) -> np.ndarray:
    """A part's ranks at some voxels, 0 outside of it."""
    inside = np.ones(len(where[0]), dtype=bool)
    for index, along in zip(where, place, strict=True):
        inside &= (index >= along.start) & (index < along.stop)
    result = np.zeros(len(inside), dtype=np.uint16)
    result[inside] = ranks[tuple(index[inside] - along.start for index, along in zip(where, place, strict=True))]
    return result


def extent(
    segmentation_node: slicer.vtkMRMLSegmentationNode, nodes_of: Mapping[str, Node], grid: geometry.Grid
) -> lattice.Box | None:
    """The smallest box of the grid that holds every voxel of some segments; None if they have none on it.

    Args:
        segmentation_node: holds the segments.
        nodes_of: the segments, by ID, with a node each.
        grid: what the box's indices are of.
    """
    boxes = []
    for part in _parts(segmentation_node, nodes_of, grid)[0]:
        found = lattice.bounds(part.rank.astype(bool)[part.values])
        if found is not None:
            low = part.place[0].start, part.place[1].start, part.place[2].start
            boxes.append(lattice.shifted(found, low))
    return lattice.union_box(boxes)


def group_index(
    segmentation_node: slicer.vtkMRMLSegmentationNode,
    members: Sequence[Node],
    ids: Mapping[str, str],
    grid: geometry.Grid,
) -> np.ndarray:
    """The children of one parent as one array: 1 + the index of the member that covers the voxel, 0 for none.

    Args:
        segmentation_node: holds the members' segments.
        members: nodes with one parent.
        ids: segment ID by node path; members without one are left out.
        grid: where the result lies.

    Raises:
        SceneError: two members overlap.
    """
    result = np.zeros(grid.shape, dtype=np.uint8 if len(members) < 256 else np.uint16, order="F")
    present = {ids[node.path]: node for node in members if node.path in ids}
    parts, nodes = _parts(segmentation_node, present, grid)
    number = np.array([0, *(members.index(node) + 1 for node in nodes)], dtype=result.dtype)
    for part in parts:
        new, old = number[part.rank[part.values]], result[part.place]
        both = (new > 0) & (old > 0)
        if both.any():
            first, second = (members[int(array[both][0]) - 1].name for array in (old, new))
            raise tags.SceneError(
                f"the segments '{first}' and '{second}' overlap, but are siblings; enter Refine once, which resolves it, then try again."
            )
        np.copyto(old, new, where=new > 0)
    return result


def ids_of(segmentation_node: slicer.vtkMRMLSegmentationNode, nodes: Collection[Node]) -> list[str]:
    """The IDs of the segments of some nodes, as far as they have one."""
    found = (tree_store.segment_id_of(segmentation_node, node) for node in nodes)
    return [segment_id for segment_id in found if segment_id is not None]


def segment_mask(segmentation_node: slicer.vtkMRMLSegmentationNode, segment_id: str, grid: geometry.Grid) -> np.ndarray:
    """The voxels of one segment on a grid, bool ``(x, y, z)``, resampled through world space if need be."""
    segment = segmentation_node.GetSegmentation().GetSegment(segment_id)
    mask = np.zeros(grid.shape, dtype=bool, order="F")
    found = _layer_on_grid(layers.label_map(segment), geometry.parent_to_world(segmentation_node), grid)
    if found is not None:
        values, place = found
        mask[place] = values == segment.GetLabelValue()
    return mask


def _parts(
    segmentation_node: slicer.vtkMRMLSegmentationNode, nodes_of: Mapping[str, Node], grid: geometry.Grid
) -> tuple[list[_Part], list[Node]]:
    """The layers on the grid, and the nodes of the segments in them; rank r is ``nodes[r - 1]``."""
    parent = geometry.parent_to_world(segmentation_node)
    images: dict[str, slicer.vtkOrientedImageData] = {}
    ranks_of: dict[str, dict[int, int]] = {}
    nodes: list[Node] = []
    for segment_id, segment in tree_store.segments(segmentation_node):
        image = layers.label_map(segment)
        if segment_id not in nodes_of or image is None or image.GetNumberOfPoints() == 0:
            continue
        nodes.append(nodes_of[segment_id])
        key = layers.address(image)
        images[key] = image
        ranks_of.setdefault(key, {})[segment.GetLabelValue()] = len(nodes)
    parts = []
    for key, image in images.items():
        found = _layer_on_grid(image, parent, grid)
        if found is None:
            continue
        values, place = found
        # Values of segments that belong to no node are in no table and become 0.
        size = max(np.iinfo(values.dtype).max if values.dtype.itemsize == 1 else int(values.max()), *ranks_of[key]) + 1
        rank = np.zeros(size, dtype=np.uint16)
        for value, number in ranks_of[key].items():
            rank[value] = number
        parts.append(_Part(values, place, rank))
    return parts, nodes


def _layer_on_grid(
    image: slicer.vtkOrientedImageData | None, parent: np.ndarray, grid: geometry.Grid
) -> tuple[np.ndarray, tuple[slice, slice, slice]] | None:
    """A layer's integers where it meets the grid, and the place of that part in it; None if they do not meet."""
    if image is None or image.GetNumberOfPoints() == 0:
        return None
    world = parent @ geometry.image_affine(image)
    shift = geometry.whole_voxel_shift(world, grid.world, grid.shape)
    if shift is None:
        moved = geometry.resample(image, world, grid, linear=False, fill=0)
        return _integers(geometry.array_of(moved)), (
            slice(0, grid.shape[0]),
            slice(0, grid.shape[1]),
            slice(0, grid.shape[2]),
        )
    array, first = lattice.view(image)
    source, target = [], []
    for axis in range(3):
        # Grid voxel v is the layer's lattice index v + shift.
        low = max(0, first[axis] - shift[axis])
        high = min(grid.shape[axis], first[axis] + array.shape[axis] - shift[axis])
        if low >= high:
            return None
        target.append(slice(low, high))
        source.append(slice(low + shift[axis] - first[axis], high + shift[axis] - first[axis]))
    return _integers(array[tuple(source)]), (target[0], target[1], target[2])


def _integers(array: np.ndarray) -> np.ndarray:
    """Unsigned, so that every value can index a table; label maps hold no negative values."""
    return array if array.dtype.kind == "u" else np.maximum(array, 0).astype(np.uint16)
