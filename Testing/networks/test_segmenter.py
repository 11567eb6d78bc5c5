"""The hierarchical network: shapes, prior concatenation, separate normalization, on any tree."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from torch import nn

from hierseg.errors import ConfigError
from hierseg.labeltree import LabelTree
from hierseg.losses import MarginalCrossEntropy, PartialCrossEntropyDice
from hierseg.networks import HierarchicalSegmenter
from hierseg.networks.segmenter import build_network
from hierseg.networks.trunks import TRUNKS
from standins.label_trees import tree_of, trees

SWITCHES = list(itertools.product([True, False], repeat=2))
BATCH_NORM = nn.modules.batchnorm._BatchNorm


def network(
    tree: LabelTree, pc: bool = True, sn: bool = True, dims: int = 2, trunk: str = "unet"
) -> HierarchicalSegmenter:
    torch.manual_seed(0)
    return HierarchicalSegmenter(tree, 1, dims, trunk=trunk, width=8, prior_concatenation=pc, separate_normalization=sn)


@pytest.fixture
def tree() -> LabelTree:
    return tree_of(
        {
            "background": {},
            "brain": {"cortex": {}, "deep": {"left": {}, "right": {}}},
            "skull": {"bone": {}, "marrow": {}},
        }
    )


@pytest.mark.parametrize("trunk", list(TRUNKS))
@pytest.mark.parametrize(("pc", "sn"), SWITCHES)
def test_outputs_follow_the_tree(tree: LabelTree, trunk: str, pc: bool, sn: bool) -> None:
    model = network(tree, pc, sn, trunk=trunk)
    output = model(torch.randn(2, 1, 32, 64))
    assert output.superclass_logits.shape == (2, 3, 32, 64)
    assert output.leaf_logits.shape == (2, 6, 32, 64)


@pytest.mark.parametrize("trunk", ["unet", "segresnet", "dynunet"])
def test_three_dimensions(tree: LabelTree, trunk: str) -> None:
    output = network(tree, dims=3, trunk=trunk).eval()(torch.randn(1, 1, 16, 32, 16))
    assert output.leaf_logits.shape == (1, 6, 16, 32, 16)


@settings(max_examples=12, deadline=None)
@given(tree=trees(max_nodes=8))
def test_any_tree_with_both_switches(tree: LabelTree) -> None:
    for pc, sn in SWITCHES:
        output = network(tree, pc, sn).eval()(torch.randn(1, 1, 16, 16))
        assert output.superclass_logits.shape == (1, len(tree.top_level), 16, 16)
        assert output.leaf_logits.shape == (1, len(tree.leaves), 16, 16)


@pytest.mark.parametrize(("pc", "sn"), SWITCHES)
def test_as_many_norms_at_the_split_as_top_level_nodes(tree: LabelTree, pc: bool, sn: bool) -> None:
    model = network(tree, pc, sn)
    at_the_split = [layer for layer in model.heads.modules() if isinstance(layer, BATCH_NORM)]
    in_the_trunk = [layer for layer in model.trunk.modules() if isinstance(layer, BATCH_NORM)]
    assert len(at_the_split) == (len(tree.top_level) if sn else 1)
    # The U-Net has two in each of its nine blocks; only the very last moved into the branches.
    assert len(in_the_trunk) == 2 * 9 - 1


def test_a_top_level_leaf_has_one_logit_for_both_outputs(tree: LabelTree) -> None:
    output = network(tree)(torch.randn(1, 1, 16, 16).repeat(2, 1, 1, 1))
    assert torch.equal(output.superclass_logits[:, 0], output.leaf_logits[:, 0])
    assert not torch.equal(output.superclass_logits[:, 1], output.leaf_logits[:, 1])


def test_without_separate_normalization_the_heads_are_independent(tree: LabelTree) -> None:
    output = network(tree, sn=False)(torch.randn(2, 1, 16, 16))
    assert not torch.equal(output.superclass_logits[:, 0], output.leaf_logits[:, 0])


@pytest.mark.parametrize("sn", [True, False])
def test_leaf_channels_follow_the_file_s_order(sn: bool) -> None:
    """Leaves of two superclasses, interleaved in the file: each channel comes from its own branch."""
    tree = LabelTree.from_dict(
        {
            "format_version": 1,
            "name": "mixed",
            "unlabelled": 255,
            "nodes": [
                {"name": "a", "value": 10},
                {"name": "b", "value": 20},
                {"name": "b1", "parent": "b", "value": 21},
                {"name": "a1", "parent": "a", "value": 11},
                {"name": "c", "value": 30},
                {"name": "b2", "parent": "b", "value": 22},
                {"name": "a2", "parent": "a", "value": 12},
            ],
        }
    )
    assert [leaf.name for leaf in tree.leaves] == ["b1", "a1", "c", "b2", "a2"]
    model = network(tree, sn=sn).eval()
    with torch.no_grad():
        if sn:
            for index, head in enumerate(model.heads.leaf[:2]):
                head.weight.zero_()
                head.bias.copy_(torch.tensor([1.0, 2.0]) + 10 * (index + 1))
            assert model(torch.randn(1, 1, 16, 16)).leaf_logits[0, [0, 1, 3, 4], 0, 0].tolist() == [
                21.0,
                11.0,
                22.0,
                12.0,
            ]
        else:
            model.heads.leaf.weight.zero_()
            model.heads.leaf.bias.copy_(torch.arange(5.0))
            assert model(torch.randn(1, 1, 16, 16)).leaf_logits[0, :, 0, 0].tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]


@pytest.mark.parametrize("sn", [True, False])
def test_prior_concatenation_shows_the_raw_superclass_logit_to_the_leaf_head(tree: LabelTree, sn: bool) -> None:
    model = network(tree, pc=True, sn=sn).eval()
    without = network(tree, pc=False, sn=sn)
    extra = 1 if sn else len(tree.top_level)
    head, bare = (model.heads.leaf[1], without.heads.leaf[1]) if sn else (model.heads.leaf, without.heads.leaf)
    assert head.weight.shape[1] == bare.weight.shape[1] + extra
    with torch.no_grad():
        head.weight.zero_()
        head.bias.zero_()
        head.weight[:, -extra:] = 1.0
        output = model(torch.randn(1, 1, 16, 16))
    seen = output.superclass_logits[:, 1] if sn else output.superclass_logits.sum(dim=1)
    assert torch.allclose(output.leaf_logits[:, 1], seen, atol=1e-5)


@pytest.mark.parametrize("sn", [True, False])
def test_the_leaf_loss_teaches_the_superclass_head_with_prior_concatenation_only(tree: LabelTree, sn: bool) -> None:
    for pc in (True, False):
        model = network(tree, pc=pc, sn=sn)
        model(torch.randn(2, 1, 16, 16)).leaf_logits.square().sum().backward()
        head = model.heads.superclass[1] if sn else model.heads.superclass
        assert (head.weight.grad is not None and bool(head.weight.grad.abs().sum() > 0)) == pc


@pytest.mark.parametrize(("pc", "sn"), SWITCHES)
def test_a_batch_without_any_subclass_gives_finite_gradients(tree: LabelTree, pc: bool, sn: bool) -> None:
    """Only superclasses labelled: the leaf loss is 0, the superclass loss teaches, nothing is NaN."""
    model = network(tree, pc, sn)
    target = torch.full((2, 16, 16), tree.node("brain").value)
    output = model(torch.randn(2, 1, 16, 16))
    fine = PartialCrossEntropyDice(tree)(output.leaf_logits, target)
    coarse = PartialCrossEntropyDice(tree.top())(
        output.superclass_logits, torch.from_numpy(tree.top_value_table)[target]
    )
    (fine + coarse + MarginalCrossEntropy(tree)(output.leaf_logits, target)).backward()
    assert fine == 0
    assert coarse > 0
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_networks_are_built_from_the_closed_list_only(tree: LabelTree) -> None:
    arguments = {"in_channels": 1, "spatial_dims": 2, "width": 8}
    model = build_network(tree, {"name": "HierarchicalSegmenter", "arguments": arguments})
    rebuilt = build_network(tree, {"name": "HierarchicalSegmenter", "arguments": model.arguments})
    assert rebuilt.state_dict().keys() == model.state_dict().keys()
    with pytest.raises(ConfigError, match="builds 'HierarchicalSegmenter' only"):
        build_network(tree, {"name": "os.system", "arguments": {}})


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"color": 1}, "has no argument 'color'; it has in_channels"),
        ({"levels": 4}, "the trunk 'unet' has no argument 'levels'"),
        ({"trunk": "vit"}, "'trunk' is 'vit'; give one of unet, segresnet"),
        ({"trunk": ["unet"]}, "'trunk' is"),
        ({"in_channels": 0}, "'in_channels' is 0; give an integer from 1"),
        ({"in_channels": True}, "'in_channels' is True"),
        ({"spatial_dims": "2"}, "'spatial_dims' is '2'; give 2 or 3"),
        ({"width": 10**7}, "'width' is 10000000"),
        ({"width": 2.5}, "'width' is 2.5"),
        ({"dropout": 1}, "'dropout' is 1; give a number from 0 to below 1"),
        ({"prior_concatenation": "no"}, "'prior_concatenation' is 'no'; give true or false"),
        ({"trunk": "dynunet", "levels": 40}, "'levels' is 40"),
        ({"trunk": "segresnet", "blocks_down": ["a"]}, "'blocks_down' is"),
        ({"trunk": "flexible_unet", "backbone": "/etc/passwd"}, "'backbone' is '/etc/passwd'"),
    ],
)
def test_arguments_from_a_file_are_checked(tree: LabelTree, changed: dict[str, Any], sentence: str) -> None:
    """Somebody else wrote the bundle: no library's error, and no huge allocation, may come out of it."""
    arguments = {"in_channels": 1, "spatial_dims": 2, **changed}
    with pytest.raises(ConfigError, match=sentence):
        build_network(tree, {"name": "HierarchicalSegmenter", "arguments": arguments})


def test_missing_arguments_are_named(tree: LabelTree) -> None:
    with pytest.raises(ConfigError, match="has no 'in_channels'"):
        build_network(tree, {"name": "HierarchicalSegmenter"})
    with pytest.raises(ConfigError, match="an object of names and values"):
        build_network(tree, {"name": "HierarchicalSegmenter", "arguments": [1]})
