"""Layers: which segments share a label map, and reading and writing their voxels.

Slicer keeps segments that do not overlap in one *shared label map*, a layer, each with its own value.  A stroke
overwrites its layer-mates for nothing, but splits a layer in which it meets a segment that it must not erase, and its
eraser misses segments in layers that mix erasable and other segments.  Both never happen if **the children of one
parent share one label map, one a parent**: layer-mates are then siblings, which a stroke may always erase.
Saving a segmentation packs the layers anew (``vtkSegmentation::CollapseBinaryLabelmaps``), so the layout is checked
and rebuilt before strokes (:func:`ensure_layout`); no voxel of any segment changes, and undo does not notice.

Arrays are indexed (i, j, k) on the segmentation's reference grid, which is the grid of its first volume.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

import numpy as np
import slicer

from hierseg.labeltree import LabelTree
from HierSubclassSegLib.scene import tags, tree_store
from HierSubclassSegLib.scene.lattice import Box, Grid, bounds, crop, shifted, size, slices, union_box, view
from HierSubclassSegLib.scene.undo import unseen_by_undo

_BINARY = "Binary labelmap"

# -- reading ------------------------------------------------------------------------------------------------------


def label_map(segment: slicer.vtkSegment) -> slicer.vtkOrientedImageData | None:
    """The segment's binary label map, shared or not; None if it has none."""
    return segment.GetRepresentation(_BINARY)


def has_voxels(segmentation_node: slicer.vtkMRMLSegmentationNode, segment_id: str) -> bool:
    """Whether a segment has a voxel: a label map that it shares may hold others' alone."""
    segment = segmentation_node.GetSegmentation().GetSegment(segment_id)
    array, _lower = view(label_map(segment))
    return bool(array.size) and bool(np.any(array == segment.GetLabelValue()))


def read_box(segmentation_node: slicer.vtkMRMLSegmentationNode, segment_id: str, box: Box) -> np.ndarray:
    """The segment's voxels within a box of the lattice, bool; a copy."""
    segment = segmentation_node.GetSegmentation().GetSegment(segment_id)
    array, lower = view(label_map(segment))
    return crop(array, lower, box, segment.GetLabelValue())


def read_union(segmentation_node: slicer.vtkMRMLSegmentationNode, segment_ids: Iterable[str], box: Box) -> np.ndarray:
    """The voxels of any of the segments within a box of the lattice, bool; looks at each label map once."""
    images, values = {}, defaultdict(set)
    for segment_id in segment_ids:
        segment = segmentation_node.GetSegmentation().GetSegment(segment_id)
        image = label_map(segment)
        images[address(image)] = image
        values[address(image)].add(int(segment.GetLabelValue()))
    union = np.zeros(size(box), bool, order="F")
    for where, image in images.items():
        array, lower = view(image)
        union |= crop(array, lower, box, values[where])
    return union


def read_segment(
    segmentation_node: slicer.vtkMRMLSegmentationNode, segment_id: str, grid: Grid | None = None
) -> np.ndarray:
    """The segment's voxels as bool (i, j, k) on the reference grid."""
    grid = grid or Grid.of(segmentation_node)
    return read_box(segmentation_node, segment_id, grid.box)


def read_nodes(
    segmentation_node: slicer.vtkMRMLSegmentationNode, tree: LabelTree, grid: Grid | None = None
) -> dict[str, np.ndarray]:
    """Voxels by node name, for the nodes that have a segment: bool (i, j, k) on the reference grid."""
    grid = grid or Grid.of(segmentation_node)
    return {
        tree.node(path).name: read_segment(segmentation_node, segment_id, grid)
        for path, segment_id in tree_store.segments_by_path(segmentation_node, tree).items()
    }


def common_box(segmentation_node: slicer.vtkMRMLSegmentationNode, segment_ids: Iterable[str]) -> Box | None:
    """A box of the lattice that holds the label maps of these segments; None if they have no voxels at all."""
    boxes = []
    for segment_id in segment_ids:
        array, lower = view(label_map(segmentation_node.GetSegmentation().GetSegment(segment_id)))
        if array.size:
            boxes.append(shifted(((0, 0, 0), array.shape), lower))
    return union_box(boxes)


