"""Logits that are made when a piece is asked for are those of the network's own last step."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hierseg.inference.forward import Late, Ready, TorchForward, leaf_columns
from hierseg.labeltree import LabelTree
from hierseg.networks import HierarchicalOutput, HierarchicalSegmenter
from standins.known_network import Threshold, brain_tree
from standins.label_trees import trees
from standins.whole_logits import whole

CPU = torch.device("cpu")
HEADS: list[dict[str, Any]] = [
    {},
    {"prior_concatenation": False},
    {"separate_normalization": False},
    {"separate_normalization": False, "prior_concatenation": False},
    {"head": "leaf"},
]


def network(tree: LabelTree, dims: int, width: int = 4, **arguments: Any) -> HierarchicalSegmenter:
    torch.manual_seed(2)
    model = HierarchicalSegmenter(tree, 1, dims, width=width, **arguments)
    model.train()
    model(torch.randn(2, 1, *[16] * dims))
    return model.eval()


def expected(model: HierarchicalSegmenter, tiles: torch.Tensor) -> HierarchicalOutput:
    with torch.inference_mode():
        output: HierarchicalOutput = model(tiles if model.spatial_dims == 3 else tiles[..., 0])
    if model.spatial_dims == 3:
        return output
    return HierarchicalOutput(output.superclass_logits[..., None], output.leaf_logits[..., None])


@pytest.mark.parametrize("arguments", HEADS, ids=str)
@pytest.mark.parametrize(
    ("dims", "form"),
    [
        (3, torch.contiguous_format),
        (3, torch.channels_last_3d),
        (2, torch.contiguous_format),
        (2, torch.channels_last),
    ],
    ids=str,
)
# Width 2: more leaves than hidden channels in one branch; width 16: fewer in all of them, which are made at once.
@pytest.mark.parametrize("width", [2, 16])
def test_late_logits_are_those_of_the_network(
    arguments: dict[str, Any], dims: int, form: torch.memory_format, width: int
) -> None:
    model = network(brain_tree(), dims, width, **arguments)
    forward = TorchForward(model.to(memory_format=form), model.tree, dims, CPU, form)
    tiles = torch.randn(2, 1, 16, 32, 16 if dims == 3 else 1)
    logits = forward(tiles)
    assert isinstance(logits, Late)
    top, leaf = whole(logits, tiles.shape)
    wanted = expected(model, tiles)
    torch.testing.assert_close(leaf, wanted.leaf_logits, atol=1e-5, rtol=1e-4)
    assert (top is None) == (arguments.get("head") == "leaf")
    if top is not None:
        torch.testing.assert_close(top, wanted.superclass_logits, atol=1e-5, rtol=1e-4)
    assert logits.classes == leaf.shape[1]
    assert logits.seconds > 0
    moved = whole(forward(tiles).to(CPU), tiles.shape)[1]
    torch.testing.assert_close(moved, leaf, atol=0, rtol=0)


@settings(max_examples=15, deadline=None)
@given(tree=trees(max_nodes=9), arguments=st.sampled_from(HEADS))
def test_on_any_tree_in_the_file_s_order(tree: LabelTree, arguments: dict[str, Any]) -> None:
    model = network(tree, 2, 2, **arguments)
    tiles = torch.randn(1, 1, 16, 16, 1)
    _, leaf = whole(TorchForward(model, tree, 2, CPU)(tiles), tiles.shape)
    torch.testing.assert_close(leaf, expected(model, tiles).leaf_logits, atol=1e-5, rtol=1e-4)


def test_what_is_asked_for_alone_comes_one_node_after_the_other() -> None:
    model = network(brain_tree(), 3)
    forward = TorchForward(model, model.tree, 3, CPU)
    tiles = torch.randn(1, 1, 16, 16, 16)
    wanted = expected(model, tiles)
    for present in ((2, 0), (1,), (0, 1, 2)):
        top, leaf = whole(forward(tiles, present), tiles.shape)
        torch.testing.assert_close(top, wanted.superclass_logits[:, list(present)], atol=1e-5, rtol=1e-4)
        columns = leaf_columns(model.tree, present)
        torch.testing.assert_close(leaf, wanted.leaf_logits[:, columns], atol=1e-5, rtol=1e-4)


class Dimmed(HierarchicalSegmenter):
    """A network that does more than its parts say."""

    def forward(self, x: torch.Tensor, present: Any = None) -> HierarchicalOutput:
        return super().forward(0.5 * x, present)


@pytest.mark.parametrize("head", ["path_softmax", "regions"])
def test_other_heads_make_their_logits_at_once(head: str) -> None:
    model = network(brain_tree(), 3, head=head)
    assert isinstance(TorchForward(model, model.tree, 3, CPU)(torch.randn(1, 1, 16, 16, 16)), Ready)


def test_so_does_a_network_with_a_forward_of_its_own() -> None:
    model = Dimmed(brain_tree(), 1, 3, width=4).eval()
    tiles = torch.randn(1, 1, 16, 16, 16)
    logits = TorchForward(model, model.tree, 3, CPU)(tiles)
    assert isinstance(logits, Ready)
    torch.testing.assert_close(whole(logits, tiles.shape)[1], expected(model, tiles).leaf_logits)
    foreign = TorchForward(Threshold(brain_tree()), brain_tree(), 3, CPU)(tiles)
    assert isinstance(foreign, Ready)
