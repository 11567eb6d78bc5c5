"""Edits of the tree that an annotation carries, each undone as one step by a real Segment Editor history."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import slicer

from hierseg.errors import HiersegError
from HierSubclassSegLib.scene import layers, marks, tags, terminology, tree_store
from HierSubclassSegLib.scene.hierarchy_edits import PlainEdits
from HierSubclassSegLib.scene.painting import RefineSession
from HierSubclassSegLib.scene.status import Status, status
from scene.painting_support import Workplace, box, uniform_tree, workplace
from scene.painting_support import state as exact_state


@pytest.fixture
def place() -> Iterator[Workplace]:
    made = workplace(uniform_tree(3))
    with RefineSession(made.annotation, made.volume) as painting:
        for name, planes in (
            ("a", (1, 3)),
            ("aa", (1, 3)),
            ("aaa", (1, 2)),
            ("aab", (2, 3)),
            ("b", (4, 5)),
            ("ba", (4, 5)),
        ):
            painting.paint(name, box((2, 5), (2, 5), planes))
    yield made
    made.session.close()


@pytest.fixture
def undoing(place: Workplace) -> Any:
    """An editor's history on the annotation, as the embedded Segment Editor has one."""
    editor = place.scene.AddNewNodeByClass("vtkMRMLSegmentEditorNode")
    editor.SetAndObserveSegmentationNode(place.annotation)
    logic = slicer.vtkSlicerSegmentEditorLogic()
    logic.SetMRMLScene(place.scene)
    logic.SetSegmentEditorNode(editor)
    logic.SetMaximumNumberOfUndoStates(10)
    return logic


def segment_of(place: Workplace, name: str) -> Any:
    tree = tree_store.read_tree(place.annotation)
    return place.annotation.GetSegmentation().GetSegment(tree_store.segment_id_of(place.annotation, tree.node(name)))


CHANGES: dict[str, Callable[[PlainEdits], Any]] = {
    "rename": lambda edits: edits.rename("aa", "other"),
    "add": lambda edits: edits.add_subclass("aa", "new", (10, 20, 30)),
    "add at the top": lambda edits: edits.add_subclass(None, "new"),
    "recolor": lambda edits: edits.recolor("a", (0.2, 0.4, 0.6)),
    "recolor below": lambda edits: edits.recolor("a", (0.2, 0.4, 0.6), below=True),
    "codes": lambda edits: edits.set_codes("aa", {"type": ("SCT", "10200004", "Liver")}),
    "status": lambda edits: edits.set_status("aa", Status.FLAGGED),
    "status of an empty node": lambda edits: edits.set_status("bb", Status.COMPLETED),
    "delete": lambda edits: edits.delete_segments("a"),
    "remove": lambda edits: edits.remove_node("aa"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_each_edit_is_one_undo_step(place: Workplace, undoing: Any, change: str) -> None:
    before = exact_state(place.annotation)
    CHANGES[change](PlainEdits(place.annotation, undoing.SaveStateForUndo))
    after = exact_state(place.annotation)
    assert after != before
    undoing.Undo()
    assert exact_state(place.annotation) == before
    undoing.Redo()
    assert exact_state(place.annotation) == after


def test_codes_reach_the_segment_and_what_is_below_it(place: Workplace) -> None:
    PlainEdits(place.annotation).set_codes("aa", {"type": ("SCT", "10200004", "Liver")})
    found = terminology.codes_of(tags.get_tag(segment_of(place, "aaa"), tags.TERMINOLOGY))
    assert found["type"] == ("SCT", "10200004", "Liver")
    assert found["modifier"][2] == "aaa"


def test_shades_are_in_the_tree_and_on_the_segments(place: Workplace) -> None:
    edits = PlainEdits(place.annotation)
    edits.recolor("a", (0.0, 0.0, 1.0), below=True)
    tree = tree_store.read_tree(place.annotation)
    for name in ("aa", "aaa", "aab"):
        red, green, blue = segment_of(place, name).GetColor()
        assert blue > max(red, green)
        assert tree.node(name).color is not None
    assert tree.node("b").color is None
    segment_of(place, "aaa").SetColor(1.0, 0.0, 0.0)
    edits.recolor("aa", edits.color("aa"), below=True)
    red, green, blue = segment_of(place, "aaa").GetColor()
    assert blue > max(red, green)


def test_what_was_given_elsewhere_stays(place: Workplace) -> None:
    segment = segment_of(place, "aaa")
    segment.SetName("my name")
    segment.SetColor(0.1, 0.2, 0.3)
    tags.set_tag(segment, tags.TERMINOLOGY, "mine")
    PlainEdits(place.annotation).rename("aa", "other")
    assert (segment.GetName(), tags.get_tag(segment, tags.TERMINOLOGY)) == ("my name", "mine")
    assert segment.GetColor() == pytest.approx((0.1, 0.2, 0.3))
    assert tags.get_tag(segment, tags.PATH) == "a/other/aaa"


def test_a_new_inner_segment_is_the_union_of_what_is_below(place: Workplace) -> None:
    edits = PlainEdits(place.annotation)
    edits.delete_segments("b")
    edits.add_subclass("b", "bc")
    segmentation = place.annotation.GetSegmentation()
    tree = tree_store.read_tree(place.annotation)
    segmentation.RemoveSegment(tree_store.segment_id_of(place.annotation, tree.node("aa")))
    edits.set_status("aa", Status.IN_PROGRESS)
    assert status(place.annotation, tree, "aa") is Status.IN_PROGRESS
    union = layers.read_segment(place.annotation, tree_store.segment_id_of(place.annotation, tree.node("aa")))
    assert np.count_nonzero(union) == 18


def test_locked_and_last_nodes_are_kept(place: Workplace) -> None:
    edits = PlainEdits(place.annotation)
    edits.set_locked("aaa")
    for change in (edits.delete_segments, edits.remove_node):
        with pytest.raises(HiersegError, match="'aaa' is locked"):
            change("a")
    edits.set_locked("aaa", False)
    edits.remove_node("b")
    with pytest.raises(HiersegError, match="needs a node"):
        edits.remove_node("a")
    assert marks.locked_nodes(place.annotation, edits.tree) == frozenset()


def test_a_new_name_is_worded_when_a_file_is_written(place: Workplace) -> None:
    before = tags.get_tag(segment_of(place, "aa"), tags.TERMINOLOGY)
    PlainEdits(place.annotation).rename("aa", "other")
    assert tags.get_tag(segment_of(place, "other"), tags.TERMINOLOGY) == before
    tree_store.mirror_state(place.annotation)
    assert terminology.codes_of(tags.get_tag(segment_of(place, "other"), tags.TERMINOLOGY))["type"][2] == "other"
    tags.set_tag(segment_of(place, "aab"), tags.TERMINOLOGY, "mine")
    tree_store.mirror_state(place.annotation)
    assert tags.get_tag(segment_of(place, "aab"), tags.TERMINOLOGY) == "mine"