def number_of_layers(segmentation_node: slicer.vtkMRMLSegmentationNode) -> int:
    """How many label maps the segments share between them."""
    return len({address(label_map(segment)) for _, segment in tree_store.segments(segmentation_node)})


def address(image: slicer.vtkOrientedImageData | None) -> str:
    """Tells label maps apart (``id`` does not: Python's wrapper of a VTK object may come and go)."""
    return "" if image is None else image.GetAddressAsString("vtkObject")


# -- writing, past the masking -------------------------------------------------------------------------------------


def add_voxels(
    segmentation_node: slicer.vtkMRMLSegmentationNode, segment_id: str, image: slicer.vtkOrientedImageData
) -> bool:
    """Add an oriented 0/1 image to a segment; its layer-mates must not lie there."""
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    mates = layer_mates(segmentation_node, segment_id)
    return logic.SetBinaryLabelmapToSegment(
        image, segmentation_node, segment_id, logic.MODE_MERGE_MASK, image.GetExtent(), False, mates
    )


def remove_voxels(
    segmentation_node: slicer.vtkMRMLSegmentationNode, segment_id: str, image: slicer.vtkOrientedImageData
) -> bool:
    """Take an oriented 0/1 image away from a segment; other segments keep their voxels there."""
    inverted = slicer.vtkOrientedImageData()
    inverted.DeepCopy(image)
    array, _ = view(inverted)
    array[...] = np.where(array != 0, 0, 255)
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    # Layer-mates are named as erasable only to keep Slicer from splitting the layer: "not the minimum of all segments"
    # already confines the removal to this one.
    mates = layer_mates(segmentation_node, segment_id)
    return logic.SetBinaryLabelmapToSegment(
        inverted, segmentation_node, segment_id, logic.MODE_MERGE_MIN, image.GetExtent(), False, mates
    )


def set_masks(
    segmentation_node: slicer.vtkMRMLSegmentationNode, masks: Iterable[tuple[str, np.ndarray]], box: Box
) -> None:
    """Make segments, by ID, what the bool arrays say within a box; other segments keep their voxels.

    Siblings may not overlap afterwards, where they share a label map.
    """
    grid = Grid.of(segmentation_node)
    added: list[tuple[str, np.ndarray]] = []
    # Removals first: what is added must not meet a layer-mate.
    for segment_id, mask in masks:
        present = read_box(segmentation_node, segment_id, box)
        if (present & ~mask).any():
            remove_voxels(segmentation_node, segment_id, grid.new_image((present & ~mask).astype(np.uint8), box[0]))
        if (mask & ~present).any():
            added.append((segment_id, mask & ~present))
    for segment_id, mask in added:
        add_voxels(segmentation_node, segment_id, grid.new_image(mask.astype(np.uint8), box[0]))


def layer_mates(segmentation_node: slicer.vtkMRMLSegmentationNode, segment_id: str) -> list[str]:
    """The other segments of the segment's layer."""
    image = label_map(segmentation_node.GetSegmentation().GetSegment(segment_id))
    return [
        other
        for other, segment in tree_store.segments(segmentation_node)
        if other != segment_id and label_map(segment) is image
    ]


# -- the layout ----------------------------------------------------------------------------------------------------


def layout_is_right(
    segmentation_node: slicer.vtkMRMLSegmentationNode, tree: LabelTree, grid: Grid | None = None
) -> bool:
    """Whether the children of one parent share one label map, one a parent, on the reference lattice."""
    return not _wrong_groups(segmentation_node, tree, grid or Grid.of(segmentation_node))


