"""Reading segments that contradict each other: the fast way gives what the rule, voxel by voxel, gives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hierseg.labeltree import LabelTree
from HierSubclassSegLib.scene import annotation, geometry, labelmaps, reading, tree_store

SHAPE = (4, 3, 10)
TREE = LabelTree.from_dict(
    {
        "format_version": 1,
        "name": "t",
        "unlabelled": 255,
        "nodes": [
            {"name": "a", "value": 1},
            {"name": "a1", "parent": "a", "value": 2},
            {"name": "a2", "parent": "a", "value": 3},
            {"name": "a11", "parent": "a1", "value": 4},
            {"name": "b", "value": 5},
            {"name": "b1", "parent": "b", "value": 6},
        ],
    }
)


def rule(covering: list[str]) -> int:
    """What one voxel gets from the names of the segments over it, in the segments' order."""
    value, parent = TREE.unlabelled, None
    while True:
        below = [
            next(
                (child for child in TREE.children(parent) if child == TREE.node(name) or child in TREE.ancestors(name)),
                None,
            )
            for name in covering
        ]
        latest = next((child for child in reversed(below) if child is not None), None)
        if latest is None:
            return value
        value, parent = latest.value, latest


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 100_000), order=st.permutations([node.name for node in TREE.nodes]), count=st.integers(1, 6))
def test_contradictions_are_decided_by_the_rule(one_scene, seed, order, count):
    rng = np.random.default_rng(seed)
    volume = geometry.make_volume(one_scene.scene, np.zeros(SHAPE, np.uint8), np.eye(4), "v")
    node = annotation.create_annotation([volume], TREE)
    masks = {name: rng.random(SHAPE) < 0.4 for name in order[:count]}
    for name, mask in masks.items():
        image = geometry.image_like(np.uint8, SHAPE, oriented=True)
        geometry.array_of(image)[...] = mask
        tree_store.add_segment(node, TREE, name, labelmap=image)
    found = reading.read(node, TREE, geometry.volume_grid(volume))
    for index in np.ndindex(SHAPE):
        assert found[index] == rule([name for name, mask in masks.items() if mask[index]]), index
    one_scene.scene.Clear(False)


def test_level_maps_cut_at_each_depth():
    labels = np.array([[[1, 2, 4, 5, 6, 255]]], np.uint8)
    assert labelmaps.level_map(TREE, labels, 1).ravel().tolist() == [1, 1, 1, 5, 5, 255]
    assert labelmaps.level_map(TREE, labels, 2).ravel().tolist() == [1, 2, 2, 5, 6, 255]
    assert labelmaps.level_map(TREE, labels, 3).ravel().tolist() == labels.ravel().tolist()


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"name": "background", "value": 0}, "background"),
        ({"name": "Background", "value": 7}, "Background"),
        ({"name": "air", "value": 0, "aliases": ["background"]}, "air"),
        ({"name": "rest", "value": 0, "terminology": {"type": ["DCM", "125040", "Background"]}}, "rest"),
        ({"name": "cytoplasm", "value": 0}, None),
    ],
)
def test_what_counts_as_background(row, expected):
    tree = LabelTree.from_dict(
        {"format_version": 1, "name": "t", "unlabelled": 255, "nodes": [row, {"name": "x", "value": 1}]}
    )
    found = tree.background
    assert (found.name if found else None) == expected


def test_boxes_are_tight_for_more_groups_than_bits_in_a_word():
    labels = np.zeros((50, 3, 2), np.uint8)
    labels[np.arange(40), 1, 1] = np.arange(1, 41)
    tables = [np.arange(256) == value for value in range(1, 42)]
    boxes, present = labelmaps.group_boxes(np.asfortranarray(labels), tables)
    assert boxes[:40] == [((k, 1, 1), (k + 1, 2, 2)) for k in range(40)]
    assert boxes[40] is None
    assert present == set(range(41))
