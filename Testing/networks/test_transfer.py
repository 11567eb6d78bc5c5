"""From one label tree to another: what is kept is kept exactly, and what is new starts from its parent."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hierseg.errors import ConfigError
from hierseg.labeltree import LabelTree
from hierseg.networks import HierarchicalSegmenter
from hierseg.networks.transfer import TransferReport, initialize_from
from standins.label_trees import tree_of, trees

SWITCHES = list(itertools.product([True, False], repeat=2))
BEFORE = {"background": {}, "brain": {"cortex": {}, "deep": {"left": {}, "right": {}}}, "skull": {}}


def network(tree: LabelTree, pc: bool = True, sn: bool = True, seed: int = 0, **changed: Any) -> HierarchicalSegmenter:
    torch.manual_seed(seed)
    arguments = {"in_channels": 1, "spatial_dims": 2, "width": 4, **changed}
    return HierarchicalSegmenter(tree, **arguments, prior_concatenation=pc, separate_normalization=sn).eval()


def transferred(
    before: LabelTree, after: LabelTree, pc: bool = True, sn: bool = True
) -> tuple[HierarchicalSegmenter, HierarchicalSegmenter, TransferReport]:
    old, new = network(before, pc, sn, seed=1), network(after, pc, sn, seed=2)
    return old, new, initialize_from(new, old.state_dict(), before)


def probabilities(model: HierarchicalSegmenter) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Probability of every node (from the leaf output) and of every top-level node (superclass output), by path."""
    torch.manual_seed(3)
    with torch.no_grad():
        output = model(3.0 * torch.randn(1, 1, 16, 16))
    p = output.leaf_logits.double().softmax(dim=1)[0]
    member = torch.from_numpy(model.tree.membership).double()
    nodes = torch.einsum("nk,kxy->nxy", member, p)
    top = output.superclass_logits.double().softmax(dim=1)[0]
    return (
        {node.path: nodes[index] for index, node in enumerate(model.tree.nodes)},
        {node.path: top[index] for index, node in enumerate(model.tree.top_level)},
    )


@pytest.mark.parametrize(("pc", "sn"), SWITCHES)
def test_the_same_tree_gives_the_same_network(pc: bool, sn: bool) -> None:
    tree = tree_of(BEFORE)
    old, new, report = transferred(tree, tree, pc, sn)
    image = torch.randn(1, 1, 16, 16)
    with torch.no_grad():
        assert torch.allclose(old(image).leaf_logits, new(image).leaf_logits, atol=1e-6)
        assert torch.allclose(old(image).superclass_logits, new(image).superclass_logits, atol=1e-6)
    assert not report.new
    assert not report.started_from_parent
    assert not report.dropped


@pytest.mark.parametrize(("pc", "sn"), SWITCHES)
@pytest.mark.parametrize("split", ["cortex", "right", "skull"], ids=["second level", "third level", "top level"])
def test_a_split_keeps_every_probability(pc: bool, sn: bool, split: str) -> None:
    """New children share the old leaf's probability equally; nothing else changes."""
    before = tree_of(BEFORE)
    rows = before.to_dict()["nodes"] + [{"name": f"part {i}", "parent": split, "value": 50 + i} for i in range(3)]
    after = LabelTree.from_dict({**before.to_dict(), "nodes": rows})
    old, new, report = transferred(before, after, pc, sn)
    (old_nodes, old_top), (new_nodes, new_top) = probabilities(old), probabilities(new)
    for path, probability in old_nodes.items():
        assert (new_nodes[path] - probability).abs().max() < 1e-5
    for path, probability in old_top.items():
        assert (new_top[path] - probability).abs().max() < 1e-5
    parent = before.node(split).path
    for i in range(3):
        assert (new_nodes[f"{parent}/part {i}"] - old_nodes[parent] / 3).abs().max() < 1e-5
    assert report.started_from_parent == {f"{parent}/part {i}": parent for i in range(3)}
    assert any(sentence.startswith(f"New subclasses start from '{parent}'") for sentence in report.sentences())


@settings(max_examples=25, deadline=None)
@given(before=trees(max_nodes=7, max_depth=3), data=st.data())
def test_any_splits_of_any_tree_keep_every_probability(before: LabelTree, data: st.DataObject) -> None:
    content = before.to_dict()
    free = iter(sorted(set(range(250)) - {node.value for node in before.nodes}))
    rows = list(content["nodes"])
    for leaf in before.leaves:
        for i in range(data.draw(st.integers(0, 3))):
            rows.append({"name": f"{leaf.name}-{i}", "parent": leaf.name, "value": next(free)})
            if data.draw(st.booleans()):
                rows.append({"name": f"{leaf.name}-{i}-deeper", "parent": f"{leaf.name}-{i}", "value": next(free)})
    after = LabelTree.from_dict({**content, "nodes": data.draw(st.permutations(rows))})
    for pc, sn in SWITCHES:
        old, new, _ = transferred(before, after, pc, sn)
        (old_nodes, old_top), (new_nodes, new_top) = probabilities(old), probabilities(new)
        assert all((new_nodes[path] - p).abs().max() < 1e-5 for path, p in old_nodes.items())
        assert all((new_top[path] - p).abs().max() < 1e-5 for path, p in old_top.items())


