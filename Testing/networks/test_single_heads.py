"""The baselines' output layers: what their logits mean, on several trunks, and moving them to another tree."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings

from hierseg.errors import ConfigError
from hierseg.labeltree import LabelTree
from hierseg.losses import MarginalCrossEntropy, RegionLoss
from hierseg.networks import HierarchicalSegmenter
from hierseg.networks.segmenter import build_network
from hierseg.networks.single_heads import SINGLE_HEADS, LeafHead, PathSoftmaxHead, RegionsHead
from hierseg.networks.transfer import initialize_from
from standins.label_trees import tree_of, trees

TREE = tree_of({"background": {}, "brain": {"cortex": {}, "deep": {"left": {}, "right": {}}}, "skull": {"bone": {}}})


def network(tree: LabelTree, head: str, **more: Any) -> HierarchicalSegmenter:
    torch.manual_seed(0)
    return HierarchicalSegmenter(tree, 1, more.pop("dims", 2), head=head, width=8, **more)


@pytest.mark.parametrize("head", SINGLE_HEADS)
@pytest.mark.parametrize(
    ("trunk", "dims", "size"), [("unet", 3, 16), ("segresnet", 3, 16), ("dynunet", 2, 32), ("flexible_unet", 2, 64)]
)
def test_outputs_follow_the_tree_on_several_trunks(head: str, trunk: str, dims: int, size: int) -> None:
    model = network(TREE, head, trunk=trunk, dims=dims)
    output = model(torch.randn(2, 1, *(size,) * dims))
    assert output.superclass_logits.shape == (2, 3, *(size,) * dims)
    assert output.leaf_logits.shape == (2, 5, *(size,) * dims)
    assert hasattr(output, "node_logits") == (head == "regions")
    if head == "regions":
        loss = RegionLoss(TREE)(output.node_logits, torch.zeros(2, *(size,) * dims, dtype=torch.long))
    else:
        loss = MarginalCrossEntropy(TREE)(output.leaf_logits, torch.zeros(2, *(size,) * dims, dtype=torch.long))
    loss.backward()
    assert all(parameter.grad is not None for parameter in model.heads.parameters())
    again = build_network(TREE, {"name": "HierarchicalSegmenter", "arguments": model.arguments})
    again.load_state_dict(model.state_dict())


@settings(max_examples=25, deadline=None)
@given(tree=trees())
def test_a_superclass_is_as_probable_as_its_leaves_together(tree: LabelTree) -> None:
    features = torch.randn(1, 4, 3, 3)
    member = torch.from_numpy(tree.membership[[tree.nodes.index(node) for node in tree.top_level]]).float()
    for kind in (LeafHead, PathSoftmaxHead):
        torch.manual_seed(1)
        output = kind(tree, 4, 2)(features)
        leaf, top = output.leaf_logits.softmax(dim=1), output.superclass_logits.softmax(dim=1)
        assert torch.allclose(torch.einsum("rk,bk...->br...", member, leaf), top, atol=1e-5)


def test_path_softmax_multiplies_down_the_path() -> None:
    torch.manual_seed(0)
    head = PathSoftmaxHead(TREE, 4, 2).eval()
    features = torch.randn(1, 4, 1, 1)
    z = dict(zip([node.name for node in TREE.nodes], head.scores(features)[0, :, 0, 0].tolist(), strict=True))
    output = head(features)

    def share(name: str, *siblings: str) -> float:
        scores = torch.tensor([z[name], *(z[other] for other in siblings)])
        return float(scores.softmax(dim=0)[0])

    brain = share("brain", "background", "skull")
    expected = {
        "background": share("background", "brain", "skull"),
        "cortex": brain * share("cortex", "deep"),
        "left": brain * share("deep", "cortex") * share("left", "right"),
        "right": brain * share("deep", "cortex") * share("right", "left"),
        "bone": share("skull", "brain", "background"),
    }
    found = output.leaf_logits.exp()[0, :, 0, 0].tolist()
    assert found == pytest.approx([expected[leaf.name] for leaf in TREE.leaves], rel=1e-4)
    assert sum(found) == pytest.approx(1.0, abs=1e-5)


def test_regions_multiply_sigmoids_and_know_no_normalization() -> None:
    torch.manual_seed(0)
    head = RegionsHead(TREE, 4, 2).eval()
    output = head(torch.randn(1, 4, 1, 1))
    assert output.node_logits is not None
    p = dict(zip([node.name for node in TREE.nodes], output.node_logits.sigmoid()[0, :, 0, 0].tolist(), strict=True))
    left = [leaf.name for leaf in TREE.leaves].index("left")
    assert output.leaf_logits.exp()[0, left, 0, 0].item() == pytest.approx(p["brain"] * p["deep"] * p["left"], rel=1e-4)
    assert output.superclass_logits.exp()[0, 1, 0, 0].item() == pytest.approx(p["brain"], rel=1e-4)


def node_probabilities(model: HierarchicalSegmenter, image: torch.Tensor) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        p = model.eval()(image).leaf_logits.softmax(dim=1)[0]
    return {node.path: p[model.tree.membership[row]].sum(dim=0) for row, node in enumerate(model.tree.nodes)}


@pytest.mark.parametrize("head", ["leaf", "path_softmax"])
def test_a_split_keeps_every_probability(head: str) -> None:
    before = tree_of({"background": {}, "brain": {"cortex": {}, "deep": {}}})
    after = tree_of({"brain": {"deep": {"left": {}, "right": {}}, "cortex": {}}, "background": {}})
    old, new = network(before, head), network(after, head)
    initialize_from(new, old.state_dict(), before)
    image = torch.randn(1, 1, 16, 16)
    was, now = node_probabilities(old, image), node_probabilities(new, image)
    for path, probability in was.items():
        assert torch.allclose(now[path], probability, atol=1e-5), path
    assert torch.allclose(now["brain/deep/left"], now["brain/deep/right"], atol=1e-6)


def test_new_regions_start_from_the_node_above_or_their_siblings() -> None:
    before = tree_of({"background": {}, "brain": {"cortex": {}, "deep": {}}})
    after = tree_of({"background": {}, "brain": {"cortex": {}, "deep": {"left": {}}, "stem": {}}})
    old, new = network(before, "regions"), network(after, "regions")
    initialize_from(new, old.state_dict(), before)
    image = torch.randn(1, 1, 16, 16)
    with torch.no_grad():
        was, now = old.eval()(image).node_logits[0], new.eval()(image).node_logits[0]
    rows = {node.name: row for row, node in enumerate(after.nodes)}
    assert torch.allclose(now[rows["left"]], was[3], atol=1e-5)
    assert torch.allclose(now[rows["stem"]], (was[2] + was[3]) / 2, atol=1e-5)


def test_heads_of_another_kind_are_refused() -> None:
    leaf, both = network(TREE, "leaf"), network(TREE, "two_heads")
    with pytest.raises(ConfigError, match="the source has two heads, the new network one"):
        initialize_from(leaf, both.state_dict(), TREE)
    with pytest.raises(ConfigError, match="the source has one head, the new network two"):
        initialize_from(both, leaf.state_dict(), TREE)
    with pytest.raises(ConfigError, match="do not belong to its label tree"):
        initialize_from(leaf, network(TREE, "regions").state_dict(), TREE)
    with pytest.raises(ConfigError, match="'head' is 'three'"):
        network(TREE, "three")
