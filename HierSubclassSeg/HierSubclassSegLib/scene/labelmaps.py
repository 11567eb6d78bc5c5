"""From a label map of node values to the segments of a segmentation node (``reading`` goes the other way).

One integer a voxel on one side; on the other one shared, cropped label map for the children of each parent (see
``layers``).  The top level's segments share a label map, the children of each inner node another one.

A *label map* here is an array (x, y, z) of node values, ``tree.unlabelled`` where nothing is known.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import slicer

from hierseg.labeltree import LabelTree, Node
from HierSubclassSegLib.scene import geometry, lattice, tags, tree_store
from HierSubclassSegLib.ticks import Steps, finish

#: a shared label map and the value in it, by node name
Layers = dict[str, tuple[slicer.vtkOrientedImageData, int]]
_GROUPS_AT_ONCE = 32
# Planes along z that one step handles.
_PLANES = 8


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
    layers = finish(layer_steps(tree, labels, affine, superclass=superclass, leave_out=leave_out, also=also))
    return add_layers(segmentation_node, tree, layers, source)


def layer_steps(
    tree: LabelTree,
    labels: np.ndarray,
    affine: np.ndarray,
    *,
    superclass: np.ndarray | None = None,
    leave_out: Collection[str] = (),
    also: Collection[str] = (),
) -> Steps[Layers]:
    """The shared label maps of :func:`fill`, made in steps, without a scene; arguments and errors as there.

    Returns:
        The label map of each node that gets a segment, and its value in it, by node name.
    """
    labels = yield from _check_steps(tree, labels, "the label map", 0.0, 0.2)
    top = labels
    if superclass is not None:
        top = yield from _check_steps(tree, superclass, "the superclass map", 0.2, 0.3)
    parents: list[Node | None] = [None, *(node for node in tree.nodes if not tree.is_leaf(node))]
    inside = [
        child_table(tree, [node for node in tree.children(parent) if node.name not in leave_out]) > 0
        for parent in parents
    ]
    boxes, present = yield from _box_steps(labels, inside, 0.3, 0.5)
    if top is not labels:
        top_boxes, top_present = yield from _box_steps(top, inside[:1], 0.5, 0.6)
        boxes, present = [*top_boxes, *boxes[1:]], present | top_present
    wanted = set(also)
    for node in (tree.by_value(value) for value in present if value != tree.unlabelled):
        wanted.update(other.name for other in (node, *tree.ancestors(node)))
    wanted -= set(leave_out)
    layers: Layers = {}
    for index, (parent, box) in enumerate(zip(parents, boxes, strict=True)):
        members = [node for node in tree.children(parent) if node.name in wanted]
        if members:
            source = top if parent is None else labels
            image = yield from _image_steps(source, child_table(tree, members), box, affine, index, len(parents))
            layers.update({node.name: (image, value) for value, node in enumerate(members, 1)})
    return layers


def add_layers(
    segmentation_node: slicer.vtkMRMLSegmentationNode,
    tree: LabelTree,
    layers: Layers,
    source: str | Callable[[Node], str] = tags.MANUAL,
) -> list[str]:
    """Give an empty segmentation node the segments that :func:`layer_steps` has made label maps for.

    Returns:
        The IDs of the new segments, parents before children.
    """
    with modifying(segmentation_node):
        added = []
        for node in depth_first(tree):
            if node.name in layers:
                image, value = layers[node.name]
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
    return finish(_box_steps(labels, inside, 0.0, 1.0))


def _box_steps(
    labels: np.ndarray, inside: Sequence[np.ndarray], begin: float, end: float
) -> Steps[tuple[list[lattice.Box | None], set[int]]]:
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
            yield begin + (end - begin) * (start + len(chunk) * k / labels.shape[2]) / len(inside)
        for index in range(len(chunk)):
            lines = [np.flatnonzero(axis >> np.uint32(index) & np.uint32(1)) for axis in along]
            found = all(line.size for line in lines)
            boxes.append((_corner(lines, 0, 0), _corner(lines, -1, 1)) if found else None)
    return boxes, {int(value) for value in np.flatnonzero(seen)}


def _image_steps(
    labels: np.ndarray, table: np.ndarray, box: lattice.Box | None, affine: np.ndarray, index: int, count: int
) -> Steps[slicer.vtkOrientedImageData]:
    """The shared label map of one parent's children: ``table[labels]`` within the box, at its place."""
    # One voxel of nothing for an empty group: Slicer's label map operations expect an image with an extent.
    lower, upper = box or ((0, 0, 0), (1, 1, 1))
    shape = lattice.size((lower, upper))
    # Every plane is written below: filling so large an image with zeros first would be a long step.
    image = geometry.image_like(table.dtype, shape, lower, oriented=True, zeros=box is None)
    if box is not None:
        voxels, part = geometry.array_of(image), labels[lattice.slices(box)]
        for k in range(0, shape[2], _PLANES):
            voxels[:, :, k : k + _PLANES] = table[part[:, :, k : k + _PLANES]]
            yield 0.6 + 0.4 * (index + k / shape[2]) / count
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


def _check_steps(tree: LabelTree, labels: np.ndarray, what: str, begin: float, end: float) -> Steps[np.ndarray]:
    """The label map in the tree's dtype and vtk's order of memory, itself if it is so already; checks every value."""
    labels = np.asarray(labels)
    # Planes along z are read one after another: that wants x to vary fastest in memory, as in vtk.
    as_is = labels.dtype == tree.dtype and labels.flags.f_contiguous
    result = labels if as_is else np.empty(labels.shape, tree.dtype, order="F")
    known = np.zeros(256 if tree.dtype == np.uint8 else 65536, dtype=bool)
    known[[*tree.values, tree.unlabelled]] = True
    for tile in lattice.tiles(labels):
        part = labels[tile]
        if not as_is:
            if labels.dtype != tree.dtype and part.size and (part.min() < 0 or part.max() > tree.unlabelled):
                tree.check_values(labels, what)
            result[tile] = part
        if not known[result[tile]].all():
            tree.check_values(labels, what)
        yield begin + (end - begin) * tile[2].start / labels.shape[2]
    return result