@pytest.mark.parametrize(("pc", "sn"), SWITCHES)
def test_a_split_can_be_learned(pc: bool, sn: bool) -> None:
    """The children start alike, but their gradients differ."""
    before = tree_of({"background": {}, "tumor": {}})
    after = tree_of({"background": {}, "tumor": {"core": {}, "edema": {}}})
    _, new, _ = transferred(before, after, pc, sn)
    logits = new(torch.randn(1, 1, 16, 16)).leaf_logits
    torch.nn.functional.cross_entropy(logits, torch.ones(1, 16, 16, dtype=torch.long)).backward()
    head = new.heads.leaf[1] if sn else new.heads.leaf
    core, edema = head.weight.grad[-2], head.weight.grad[-1]
    assert (core * edema).sum() < 0


@pytest.mark.parametrize(("pc", "sn"), SWITCHES)
def test_a_new_top_level_node_is_fresh_and_the_others_keep_their_logits(pc: bool, sn: bool) -> None:
    before = tree_of(BEFORE)
    rows = [{"name": "device", "value": 60}, *before.to_dict()["nodes"]]
    after = LabelTree.from_dict({**before.to_dict(), "nodes": rows})
    old, new, report = transferred(before, after, pc, sn)
    image = torch.randn(1, 1, 16, 16)
    with torch.no_grad():
        was, now = old(image), new(image)
    assert torch.allclose(now.superclass_logits[:, 1:], was.superclass_logits, atol=1e-5)
    assert torch.allclose(now.leaf_logits[:, 1:], was.leaf_logits, atol=1e-5)
    assert report.new == ["device"]
    assert "Not in the source, starting fresh: device." in report.sentences()


@pytest.mark.parametrize(("pc", "sn"), SWITCHES)
def test_the_file_s_order_does_not_matter(pc: bool, sn: bool) -> None:
    before = tree_of(BEFORE)
    after = LabelTree.from_dict({**before.to_dict(), "nodes": before.to_dict()["nodes"][::-1]})
    old, new, _ = transferred(before, after, pc, sn)
    (old_nodes, old_top), (new_nodes, new_top) = probabilities(old), probabilities(new)
    assert all((new_nodes[path] - p).abs().max() < 1e-5 for path, p in old_nodes.items())
    assert all((new_top[path] - p).abs().max() < 1e-5 for path, p in old_top.items())


@pytest.mark.parametrize(("pc", "sn"), SWITCHES)
def test_added_removed_and_merged_nodes_are_told(pc: bool, sn: bool) -> None:
    before = tree_of(BEFORE)
    after = tree_of({"background": {}, "brain": {"cortex": {}, "deep": {}, "stem": {}}})
    old, new, report = transferred(before, after, pc, sn)
    assert report.merged == ["brain/deep"]
    assert report.started_from_parent == {"brain/stem": "brain"}
    assert report.dropped == ["skull"]
    assert set(report.matched) == {"background", "brain/cortex", "brain"}
    said = " ".join(report.sentences())
    assert "merged into: brain/deep" in said
    assert "No longer in the tree: skull" in said
    # The new sibling starts as the mean of its parent's rows, the merged leaf as its subclasses' plus log 2.
    old_head, new_head = (old.heads.leaf[1], new.heads.leaf[1]) if sn else (old.heads.leaf, new.heads.leaf)
    first = 0 if sn else 1
    rows = old_head.bias[first : first + 3]
    expected = torch.stack([rows[0], rows[1:].mean() + torch.tensor(2.0).log(), rows.mean()])
    assert torch.allclose(new_head.bias[first:], expected)


def test_the_trunk_is_copied_and_the_source_untouched() -> None:
    before, after = tree_of(BEFORE), tree_of({"other": {}})
    old, new = network(before, seed=1), network(after, seed=2)
    kept = {name: tensor.clone() for name, tensor in old.state_dict().items()}
    report = initialize_from(new, old.state_dict(), before)
    assert report.copied == len(new.trunk.state_dict())
    assert all(torch.equal(tensor, old.trunk.state_dict()[name]) for name, tensor in new.trunk.state_dict().items())
    assert all(torch.equal(tensor, kept[name]) for name, tensor in old.state_dict().items())
    assert report.new == ["other"]


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"in_channels": 4}, "the source reads 1 image channels, the new network 4"),
        ({"spatial_dims": 3}, "use the source's trunk, width and dimensions"),
        ({"width": 8}, "use the source's trunk, width and dimensions"),
        ({"trunk": "dynunet"}, "another trunk"),
        ({"sn": False}, "separate normalization on, the new network has it off"),
        ({"pc": False}, "prior concatenation on, the new network has it off"),
    ],
)
def test_networks_that_do_not_fit_are_refused_in_a_sentence(changed: dict[str, Any], sentence: str) -> None:
    tree = tree_of(BEFORE)
    old, new = network(tree), network(tree, **changed)
    untouched = {name: tensor.clone() for name, tensor in new.state_dict().items()}
    with pytest.raises(ConfigError, match=sentence):
        initialize_from(new, old.state_dict(), tree)
    assert all(torch.equal(tensor, untouched[name]) for name, tensor in new.state_dict().items())


@pytest.mark.parametrize("sn", [True, False])
def test_weights_of_another_tree_are_refused(sn: bool) -> None:
    tree = tree_of(BEFORE)
    new = network(tree, sn=sn)
    with pytest.raises(ConfigError, match="do not belong to its label tree"):
        initialize_from(new, network(tree, sn=sn).state_dict(), tree_of({"a": {}, "b": {"c": {}, "d": {}}}))