def ensure_layout(segmentation_node: slicer.vtkMRMLSegmentationNode, tree: LabelTree | None = None) -> bool:
    """Check the layout and rebuild it if needed: every segment keeps its voxels, undo and redo stay as they are.

    Siblings that overlap (edited elsewhere) cannot share a label map: the later ones get further layers until
    :func:`HierSubclassSegLib.scene.reconcile.reconcile` has resolved it.  Segments of no tree node keep sharing with
    each other what they shared, but with no node's segment.

    Returns:
        Whether anything was rebuilt.
    """
    tree = tree or tree_store.read_tree(segmentation_node)
    if tree is None or segmentation_node.GetSegmentation().GetNumberOfSegments() == 0:
        return False
    _ensure_binary(segmentation_node)
    grid = Grid.of(segmentation_node)
    wrong = _wrong_groups(segmentation_node, tree, grid)
    if not wrong:
        return False
    with unseen_by_undo(segmentation_node.GetSegmentation()):
        # All is read before anything is written: groups may share an image now.
        rest = [members for members, alone in wrong if not (alone and _join_layer(members, grid))]
        plans = [plan for members in rest for plan in _plan_layers(members, grid)]
        # Images are made in the order in which the old ones were changed, so that "edited last" can still be told.
        plans.sort(key=lambda plan: max(_modified(segment) for segment in plan[0]))
        for members, array, lower in plans:
            image = grid.new_image(array, lower)
            for value, segment in enumerate(members, start=1):
                segment.SetLabelValue(value)
                segment.AddRepresentation(_BINARY, image)
    return True


def _wrong_groups(
    segmentation_node: slicer.vtkMRMLSegmentationNode, tree: LabelTree, grid: Grid
) -> list[tuple[list[slicer.vtkSegment], bool]]:
    """The members of each group that is not alone on one label map on the reference lattice; with it, whether it is
    alone on those that it has.
    """
    lattice = grid.new_image(np.zeros((1, 1, 1), np.uint8), grid.origin)
    groups: dict[str, list[slicer.vtkSegment]] = {}
    users: dict[str, set[str]] = {}
    fits: dict[str, bool] = {}
    for group, _, segment in _grouped(segmentation_node, tree):
        groups.setdefault(group, []).append(segment)
        image = label_map(segment)
        where = address(image)
        users.setdefault(where, set()).add(group)
        if where not in fits:
            fits[where] = image is not None and image.GetNumberOfPoints() > 0 and _on_lattice(image, lattice)
    found = []
    for members in groups.values():
        places = {address(label_map(segment)) for segment in members}
        alone = all(len(users[where]) == 1 for where in places if where and fits[where])
        right = alone and len(places) == 1 and all(fits[where] for where in places)
        if not right or len({segment.GetLabelValue() for segment in members}) < len(members):
            found.append((members, alone))
    return found


def _join_layer(members: list[slicer.vtkSegment], grid: Grid) -> bool:
    """Let new segments without a label map share that of their siblings: no voxel is read or written.

    Returns:
        False, with nothing done, if more than that has to be done.
    """
    new = [segment for segment in members if not _has_extent(segment)]
    old = [segment for segment in members if _has_extent(segment)]
    images = {address(label_map(segment)): label_map(segment) for segment in old}
    values = {int(segment.GetLabelValue()) for segment in old}
    if not new or len(images) != 1 or len(values) < len(old):
        return False
    (image,) = images.values()
    array, _ = view(image)
    # Above all values in it, too: a segment that was removed may have left its voxels.
    last = max(*values, int(array.max()), 0) + len(new)
    lattice = grid.new_image(np.zeros((1, 1, 1), np.uint8), grid.origin)
    if array.dtype.kind not in "iu" or last > np.iinfo(array.dtype).max or not _on_lattice(image, lattice):
        return False
    for value, segment in enumerate(new, start=last - len(new) + 1):
        segment.SetLabelValue(value)
        segment.AddRepresentation(_BINARY, image)
    return True


def _has_extent(segment: slicer.vtkSegment) -> bool:
    image = label_map(segment)
    return image is not None and image.GetNumberOfPoints() > 0


def _grouped(
    segmentation_node: slicer.vtkMRMLSegmentationNode, tree: LabelTree
) -> Iterator[tuple[str, str, slicer.vtkSegment]]:
    """Each segment with the name of the group that it shares a label map with."""
    paths = {segment_id: path for path, segment_id in tree_store.segments_by_path(segmentation_node, tree).items()}
    for segment_id, segment in tree_store.segments(segmentation_node):
        path = paths.get(segment_id)
        if path is None:
            # "|" is in no path, so this is no parent's group.
            yield f"|{address(label_map(segment))}", segment_id, segment
        else:
            yield path.rpartition("/")[0], segment_id, segment


