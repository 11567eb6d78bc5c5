"""Strokes: own writes into segments, and settling what a stroke has left.

Own writes go through an own ``vtkSlicerSegmentEditorLogic`` on the editor node that the embedded Segment Editor uses:
they obey the same masking, erase what a stroke with the mouse would erase, and keep label maps shared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import slicer

from hierseg.labeltree import LabelTree, Node
from HierSubclassSegLib.scene import layers, marks, new_segments, rules, tags, tree_store
from HierSubclassSegLib.scene.lattice import Box, Grid, bounds, shifted, slices
from HierSubclassSegLib.scene.masking import Masking, erasable_segments
from HierSubclassSegLib.scene.refine import set_visible
from HierSubclassSegLib.scene.snapshot import Snapshot
from HierSubclassSegLib.scene.undo import UndoSteps


class LiveMasks(Mapping[str, np.ndarray]):
    """Voxels by node name within a box, read when asked for: a big stroke need not copy every segment."""

    def __init__(self, segmentation_node: slicer.vtkMRMLSegmentationNode, ids: Mapping[str, str], box: Box) -> None:
        self._node = segmentation_node
        self._ids = ids
        self._box = box

    def __getitem__(self, name: str) -> np.ndarray:
        return layers.read_box(self._node, self._ids[name], self._box)

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)

    def __len__(self) -> int:
        return len(self._ids)


class _OldMasks(LiveMasks):
    def __init__(self, snapshot: Snapshot, ids: Mapping[str, str], box: Box) -> None:
        super().__init__(None, ids, box)
        self._snapshot = snapshot

    def __getitem__(self, name: str) -> np.ndarray:
        return self._snapshot.mask(self._ids[name], self._box)


class Strokes:
    """Writes into one segmentation.

    Args:
        segmentation_node: carries a label tree.
        logic: on the editor node whose masking holds.
        steps: the undo steps that writes belong to.
    """

    def __init__(
        self,
        segmentation_node: slicer.vtkMRMLSegmentationNode,
        logic: slicer.vtkSlicerSegmentEditorLogic,
        steps: UndoSteps,
    ) -> None:
        self._node = segmentation_node
        self._logic = logic
        self._steps = steps
        self._depth = 0
        self.snapshot = Snapshot(segmentation_node)

    @property
    def writing(self) -> bool:
        """Whether a write of ours is under way: its events are not a user's."""
        return self._depth > 0

    @contextmanager
    def write(self) -> Iterator[None]:
        """What happens inside is a write of ours."""
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1

    def ids(self, tree: LabelTree) -> dict[str, str]:
        """Segment ID by node name."""
        found = tree_store.segments_by_path(self._node, tree)
        return {tree.node(path).name: segment_id for path, segment_id in found.items()}

    def masks(self, tree: LabelTree, box: Box) -> LiveMasks:
        """Voxels by node name within a box, as they are now."""
        return LiveMasks(self._node, self.ids(tree), box)

    def stroke(self, tree: LabelTree, node: Node, mask: np.ndarray, adding: bool, source: str) -> int:
        """Paint or erase the voxels of ``mask``, bool on the grid, as one undo step.

        Returns:
            How many voxels the node gained or lost; nothing is saved for undo if that is 0.
        """
        grid = Grid.of(self._node)
        extent = bounds(mask)
        if extent is None:
            return 0
        inner = mask[slices(extent)]
        box = shifted(extent, grid.origin)
        clip = rules.clip_addition if adding else rules.clip_removal
        locked = marks.untouchable(self._node, tree)
        clipped = clip(tree, node, inner, self.masks(tree, box), locked)
        if not clipped.any():
            return 0
        with self._steps.step(), self.write():
            # What a node without a segment loses, its descendants lose: it needs its own for that, too.
            self.need_segment(tree, node)
            parent = tree.parent(node)
            if parent is not None:
                self.need_segment(tree, parent)
            self.snapshot.refresh()
            kind = slicer.vtkSlicerSegmentEditorLogic
            mode = kind.ModificationModeAdd if adding else kind.ModificationModeRemove
            image = grid.new_image(clipped.astype(np.uint8), box[0])
            with self._masked_for(tree, node):
                self._logic.ModifySegmentByLabelmap(self._node, self.ids(tree)[node.name], image, mode, False, False)
            self.settle(tree, node)
            self._note_source(tree, node, source)
            self.snapshot.refresh()
        return int(np.count_nonzero(clipped))

    def settle_stroke(self, tree: LabelTree, node: Node | None) -> None:
        """Settle a stroke of the embedded editor, in the undo step that the editor has begun for it."""
        with self._steps.joined(), self.write():
            if node is not None and not self.snapshot.knows(self.ids(tree).get(node.name, "")):
                node = None
            if self.settle(tree, node) and node is not None:
                parent = tree.parent(node)
                if parent is not None:
                    self.need_segment(tree, parent)
                self._note_source(tree, node, tags.MANUAL)
            layers.ensure_layout(self._node, tree)
            self.snapshot.refresh()

    def settle(self, tree: LabelTree, node: Node | None) -> bool:
        """Bring what has changed since the snapshot to what the rules allow; without a node, put everything back.

        Returns:
            Whether the node gained or lost anything in the end.
        """
        box = self.snapshot.changed_box()
        if box is None:
            return False
        ids = {name: segment_id for name, segment_id in self.ids(tree).items() if self.snapshot.knows(segment_id)}
        change = None
        if node is not None:
            before = _OldMasks(self.snapshot, ids, box)
            painted = layers.read_box(self._node, ids[node.name], box)
            change = rules.clip(tree, node, before, painted, marks.untouchable(self._node, tree))
        corrections: list[tuple[str, np.ndarray]] = []
        for name, segment_id in ids.items():
            old = self.snapshot.mask(segment_id, box)
            right = old if change is None else rules.settled(tree, change, name, old)
            if not np.array_equal(right, layers.read_box(self._node, segment_id, box)):
                corrections.append((segment_id, right))
        with self.write():
            layers.set_masks(self._node, corrections, box)
        return change is not None and bool(change.added.any() or change.removed.any())

    def need_segment(self, tree: LabelTree, node: Node) -> None:
        """Give a node a segment if it has none: the union of its descendants, empty for a leaf."""
        self.need_segments(tree, [node])

    def need_segments(self, tree: LabelTree, nodes: Sequence[Node]) -> None:
        """The same for several nodes at once."""
        there = self.ids(tree)
        lacking = [node for node in nodes if node.name not in there]
        if not lacking:
            return
        with self._steps.step(), self.write():
            for node in lacking:
                new_segments.need_segment(self._node, tree, node)
            layers.ensure_layout(self._node, tree)

    def _note_source(self, tree: LabelTree, node: Node, source: str) -> None:
        segment_id = self.ids(tree)[node.name]
        segment = self._node.GetSegmentation().GetSegment(segment_id)
        known = tags.get_tag(segment, tags.SOURCE)
        tags.set_source(segment, source if known == source or self.snapshot.empty(segment_id) else tags.MIXED)

    @contextmanager
    def _masked_for(self, tree: LabelTree, node: Node) -> Iterator[None]:
        """Masking for a stroke with ``node``, whatever is selected; observers see no change in the end."""
        editor_node, display = self._logic.GetSegmentEditorNode(), self._node.GetDisplayNode()
        segments = tree_store.segments_by_path(self._node, tree)
        was = Masking.of(editor_node)
        shown = [i for i, _ in tree_store.segments(self._node) if display.GetSegmentVisibility(i)]
        editor_blocked, display_blocked = editor_node.StartModify(), display.StartModify()
        try:
            Masking.for_node(tree, node, segments).apply(editor_node)
            set_visible(display, self._node, erasable_segments(tree, node, segments))
            yield
        finally:
            was.apply(editor_node)
            set_visible(display, self._node, shown)
            editor_node.EndModify(editor_blocked)
            display.EndModify(display_blocked)
