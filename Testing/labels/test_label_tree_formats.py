"""Label trees out of and into other programs' lists of labels."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hierseg import resources
from hierseg.errors import LabelTreeError
from hierseg.exporters.label_trees import to_nnunet, write_label_tree
from hierseg.importers.label_trees import FORMATS, guess_format, read_label_tree
from hierseg.labeltree import LabelTree
from standins.label_trees import tree_of


def read(tmp_path: Path, name: str, text: str) -> LabelTree:
    (tmp_path / name).write_text(text, encoding="utf-8")
    return read_label_tree(tmp_path / name)


def shape(tree: LabelTree) -> dict[str, int]:
    return {node.path: node.value for node in tree.nodes}


def test_nnunet_regions_become_nested_nodes(tmp_path: Path) -> None:
    labels = {"background": 0, "whole tumor": [1, 2, 3], "tumor core": [2, 3], "enhancing": 3, "ignore": 4}
    tree = read(tmp_path, "dataset.json", json.dumps({"labels": labels, "numTraining": 3}))
    assert shape(tree) == {
        "background": 0,
        "whole tumor": 4,
        "whole tumor/tumor core": 5,
        "whole tumor/tumor core/enhancing": 3,
        "whole tumor/tumor core/tumor core (value 2)": 2,
        "whole tumor/whole tumor (value 1)": 1,
    }
    assert tree.name == "dataset"


def test_nnunet_1_and_the_decathlon_have_it_the_other_way_round(tmp_path: Path) -> None:
    tree = read(tmp_path, "dataset.json", json.dumps({"labels": {"0": "background", "1": "liver", "2": "cancer"}}))
    assert shape(tree) == {"background": 0, "liver": 1, "cancer": 2}


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ({"a": [1, 2], "b": [2, 3]}, "'a' and 'b' overlap"),
        ({"a": [1, 2], "b": [2, 1]}, "'a' and 'b' are the same"),
        ({"a": "1"}, "'a'"),
        ({"a": "1", "b": 2}, "label 'a'"),
        ({"a": []}, "label 'a'"),
    ],
)
def test_nnunet_labels_that_make_no_tree_are_named(tmp_path: Path, labels: dict[str, object], said: str) -> None:
    with pytest.raises(LabelTreeError, match=said) as caught:
        read(tmp_path, "dataset.json", json.dumps({"labels": labels}))
    assert "dataset.json" in caught.value.sentence


def test_a_class_map_either_way_round(tmp_path: Path) -> None:
    assert shape(read(tmp_path, "a.json", '{"1": "spleen", "2": "kidney"}')) == {"spleen": 1, "kidney": 2}
    assert shape(read(tmp_path, "b.json", '{"spleen": 1, "kidney": 2}')) == {"spleen": 1, "kidney": 2}


def test_tables(tmp_path: Path) -> None:
    ours = 'value,name,parent,red,green,blue\n1,"core, inner",tumor,1,2,3\n9,tumor,,,,\n2,edema,tumor,4,5,6\n'
    tree = read(tmp_path, "ours.csv", ours)
    assert shape(tree) == {"tumor/core, inner": 1, "tumor": 9, "tumor/edema": 2}
    assert tree.node("edema").color == (4, 5, 6)
    slicer = "# comment\nLabelValue,Name,Color_R,Color_G,Color_B,Color_A\n1,liver,221,130,101,255\n"
    assert read(tmp_path, "slicer.csv", slicer).node("liver").color == (221, 130, 101)
    freesurfer = "#No. Label Name:  R G B A\n\n0   Unknown   0 0 0 0\n17  Left-Hippocampus  220 216 20 0\n"
    tree = read(tmp_path, "lut.txt", freesurfer)
    assert shape(tree) == {"Unknown": 0, "Left-Hippocampus": 17}
    assert tree.node("Left-Hippocampus").color == (220, 216, 20)
    assert shape(read(tmp_path, "ctbl.txt", "7 T1 vertebra 1 2 3 255\n")) == {"T1 vertebra": 7}


def test_comma_paths_take_free_values(tmp_path: Path) -> None:
    tree = read(tmp_path, "salt.txt", "body,bones,L5 = 2\nbody,bones,L4\nbody,liver\nair = 0\n")
    assert shape(tree) == {
        "body": 4,
        "body/bones": 5,
        "body/bones/L5": 2,
        "body/bones/L4": 1,
        "body/liver": 3,
        "air": 0,
    }


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.txt", "body,liver\nchest,liver\n", "'liver' below chest"),
        ("a.txt", "body,liver = x\n", "after '='"),
        ("a.txt", "\n", "no labels"),
        ("a.csv", "value,name\nx,liver\n", "no whole-number value"),
        ("a.csv", "value,name\n1,\n", "no name"),
        ("a.csv", "value,name\n1,a\n1,b\n", "both have value 1"),
        ("a.json", '{"a": "b"}', "'a'"),
        ("a.json", "{", "JSON"),
        ("a.json", "{}", "no labels"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str, text: str, said: str) -> None:
    with pytest.raises(LabelTreeError, match=said) as caught:
        read(tmp_path, name, text)
    assert name in caught.value.sentence


def test_missing_and_binary_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(LabelTreeError, match="no such file"):
        read_label_tree(tmp_path / "none.csv")
    (tmp_path / "x.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(LabelTreeError, match="text"):
        read_label_tree(tmp_path / "x.csv")


@pytest.mark.parametrize("kind", ["json", "table", "paths"])
@pytest.mark.parametrize("name", resources.names("label_trees"))
def test_shipped_trees_survive_the_round_trip(tmp_path: Path, name: str, kind: str) -> None:
    tree = LabelTree.load(resources.path("label_trees", name))
    path = tmp_path / {"json": "t.json", "table": "t.csv", "paths": "t.txt"}[kind]
    write_label_tree(tree, path, kind)
    assert guess_format(path, path.read_text(encoding="utf-8")) == kind
    again = read_label_tree(path, name=tree.name)
    assert shape(again) == shape(tree)
    assert again.unlabelled == tree.unlabelled
    if kind == "json":
        assert again == tree
    if kind == "table":
        assert [node.color for node in again.nodes] == [node.color for node in tree.nodes]


def test_nnunet_regions_of_a_tree_make_the_same_leaves_again(tmp_path: Path) -> None:
    tree = tree_of({"background": {}, "tumor": {"core": {"necrosis": {}, "rest": {}}, "edema": {}}})
    content = json.loads(to_nnunet(tree))
    assert content["labels"]["tumor"] == [3, 4, 5]
    assert content["labels"]["ignore"] == 6
    assert len(content["regions_class_order"]) == len(tree.nodes) - 1
    write_label_tree(tree, tmp_path / "dataset.json", "nnunet")
    again = read_label_tree(tmp_path / "dataset.json")
    assert {leaf.path: leaf.value for leaf in again.leaves} == {leaf.path: leaf.value for leaf in tree.leaves}


def test_a_comma_in_a_name_is_refused_as_a_path(tmp_path: Path) -> None:
    with pytest.raises(LabelTreeError, match="'a, b'"):
        write_label_tree(tree_of({"a, b": {}}), tmp_path / "t.txt", "paths")
    assert not (tmp_path / "t.txt").exists()


def test_the_formats_are_documented() -> None:
    import hierseg.importers.label_trees as module

    assert all(f"``{kind}``" in (module.__doc__ or "") for kind in FORMATS)