def _plan_layers(
    members: list[slicer.vtkSegment], grid: Grid
) -> list[tuple[list[slicer.vtkSegment], np.ndarray, tuple[int, int, int]]]:
    """Cropped arrays for the members of one group: one, or more where members overlap."""
    parts = [_cropped(segment, grid) for segment in members]
    filled = [(lower, mask.shape) for lower, mask in parts if mask.size]
    if filled:
        low = tuple(min(lower[axis] for lower, _ in filled) for axis in range(3))
        high = tuple(max(lower[axis] + shape[axis] for lower, shape in filled) for axis in range(3))
    else:
        # One voxel of nothing: Slicer's label map operations expect an image with an extent.
        low, high = grid.origin, tuple(index + 1 for index in grid.origin)
    shape = [h - lo for lo, h in zip(low, high, strict=True)]
    dtype = np.uint8 if len(members) < 256 else np.uint16
    layers: list[tuple[list[slicer.vtkSegment], np.ndarray]] = [([], np.zeros(shape, dtype))]
    for segment, (lower, mask) in sorted(zip(members, parts, strict=True), key=lambda member: _modified(member[0])):
        place = tuple(slice(lo - b, lo - b + n) for lo, b, n in zip(lower, low, mask.shape, strict=True))
        met = [index for index, layer in enumerate(layers) if mask.size and layer[1][place][mask].any()]
        # Above all that it overlaps, which was edited earlier.
        index = max(met, default=-1) + 1
        if index == len(layers):
            layers.append(([], np.zeros(shape, dtype)))
        layers[index][0].append(segment)
        if mask.size:
            layers[index][1][place][mask] = len(layers[index][0])
    return [(segments, array, (int(low[0]), int(low[1]), int(low[2]))) for segments, array in layers]


def _cropped(segment: slicer.vtkSegment, grid: Grid) -> tuple[tuple[int, int, int], np.ndarray]:
    """The segment's voxels on the lattice, cropped: lattice index of the first voxel, and a bool array (maybe empty)."""
    image = label_map(segment)
    if image is None or image.GetNumberOfPoints() == 0:
        return (0, 0, 0), np.zeros((0, 0, 0), bool)
    if not _on_lattice(image, grid.new_image(np.zeros((1, 1, 1), np.uint8), grid.origin)):
        target = grid.new_image(np.zeros(grid.shape, np.uint8), grid.origin)
        moved = slicer.vtkOrientedImageData()
        slicer.vtkOrientedImageDataResample.ResampleOrientedImageToReferenceOrientedImage(
            image, target, moved, False, True
        )
        image = moved
    array, lower = view(image)
    mask = array == segment.GetLabelValue()
    box = bounds(mask)
    if box is None:
        return (0, 0, 0), np.zeros((0, 0, 0), bool)
    inner = mask[slices(box)]
    return (lower[0] + box[0][0], lower[1] + box[0][1], lower[2] + box[0][2]), inner


def _modified(segment: slicer.vtkSegment) -> int:
    image = label_map(segment)
    return 0 if image is None else int(image.GetMTime())


def _on_lattice(image: slicer.vtkOrientedImageData, lattice: slicer.vtkOrientedImageData) -> bool:
    return bool(slicer.vtkOrientedImageDataResample.DoGeometriesMatch(image, lattice))


def _ensure_binary(segmentation_node: slicer.vtkMRMLSegmentationNode) -> None:
    """Make the binary label map the representation that is edited.

    Raises:
        SceneError: the segmentation cannot be converted.
    """
    segmentation = segmentation_node.GetSegmentation()
    if segmentation.GetSourceRepresentationName() == _BINARY:
        return
    if not segmentation.CreateRepresentation(_BINARY):
        raise tags.SceneError(
            f"segmentation '{segmentation_node.GetName()}' cannot be converted to label maps; choose another segmentation."
        )
    segmentation.SetSourceRepresentationName(_BINARY)
