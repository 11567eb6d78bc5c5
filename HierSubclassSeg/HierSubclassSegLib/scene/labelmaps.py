"""Between a label map of node values and the segments of a segmentation node.

One integer a voxel on one side; on the other one shared, cropped label map for the children of each parent (see
``layers``).  The top level's segments share a label map, the children of each inner node another one.

A *label map* here is an array (x, y, z) of node values, ``tree.unlabelled`` where nothing is known.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import slicer

from hierseg.labeltree import LabelTree, Node
from HierSubclassSegLib.scene import geometry, lattice, layers, tags, tree_store

_GROUPS_AT_ONCE = 32


def background_of(tree: LabelTree) -> Node | None:
    """The top-level leaf that means background, by its name, an alias or DICOM's code; None in a tree without one."""
    for node in tree.top_level:
        names = {name.casefold() for name in (node.name, *node.aliases)}
        coded = node.terminology.get("type", ("", "", ""))[:2] == ("DCM", "125040")
        if tree.is_leaf(node) and (coded or "background" in names):
            return node
    return None


def depth_first(tree: LabelTree) -> Iterator[Node]:
    """The nodes as one reads a tree: each followed by its children."""

    def below(parent: Node | None) -> Iterator[Node]:
        for node in tree.children(parent):
            yield node
            yield from below(node)

    return below(None)


def child_table(tree: LabelTree, members: Sequence[Node]) -> np.ndarray:
    """Table from voxel value to 1 + the index of the member at or above that value's node; 0 elsewhere."""
    below = {
        node.value: index for index, member in enumerate(members, 1) for node in (member, *tree.descendants(member))
    }
    return tree.lookup(below, 0).astype(np.uint8 if len(members) < 255 else np.uint16)


def level_map(tree: LabelTree, labels: np.ndarray, depth: int) -> np.ndarray:
    """The label map cut at a depth: each voxel carries its ancestor there, or itself if it is not that deep."""
    mapping = {}
    for node in tree.nodes:
        chain = [*reversed(tree.ancestors(node)), node]
        mapping[node.value] = chain[min(depth, len(chain)) - 1].value
    return tree.lookup(mapping, tree.unlabelled).astype(tree.dtype)[labels]


# -- from a label map to segments ----------------------------------------------------------------------------------


def fill(
    segmentation_node: slicer.vtkMRMLSegmentationNode,
    tree: LabelTree,
    labels: np.ndarray,
    affine: np.ndarray,
    source: str | Callable[[Node], str] = tags.MANUAL,
    *,
    superclass: np.ndarray | None = None,
    leave_out: Collection[str] = (),
    also: Collection[str] = (),
) -> list[str]:
    """Give an empty segmentation node the segments of a label map: of every node in it, and of their ancestors.

    A node that no voxel carries gets no segment: segments are made when they are needed.

    Args:
        segmentation_node: has no segment of this tree yet.
        tree: what the values mean.
        labels: node values ``(x, y, z)``.
        affine: 4 × 4, voxel to the node's own RAS millimeters.
        source: the segments' source tag, or a function of the node.
        superclass: values of top-level nodes ``(x, y, z)``, for the top level's segments; default: from ``labels``.
        leave_out: names of nodes that get no segment.
        also: names of nodes that get a segment even if it is empty.

    Returns:
        The IDs of the new segments, parents before children.

    Raises:
        LabelTreeError: a value is neither a node's nor ``unlabelled``.
    """
    labels = _checked(tree, labels, "the label map")
    top = labels if superclass is None else _checked(tree, superclass, "the superclass map")
    parents: list[Node | None] = [None, *(node for node in tree.nodes if not tree.is_leaf(node))]
    inside = [
        child_table(tree, [node for node in tree.children(parent) if node.name not in leave_out]) > 0
        for parent in parents
    ]
    boxes, present = group_boxes(labels, inside)
    if top is not labels:
        top_boxes, top_present = group_boxes(top, inside[:1])
        boxes, present = [*top_boxes, *boxes[1:]], present | top_present
    wanted = set(also)
    for node in (tree.by_value(value) for value in present if value != tree.unlabelled):
        wanted.update(other.name for other in (node, *tree.ancestors(node)))
    wanted -= set(leave_out)
    images: dict[str, tuple[slicer.vtkOrientedImageData, int]] = {}
    for parent, box in zip(parents, boxes, strict=True):
        members = [node for node in tree.children(parent) if node.name in wanted]
        if members:
            image = group_image(top if parent is None else labels, child_table(tree, members), box, affine)
            images.update({node.name: (image, value) for value, node in enumerate(members, 1)})
    with modifying(segmentation_node):
        added = []
        for node in depth_first(tree):
            if node.name in images:
                image, value = images[node.name]
                said = source if isinstance(source, str) else source(node)
                added.append(tree_store.add_segment(segmentation_node, tree, node, said, image, value))
        if not added:
            tree_store.write_tree(segmentation_node, tree)
    return added


