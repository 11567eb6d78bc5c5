"""Random walks over everything that an annotator does: the hierarchy holds at every step, undo and redo are exact.

``HIERSEG_WALK_STEPS`` sets the number of steps a walk (the suite takes few, with fixed seeds).
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
import slicer

from HierSubclassSegLib.scene import labelmaps, layers, marks, tree_store
from HierSubclassSegLib.scene.undo import unseen_by_undo
from scene.painting_support import (
    SHAPE,
    Editor,
    check_hierarchy,
    expected_layers,
    masks,
    state,
    uniform_tree,
    workplace,
)

STEPS = int(os.environ.get("HIERSEG_WALK_STEPS", "150"))
#: how often each kind of step comes in a deck, which is then shuffled
OFTEN = {
    "paint": 6,
    "user_stroke": 5,
    "erase": 2,
    "user_erase": 2,
    "undo": 5,
    "redo": 3,
    "take_over": 3,
    "write_in_one_step": 1,
    "hide_or_show": 2,
    "rename": 1,
    "delete": 1,
    "lock_or_unlock": 1,
    "enter_or_leave": 1,
    "save": 1,
    "load": 1,
}


class Walk:
    """One annotator at one annotation, with the embedded editor that owns the undo history."""

    def __init__(self, depth: int, seed: int, folder: Any) -> None:
        self.random = np.random.default_rng(seed)
        self.folder = folder
        self.place = workplace(uniform_tree(depth))
        self.editor = Editor(self.place)
        self.session = self.editor.session()
        self.prediction = self.place.scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "prediction")
        coarse = self.random.choice(self.session.tree.leaf_values, size=[-(-n // 3) for n in SHAPE])
        labels = coarse.repeat(3, 0).repeat(3, 1).repeat(3, 2)[tuple(slice(n) for n in SHAPE)]
        tree_store.write_tree(self.prediction, self.session.tree)
        affine = layers.Grid.of(self.annotation).to_ras
        labelmaps.fill(self.prediction, self.session.tree, labels, affine, "model:walk@1")
        self.past: list[Any] = []
        self.future: list[Any] = []
        self.names = 0
        self.deck: list[str] = []

    # -- helpers ---------------------------------------------------------------------------------------------------

    @property
    def annotation(self) -> Any:
        return self.editor.node.GetSegmentationNode()

    def any_node(self) -> Any:
        nodes = self.session.tree.nodes
        return nodes[self.random.integers(len(nodes))]

    def paintable_node(self) -> Any:
        """Mostly a node in which there is something to paint, the deeper the better."""
        tree, found = self.session.tree, masks(self.annotation)
        weights = [
            0.3 if (parent := tree.parent(node)) is None else float(node.depth * self.region(parent, found).any())
            for node in tree.nodes
        ]
        return tree.nodes[self.random.choice(len(weights), p=np.divide(weights, sum(weights)))]

    def any_stroke(self, everywhere: float = 0.15) -> np.ndarray:
        mask = np.zeros(SHAPE, bool)
        if self.random.random() < everywhere:
            mask[...] = True
            return mask
        start = self.random.integers(0, SHAPE)
        extent = self.random.integers(1, 6, 3)
        mask[tuple(slice(s, s + e) for s, e in zip(start, extent, strict=True))] = True
        return mask & (self.random.random(SHAPE) < 0.8)

    def region(self, node: Any, found: dict[str, np.ndarray]) -> np.ndarray:
        if node.name in found:
            return found[node.name]
        parts = [self.region(child, found) for child in self.session.tree.children(node)]
        return np.logical_or.reduce([np.zeros(SHAPE, bool), *parts])

    def remember(self, before: Any) -> None:
        self.past.append(before)
        self.future.clear()

    def expected(
        self, node: Any, stroke: np.ndarray, adding: bool, before: dict[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """What the architecture's sentences say, voxel by voxel and node by node."""
        tree = self.session.tree
        locked = {other.name for other in tree.nodes if other.name in marks.locked_nodes(self.annotation, tree)}
        frozen = {other.name for other in tree.nodes if {other.name, *(a.name for a in tree.ancestors(other))} & locked}
        siblings = {d.name for s in tree.siblings(node) for d in (s, *tree.descendants(s))}
        own = {d.name for d in tree.descendants(node)}
        touched = (
            stroke & ~before.get(node.name, np.zeros(SHAPE, bool)) if adding else stroke & self.region(node, before)
        )
        parent = tree.parent(node)
        if adding and parent is not None:
            touched &= self.region(parent, before)
        for name in (siblings if adding else own) & frozen:
            touched &= ~self.region(tree.node(name), before)
        if node.name in frozen:
            touched &= False
        after = dict(before)
        losing = siblings if adding else own | {node.name}
        for name in losing & set(after):
            after[name] = before[name] & ~touched
        if touched.any():
            # A node that is painted or erased has a segment, and so has its parent.
            for missing in (node, parent):
                if missing is not None and missing.name not in after:
                    after[missing.name] = self.region(missing, before)
            after[node.name] = after[node.name] | touched if adding else after[node.name] & ~touched
        return after

    def compare(self, expected: dict[str, np.ndarray]) -> None:
        after = masks(self.annotation)
        assert set(after) == set(expected)
        wrong = [name for name in after if not np.array_equal(after[name], expected[name])]
        assert not wrong, f"voxels of {wrong} differ from what the rules say"

    # -- steps -----------------------------------------------------------------------------------------------------

    def paint(self, adding: bool = True) -> None:
        node, stroke = self.paintable_node(), self.any_stroke(0.3 if adding else 0.02)
        before = state(self.annotation)
        expected = self.expected(node, stroke, adding, masks(self.annotation))
        changed = (self.session.paint if adding else self.session.erase)(node, stroke)
        self.compare(expected)
        if changed:
            self.remember(before)

    def erase(self) -> None:
        self.paint(adding=False)

    def user_stroke(self, adding: bool = True) -> None:
        ids = tree_store.segments_by_path(self.annotation, self.session.tree)
        if not ids:
            return
        path = list(ids)[self.random.integers(len(ids))]
        node = self.session.tree.node(path)
        if not self.session.refining:
            self.session.enter(self.session.tree.parent(node))
            self.past.clear()  # entering may have been an undo step
            self.future.clear()
            self.editor.logic.ClearUndoState()
        self.editor.node.SetSelectedSegmentID(ids[path])
        found = masks(self.annotation)
        parent = self.session.tree.parent(node)
        stroke = self.any_stroke(0.3 if adding else 0.02)
        reach = stroke & ~found[node.name] if adding else stroke & found[node.name]
        if parent is not None and parent.name in found:
            reach &= found[parent.name]
        if not reach.any():
            return
        before = state(self.annotation)
        expected = self.expected(node, stroke, adding, found)
        self.editor.stroke(stroke, adding)
        self.session.after_stroke()
        self.compare(expected)
        self.remember(before)

    def user_erase(self) -> None:
        self.user_stroke(adding=False)

    def undo(self) -> None:
        if self.past and self.editor.logic.CanUndo():
            self.future.append(state(self.annotation))
            self.editor.logic.Undo()
            assert state(self.annotation) == self.past.pop(), "undo is not exact"

    def redo(self) -> None:
        assert bool(self.future) == bool(self.editor.logic.CanRedo())
        if self.future:
            self.past.append(state(self.annotation))
            self.editor.logic.Redo()
            assert state(self.annotation) == self.future.pop(), "redo is not exact"

    def take_over(self) -> None:
        """Predicted voxels, only where nothing finer than the node is painted; no node loses any."""
        node, found, before = self.any_node(), masks(self.annotation), state(self.annotation)
        frozen = marks.untouchable(self.annotation, self.session.tree)
        where = self.any_stroke(0.5)
        if not self.session.take_over(node, where, prediction_node=self.prediction):
            assert state(self.annotation) == before
            return
        after = masks(self.annotation)
        finer = np.logical_or.reduce(
            [self.region(child, found) for child in self.session.tree.children(node)] or [False]
        )
        for name, mask in found.items():
            assert not (mask & ~after[name]).any(), f"'{name}' lost voxels to the prediction"
        for name, mask in after.items():
            gained = mask & ~found.get(name, np.zeros(SHAPE, bool))
            if name in found or self.session.tree.is_leaf(name):
                assert not (gained & (~where | finer)).any()
                assert name not in frozen or not gained.any()
        self.remember(before)

    def write_in_one_step(self) -> None:
        before, changed = state(self.annotation), 0
        with self.session.step():
            for _ in range(3):
                changed += self.session.write(self.paintable_node(), self.any_stroke(), "model:walk@1")
        if changed:
            self.remember(before)

    def hide_or_show(self) -> None:
        node = self.any_node()
        before = state(self.annotation)
        ids = tree_store.segments_by_path(self.annotation, self.session.tree)
        if node.path in ids and self.random.random() < 0.5:
            # An eye in one of Slicer's own modules.
            display, seen = self.annotation.GetDisplayNode(), self.session.is_seen(node)
            display.SetSegmentVisibility(ids[node.path], not display.GetSegmentVisibility(ids[node.path]))
            assert self.session.is_seen(node) != seen
        else:
            self.session.set_seen(node, not self.session.is_seen(node))
        assert state(self.annotation) == before

    def rename(self) -> None:
        before = state(self.annotation)
        if before:
            self.names += 1
            self.session.rename(self.any_node(), f"node {self.names}")
            self.remember(before)

    def delete(self) -> None:
        node, tree = self.any_node(), self.session.tree
        found = masks(self.annotation)
        doomed = {node.name, *(below.name for below in tree.descendants(node))}
        if node.depth == 1 and self.random.random() < 0.8:
            return
        if not doomed & set(found) or doomed & marks.untouchable(self.annotation, tree):
            return
        if not set(found) - doomed:
            return  # without any segment there is no home for the tree, and no history of its names
        before = state(self.annotation)
        self.session.delete_segments(node)
        self.compare({name: mask for name, mask in found.items() if name not in doomed})
        self.remember(before)

    def lock_or_unlock(self) -> None:
        node = self.any_node()
        locked = marks.locked_nodes(self.annotation, self.session.tree)
        self.session.set_locked(node, node.name not in locked and self.random.random() < 0.3)

    def enter_or_leave(self) -> None:
        if self.session.refining:
            self.session.leave()
            return
        tree = self.session.tree
        inner = [node for node in tree.nodes if not tree.is_leaf(node)]
        node = inner[self.random.integers(len(inner))]
        before, had = state(self.annotation), node.name in masks(self.annotation)
        self.session.enter(node)
        if not had:
            self.remember(before)

    def save(self) -> None:
        before = state(self.annotation)
        with unseen_by_undo(self.annotation.GetSegmentation()):
            self._write()
        self.session.refresh()
        assert state(self.annotation) == before

    def load(self) -> None:
        """Save, close, read the file into a new node and go on there."""
        before, folded = state(self.annotation), tree_store.read_state(self.annotation)
        if not before:
            return
        self.session.leave()
        tree_store.mirror_state(self.annotation)
        self._write()
        self.session.close()
        old = self.annotation
        new = self.place.scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "annotation")
        storage = slicer.vtkMRMLSegmentationStorageNode()
        storage.SetFileName(str(self.folder / "walk.seg.nrrd"))
        assert storage.ReadData(new)
        self.editor.attach(new)
        self.place.scene.RemoveNode(old)
        self.place.annotation = new
        self.session = self.editor.session()
        assert tree_store.read_state(new) == folded
        assert [row[4] for row in state(new)] == [row[4] for row in before]
        assert [row[:2] for row in state(new)] == [row[:2] for row in before]
        self.past.clear()
        self.future.clear()

    def _write(self) -> None:
        storage = slicer.vtkMRMLSegmentationStorageNode()
        storage.SetFileName(str(self.folder / "walk.seg.nrrd"))
        assert storage.WriteData(self.annotation)

    # -- walking ---------------------------------------------------------------------------------------------------

    def step(self) -> None:
        if not self.deck:
            self.deck = [name for name, often in OFTEN.items() for _ in range(often)]
            self.random.shuffle(self.deck)
        getattr(self, self.deck.pop())()
        annotation = self.annotation
        check_hierarchy(annotation)
        assert layers.number_of_layers(annotation) == expected_layers(annotation)
        assert annotation.GetNumberOfDisplayNodes() == (2 if self.session.refining else 1)


@pytest.mark.parametrize(("depth", "seed"), [(2, 20), (3, 30), (4, 40)])
def test_random_walk(depth, seed, tmp_path):
    walk = Walk(depth, seed, tmp_path)
    for number in range(STEPS):
        try:
            walk.step()
        except AssertionError as error:
            raise AssertionError(f"step {number} of seed {seed}: {error}") from error
    walk.session.close()
