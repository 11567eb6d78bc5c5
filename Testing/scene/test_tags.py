"""Tags, the stored tree, its home and the branches' state."""

from __future__ import annotations

import pytest
import slicer

from hierseg.labeltree import LabelTree
from HierSubclassSegLib.scene import annotation, storage, tags, terminology, tree_store


@pytest.fixture
def node(make_volume, tree):
    made = annotation.create_annotation([make_volume()], tree)
    for name in ("tumor", "core", "brain"):
        tree_store.add_segment(made, tree, name)
    return made


def test_the_whole_tree_is_on_one_segment_only(node, tree):
    homes = [segment for _, segment in tree_store.segments(node) if segment.HasTag(tags.TREE_JSON)]
    assert [segment.GetName() for segment in homes] == ["tumor"]
    assert "|" in tree.canonical_json
    assert "|" not in tags.get_tag(homes[0], tags.TREE_JSON)


def test_tree_survives_its_home(node, tree):
    node.GetSegmentation().RemoveSegment(tree_store.segment_id_of(node, "tumor"))
    assert tree_store.read_tree(node) == tree
    tree_store.rehome(node)
    # Now without the node's attribute, as a .seg.nrrd would bring it.
    node.SetAttribute(tree_store.TREES, None)
    assert tree_store.read_tree(node) == tree


def test_tree_survives_the_loss_of_every_segment(node, tree):
    node.GetSegmentation().RemoveAllSegments()
    assert tree_store.read_tree(node) == tree


def test_reading_writes_nothing(node):
    node.GetSegmentation().RemoveSegment(tree_store.segment_id_of(node, "tumor"))
    before = [segment.GetMTime() for _, segment in tree_store.segments(node)]
    tree_store.read_tree(node)
    tree_store.read_state(node)
    tree_store.segments_by_path(node, tree_store.read_tree(node))
    assert [segment.GetMTime() for _, segment in tree_store.segments(node)] == before


def test_segment_and_node_find_each_other(node, tree):
    segment_id = tree_store.segment_id_of(node, tree.node("core"))
    assert tree_store.node_of(node, segment_id) == tree.node("core")
    assert tree_store.segment_id_of(node, "tumor/core") == segment_id
    assert tree_store.segment_id_of(node, tree.node("edema")) is None
    node.GetSegmentation().AddEmptySegment("mine", "mine")
    assert tree_store.node_of(node, "mine") is None


def test_adding_a_node_twice_gives_the_same_segment(node, tree):
    before = node.GetSegmentation().GetNumberOfSegments()
    again = tree_store.add_segment(node, tree, "core", "model:other@1")
    assert again == tree_store.segment_id_of(node, "tumor/core")
    assert node.GetSegmentation().GetNumberOfSegments() == before
    assert tags.get_tag(node.GetSegmentation().GetSegment(again), tags.SOURCE) == tags.MANUAL


def test_a_larger_tree_keeps_segments_and_their_ids(node, tree):
    ids = [segment_id for segment_id, _ in tree_store.segments(node)]
    content = tree.to_dict()
    content["nodes"].append({"name": "cyst", "parent": "tumor", "value": 11})
    larger = LabelTree.from_dict(content)
    tree_store.write_tree(node, larger)
    assert [segment_id for segment_id, _ in tree_store.segments(node)] == ids
    assert tree_store.read_tree(node) == larger
    assert {tags.get_tag(segment, tags.TREE) for _, segment in tree_store.segments(node)} == {larger.fingerprint}


def test_a_removed_node_leaves_its_segment_as_foreign(node, tree):
    content = tree.to_dict()
    content["nodes"] = [row for row in content["nodes"] if row["name"] != "core"]
    tree_store.write_tree(node, LabelTree.from_dict(content))
    segment_id = next(found for found, segment in tree_store.segments(node) if segment.GetName() == "core")
    assert tree_store.node_of(node, segment_id) is None
    tree_store.write_tree(node, tree)
    assert tree_store.node_of(node, segment_id) == tree.node("core")


