"""What the segments were before a stroke: Slicer says that a stroke has happened, not what it has changed.

A :class:`Snapshot` keeps a copy of every layer, taken anew only where a layer has changed since.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import slicer

from HierSubclassSegLib.scene import tree_store
from HierSubclassSegLib.scene.lattice import Box, bounds, crop, shifted, view
from HierSubclassSegLib.scene.layers import address, label_map


@dataclass(frozen=True)
class _Layer:
    image: slicer.vtkOrientedImageData  # held, so that its address is given to no other image
    modified: int
    array: np.ndarray
    lower: tuple[int, int, int]


class Snapshot:
    """A copy of all segments' voxels, without their tags."""

    def __init__(self, segmentation_node: slicer.vtkMRMLSegmentationNode) -> None:
        self._node = segmentation_node
        self._layers: dict[str, _Layer] = {}
        self._segments: dict[str, tuple[str, int]] = {}
        self.refresh()

    def refresh(self) -> None:
        """Make the present the state to compare with."""
        layers: dict[str, _Layer] = {}
        self._segments = {}
        for segment_id, segment in tree_store.segments(self._node):
            image = label_map(segment)
            where = address(image)
            self._segments[segment_id] = where, segment.GetLabelValue()
            if image is None or where in layers:
                continue
            known = self._layers.get(where)
            if known is not None and known.modified == image.GetMTime():
                layers[where] = known
            else:
                array, lower = view(image)
                layers[where] = _Layer(image, image.GetMTime(), array.copy("K"), lower)
        self._layers = layers

    def replaced(self) -> bool:
        """Whether segments came, went or got other label maps: undo, redo and saving do that, strokes do not."""
        now = {segment_id: address(label_map(segment)) for segment_id, segment in tree_store.segments(self._node)}
        return now != {segment_id: where for segment_id, (where, _) in self._segments.items()}

    def knows(self, segment_id: str) -> bool:
        """Whether the segment was there."""
        return segment_id in self._segments

    def mask(self, segment_id: str, box: Box) -> np.ndarray:
        """What the segment was within the box, bool; nothing if it was not there."""
        where, value = self._segments.get(segment_id, ("", 0))
        layer = self._layers.get(where)
        if layer is None:
            return np.zeros([high - low for low, high in zip(*box, strict=True)], dtype=bool)
        return crop(layer.array, layer.lower, box, value)

    def empty(self, segment_id: str) -> bool:
        """Whether the segment had no voxel (or was not there)."""
        where, value = self._segments.get(segment_id, ("", 0))
        layer = self._layers.get(where)
        return layer is None or not bool((layer.array == value).any())

    def changed_box(self) -> Box | None:
        """The smallest box of the lattice outside of which no segment has changed; None if none has changed at all."""
        found: list[Box] = []
        compared: set[str] = set()
        for segment_id, segment in tree_store.segments(self._node):
            image = label_map(segment)
            where, value = self._segments.get(segment_id, ("", 0))
            layer = self._layers.get(where)
            same = layer is not None and address(image) == where and value == segment.GetLabelValue()
            if (
                same
                and layer is not None
                and (where in compared or image is None or layer.modified == image.GetMTime())
            ):
                continue
            array, lower = view(image)
            if same and layer is not None:
                compared.add(where)
                box = _difference(layer.array, layer.lower, array, lower)
            else:
                old = np.zeros((0, 0, 0), bool) if layer is None else layer.array == value
                box = _difference(
                    old, (0, 0, 0) if layer is None else layer.lower, array == segment.GetLabelValue(), lower
                )
            if box is not None:
                found.append(box)
        if not found:
            return None
        low = np.min([box[0] for box in found], axis=0)
        high = np.max([box[1] for box in found], axis=0)
        return (int(low[0]), int(low[1]), int(low[2])), (int(high[0]), int(high[1]), int(high[2]))


def _difference(
    old: np.ndarray, old_lower: tuple[int, int, int], new: np.ndarray, new_lower: tuple[int, int, int]
) -> Box | None:
    """Where two arrays, each lying somewhere on the lattice and zero elsewhere, differ."""
    if old.size and old.shape == new.shape and old_lower == new_lower:
        # Most strokes change a few slices of a layer whose extent stays: those are found first.
        slabs = [k for k in range(old.shape[2]) if not np.array_equal(old[:, :, k], new[:, :, k])]
        if not slabs:
            return None
        part = slice(slabs[0], slabs[-1] + 1)
        found = bounds(old[:, :, part] != new[:, :, part])
        corner = (old_lower[0], old_lower[1], old_lower[2] + slabs[0])
        return None if found is None else shifted(found, corner)
    placed = [(array, lower) for array, lower in ((old, old_lower), (new, new_lower)) if array.size]
    if not placed:
        return None
    low = np.min([lower for _, lower in placed], axis=0)
    high = np.max([np.add(lower, array.shape) for array, lower in placed], axis=0)
    canvas = np.zeros(high - low, dtype=np.result_type(*(array.dtype for array, _ in placed)))
    if old.size:
        canvas[_slices(old_lower, old.shape, low)] = old
    differs = canvas != 0
    if new.size:
        place = _slices(new_lower, new.shape, low)
        differs[place] = canvas[place] != new
    box = bounds(differs)
    if box is None:
        return None
    start, stop = np.add(box[0], low), np.add(box[1], low)
    return (int(start[0]), int(start[1]), int(start[2])), (int(stop[0]), int(stop[1]), int(stop[2]))


def _slices(lower: tuple[int, int, int], shape: tuple[int, ...], origin: np.ndarray) -> tuple[slice, ...]:
    return tuple(slice(int(lo - o), int(lo - o) + n) for lo, n, o in zip(lower, shape, origin, strict=True))
