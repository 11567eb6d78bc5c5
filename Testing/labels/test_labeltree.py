"""The label tree: what it derives, what it refuses, and properties that hold for every tree."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from hierseg.errors import LabelTreeError
from hierseg.labeltree import LabelTree
from standins.label_trees import random_map, tree_of, trees

BRATS: dict[str, Any] = {
    "format_version": 1,
    "name": "BraTS",
    "unlabelled": 255,
    "nodes": [
        {"name": "edema", "parent": "tumor", "value": 2},
        {"name": "background", "value": 0},
        {"name": "tumor", "value": 5},
        {"name": "core", "parent": "tumor", "value": 1},
    ],
}


def changed(**changes: Any) -> dict[str, Any]:
    return {**json.loads(json.dumps(BRATS)), **changes}


def with_node(index: int, **changes: Any) -> dict[str, Any]:
    content = changed()
    content["nodes"][index].update(changes)
    return content


def test_walks_in_file_order_although_a_child_comes_first() -> None:
    tree = LabelTree.from_dict(BRATS)
    assert [leaf.name for leaf in tree.leaves] == ["edema", "background", "core"]
    assert [node.name for node in tree.top_level] == ["background", "tumor"]
    assert [node.name for node in tree.children("tumor")] == ["edema", "core"]
    assert tree.node("tumor/edema") == tree.node("edema")
    assert tree.node("edema").depth == 2
    assert tree.parent("background") is None
    assert [node.name for node in tree.siblings("edema")] == ["core"]
    assert tree.top_of("core").name == "tumor"
    assert tree.top().leaf_values.tolist() == [0, 5]


def test_membership_distance_and_tables_by_hand() -> None:
    tree = LabelTree.from_dict(with_node(0, edge_weight=3.0))
    assert tree.membership.astype(int).tolist() == [[1, 0, 0], [0, 1, 0], [1, 0, 1], [0, 0, 1]]
    # edema - background: 3 + 1 + 1; edema - core: 3 + 1; background - core: 1 + 1 + 1; the largest is 5
    assert tree.distance_scale == 5.0
    np.testing.assert_allclose(tree.distance, np.array([[0, 5, 4], [5, 0, 3], [4, 3, 0]]) / 5)
    assert tree.node_index_table[[2, 0, 5, 1, 255, 77]].tolist() == [0, 1, 2, 3, -1, -1]
    assert tree.leaf_index_table[[2, 0, 5, 1, 255]].tolist() == [0, 1, -1, 2, -1]
    assert tree.top_value_table[[2, 0, 5, 1, 255]].tolist() == [5, 0, 5, 5, 255]


def test_a_deep_path_does_not_mix_up_names_with_a_common_beginning() -> None:
    tree = tree_of({"a": {"b": {"c": {}, "d": {}}}, "ab": {"e": {}, "f": {}}})
    assert [leaf.name for leaf in tree.leaves_under("a")] == ["c", "d"]
    assert [node.name for node in tree.descendants("a")] == ["b", "c", "d"]
    assert [node.name for node in tree.ancestors("c")] == ["b", "a"]


def test_opposites_swap_values() -> None:
    tree = tree_of({"left": {}, "right": {}, "middle": {}}, opposites={"left": "right"})
    assert tree.opposites
    assert tree.opposite_value_table[[0, 1, 2, 255]].tolist() == [1, 0, 2, 255]


def test_all_edge_weights_zero_gives_zero_distance() -> None:
    tree = tree_of({"a": {}, "b": {}}, weights={"a": 0.0, "b": 0.0})
    assert tree.distance_scale == 1.0
    assert not tree.distance.any()


def test_wide_values_use_16_bits() -> None:
    content = with_node(0, value=258)
    content["unlabelled"] = 65535
    tree = LabelTree.from_dict(content)
    assert tree.dtype == np.uint16
    assert tree.node_index_table[258] == 0


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (changed(format_version=2), "format_version"),
        (changed(nodes=[]), "no nodes"),
        (changed(unlabelled=254), "it is 255"),
        (changed(unlabelled=True), "unlabelled"),
        (changed(name="a@b"), "name"),
        (changed(color=[1]), "unknown key 'color'"),
        (with_node(0, name="core"), "'core' is listed twice"),
        (with_node(0, value=0), "'edema' and 'background' both have value 0"),
        (with_node(0, value=-1), "-1"),
        (with_node(0, value=65535), "65535"),
        (with_node(0, value=1.5), "1.5"),
        (with_node(0, value=True), "True"),
        (with_node(0, parent="tumour"), "'tumour', which is not in the tree"),
        (with_node(0, parent=["tumor"]), "['tumor'], which is not in the tree"),
        (with_node(2, parent="core"), "its own ancestor"),
        (with_node(0, parent="edema"), "its own ancestor"),
        (with_node(0, name="a/b"), "'/'"),
        (with_node(0, name="a|b"), "'|'"),
        (with_node(0, name=" a"), "blanks"),
        (with_node(0, edge_weight=-1), "edge_weight"),
        (with_node(0, edge_weight=float("nan")), "edge_weight"),
        (with_node(0, color=[0, 0, 256]), "color"),
        (with_node(0, aliases="x"), "aliases"),
        (with_node(0, opposite="core"), "not the other way round"),
        (with_node(0, terminology={"kind": ["a", "b", "c"]}), "'kind'"),
        (with_node(0, terminology={"type": ["SCT", "1"]}), "type code"),
        (with_node(0, terminology={"type": ["SCT", "1", "a~b"]}), "type code"),
        (with_node(0, colour=[1, 2, 3]), "'colour'"),
    ],
)
def test_what_is_wrong_is_named(content: dict[str, Any], said: str) -> None:
    with pytest.raises(LabelTreeError) as caught:
        LabelTree.from_dict(content)
    assert said in caught.value.sentence


@pytest.mark.parametrize(
    ("text", "said"), [(None, "no such"), ("{", "line 1"), ("[]", "JSON object"), ("\xff", "cannot be read")]
)
def test_a_file_that_is_no_tree_is_named(tmp_path: Path, text: str | None, said: str) -> None:
    path = tmp_path / "label_tree.json"
    if text is not None:
        path.write_text(text, encoding="latin-1")
    with pytest.raises(LabelTreeError, match=said) as caught:
        LabelTree.load(path)
    assert str(path) in caught.value.sentence


def test_foreign_values_in_a_label_map_are_named() -> None:
    tree = LabelTree.from_dict(BRATS)
    tree.check_values(np.array([0, 2, 255]), "a.nii.gz")
    with pytest.raises(LabelTreeError, match=r"a\.nii\.gz: label value 3"):
        tree.check_values(np.array([0, 3, 255]), "a.nii.gz")


def test_unknown_node_and_value_are_named() -> None:
    tree = LabelTree.from_dict(BRATS)
    with pytest.raises(LabelTreeError, match="'liver'"):
        tree.node("liver")
    with pytest.raises(LabelTreeError, match="value 9"):
        tree.by_value(9)


def test_the_fingerprint_follows_content_not_layout(tmp_path: Path) -> None:
    tree = LabelTree.from_dict(BRATS)
    reordered = {key: BRATS[key] for key in reversed(BRATS)}
    assert LabelTree.from_dict(reordered).fingerprint == tree.fingerprint
    assert LabelTree.from_dict(with_node(0, value=3)).fingerprint != tree.fingerprint
    assert tree.fingerprint.startswith("BraTS@")


@given(trees())
@settings(max_examples=60, deadline=None)
def test_json_round_trip(tree: LabelTree) -> None:
    again = LabelTree.from_dict(json.loads(json.dumps(tree.to_dict())))
    assert again == tree
    assert again.canonical_json == tree.canonical_json
    assert [node.path for node in again.nodes] == [node.path for node in tree.nodes]


@given(trees(max_nodes=6))
@settings(max_examples=10, deadline=None)
def test_file_round_trip(tmp_path_factory: pytest.TempPathFactory, tree: LabelTree) -> None:
    path = tmp_path_factory.mktemp("tree") / "label_tree.json"
    tree.save(path)
    assert LabelTree.load(path) == tree
    assert [entry.name for entry in path.parent.iterdir()] == ["label_tree.json"]


@given(trees())
@settings(max_examples=60, deadline=None)
def test_membership_is_that_of_a_tree(tree: LabelTree) -> None:
    rows = dict(zip((node.name for node in tree.nodes), tree.membership, strict=True))
    for node in tree.nodes:
        children = tree.children(node)
        if children:
            # children part their parent's leaves without overlap
            np.testing.assert_array_equal(np.sum([rows[child.name] for child in children], axis=0), rows[node.name])
        else:
            assert rows[node.name].sum() == 1
    np.testing.assert_array_equal(np.sum([rows[node.name] for node in tree.top_level], axis=0), 1)


@given(trees())
@settings(max_examples=60, deadline=None)
def test_distance_is_a_tree_metric(tree: LabelTree) -> None:
    d = tree.distance
    assert d.shape == (len(tree.leaves),) * 2
    np.testing.assert_allclose(d, d.T)
    np.testing.assert_allclose(np.diag(d), 0)
    assert (d >= -1e-12).all()
    assert d.max() <= 1 + 1e-12
    # triangle inequality
    assert (d[:, None, :] <= d[:, :, None] + d[None, :, :] + 1e-9).all()
    # four-point condition, which only tree metrics meet: of the three sums the two largest are equal
    for a in range(min(4, len(d))):
        for b in range(len(d)):
            for c in range(len(d)):
                for e in range(len(d)):
                    sums = sorted([d[a, b] + d[c, e], d[a, c] + d[b, e], d[a, e] + d[b, c]])
                    assert sums[2] - sums[1] < 1e-9


@given(trees())
@settings(max_examples=60, deadline=None)
def test_tables_agree_with_walking(tree: LabelTree) -> None:
    label_map = random_map(tree, (50,), np.random.default_rng(0))
    for value in np.unique(label_map):
        if value == tree.unlabelled:
            assert tree.node_index_table[value] == tree.leaf_index_table[value] == -1
            assert tree.top_value_table[value] == tree.top().unlabelled
            continue
        node = tree.by_value(value)
        assert tree.nodes[tree.node_index_table[value]] == node
        assert (tree.leaf_index_table[value] >= 0) == tree.is_leaf(node)
        assert tree.top_value_table[value] == tree.top_of(node).value
    assert label_map.astype(tree.dtype).astype(np.int64).tolist() == label_map.tolist()


@given(trees())
@settings(max_examples=60, deadline=None)
def test_the_top_is_a_flat_tree_of_the_same_values(tree: LabelTree) -> None:
    top = tree.top()
    assert [node.name for node in top.leaves] == [node.name for node in tree.top_level]
    assert top.leaf_values.tolist() == [node.value for node in tree.top_level]
    assert set(np.unique(tree.top_value_table[tree.values])) == set(top.leaf_values.tolist())


def test_the_examples_in_the_docstrings_hold() -> None:
    import doctest

    import hierseg.labeltree
    import hierseg.resources

    for module in (hierseg.labeltree, hierseg.resources):
        result = doctest.testmod(module)
        assert result.attempted > 0
        assert result.failed == 0
