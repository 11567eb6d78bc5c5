"""Measures: how much of a scan each tree node is, how far it is refined, how sure the model was.

One number a node is wanted at once after a stroke and for all nodes soon, without ever holding the GUI for long:

* voxels are counted where they lie, in the cropped label maps that siblings share (``count_nonzero(layer == value)``),
  block by block: no copy of a segment is made;
* a count is kept until its label map's modification time has moved;
* :meth:`Measures.recount` counts one segment now (the painted one), :meth:`Measures.step` works on the rest for a few
  milliseconds a call: a panel calls it from a timer while nothing else happens.

>>> measures = Measures(segmentation_node)                     # doctest: +SKIP
>>> while measures.pending: measures.step(0.01)                # doctest: +SKIP
>>> measures.ml("tumor"), measures.refined("tumor")            # doctest: +SKIP
(48.2, 0.04)
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import slicer

from hierseg.labeltree import LabelTree, Node
from HierSubclassSegLib.scene import geometry, layers, prediction, tree_store
from HierSubclassSegLib.scene.annotation import prediction_of, tree_of
from HierSubclassSegLib.scene.lattice import view

# Voxels looked at together: few enough to stay in the processor's cache, enough to hide numpy's own costs.
_BLOCK = 1 << 19


@dataclass(frozen=True)
class _Count:
    """What was counted for a segment, and in which state of which label map."""

    image: slicer.vtkOrientedImageData | None  # held, so that its address is given to no other image
    modified: int
    value: int
    voxels: int | None  # None: the segment has no label map (a surface, say)
    ml: float | None
    confidence: float | None


class Measures:
    """The measures of the nodes of one segmentation (prediction, annotation, or any that was grouped by a tree).

    Numbers are the last known ones: :attr:`pending` says how many segments have changed since they were counted.
    Nothing is observed, and nothing in the scene is changed.

    Args:
        segmentation_node: carries a label tree.
        tree: its tree, if known.

    Raises:
        SceneError: it has no label tree.
    """

    def __init__(self, segmentation_node: slicer.vtkMRMLSegmentationNode, tree: LabelTree | None = None) -> None:
        self._node = segmentation_node
        self._tree = tree or tree_of(segmentation_node)
        self._segments: dict[str, str] = {}
        self._counts: dict[str, _Count] = {}
        self._work: Iterator[str | None] | None = None
        self.refresh(self._tree)

    # -- reading ---------------------------------------------------------------------------------------------------

    def ml(self, node: Node | str) -> float | None:
        """The node's volume in milliliters, by the segmentation's own grid; None while it is not counted, or if
        its segment has no label map.

        A node without a segment of its own is the sum of its children.
        """
        return self._volume(self._tree.node(node))

    def voxels(self, node: Node | str) -> int | None:
        """As :meth:`ml`, in voxels."""
        node = self._tree.node(node)
        if node.path in self._segments:
            count = self._counts.get(self._segments[node.path])
            return None if count is None else count.voxels
        found = [self.voxels(child) for child in self._tree.children(node)]
        known = [number for number in found if number is not None]
        return sum(known) if known else None

    def refined(self, node: Node | str) -> float | None:
        """The share of the node (0..1) in which a leaf is known; None for a leaf, and for a node without voxels."""
        node = self._tree.node(node)
        whole = None if self._tree.is_leaf(node) else self.voxels(node)
        if not whole:
            return None
        fine = sum(self.voxels(leaf) or 0 for leaf in self._tree.leaves_under(node))
        return min(1.0, fine / whole)

    def confidence(self, node: Node | str) -> float | None:
        """The model's mean confidence (0..1) over the node's voxels; None without a confidence volume or voxels.

        The confidence volume is the prediction's own; an annotation takes that of its prediction.
        """
        node = self._tree.node(node)
        if node.path in self._segments:
            count = self._counts.get(self._segments[node.path])
            return None if count is None else count.confidence
        parts = [(self.confidence(child), self.voxels(child)) for child in self._tree.children(node)]
        known = [(mean, number) for mean, number in parts if mean is not None and number]
        total = sum(number for _, number in known)
        return sum(mean * number for mean, number in known) / total if total else None

    @property
    def pending(self) -> int:
        """How many segments have changed, or were never counted."""
        return sum(1 for segment_id in self._segments.values() if not self._is_current(segment_id))

    # -- counting --------------------------------------------------------------------------------------------------

    def refresh(self, tree: LabelTree | None = None) -> None:
        """Look at which segments there are, after segments came or went or the tree was edited; counts nothing.

        Args:
            tree: the present tree, if known.
        """
        self._tree = tree or tree_of(self._node)
        self._segments = tree_store.segments_by_path(self._node, self._tree)
        known = set(self._segments.values())
        self._counts = {key: count for key, count in self._counts.items() if key in known}
        self._work = None

    def recount(self, segment_id: str) -> list[str]:
        """Count one segment now, the painted one; its siblings, which the stroke may have erased, are left for idle time.

        Its confidence, if there is any, is kept from before until then.

        Returns:
            The names of the nodes whose numbers may have changed: its own and its ancestors'.
        """
        image, value = self._label_map(segment_id)
        voxels = sum(int(np.count_nonzero(block == value)) for _, block in _blocks(image))
        old = self._counts.get(segment_id)
        wanted = old.confidence if old is not None else None
        # With a confidence volume the count is only good for now: an older time keeps it pending.
        modified = _modified(image) if self._confidence_volume() is None else -1
        self._counts[segment_id] = _counted(image, modified, value, voxels, wanted)
        return self._touched(segment_id)

    def step(self, seconds: float = 0.01) -> list[str]:
        """Count what is pending, for about that long; to be called again while :attr:`pending` is not 0.

        Returns:
            The names of the nodes whose numbers may have changed.
        """
        until = time.perf_counter() + seconds
        changed: list[str] = []
        while True:
            if self._work is None:
                self._work = self._count_pending()
            try:
                done = next(self._work)
            except StopIteration:
                self._work = None
                return changed
            if done is not None:
                changed += [name for name in self._touched(done) if name not in changed]
            if time.perf_counter() >= until:
                return changed

    def complete(self) -> None:
        """Count everything that is pending, however long it takes (scripts and tests)."""
        while self.pending:
            self.step(1.0)

    # -- inside ----------------------------------------------------------------------------------------------------

    def _volume(self, node: Node) -> float | None:
        if node.path in self._segments:
            count = self._counts.get(self._segments[node.path])
            return None if count is None else count.ml
        found = [self._volume(child) for child in self._tree.children(node)]
        known = [number for number in found if number is not None]
        return sum(known) if known else None

    def _touched(self, segment_id: str) -> list[str]:
        path = next((path for path, other in self._segments.items() if other == segment_id), None)
        if path is None:
            return []
        node = self._tree.node(path)
        return [node.name, *(other.name for other in self._tree.ancestors(node))]

    def _label_map(self, segment_id: str) -> tuple[slicer.vtkOrientedImageData | None, int]:
        segment = self._node.GetSegmentation().GetSegment(segment_id)
        return (None, 0) if segment is None else (layers.label_map(segment), int(segment.GetLabelValue()))

    def _is_current(self, segment_id: str) -> bool:
        count = self._counts.get(segment_id)
        if count is None:
            return False
        image, value = self._label_map(segment_id)
        return image is count.image and value == count.value and _modified(image) == count.modified

    def _count_pending(self) -> Iterator[str | None]:
        """Counts segment after segment; gives the ID of each that is done, and None after each block."""
        confidence = self._confidence_volume()
        for segment_id in list(self._segments.values()):
            if self._is_current(segment_id):
                continue
            image, value = self._label_map(segment_id)
            modified, voxels, total = _modified(image), 0, 0
            sure = None if confidence is None or image is None else _ConfidenceOn(confidence, image)
            for index, block in _blocks(image):
                mask = block == value
                found = int(np.count_nonzero(mask))
                voxels += found
                if found and sure is not None:
                    total += sure.total(index, mask)
                yield None
            if modified != _modified(image):
                # Painted in the meantime: the next round counts it.
                continue
            mean = total / voxels / 255.0 if voxels and sure is not None and sure.fits else None
            self._counts[segment_id] = _counted(image, modified, value, voxels, mean)
            yield segment_id

    def _confidence_volume(self) -> slicer.vtkMRMLScalarVolumeNode | None:
        own = prediction.confidence_of(self._node)
        if own is not None:
            return own
        predicted = prediction_of(self._node)
        return None if predicted is None else prediction.confidence_of(predicted)


class _ConfidenceOn:
    """The confidence volume seen from a label map: both lie on one lattice, which a loaded scene may have flipped."""

    def __init__(self, volume: slicer.vtkMRMLScalarVolumeNode, image: slicer.vtkOrientedImageData) -> None:
        array, lower = view(image)
        self._part: np.ndarray | None = None
        stored = volume.GetImageData()
        if stored is None or not array.size:
            return
        values = geometry.array_of(stored)
        # From an index of the label map's lattice to one of the confidence volume's.
        between = np.linalg.inv(geometry.volume_affine(volume)) @ geometry.image_affine(image)
        turn, start = np.rint(np.diag(between)[:3]), np.rint(between[:3, 3])
        exact = np.eye(4)
        exact[:3, :3], exact[:3, 3] = np.diag(turn), start
        if not np.allclose(between, exact, atol=geometry.SAME_GRID_TOLERANCE) or not np.all(np.abs(turn) == 1):
            return
        first = (start + turn * np.array(lower)).astype(int)
        last = (start + turn * (np.array(lower) + array.shape - 1)).astype(int)
        if (np.minimum(first, last) < 0).any() or (np.maximum(first, last) >= values.shape).any():
            return
        place = tuple(slice(min(a, b), max(a, b) + 1) for a, b in zip(first, last, strict=True))
        self._part = values[place][tuple(slice(None, None, int(step)) for step in turn)].transpose(2, 1, 0)

    @property
    def fits(self) -> bool:
        """Whether the two lie on one lattice."""
        return self._part is not None

    def total(self, planes: slice, mask: np.ndarray) -> int:
        """The sum of the confidence values (0..255) where the mask of these planes is true."""
        return 0 if self._part is None else int(self._part[planes][mask].sum(dtype=np.uint64))


def _blocks(image: slicer.vtkOrientedImageData | None) -> Iterator[tuple[slice, np.ndarray]]:
    """The label map in blocks of whole planes, indexed (k, j, i) as it lies in memory; which planes, and the block."""
    array, _ = view(image)
    planes = array.transpose(2, 1, 0)
    if not array.size:
        return
    step = max(1, _BLOCK // (array.shape[0] * array.shape[1]))
    for start in range(0, planes.shape[0], step):
        part = slice(start, start + step)
        yield part, planes[part]


def _modified(image: slicer.vtkOrientedImageData | None) -> int:
    return 0 if image is None else int(image.GetMTime())


def _counted(
    image: slicer.vtkOrientedImageData | None, modified: int, value: int, voxels: int, confidence: float | None
) -> _Count:
    if image is None:
        return _Count(None, modified, value, None, None, None)
    voxel_ml = abs(float(np.linalg.det(geometry.image_affine(image)[:3, :3]))) / 1000.0
    return _Count(image, modified, value, voxels, voxels * voxel_ml, confidence)
