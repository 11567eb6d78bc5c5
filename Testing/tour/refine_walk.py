"""A random walk with real mouse strokes and keys: whatever is done, the hierarchy keeps its promises.  Runs inside Slicer."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np
import slicer
import tour_refine as tour
from hands import CannotDoError, shortcut, stroke, wait
from journey import Journey, leave, settings

STEPS = int(os.environ.get("HIERSEG_WALK_STEPS", "200"))
SEED = int(os.environ.get("HIERSEG_WALK_SEED", "1"))
EFFECTS = ("Paint", "Paint", "Draw", "Erase")

State = dict[str, tuple[str, tuple[tuple[str, str], ...], bytes]]


def state() -> State:
    """Everything that undo is to restore: each segment's name, tags and voxels."""
    from HierSubclassSegLib.scene import layers, status, tags, tree_store

    node = tour.page().annotation
    names = [value for key, value in vars(tags).items() if key.isupper() and isinstance(value, str) and "." in value]
    found: State = {}
    for segment_id, segment in tree_store.segments(node):
        said = tuple((name, tags.get_tag(segment, name) or "") for name in (*names, status.TAG, "TerminologyEntry"))
        voxels = np.packbits(layers.read_segment(node, segment_id)).tobytes()
        found[segment_id] = segment.GetName(), said, voxels
    return found


def difference(one: State, other: State) -> str:
    """Where two states differ, in words."""
    said = [f"segment {key} is missing on one side" for key in set(one) ^ set(other)]
    for key in set(one) & set(other):
        for part, before, after in zip(("name", "tags", "voxels"), one[key], other[key], strict=True):
            if before != after:
                said.append(f"{part} of {one[key][0]}")
    return "; ".join(said)


