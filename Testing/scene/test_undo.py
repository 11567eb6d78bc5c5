"""Undo and redo are exact: every voxel and every tag; locks and complete marks survive them."""

from __future__ import annotations

import numpy as np
import pytest

from HierSubclassSegLib.scene import marks, storage, tags, tree_store
from HierSubclassSegLib.scene.undo import UndoSteps
from scene.painting_support import SHAPE, Editor, box, masks, state, uniform_tree, workplace

EVERYWHERE = np.ones(SHAPE, bool)
LEFT = box((0, 4), (0, 8), (0, 7))


@pytest.fixture
def place():
    return workplace(uniform_tree(3))


@pytest.fixture
def editor(place):
    return Editor(place)


@pytest.fixture
def session(editor):
    with editor.session() as session:
        session.paint("a", EVERYWHERE)
        session.paint("aa", LEFT)
        session.paint("aaa", box((0, 2), (0, 8), (0, 7)))
        yield session


def take_over(session):
    with session.step():
        session.write("ab", box((4, 6), (0, 8), (0, 7)), "model:brain@1")
        session.write("aba", box((4, 5), (0, 8), (0, 7)), "model:brain@1")
        session.write("abb", box((5, 6), (0, 8), (0, 7)), "model:brain@1")


def delete_home(session):
    first, segment = next(tree_store.segments(session.segmentation_node))
    assert segment.HasTag(tags.TREE_JSON)
    session.delete_segments(tree_store.node_of(session.segmentation_node, first))


EDITS = {
    "paint": lambda s: s.paint("ab", EVERYWHERE),
    "paint a node without a segment": lambda s: s.paint("b", LEFT),
    "erase": lambda s: s.erase("aa", box((1, 2), (0, 8), (0, 7))),
    "take over": take_over,
    "rename": lambda s: s.rename("aa", "kidney"),
    "add a subclass": lambda s: s.add_subclass("aaa", "cortex", (1, 2, 3)),
    "delete": lambda s: s.delete_segments("aa"),
    "select a node without a segment": lambda s: s.select("bb"),
}


@pytest.mark.parametrize("edit", EDITS)
def test_each_edit_is_one_exact_step(session, editor, edit):
    annotation = session.segmentation_node
    before = state(annotation)
    EDITS[edit](session)
    after = state(annotation)
    assert after != before
    for _ in range(2):
        editor.logic.Undo()
        assert state(annotation) == before
        assert editor.logic.CanRedo(), "nothing is written in answer to undo"
        editor.logic.Redo()
        assert state(annotation) == after
    editor.logic.Undo()
    session.paint("aab", LEFT)
    assert not editor.logic.CanRedo()
    editor.logic.Undo()
    assert state(annotation) == before


def test_undo_while_refining_writes_nothing(session, editor):
    annotation = session.segmentation_node
    session.enter("a")
    session.select("aa")
    states = [state(annotation)]
    for mask in (box((5, 9), (0, 8), (0, 7)), box((4, 9), (0, 2), (0, 7))):
        editor.stroke(mask)
        session.after_stroke()
        states.append(state(annotation))
    for expected in reversed(states[:-1]):
        editor.logic.Undo()
        assert state(annotation) == expected
    for expected in states[1:]:
        assert editor.logic.CanRedo()
        editor.logic.Redo()
        assert state(annotation) == expected


def test_a_created_parent_is_undone(session, editor):
    annotation = session.segmentation_node
    session.delete_segments("a")
    editor.logic.Undo()
    annotation.GetSegmentation().RemoveSegment(tree_store.segment_id_of(annotation, "a"))
    before = state(annotation)
    session.enter("a")
    assert np.array_equal(masks(annotation)["a"], LEFT)
    after = state(annotation)
    session.leave()
    editor.logic.Undo()
    assert state(annotation) == before
    editor.logic.Redo()
    assert state(annotation) == after


