"""The shipped label trees: sound, with the published values, sides that pair up and codes that are well formed."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from hierseg import resources
from hierseg.labeltree import LabelTree

DOCS = Path(__file__).parents[2] / "docs"
# Name: nodes, leaves, levels at least.
SHIPPED = {
    "acdc": (5, 4, 2),
    "brats2021": (5, 4, 2),
    "brain_start": (21, 17, 2),
    "samseg_brain": (67, 44, 3),
    "totalsegmentator_ct": (163, 118, 3),
}
SIDES = {"left": "7771000", "right": "24028007"}


@pytest.fixture(params=SHIPPED)
def tree(request: pytest.FixtureRequest) -> LabelTree:
    return LabelTree.load(resources.path("label_trees", request.param))


def test_every_shipped_tree_is_in_this_list_and_in_the_docs() -> None:
    assert set(resources.names("label_trees")) == set(SHIPPED)
    page = (DOCS / "label-tree.md").read_text(encoding="utf-8")
    for name, (nodes, leaves, _) in SHIPPED.items():
        assert f"| `{name}` | {nodes} | {leaves} |" in page


@pytest.mark.parametrize("name", SHIPPED)
def test_size_and_levels(name: str) -> None:
    tree = LabelTree.load(resources.path("label_trees", name))
    nodes, leaves, levels = SHIPPED[name]
    assert (len(tree.nodes), len(tree.leaves)) == (nodes, leaves)
    assert max(node.depth for node in tree.nodes) >= levels


@pytest.mark.parametrize("name", SHIPPED)
def test_meets_the_schema(name: str) -> None:
    schema = json.loads(resources.path("schemas", "label_tree").read_text(encoding="utf-8"))
    content = json.loads(resources.path("label_trees", name).read_text(encoding="utf-8"))
    assert list(Draft202012Validator(schema).iter_errors(content)) == []


def test_names_and_aliases_name_one_node_each(tree: LabelTree) -> None:
    names = [name for node in tree.nodes for name in {label.lower() for label in (node.name, *node.aliases)}]
    assert len(names) == len(set(names))


def test_every_node_has_a_color_and_no_sibling_shares_it(tree: LabelTree) -> None:
    for parent in (None, *tree.nodes):
        colors = [node.color for node in tree.children(parent)]
        assert None not in colors
        assert len(set(colors)) == len(colors)


def test_codes_are_well_formed(tree: LabelTree) -> None:
    for node in tree.nodes:
        assert not node.terminology or {"category", "type"} <= set(node.terminology)
        assert "region" in node.terminology or "region_modifier" not in node.terminology
        for scheme, code, meaning in node.terminology.values():
            assert scheme in {"SCT", "DCM"}
            assert re.fullmatch(r"\d{5,18}", code)
            assert meaning.strip()


def test_codes_tell_siblings_apart(tree: LabelTree) -> None:
    for parent in (None, *tree.nodes):
        codes = [tuple(sorted(node.terminology.items())) for node in tree.children(parent) if node.terminology]
        assert len(set(codes)) == len(codes)


def test_sides_pair_up_and_say_so_in_their_codes(tree: LabelTree) -> None:
    for node in tree.nodes:
        side = node.name.split()[0]
        if node.opposite is None:
            assert (
                side not in SIDES or node.name in {"right middle lobe", "left atrial appendage"} or tree.name == "ACDC"
            )
            continue
        other = {"left": "right", "right": "left"}[side]
        assert node.opposite == node.name.replace(side, other, 1)
        assert tree.node(node.opposite).depth == node.depth
        assert tree.is_leaf(node.opposite) == tree.is_leaf(node)
        if node.terminology:
            coded = {node.terminology[key][1] for key in ("modifier", "region_modifier") if key in node.terminology}
            assert coded == {SIDES[side]}


def test_published_values() -> None:
    def values(name: str) -> dict[str, int]:
        tree = LabelTree.load(resources.path("label_trees", name))
        return {alias: leaf.value for leaf in tree.leaves for alias in (*leaf.aliases, leaf.name)}

    acdc = values("acdc")
    assert (acdc["RV"], acdc["MYO"], acdc["LV"]) == (1, 2, 3)
    brats = values("brats2021")
    assert (brats["NCR"], brats["ED"], brats["ET"]) == (1, 2, 4)
    samseg = values("samseg_brain")
    # FreeSurfer's color table
    for label, value in {
        "Left-Hippocampus": 17,
        "Right-Hippocampus": 53,
        "Brain-Stem": 16,
        "CSF": 24,
        "Skull": 165,
    }.items():
        assert samseg[label] == value
    assert samseg["Fluid_Inside_Eyes"] == 259
    total = values("totalsegmentator_ct")
    for label, value in {"spleen": 1, "vertebrae_C1": 50, "heart": 51, "brain": 90, "costal_cartilages": 117}.items():
        assert total[label] == value
    assert sorted(set(total.values())) == list(range(118))


def test_the_start_tree_is_what_the_start_bundle_was_trained_on() -> None:
    tree = LabelTree.load(resources.path("label_trees", "brain_start"))
    assert tree.values.tolist() == [0, 101, 1, 2, 102, *range(3, 11), 103, *range(11, 15), 104, 15, 16]


def test_the_example_of_the_page_is_a_tree() -> None:
    page = (DOCS / "label-tree.md").read_text(encoding="utf-8")
    example = json.loads(page.split("```json\n")[1].split("```")[0])
    tree = LabelTree.from_dict(example)
    assert tree.node("edema").path == "tumor/edema"
    schema = json.loads(resources.path("schemas", "label_tree").read_text(encoding="utf-8"))
    assert list(Draft202012Validator(schema).iter_errors(example)) == []