class Walk:
    """Takes random steps; :attr:`done` counts them by kind."""

    def __init__(self, middle: np.ndarray) -> None:
        self.random = np.random.default_rng(SEED)
        self.middle = middle
        self.done: dict[str, int] = {}
        self.kind = ""
        self.longest = 0.0
        self.past: list[State] = []
        self.future: list[State] = []
        self.present = state()

    def step(self) -> None:
        """One step, and what must hold after it."""
        kinds = ("stroke",) * 8 + ("undo",) * 3 + ("redo",) * 2
        kinds += ("take_over", "select", "key", "eye", "lock", "rename", "refine", "leave", "mark", "add")
        kind = str(self.random.choice(kinds))
        self.kind = kind
        locked = self.locked()
        getattr(self, kind)()
        wait(0.02)
        self.done[kind] = self.done.get(kind, 0) + 1
        tour.check_invariants()
        # Undo may take back what was painted before the node was locked.
        if kind not in ("undo", "redo", "lock"):
            now = state()
            for key, voxels in locked.items():
                assert now[key][2] == voxels, f"{now[key][0]} was changed, though it is locked"

    # -- steps ------------------------------------------------------------------------------------------------------

    def stroke(self) -> None:
        """A stroke with the mouse in a random view, with a random effect."""
        if tour.session().selected is None:
            return
        untouched = self.not_concerned()
        tour.paint_with(str(self.random.choice(EFFECTS)), float(self.random.uniform(4, 16)))
        view = str(self.random.choice(("Red", "Green", "Yellow")))
        node = slicer.app.layoutManager().sliceWidget(view).mrmlSliceNode()
        node.JumpSliceByOffsetting(*(self.middle + self.random.uniform(-15, 15, 3)))
        start = self.middle + self.random.uniform(-30, 30, 3)
        way = self.random.uniform(-25, 25, 3)
        points = [self.in_view(node, start + way * t) for t in np.linspace(0, 1, 8)]
        try:
            self.longest = max(self.longest, stroke(view, points))
        except CannotDoError:
            return
        tour.page().refine.editor.widget.setActiveEffect(None)
        self.changed()
        for key, value in untouched.items():
            assert self.present[key][2] == value, f"{self.present[key][0]} was changed by a stroke elsewhere"

    def undo(self) -> None:
        """Slicer's key."""
        if self.past and self.press("Z", self.past):
            self.future.append(self.present)
            self.present = self.past.pop()

    def redo(self) -> None:
        """Slicer's key."""
        if self.future and self.press("Y", self.future):
            self.past.append(self.present)
            self.present = self.future.pop()

    def press(self, key: str, to: list[State]) -> bool:
        """Press a key until something changes (a stroke that hit nothing is a step of Slicer's, too), and compare."""
        buttons = tour.page().refine.editor.widget.findChildren("QToolButton")
        button = next(one for one in buttons if one.objectName == {"Z": "UndoButton", "Y": "RedoButton"}[key])
        while button.enabled:
            shortcut(key)
            now = state()
            if now != self.present:
                said = difference(to[-1], now)
                assert not said, f"{key}: {said}"
                return True
        # The history holds so many steps and no more, and a stroke that hits nothing ends what could be redone.
        to.clear()
        return False

    def take_over(self) -> None:
        """A scope and a confidence."""
        row = tour.page().refine.take_over
        row.confidence.value = int(self.random.choice((0, 90)))
        row.scope.currentIndex = int(self.random.integers(2))
        row.button.click()
        self.changed()

    def select(self) -> None:
        """Pick a node in the tree, at any depth."""
        tree = tour.session().tree
        node = tree.nodes[int(self.random.integers(len(tree.nodes)))]
        tour.page().refine.pick(node.name)
        self.changed()

    def key(self) -> None:
        """The next or previous segment, or a key that is off here."""
        shortcut(str(self.random.choice(("Q", "W", "I"))))
        assert not tour.page().refine.editor.node.GetSourceVolumeIntensityMask()

    def eye(self) -> None:
        """An eye: no matter for strokes."""
        name = self.anyone()
        tour.session().set_seen(name, not tour.session().is_seen(name))

    def lock(self) -> None:
        """A lock: undo does not take it back."""
        from HierSubclassSegLib.scene import marks

        name = self.anyone()
        present = name in marks.locked_nodes(tour.page().annotation, tour.session().tree)
        tour.session().set_locked(name, not present)

    def rename(self) -> None:
        """Another name for a node below the top level."""
        tree = tour.session().tree
        node = tree.nodes[int(self.random.integers(len(tree.nodes)))]
        if node.depth > 1:
            tour.session().rename(node.name, f"{node.name.split('#')[0]}#{self.random.integers(1000)}")
            self.changed()

    def add(self) -> None:
        """A subclass of a subclass: the tree gets deeper."""
        tree = tour.session().tree
        node = tree.nodes[int(self.random.integers(len(tree.nodes)))]
        if 1 < node.depth < 4 and len(tree.nodes) < 40:
            tour.session().add_subclass(node.name, f"part {self.random.integers(10**6)}")
            self.changed()

    def refine(self) -> None:
        """Another superclass."""
        section = tour.page().refine
        section.start(section.combo.itemData(int(self.random.integers(section.combo.count))) or None)
        assert section.refining, section.message.text
        self.changed()

    def leave(self) -> None:
        """To another tab with an effect active, and back."""
        panel = slicer.modules.HierSubclassSegWidget.panel
        tour.paint_with("Paint")
        panel.show(panel.segment_page)
        wait(0.02)
        tour.ordinary()
        panel.show(panel.annotate)
        wait(0.02)
        assert tour.page().refine.refining, tour.page().refine.message.text
        self.changed()

    def mark(self) -> None:
        """A slice is complete, or not any more."""
        shortcut("C")

    # -- what is compared -------------------------------------------------------------------------------------------

    def changed(self) -> None:
        """Remember the state, if it is another: one undo step is expected for it."""
        wait(0.05)
        now = state()
        if now != self.present:
            self.past.append(self.present)
            self.future = []
        self.present = now

    def locked(self) -> dict[str, bytes]:
        """The voxels, by segment, of what is locked now."""
        from HierSubclassSegLib.scene import marks, tree_store

        node, tree = tour.page().annotation, tour.session().tree
        names = marks.untouchable(node, tree)
        ids = {tree_store.segment_id_of(node, tree.node(name)) for name in names}
        return {key: value[2] for key, value in self.present.items() if key in ids}

    def not_concerned(self) -> dict[str, bytes]:
        """The voxels, by segment, of what a stroke with the selected node may not change."""
        from HierSubclassSegLib.scene import rules, tree_store

        session = tour.session()
        tree, node = session.tree, session.selected
        may = {node.name, *(other.name for other in rules.erasable(tree, node))}
        may |= {other.name for other in tree.descendants(node)}
        ids = {tree_store.segment_id_of(tour.page().annotation, other): other.name for other in tree.nodes}
        return {key: value[2] for key, value in self.present.items() if ids.get(key) not in may}

    def anyone(self) -> str:
        """The name of a node that has a segment."""
        names = sorted(tour.everything())
        return names[int(self.random.integers(len(names)))]

    def in_view(self, slice_node: Any, place: np.ndarray) -> np.ndarray:
        """The point of the view's plane nearest to a place."""
        matrix = slice_node.GetSliceToRAS()
        normal = np.array([matrix.GetElement(row, 2) for row in range(3)])
        origin = np.array([matrix.GetElement(row, 3) for row in range(3)])
        return place - normal * float(normal @ (place - origin))


def walk(journey: Journey) -> dict[str, Any]:
    """A random walk: strokes, undo, redo, take over, names, locks, tabs"""
    walker = Walk(np.asarray(journey.kept["middle"]))
    for number in range(STEPS):
        try:
            walker.step()
        except Exception as error:
            raise AssertionError(
                f"step {number} (seed {SEED}), {walker.kind}, after {walker.done}: {type(error).__name__} {error}"
            ) from error
    return {**walker.done, "longest mouse event, s": round(walker.longest, 2)}


if __name__ == "__main__":
    settings()
    journey = Journey("refine-walk")
    leave(journey.run([tour.a_prediction, tour.edit, tour.begin, tour.refine, walk, tour.done]))