def test_marks_survive_undo_and_renaming(session, editor):
    annotation = session.segmentation_node
    session.paint("ab", box((4, 9), (0, 8), (0, 7)))
    session.rename("aa", "kidney")
    session.set_locked("kidney")
    session.mark_slice_complete(2, 3)
    session.mark_slice_complete(2, 5)
    session.mark_slice_complete(0, 1, "kidney")
    marks.set_folding(annotation, [session.tree.node("a")])
    assert marks.slices_complete(annotation, session.tree) == [
        {"axis": 0, "indices": [1], "node": "a/kidney"},
        {"axis": 2, "indices": [3, 5], "node": None},
    ]
    editor.logic.Undo()
    editor.logic.Undo()
    assert session.tree.node("aa").path == "a/aa"
    assert marks.locked_nodes(annotation, session.tree) == {"aa"}
    assert marks.folding(annotation, session.tree) == {"a"}
    assert marks.slices_complete(annotation, session.tree)[0]["node"] == "a/aa"
    assert editor.logic.CanRedo()
    session.mark_slice_complete(2, 3, complete=False)
    session.set_locked("aa", False)
    assert editor.logic.CanRedo(), "marks are no edits"
    assert marks.slices_complete(annotation, session.tree)[1]["indices"] == [5]
    with pytest.raises(ValueError, match="axis is 3"):
        session.mark_slice_complete(3, 0)


def test_deleting_the_home_of_the_tree_keeps_the_tree(session, editor):
    annotation, tree = session.segmentation_node, session.tree
    annotation.RemoveAttribute(tree_store.TREES)  # as after loading a file
    session.refresh()
    session.paint("b", LEFT)
    before = state(annotation)
    delete_home(session)
    assert tree_store.read_tree(annotation) == tree
    assert next(tree_store.segments(annotation))[1].HasTag(tags.TREE_JSON)
    editor.logic.Undo()
    assert state(annotation) == before
    editor.logic.Redo()
    assert tree_store.read_tree(annotation) == tree


def test_the_tree_outlives_its_home_that_slicers_own_button_removes(session):
    annotation, tree = session.segmentation_node, session.tree
    annotation.RemoveAttribute(tree_store.TREES)
    session.refresh()
    annotation.GetSegmentation().RemoveSegment(next(tree_store.segments(annotation))[0])
    assert session.tree == tree


@pytest.mark.parametrize(
    "save", [storage.save_segmentation, lambda node, path: storage.save_scene(node.GetScene(), path)]
)
def test_saving_after_an_undo_keeps_what_can_be_redone(session, editor, tmp_path, save):
    annotation = session.segmentation_node
    before = state(annotation)
    session.paint("ab", EVERYWHERE)
    after = state(annotation)
    editor.logic.Undo()
    save(annotation, tmp_path / ("a.seg.nrrd" if save is storage.save_segmentation else "a.mrb"))
    assert editor.logic.CanRedo()
    editor.logic.Redo()
    assert state(annotation) == after
    editor.logic.Undo()
    assert state(annotation) == before


def test_renaming_reaches_names_paths_and_terminology(session):
    annotation = session.segmentation_node
    session.rename("aa", "kidney")
    found = {segment.GetName(): segment for _, segment in tree_store.segments(annotation)}
    assert set(found) == {"a", "kidney", "aaa"}
    assert tags.get_tag(found["aaa"], tags.PATH) == "a/kidney/aaa"
    tree_store.mirror_state(annotation)
    assert "kidney" in tags.get_tag(found["kidney"], tags.TERMINOLOGY), "worded anew when a file is written"
    assert {tags.get_tag(segment, tags.TREE) for segment in found.values()} == {session.tree.fingerprint}
    assert np.array_equal(session.voxels("kidney"), LEFT)
    with pytest.raises(Exception, match="listed twice"):
        session.rename("kidney", "ab")


def test_a_new_subclass_can_be_painted(session):
    node = session.add_subclass("aaa", "cortex", (10, 20, 30))
    assert node.path == "a/aa/aaa/cortex"
    assert node.value not in {other.value for other in uniform_tree(3).nodes}
    assert session.paint("cortex", EVERYWHERE) == 2 * 8 * 7
    assert session.add_subclass(None, "bone").depth == 1


def test_steps_save_once():
    saved = []
    steps = UndoSteps(lambda: saved.append(1))
    with steps.step(), steps.step():
        pass
    assert len(saved) == 1
    with steps.joined(), steps.step():
        pass
    assert len(saved) == 1
    with pytest.raises(KeyError), steps.step():
        raise KeyError
    with steps.step():
        pass
    assert len(saved) == 3
