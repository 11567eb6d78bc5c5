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

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

import numpy as np
import slicer

from hierseg.labeltree import LabelTree, Node
from HierSubclassSegLib.scene import brush, labelmaps, layers, rules, tags, tree_store
from HierSubclassSegLib.scene.hierarchy_edits import HierarchyEdits, tree_of
from HierSubclassSegLib.scene.lattice import Grid
from HierSubclassSegLib.scene.observers import SceneObserver
from HierSubclassSegLib.scene.reconcile import Outside, Repair, reconcile
from HierSubclassSegLib.scene.refine import recover
from HierSubclassSegLib.scene.refining import Refining
from HierSubclassSegLib.scene.strokes import Strokes
from HierSubclassSegLib.scene.takeover import take_over
from HierSubclassSegLib.scene.undo import UndoSteps, unseen_by_undo

_UNDO_STATES = 30


class RefineSession(HierarchyEdits):
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
        volume_node: slicer.vtkMRMLScalarVolumeNode | None = None,
        *,
        save_state: Callable[[], Any] | None = None,
        editor_node: slicer.vtkMRMLSegmentEditorNode | None = None,
    ) -> None:
        self.segmentation_node = segmentation_node
        self.scene = segmentation_node.GetScene()
        _prepare_node(segmentation_node, volume_node)
        self._owns_editor = editor_node is None
        self.editor_node = editor_node or self.scene.AddNewNodeByClass("vtkMRMLSegmentEditorNode")
        self.editor_node.SetAndObserveSegmentationNode(segmentation_node)
        if volume_node is not None:
            self.editor_node.SetAndObserveSourceVolumeNode(volume_node)
        self._refining = Refining(segmentation_node, self.editor_node)
        self.logic = slicer.vtkSlicerSegmentEditorLogic()
        self.logic.SetMRMLScene(self.scene)
        self.logic.SetSegmentEditorNode(self.editor_node)
        self.logic.UpdateReferenceGeometryImage()
        self._owns_history = save_state is None
        if save_state is None:
            self.logic.SetMaximumNumberOfUndoStates(_UNDO_STATES)
            save_state = self.logic.SaveStateForUndo
        self._steps = UndoSteps(save_state)
        layers.ensure_layout(segmentation_node, self.tree)
        self._strokes = Strokes(segmentation_node, self.logic, self._steps)
        self._suspended: tuple[Node | None, str | None] | None = None
        self._observer = SceneObserver(
            segmentation_node,
            self.editor_node,
            editor_modified=self._on_editor_modified,
            display_modified=self._on_display_modified,
            save_starts=self.suspend,
            save_ends=self.resume,
            node_goes=self._on_node_goes,
        )

    # -- what there is ---------------------------------------------------------------------------------------------

    @property
    def grid(self) -> Grid:
        """The grid of all arrays here."""
        return Grid.of(self.segmentation_node)

    @property
    def refining(self) -> bool:
        """Whether a node (or the top level) has been entered."""
        return self._refining.active

    @property
    def refined(self) -> Node | None:
        """The node that is refined; None also for the top level."""
        return self._refining.node

    @property
    def writing(self) -> bool:
        """Whether a write of the session's is under way: what changes now is no stroke of the user's."""
        return self._strokes.writing

    @property
    def selected(self) -> Node | None:
        """The tree node of the selected segment, however it was selected."""
        return self._refining.selected(self.tree)

    def voxels(self, node: Node | str) -> np.ndarray:
        """The node's voxels, bool (i, j, k): its segment's, or the union of its descendants' if it has none."""
        tree, grid = self.tree, self.grid
        found = rules.region(tree, tree.node(node), self._strokes.masks(tree, grid.box))
        return np.zeros(grid.shape, bool) if found is None else found

    def sphere(self, center: Sequence[float], radius: float) -> np.ndarray:
        """The voxels whose centers lie within ``radius`` mm of a point of the world; bool (i, j, k)."""
        return self.brush([center], radius)

    def brush(
        self, points: Sequence[Sequence[float]] | np.ndarray, radius: float, *, axis: int | None = None
    ) -> np.ndarray:
        """The voxels of a stroke through points ``(n, 3)`` of the world, RAS mm; see :func:`brush.dabs`."""
        return brush.dabs(self.segmentation_node, self.grid, points, radius, axis)

    # -- entering and leaving --------------------------------------------------------------------------------------

    def enter(self, node: Node | str | None = None, *, outside: Outside = "grow") -> None:
        """Refine a node: its children become paintable inside it, it is seen as an outline.

        Edits made elsewhere are reconciled first, and a node without a segment gets the union of its descendants:
        one undo step, if there is anything to do.

        Args:
            node: an inner node; None: the top-level nodes, everywhere.
            outside: what becomes of a child outside its parent: ``"grow"`` the parent or ``"clip"`` the child.

        Raises:
            SceneError: the node has no subclasses.
        """
        tree = self.tree
        target = None if node is None else tree.node(node)
        if target is not None and tree.is_leaf(target):
            raise tags.SceneError(f"'{target.name}' has no subclasses to paint; add one to the label tree first.")
        self.leave()
        self.reconcile(outside)
        if target is not None:
            self._strokes.need_segment(tree, target)
        self._strokes.snapshot.refresh()
        self._refining.open(target, tree)

    def select(self, node: Node | str) -> str:
        """Select a node for strokes; it gets an empty segment if it has none (an undo step).

        Returns:
            Its segment's ID.
        """
        tree = self.tree
        target = tree.node(node)
        self._strokes.need_segment(tree, target)
        self._strokes.snapshot.refresh()
        segment_id = self._strokes.ids(tree)[target.name]
        self.editor_node.SetSelectedSegmentID(segment_id)
        self._follow_selection()
        return segment_id

    def provide(self, names: Sequence[str]) -> None:
        """Give nodes that have none a segment each; Slicer hears of them once, and none is selected."""
        tree = self.tree
        with self.step(), labelmaps.modifying(self.segmentation_node):
            self._strokes.need_segments(tree, [tree.node(name) for name in names])
        self._strokes.snapshot.refresh()

    def leave(self) -> None:
        """What is seen moves back to the first display node; masking is as it was before."""
        self._refining.close()

    def suspend(self) -> None:
        """Make an ordinary segmentation of the annotation while the scene is saved; :meth:`resume` goes on.

        Both happen by themselves on the scene's StartSave and EndSave events, which ``storage.save_scene`` sends.
        Slicer's own Save dialog does not: the panel calls these.
        """
        if self.refining:
            self._suspended = self.refined, self.editor_node.GetSelectedSegmentID()
            self.leave()
        with unseen_by_undo(self.segmentation_node.GetSegmentation()):
            tree_store.mirror_state(self.segmentation_node)

    def resume(self) -> None:
        """Go on refining after :meth:`suspend`; no effect but to look anew if nothing was suspended."""
        self.refresh()
        if self._suspended is not None:
            target, segment_id = self._suspended
            self._suspended = None
            self._refining.open(target, self.tree)
            if segment_id:
                self.editor_node.SetSelectedSegmentID(segment_id)

    def close(self) -> None:
        """Leave, and stop observing."""
        self.leave()
        self._observer.close()
        if self._owns_editor and self.editor_node.GetScene() is not None:
            self.scene.RemoveNode(self.editor_node)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # -- strokes ---------------------------------------------------------------------------------------------------

    def paint(self, node: Node | str, voxels: np.ndarray, *, source: str = tags.MANUAL) -> int:
        """Paint voxels with a node, as one undo step.

        Args:
            node: a node of the tree, at any depth.
            voxels: bool (i, j, k), or integer indices ``(n, 3)``.
            source: where the voxels come from: ``manual``, ``mixed`` or ``model:<bundle>@<version>``.

        Returns:
            How many voxels the node gained: those inside its parent, outside locked nodes, not its own before.
        """
        return self._stroke(node, voxels, True, source)

    def erase(self, node: Node | str, voxels: np.ndarray) -> int:
        """Take voxels from a node and its descendants, as one undo step; arguments as in :meth:`paint`.

        Returns:
            How many voxels the node lost.
        """
        return self._stroke(node, voxels, False, tags.MANUAL)

    def write(self, node: Node | str, mask: np.ndarray, source: str = tags.MANUAL) -> int:
        """Paint on behalf of a program; the same rules, undo and result as :meth:`paint`."""
        return self._stroke(node, mask, True, source)

    def take_over(
        self,
        node: Node | str,
        where: np.ndarray | None = None,
        *,
        min_confidence: float | None = None,
        prediction_node: slicer.vtkMRMLSegmentationNode | None = None,
    ) -> int:
        """Copy what was predicted at and below a node (see :func:`takeover.take_over`), as one undo step.

        Returns:
            How many voxels were copied.
        """
        self.refresh()
        with self._strokes.write():
            copied = take_over(
                self.segmentation_node,
                node,
                where,
                min_confidence=min_confidence,
                prediction_node=prediction_node,
                save_state=self._steps.save,
            )
        self.refresh()
        return copied

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
        self._strokes.settle_stroke(tree, self.selected if node is None else tree.node(node))
        self._follow_selection()

    def reconcile(self, outside: Outside = "grow") -> list[Repair]:
        """Reconcile edits made elsewhere (see :mod:`reconcile`), as one undo step if there are any."""
        self.refresh()
        with self._strokes.write():
            repairs = reconcile(self.segmentation_node, outside, steps=self._steps)
        self._strokes.snapshot.refresh()
        return repairs

    # -- undo ------------------------------------------------------------------------------------------------------

    def undo(self) -> None:
        """Undo one step of the session's own history.

        Raises:
            SceneError: the history belongs to the embedded Segment Editor.
        """
        self._need_own_history()
        self.logic.Undo()
        self.refresh()

    def redo(self) -> None:
        """Redo one step of the session's own history; raises as :meth:`undo`."""
        self._need_own_history()
        self.logic.Redo()
        self.refresh()

    def refresh(self) -> None:
        """Look at the segments anew, after undo, redo or an edit made elsewhere.  Changes no voxel and no tag.

        The session does so by itself after the Segment Editor's undo; what it cannot see (a single node saved to a
        file, which packs the layers) the caller says by this.
        """
        tree_store.remember_tree(self.segmentation_node, self.tree)
        layers.ensure_layout(self.segmentation_node)
        self._strokes.snapshot.refresh()
        self._follow_selection()

    # -- inside ----------------------------------------------------------------------------------------------------

    @contextmanager
    def _edit(self) -> Iterator[None]:
        with self._steps.step(), self._strokes.write():
            yield

    def _need_segment(self, tree: LabelTree, node: Node) -> None:
        self._strokes.need_segment(tree, node)

    def _stroke(self, node: Node | str, voxels: np.ndarray, adding: bool, source: str) -> int:
        tree = self.tree
        target = tree.node(node)
        mask = brush.as_mask(voxels, self.grid.shape)
        layers.ensure_layout(self.segmentation_node, tree)
        changed = self._strokes.stroke(tree, target, mask, adding, source)
        self._follow_selection()
        return changed

    def _need_own_history(self) -> None:
        if not self._owns_history:
            raise tags.SceneError("the undo history belongs to the Segment Editor; use its undo and redo.")

    def _follow_selection(self) -> None:
        if self.refining:
            self._refining.follow(self.tree)

    def _on_editor_modified(self) -> None:
        if not self._strokes.writing:
            self._follow_selection()

    def _on_display_modified(self) -> None:
        # The Segment Editor's undo ends with this event.  Label maps that were replaced are its mark.
        if not self._strokes.writing and self._strokes.snapshot.replaced():
            self.refresh()

    def _on_node_goes(self) -> None:
        self._refining.abandon()
        self._observer.close()


def _prepare_node(segmentation_node: slicer.vtkMRMLSegmentationNode, volume_node: Any) -> None:
    if segmentation_node.GetScene() is None:
        raise tags.SceneError(f"segmentation '{segmentation_node.GetName()}' is in no scene; add it to one first.")
    tree_store.remember_tree(segmentation_node, tree_of(segmentation_node))
    recover(segmentation_node)
    tree_store.unmirror_state(segmentation_node)
    name = slicer.vtkSegmentationConverter.GetReferenceImageGeometryParameterName()
    if volume_node is not None and not segmentation_node.GetSegmentation().GetConversionParameter(name):
        segmentation_node.SetReferenceImageGeometryParameterFromVolumeNode(volume_node)
    if segmentation_node.GetDisplayNode() is None:
        segmentation_node.CreateDefaultDisplayNodes()
