"""Painting a hierarchy: a session on one annotation, with the rules that the tree gives.

>>> with RefineSession(annotation, volume) as session:                # doctest: +SKIP
...     session.enter("tumor")                                        # its subclasses become paintable
...     session.paint("edema", session.sphere((10.0, 20.0, 5.0), 3.0))  # mm, in the patient
...     session.undo()

A stroke changes what :mod:`HierSubclassSegLib.scene.rules` says and nothing else, at any depth, whatever is hidden.
Strokes made with the mouse obey the same rules: the session steers the Segment Editor's masking while the user paints
(``masking``, ``refine``) and settles the rest when the stroke is released (:meth:`RefineSession.after_stroke`).

Arrays are bool, indexed (i, j, k) on the segmentation's reference grid: the stored grid of its first volume.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import slicer
from hierseg.labeltree import LabelTree, Node

from HierSubclassSegLib.scene import layers, marks, rules, tags, tree_store
from HierSubclassSegLib.scene.brush import Brush
from HierSubclassSegLib.scene.layers import Grid
from HierSubclassSegLib.scene.masking import Masking, erasable_segments, segments_of
from HierSubclassSegLib.scene.refine import RefineView, recover, set_visible
from HierSubclassSegLib.scene.snapshot import Snapshot
from HierSubclassSegLib.scene.undo import UndoSteps

_UNDO_STATES = 30


class RefineSession(Brush):
    """Paints the nodes of one annotation.  Close it (or use ``with``): it observes the scene.

    Args:
        segmentation_node: the annotation; it carries a label tree (``tree_store.write_tree``).
        volume_node: the volume that it belongs to; gives the grid if the annotation has none yet.
        save_state: saves the state for undo; the embedded Segment Editor's ``saveStateForUndo`` in Slicer.  None: the
            session's own history, with :meth:`undo` and :meth:`redo`.
        editor_node: the embedded Segment Editor's node; None: one of the session's own.

    Raises:
        SceneError: the annotation has no label tree or is in no scene.
    """

    def __init__(
        self,
        segmentation_node: slicer.vtkMRMLSegmentationNode,
        volume_node: slicer.vtkMRMLScalarVolumeNode,
        *,
        save_state: Callable[[], Any] | None = None,
        editor_node: slicer.vtkMRMLSegmentEditorNode | None = None,
    ) -> None:
        self.segmentation_node = segmentation_node
        self.scene = segmentation_node.GetScene()
        if self.scene is None:
            raise tags.SceneError(f"segmentation '{segmentation_node.GetName()}' is in no scene; add it to one first.")
        self._check_tree()
        recover(segmentation_node)
        tree_store.unmirror_state(segmentation_node)
        name = slicer.vtkSegmentationConverter.GetReferenceImageGeometryParameterName()
        if not segmentation_node.GetSegmentation().GetConversionParameter(name):
            segmentation_node.SetReferenceImageGeometryParameterFromVolumeNode(volume_node)
        if segmentation_node.GetDisplayNode() is None:
            segmentation_node.CreateDefaultDisplayNodes()
        self._owns_editor = editor_node is None
        self.editor_node = editor_node or self.scene.AddNewNodeByClass("vtkMRMLSegmentEditorNode")
        self.editor_node.SetAndObserveSegmentationNode(segmentation_node)
        if volume_node is not None:
            self.editor_node.SetAndObserveSourceVolumeNode(volume_node)
        self._before_session = Masking.of(self.editor_node)
        self.logic = slicer.vtkSlicerSegmentEditorLogic()
        self.logic.SetMRMLScene(self.scene)
        self.logic.SetSegmentEditorNode(self.editor_node)
        self.logic.UpdateReferenceGeometryImage()
        self._owns_history = save_state is None
        if save_state is None:
            self.logic.SetMaximumNumberOfUndoStates(_UNDO_STATES)
            save_state = self.logic.SaveStateForUndo
        self._steps = UndoSteps(save_state)
        self.refined: Node | None = None
        self._view: RefineView | None = None
        self._writing = 0
        self._suspended: tuple[str | None, str | None] | None = None
        layers.ensure_layout(segmentation_node, self.tree)
        self._snapshot = Snapshot(segmentation_node)
        self._observations: list[tuple[Any, int]] = []
        self._observe()

    # -- what there is ---------------------------------------------------------------------------------------------

    @property
    def tree(self) -> LabelTree:
        """The annotation's label tree, as it is now."""
        return self._check_tree()

    @property
    def grid(self) -> Grid:
        """The grid of all arrays here."""
        return Grid.of(self.segmentation_node)

    @property
    def selected(self) -> Node | None:
        """The tree node of the selected segment, however it was selected."""
        segment_id = self.editor_node.GetSelectedSegmentID()
        return tree_store.node_of(self.segmentation_node, segment_id, self.tree) if segment_id else None

    def voxels(self, node: Node | str) -> np.ndarray:
        """The node's voxels, bool (i, j, k): its segment's, or the union of its descendants' if it has none."""
        tree, grid = self.tree, self.grid
        found = rules.region(tree, tree.node(node), layers.read_nodes(self.segmentation_node, tree, grid))
        return np.zeros(grid.shape, bool) if found is None else found

    # -- entering and leaving --------------------------------------------------------------------------------------

    def enter(self, node: Node | str | None = None) -> None:
        """Refine a node: its children become paintable inside it, it is seen as an outline.

        Args:
            node: an inner node; None: the top-level nodes, everywhere.

        Raises:
            SceneError: the node has no subclasses.
        """
        tree = self.tree
        target = None if node is None else tree.node(node)
        if target is not None and tree.is_leaf(target):
            raise tags.SceneError(f"'{target.name}' has no subclasses to paint; add one to the label tree first.")
        self.leave()
        self.prepare()
        if target is not None and target.path not in segments_of(self.segmentation_node, tree):
            with self._steps.step():
                self._create_from_descendants(target)
        self.refined = target
        outlined = None if target is None else segments_of(self.segmentation_node, tree)[target.path]
        self._view = RefineView(self.segmentation_node, outlined)
        self._snapshot.refresh()
        self._follow_selection()

    def select(self, node: Node | str) -> str:
        """Select a node for strokes; it gets an empty segment if it has none.

        Returns:
            Its segment's ID.
        """
        target = self.tree.node(node)
        if target.path not in segments_of(self.segmentation_node, self.tree):
            with self._steps.step():
                self._need_segment(target)
        segment_id = segments_of(self.segmentation_node, self.tree)[target.path]
        self.editor_node.SetSelectedSegmentID(segment_id)
        self._follow_selection()
        return segment_id

    def leave(self) -> None:
        """What is seen moves back to the first display node; masking is as it was before."""
        if self._view is not None:
            self._view.close()
            self._view = None
        self.refined = None
        self._before_session.apply(self.editor_node)

    def close(self) -> None:
        """Leave, and stop observing."""
        self.leave()
        self._stop_observing()
        if self._owns_editor and self.editor_node.GetScene() is not None:
            self.scene.RemoveNode(self.editor_node)

    def __enter__(self) -> RefineSession:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # -- strokes ---------------------------------------------------------------------------------------------------

    def paint(self, node: Node | str, voxels: np.ndarray) -> int:
        """Paint voxels with a node, as one undo step.

        Args:
            node: a node of the tree, at any depth.
            voxels: bool (i, j, k), or integer indices ``(n, 3)``.

        Returns:
            How many voxels the node gained: those inside its parent, outside locked nodes, not its own before.
        """
        return self._stroke(self.tree.node(node), self._as_mask(voxels), True, tags.MANUAL)

    def erase(self, node: Node | str, voxels: np.ndarray) -> int:
        """Take voxels from a node and its descendants, as one undo step; arguments as in :meth:`paint`.

        Returns:
            How many voxels the node lost.
        """
        return self._stroke(self.tree.node(node), self._as_mask(voxels), False, tags.MANUAL)

    def write(self, node: Node | str, voxels: np.ndarray, source: str = tags.MANUAL) -> int:
        """Paint on behalf of a program: like :meth:`paint`, with a word on where the voxels come from.

        Args:
            node: a node of the tree.
            voxels: bool (i, j, k), or integer indices ``(n, 3)``.
            source: ``model:<bundle>@<version>``, ``manual`` or ``mixed``.
        """
        return self._stroke(self.tree.node(node), self._as_mask(voxels), True, source)

    @contextmanager
    def step(self) -> Iterator[None]:
        """Everything done inside is one undo step."""
        with self._steps.step():
            yield

    def after_stroke(self, node: Node | str | None = None) -> None:
        """To be called when the user releases a stroke of the embedded editor: settles it in the same undo step.

        The stroke is clipped at locked nodes and at a parent without a segment (which then gets one), what was
        erased from a node is erased from its descendants, and whatever an effect has changed besides is put back.

        Args:
            node: the node that was painted; None: the selected one.
        """
        tree = self.tree
        target = self.selected if node is None else tree.node(node)
        with self._steps.joined():
            if target is not None and not self._snapshot.knows(
                segments_of(self.segmentation_node, tree).get(target.path, "")
            ):
                target = None
            parent = None if target is None else tree.parent(target)
            changed = self._settle(target)
            if changed and target is not None:
                if parent is not None and parent.path not in segments_of(self.segmentation_node, tree):
                    self._create_from_descendants(parent)
                self._note_source(target, tags.MANUAL)
            layers.ensure_layout(self.segmentation_node, tree)
        self._snapshot.refresh()
        self._follow_selection()

    # -- undo ------------------------------------------------------------------------------------------------------

    def undo(self) -> None:
        """Undo one step of the session's own history.

        Raises:
            SceneError: the history belongs to the embedded Segment Editor.
        """
        self._own_history()
        self.logic.Undo()
        self.refresh()

    def redo(self) -> None:
        """Redo one step of the session's own history; raises as :meth:`undo`."""
        self._own_history()
        self.logic.Redo()
        self.refresh()

    def refresh(self) -> None:
        """Look at the segments anew, after undo, redo or an edit made elsewhere.  Changes no voxel and no tag."""
        if (
            self.segmentation_node.GetSegmentation().GetNumberOfSegments()
            and tree_store.read_tree(self.segmentation_node) is not None
        ):
            layers.ensure_layout(self.segmentation_node, self.tree)
        self._snapshot.refresh()
        self._follow_selection()

    prepare = refresh

    # -- marks -----------------------------------------------------------------------------------------------------

    def set_locked(self, node: Node | str, locked: bool) -> None:
        """Lock or unlock a node: it and its descendants neither gain nor lose voxels.  Not undone by undo."""
        marks.set_locked(self.segmentation_node, self.tree.node(node), locked)

    def mark_slice_complete(self, axis: int, index: int, node: Node | str | None = None, complete: bool = True) -> None:
        """Mark a slice of the stored array as completely annotated, within a node or altogether."""
        marks.set_slice_complete(
            self.segmentation_node, axis, index, None if node is None else self.tree.node(node), complete
        )

    def is_seen(self, node: Node | str) -> bool:
        """Whether the user sees the node's segment."""
        display = self._view.seen if self._view is not None else self.segmentation_node.GetDisplayNode()
        segment_id = segments_of(self.segmentation_node, self.tree).get(self.tree.node(node).path)
        return segment_id is not None and bool(display.GetSegmentVisibility(segment_id))

    def set_seen(self, node: Node | str, visible: bool) -> None:
        """Show or hide a node's segment; no matter for painting."""
        display = self._view.seen if self._view is not None else self.segmentation_node.GetDisplayNode()
        segment_id = segments_of(self.segmentation_node, self.tree).get(self.tree.node(node).path)
        if segment_id is not None:
            display.SetSegmentVisibility(segment_id, visible)

    # -- inside ----------------------------------------------------------------------------------------------------

    def _stroke(self, node: Node, mask: np.ndarray, adding: bool, source: str) -> int:
        self.prepare()
        tree, grid = self.tree, self.grid
        box = layers.bounds(mask)
        if box is None:
            return 0
        inner = mask[tuple(slice(low, high) for low, high in zip(*box, strict=True))]
        lower = tuple(low + origin for low, origin in zip(box[0], grid.origin, strict=True))
        place = lower, tuple(low + size for low, size in zip(lower, inner.shape, strict=True))
        before = self._live(tree, place)  # type: ignore[arg-type]
        locked = marks.untouchable(self.segmentation_node, tree)
        clip = rules.clip_addition if adding else rules.clip_removal
        clipped = clip(tree, node, inner, before, locked)
        if not clipped.any():
            return 0
        with self._steps.step(), self._own_write():
            self._need_segment(node)
            parent = tree.parent(node)
            if parent is not None and parent.path not in segments_of(self.segmentation_node, tree):
                self._create_from_descendants(parent)
            layers.ensure_layout(self.segmentation_node, tree)
            self._snapshot.refresh()
            image = grid.new_image(clipped.astype(np.uint8), lower)  # type: ignore[arg-type]
            mode = slicer.vtkSlicerSegmentEditorLogic
            with self._masked_for(node):
                self.logic.ModifySegmentByLabelmap(
                    self.segmentation_node,
                    segments_of(self.segmentation_node, tree)[node.path],
                    image,
                    mode.ModificationModeAdd if adding else mode.ModificationModeRemove,
                    False,
                    False,
                )
            self._settle(node)
            self._note_source(node, source)
            self._snapshot.refresh()
        self._follow_selection()
        return int(np.count_nonzero(clipped))

    def _settle(self, node: Node | None) -> bool:
        """Bring what has changed since the snapshot to what the rules allow; without a node, put all nodes back."""
        box = self._snapshot.changed_box()
        if box is None:
            return False
        tree, grid = self.tree, self.grid
        segments = segments_of(self.segmentation_node, tree)
        names = {
            tree.node(path).name: segment_id
            for path, segment_id in segments.items()
            if self._snapshot.knows(segment_id)
        }
        before = {name: self._snapshot.mask(segment_id, box) for name, segment_id in names.items()}
        after = {name: mask for name, mask in self._live(tree, box).items() if name in names}
        locked = marks.untouchable(self.segmentation_node, tree)
        wanted = before if node is None else rules.settle(tree, node, before, after, locked)
        corrections = [
            (name, wanted[name], after[name]) for name in names if not np.array_equal(wanted[name], after[name])
        ]
        with self._own_write():
            # Removals first: what is added must not meet a layer-mate.
            for name, right, wrong in corrections:
                if (wrong & ~right).any():
                    layers.remove_voxels(
                        self.segmentation_node, names[name], grid.new_image((wrong & ~right).astype(np.uint8), box[0])
                    )
            for name, right, wrong in corrections:
                if (right & ~wrong).any():
                    layers.add_voxels(
                        self.segmentation_node, names[name], grid.new_image((right & ~wrong).astype(np.uint8), box[0])
                    )
        return node is None or not np.array_equal(wanted[node.name], before[node.name])

    def _live(self, tree: LabelTree, box: layers.Box) -> dict[str, np.ndarray]:
        found = {}
        for path, segment_id in segments_of(self.segmentation_node, tree).items():
            segment = self.segmentation_node.GetSegmentation().GetSegment(segment_id)
            array, lower = layers.view(layers.label_map(segment))
            found[tree.node(path).name] = layers.crop(array, lower, box, segment.GetLabelValue())
        return found

    def _need_segment(self, node: Node) -> None:
        with self._own_write():
            tree_store.add_segment(self.segmentation_node, self.tree, node, tags.MANUAL)
            layers.ensure_layout(self.segmentation_node, self.tree)

    def _create_from_descendants(self, node: Node) -> None:
        """Give an inner node a segment: the union of its descendants."""
        tree, grid = self.tree, self.grid
        inside = self.voxels(node)
        segments = segments_of(self.segmentation_node, tree)
        below = [segments[other.path] for other in tree.descendants(node) if other.path in segments]
        sources = {
            tags.get_tag(self.segmentation_node.GetSegmentation().GetSegment(i), tags.SOURCE, tags.MANUAL)
            for i in below
        }
        with self._own_write():
            source = sources.pop() if len(sources) == 1 else tags.MIXED if sources else tags.MANUAL
            segment_id = tree_store.add_segment(self.segmentation_node, tree, node, source or tags.MANUAL)
            layers.ensure_layout(self.segmentation_node, tree)
            if inside.any():
                layers.add_voxels(
                    self.segmentation_node, segment_id, grid.new_image(inside.astype(np.uint8), grid.origin)
                )

    def _note_source(self, node: Node, source: str) -> None:
        segment_id = segments_of(self.segmentation_node, self.tree)[node.path]
        segment = self.segmentation_node.GetSegmentation().GetSegment(segment_id)
        known = tags.get_tag(segment, tags.SOURCE, source)
        tags.set_source(segment, source if known == source or self._snapshot.empty(segment_id) else tags.MIXED)

    def _as_mask(self, voxels: np.ndarray) -> np.ndarray:
        shape = self.grid.shape
        voxels = np.asarray(voxels)
        if voxels.dtype == bool and voxels.shape == shape:
            return voxels
        if voxels.ndim == 2 and voxels.shape[1] == 3 and np.issubdtype(voxels.dtype, np.integer):
            inside = voxels[((voxels >= 0) & (voxels < shape)).all(axis=1)]
            mask = np.zeros(shape, bool)
            mask[tuple(inside.T)] = True
            return mask
        raise tags.SceneError(
            f"the voxels are {voxels.dtype} of shape {voxels.shape}; give bool of shape {shape} or integer indices (n, 3)."
        )

    def _check_tree(self) -> LabelTree:
        tree = tree_store.read_tree(self.segmentation_node)
        if tree is None:
            raise tags.SceneError(
                f"segmentation '{self.segmentation_node.GetName()}' has no label tree; group it by a label tree first."
            )
        return tree

    def _own_history(self) -> None:
        if not self._owns_history:
            raise tags.SceneError("the undo history belongs to the Segment Editor; use its undo and redo.")

    # -- masking follows the selection -----------------------------------------------------------------------------

    def _follow_selection(self) -> None:
        node = self.selected if self._view is not None else None
        if self._view is None:
            return
        tree = self.tree
        segments = segments_of(self.segmentation_node, tree)
        if node is None:
            self._view.steer(())
            return
        Masking.for_node(tree, node, segments).apply(self.editor_node)
        self._view.steer(erasable_segments(tree, node, segments) | {segments[node.path]})

    @contextmanager
    def _masked_for(self, node: Node) -> Iterator[None]:
        """Masking for a stroke with ``node`` whatever is selected; observers see no change in the end."""
        tree = self.tree
        segments = segments_of(self.segmentation_node, tree)
        display = self.segmentation_node.GetDisplayNode()
        was = Masking.of(self.editor_node)
        shown = [
            segment_id
            for segment_id, _ in tree_store.segments(self.segmentation_node)
            if display.GetSegmentVisibility(segment_id)
        ]
        editor_blocked, display_blocked = self.editor_node.StartModify(), display.StartModify()
        try:
            Masking.for_node(tree, node, segments).apply(self.editor_node)
            set_visible(display, self.segmentation_node, erasable_segments(tree, node, segments))
            yield
        finally:
            was.apply(self.editor_node)
            set_visible(display, self.segmentation_node, shown)
            self.editor_node.EndModify(editor_blocked)
            display.EndModify(display_blocked)

    @contextmanager
    def _own_write(self) -> Iterator[None]:
        self._writing += 1
        try:
            yield
        finally:
            self._writing -= 1

    # -- observing -------------------------------------------------------------------------------------------------

    def _observe(self) -> None:
        def add(source: Any, event: Any, callback: Callable[..., None]) -> None:
            self._observations.append((source, source.AddObserver(event, callback)))

        scene = slicer.vtkMRMLScene
        add(self.editor_node, "ModifiedEvent", self._on_editor_modified)
        add(self.segmentation_node, slicer.vtkMRMLDisplayableNode.DisplayModifiedEvent, self._on_display_modified)
        add(self.scene, scene.StartSaveEvent, self._on_start_save)
        add(self.scene, scene.EndSaveEvent, self._on_end_save)
        add(self.scene, scene.StartCloseEvent, self._on_start_close)

    def _stop_observing(self) -> None:
        for source, observation in self._observations:
            source.RemoveObserver(observation)
        self._observations.clear()

    def _on_editor_modified(self, caller: object, event: str) -> None:
        if self._view is not None and not self._writing:
            self._follow_selection()

    def _on_display_modified(self, caller: object, event: str) -> None:
        # The Segment Editor's undo ends with this event.  Label maps that were replaced are its mark.
        if not self._writing and self._snapshot.replaced():
            self.refresh()

    def _on_start_save(self, caller: object, event: str) -> None:
        if self._view is not None:
            self._suspended = (
                (None if self.refined is None else self.refined.name),
                self.editor_node.GetSelectedSegmentID(),
            )
            self.leave()
        tree_store.mirror_state(self.segmentation_node)

    def _on_end_save(self, caller: object, event: str) -> None:
        self.refresh()
        if self._suspended is not None:
            name, segment_id = self._suspended
            self._suspended = None
            self.enter(name)
            if segment_id:
                self.editor_node.SetSelectedSegmentID(segment_id)

    def _on_start_close(self, caller: object, event: str) -> None:
        if self._view is not None:
            self._view.abandon()
            self._view = None
        self._stop_observing()