def group_boxes(labels: np.ndarray, inside: Sequence[np.ndarray]) -> tuple[list[lattice.Box | None], set[int]]:
    """The smallest box around the voxels of each group of values, and the values that occur.

    Args:
        labels: ``(x, y, z)``, unsigned.
        inside: one bool table a group: whether a value belongs to it.

    Returns:
        One box a group, None where no voxel belongs to it; and the set of values.
    """
    seen = np.zeros(len(inside[0]), dtype=bool)
    boxes: list[lattice.Box | None] = []
    for start in range(0, len(inside), _GROUPS_AT_ONCE):
        chunk = inside[start : start + _GROUPS_AT_ONCE]
        # One bit a group, so that one pass over the voxels serves them all.
        bits = np.zeros(len(seen), dtype=np.uint32)
        for index, table in enumerate(chunk):
            bits |= table.astype(np.uint32) << np.uint32(index)
        along = [np.zeros(size, dtype=np.uint32) for size in labels.shape]
        for k in range(labels.shape[2]):
            plane = labels[:, :, k]
            seen[plane] = True
            marked = bits[plane]
            rows = np.bitwise_or.reduce(marked, axis=1)
            along[0] |= rows
            along[1] |= np.bitwise_or.reduce(marked, axis=0)
            along[2][k] = np.bitwise_or.reduce(rows)
        for index in range(len(chunk)):
            lines = [np.flatnonzero(axis >> np.uint32(index) & np.uint32(1)) for axis in along]
            found = all(line.size for line in lines)
            boxes.append((_corner(lines, 0, 0), _corner(lines, -1, 1)) if found else None)
    return boxes, {int(value) for value in np.flatnonzero(seen)}


def group_image(
    labels: np.ndarray, table: np.ndarray, box: lattice.Box | None, affine: np.ndarray
) -> slicer.vtkOrientedImageData:
    """The shared label map of one parent's children: ``table[labels]`` within the box, at its place."""
    # One voxel of nothing for an empty group: Slicer's label map operations expect an image with an extent.
    lower, upper = box or ((0, 0, 0), (1, 1, 1))
    place = tuple(slice(low, high) for low, high in zip(lower, upper, strict=True))
    image = geometry.image_like(
        table.dtype, tuple(high - low for low, high in zip(lower, upper, strict=True)), lower, oriented=True
    )
    if box is not None:
        geometry.array_of(image)[...] = table[labels[place]]
    image.SetImageToWorldMatrix(geometry.to_vtk(affine))
    return image


@contextmanager
def modifying(node: slicer.vtkMRMLNode) -> Iterator[None]:
    """One modified event for everything done inside."""
    was = node.StartModify()
    try:
        yield
    finally:
        node.EndModify(was)


def _corner(lines: Sequence[np.ndarray], index: int, plus: int) -> tuple[int, int, int]:
    return int(lines[0][index]) + plus, int(lines[1][index]) + plus, int(lines[2][index]) + plus


def _checked(tree: LabelTree, labels: np.ndarray, what: str) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.dtype != tree.dtype:
        if labels.size and (labels.min() < 0 or labels.max() > tree.unlabelled):
            tree.check_values(labels, what)
        labels = labels.astype(tree.dtype)
    known = np.zeros(256 if tree.dtype == np.uint8 else 65536, dtype=bool)
    known[[*tree.values, tree.unlabelled]] = True
    # Planes along z are read one after another: that wants x to vary fastest in memory, as in vtk.
    labels = np.asfortranarray(labels)
    for k in range(labels.shape[2]):
        if not known[labels[:, :, k]].all():
            tree.check_values(labels, what)
    return labels