def test_undo_takes_back_a_tree_edit(node, tree):
    history = slicer.vtkSegmentationHistory()
    history.SetSegmentation(node.GetSegmentation())
    history.SaveState()
    content = tree.to_dict()
    content["nodes"].append({"name": "cyst", "parent": "tumor", "value": 11})
    larger = LabelTree.from_dict(content)
    tree_store.write_tree(node, larger)
    tree_store.add_segment(node, larger, "cyst")
    tree_store.write_state(node, {"locked": [1]})
    history.RestorePreviousState()
    assert tree_store.read_tree(node) == tree
    assert tree_store.read_state(node) == {"locked": [1]}
    history.RestoreNextState()
    assert tree_store.read_tree(node) == larger
    assert tree_store.segment_id_of(node, "tumor/cyst") is not None


def test_undo_finds_an_older_tree_whose_home_was_deleted_before(node, tree):
    history = slicer.vtkSegmentationHistory()
    history.SetSegmentation(node.GetSegmentation())
    node.GetSegmentation().RemoveSegment(tree_store.segment_id_of(node, "tumor"))
    history.SaveState()
    content = tree.to_dict()
    content["nodes"].append({"name": "cyst", "parent": "tumor", "value": 11})
    tree_store.write_tree(node, LabelTree.from_dict(content))
    history.RestorePreviousState()
    assert tree_store.read_tree(node) == tree


@pytest.mark.parametrize(("name", "value"), [("ok", "a|b"), ("a:b", "c"), ("a|b", "c")])
def test_what_the_file_cannot_hold_is_refused(node, name, value):
    with pytest.raises(tags.SceneError, match=r"cannot store"):
        tags.set_tag(next(tree_store.segments(node))[1], name, value)


def test_setting_the_same_value_again_is_no_change(node):
    segment = next(tree_store.segments(node))[1]
    before = segment.GetMTime()
    tags.set_tag(segment, tags.SOURCE, tags.MANUAL)
    tags.remove_tag(segment, "not there")
    assert segment.GetMTime() == before


@pytest.mark.parametrize(
    ("source", "kind", "name"),
    [("manual", "MANUAL", None), ("mixed", "SEMIAUTOMATIC", "HierSubclassSeg"), ("model:b@1", "AUTOMATIC", "b@1")],
)
def test_dicom_algorithm_tags_follow_the_source(source, kind, name):
    segment = slicer.vtkSegment()
    tags.set_source(segment, "model:older@0")
    tags.remove_tag(segment, tags.ALGORITHM_NAME)
    tags.set_source(segment, source)
    assert tags.get_tag(segment, tags.ALGORITHM_TYPE) == kind
    assert tags.get_tag(segment, tags.ALGORITHM_NAME) == name


def test_edited_model_output_names_the_model_still():
    segment = slicer.vtkSegment()
    tags.set_source(segment, "model:b@1")
    tags.set_source(segment, tags.MIXED)
    assert tags.get_tag(segment, tags.ALGORITHM_NAME) == "b@1"


def test_terminology_of_a_node_without_codes_builds_on_its_parent(tree):
    codes = terminology.codes_of(terminology.terminology_entry(tree, tree.node("core")))
    assert codes["type"] == ("SCT", "108369006", "Neoplasm")
    assert codes["modifier"] == ("99HIERSUB", "1", "core")
    assert terminology.codes_of(terminology.terminology_entry(tree, tree.node("tumor"))).get("modifier") is None
    assert terminology.codes_of(terminology.terminology_entry(tree, tree.node("brain")))["type"][2] == "brain"


@pytest.mark.parametrize(
    "content", ['{"format_version":1,"na', "[]", '{"format_version":1,"name":"x","unlabelled":255,"nodes":[]}']
)
def test_damaged_tree_is_one_sentence_and_does_not_stop_the_scene_from_being_saved(node, scene, tmp_path, content):
    next(tree_store.segments(node))[1].SetTag(tags.TREE_JSON, content)
    with pytest.raises(tags.SceneError, match=r"in its segment 'tumor' is damaged"):
        tree_store.read_tree(node)
    storage.save_scene(scene, tmp_path / "a.mrb")
    assert (tmp_path / "a.mrb").stat().st_size > 0


@pytest.mark.parametrize("content", ["{", "[]", ""])
def test_damaged_state_does_not_keep_anybody_from_working(node, content):
    node.SetAttribute(tree_store.STATE, content)
    assert tree_store.read_state(node) == {}