# -- from segments to a label map ----------------------------------------------------------------------------------


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
    if nodes_of is None:
        nodes_of = {
            segment_id: tree.node(path)
            for path, segment_id in tree_store.segments_by_path(segmentation_node, tree).items()
        }
    parts, nodes = _parts(segmentation_node, nodes_of, grid)
    result = np.full(grid.shape, tree.unlabelled, dtype=tree.dtype)
    chain = [[*reversed(tree.ancestors(node)), node] for node in nodes]
    numbers = {node.name: number for number, node in enumerate(tree.nodes, 1)}
    winner = np.zeros(grid.shape, dtype=np.uint16)
    for depth in range(max((node.depth for node in nodes), default=0)):
        # For each segment (rank 0: none): the tree node at this depth, and the one above it, by number.
        at = np.array(
            [0, *(numbers[names[depth].name] if len(names) > depth else 0 for names in chain)], dtype=np.uint16
        )
        above = np.array(
            [0, *(numbers[names[depth - 1].name] if depth and len(names) > depth else 0 for names in chain)],
            dtype=np.uint16,
        )
        latest = np.zeros(grid.shape, dtype=np.uint16)
        for ranks, place in parts:
            there = np.where((at[ranks] > 0) & (above[ranks] == (winner[place] if depth else 0)), ranks, 0)
            np.maximum(latest[place], there, out=latest[place])
        winner = at[latest]
        if not winner.any():
            break
        values = np.array([0, *(node.value for node in tree.nodes)], dtype=tree.dtype)
        np.copyto(result, values[winner], where=winner > 0)
    return result


def ids_of(segmentation_node: slicer.vtkMRMLSegmentationNode, nodes: Collection[Node]) -> list[str]:
    """The IDs of the segments of some nodes, as far as they have one."""
    found = (tree_store.segment_id_of(segmentation_node, node) for node in nodes)
    return [segment_id for segment_id in found if segment_id is not None]


def segment_mask(segmentation_node: slicer.vtkMRMLSegmentationNode, segment_id: str, grid: geometry.Grid) -> np.ndarray:
    """The voxels of one segment on a grid, bool ``(x, y, z)``, resampled through world space if need be."""
    segment = segmentation_node.GetSegmentation().GetSegment(segment_id)
    mask = np.zeros(grid.shape, dtype=bool)
    found = _layer_on_grid(layers.label_map(segment), geometry.parent_to_world(segmentation_node), grid)
    if found is not None:
        values, place = found
        mask[place] = values == segment.GetLabelValue()
    return mask


def _parts(
    segmentation_node: slicer.vtkMRMLSegmentationNode, nodes_of: Mapping[str, Node], grid: geometry.Grid
) -> tuple[list[tuple[np.ndarray, tuple[slice, ...]]], list[Node]]:
    """Each layer as an array of ranks (1 + place in the list of segments, 0 for none) with its place in the grid."""
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
        size = max(int(values.max(initial=0)), *ranks_of[key]) + 1
        table = np.zeros(size, dtype=np.uint16)
        for value, rank in ranks_of[key].items():
            table[value] = rank
        parts.append((table[np.maximum(values, 0)], place))
    return parts, nodes


def _layer_on_grid(
    image: slicer.vtkOrientedImageData | None, parent: np.ndarray, grid: geometry.Grid
) -> tuple[np.ndarray, tuple[slice, ...]] | None:
    """A layer's integers where it meets the grid, and the place of that part in it; None if they do not meet."""
    if image is None or image.GetNumberOfPoints() == 0:
        return None
    world = parent @ geometry.image_affine(image)
    shift = geometry.whole_voxel_shift(world, grid.world, grid.shape)
    if shift is None:
        moved = geometry.resample(image, world, grid, linear=False, fill=0)
        return _integers(geometry.array_of(moved)), (slice(None),) * 3
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
    return _integers(array[tuple(source)]), tuple(target)


def _integers(array: np.ndarray) -> np.ndarray:
    return array if array.dtype.kind in "iu" else array.astype(np.int32)
