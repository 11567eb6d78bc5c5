"""Pseudo labels: only where the network agrees with itself, is sure, and does not contradict what is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hierseg.labeltree import LabelTree
from hierseg.losses import PartialCrossEntropyDice
from hierseg.mix import Turn, draw_turn, pseudo_label
from hierseg.networks import HierarchicalOutput, HierarchicalSegmenter
from standins.label_trees import random_map, tree_of, trees

TREE = tree_of({"background": {}, "tumor": {"core": {}, "edema": {}}})
BACKGROUND, TUMOR, CORE, EDEMA = (node.value for node in TREE.nodes)


class Says(nn.Module):
    """Gives the image's own channels as log-probabilities of the leaves: it commutes with every turn."""

    def forward(self, image: torch.Tensor) -> HierarchicalOutput:
        return HierarchicalOutput(image, image)


class SaysByTurn(nn.Module):
    """Answers differently each time."""

    def __init__(self, *answers: torch.Tensor) -> None:
        super().__init__()
        self.answers = list(answers)

    def forward(self, image: torch.Tensor) -> HierarchicalOutput:
        answer = self.answers.pop(0).log()
        return HierarchicalOutput(answer, answer)


def probabilities(*rows: tuple[float, ...]) -> torch.Tensor:
    """``(1, K, 1, voxels)``."""
    return torch.tensor(rows).T.reshape(1, len(rows[0]), 1, len(rows))


def labels(
    model: nn.Module, image: torch.Tensor, node_map: torch.Tensor, tau: float, turn: Turn | None = None
) -> list[int]:
    return pseudo_label(model, image, node_map, tau, turn or Turn(), PartialCrossEntropyDice(TREE)).flatten().tolist()


def test_both_answers_must_be_sure_and_equal() -> None:
    first = probabilities((0.1, 0.8, 0.1), (0.1, 0.8, 0.1), (0.1, 0.6, 0.3), (0.1, 0.8, 0.1))
    second = probabilities((0.1, 0.8, 0.1), (0.1, 0.1, 0.8), (0.1, 0.8, 0.1), (0.2, 0.6, 0.2))
    node_map = torch.full((1, 1, 4), TUMOR)
    assert labels(SaysByTurn(first, second), first, node_map, 0.7) == [1, -1, -1, -1]


def test_below_one_half_the_most_probable_leaf_alone_counts() -> None:
    """Two leaves can be above τ = 0.4 at once; the label is the larger, or none if the answers differ."""
    first = probabilities((0.1, 0.46, 0.44), (0.1, 0.44, 0.46))
    second = probabilities((0.1, 0.47, 0.43), (0.1, 0.45, 0.45 - 1e-6))
    assert labels(SaysByTurn(first, second), first, torch.full((1, 1, 2), TUMOR), 0.4) == [1, -1]


def test_the_leaf_must_lie_under_the_voxel_s_node() -> None:
    sure = probabilities(*[(0.02, 0.96, 0.02)] * 5)
    node_map = torch.tensor([[[TUMOR, CORE, EDEMA, BACKGROUND, TREE.unlabelled]]])
    assert labels(Says(), sure.log(), node_map, 0.5) == [1, 1, -1, -1, -1]


@settings(max_examples=25, deadline=None)
@given(tree=trees(max_nodes=9), seed=st.integers(0, 2**32 - 1), tau=st.sampled_from([0.0, 0.4, 0.9]))
def test_never_against_the_known_node(tree: LabelTree, seed: int, tau: float) -> None:
    rng = np.random.default_rng(seed)
    node_map = random_map(tree, (2, 6, 6), rng)
    image = torch.from_numpy(3.0 * rng.standard_normal((2, len(tree.leaves), 6, 6)))
    turn = draw_turn((6, 6), tree, rng, spacing=(1.0, 1.0))
    found = pseudo_label(Says(), image, torch.from_numpy(node_map), tau, turn, PartialCrossEntropyDice(tree)).numpy()
    for at in zip(*np.nonzero(found >= 0), strict=True):
        assert tree.membership[tree.node_index_table[node_map[at]], found[at]]
    assert (found[node_map == tree.unlabelled] == -1).all()


def test_beyond_certainty_there_is_none() -> None:
    image = 100.0 * torch.randn(1, 3, 8, 8)
    assert set(labels(Says(), image, torch.full((1, 8, 8), TUMOR), 1.01)) == {-1}
    assert set(labels(Says(), image, torch.full((1, 8, 8), TUMOR), 1.0)) == {-1}


@pytest.mark.parametrize("turn", [Turn(1, flip=0), Turn(3, flip=1), Turn(2), Turn(0, flip=0)])
def test_a_network_that_commutes_with_turns_agrees_with_itself(turn: Turn) -> None:
    image = torch.randn(1, 3, 6, 6)
    expected = image.argmax(dim=1)
    allowed = torch.isin(expected, torch.tensor([1, 2]))
    found = pseudo_label(Says(), image, torch.full((1, 6, 6), TUMOR), 0.0, turn, PartialCrossEntropyDice(TREE))
    assert torch.equal(found, torch.where(allowed, expected, -1))


@pytest.mark.parametrize("training", [True, False])
def test_no_gradient_and_no_trace_in_the_network(training: bool) -> None:
    """The turned image does not enter the running statistics; mode and gradients stay as they were."""
    model = HierarchicalSegmenter(TREE, 1, 2, width=4).train(training)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found = pseudo_label(
        model,
        torch.randn(2, 1, 16, 16),
        torch.full((2, 16, 16), TUMOR),
        0.0,
        Turn(1, flip=0),
        PartialCrossEntropyDice(TREE),
    )
    assert found.dtype == torch.int64
    assert not found.requires_grad
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert model.training == training
    model.train()(torch.randn(2, 1, 16, 16))
    assert not torch.equal(
        model.state_dict()["heads.branches.0.0.running_mean"], before["heads.branches.0.0.running_mean"]
    )
    assert model.state_dict()["heads.branches.0.0.num_batches_tracked"] == 1


def test_logits_that_are_known_already_save_a_pass() -> None:
    model = HierarchicalSegmenter(TREE, 1, 2, width=4).eval()
    image, node_map = torch.randn(1, 1, 16, 16), torch.full((1, 16, 16), TUMOR)
    calls: list[int] = []
    model.register_forward_hook(lambda *_: calls.append(1))
    lookup = PartialCrossEntropyDice(TREE)
    plain = pseudo_label(model, image, node_map, 0.3, Turn(1), lookup)
    given_logits = pseudo_label(model, image, node_map, 0.3, Turn(1), lookup, leaf_logits=model(image).leaf_logits)
    assert torch.equal(plain, given_logits)
    assert len(calls) == 2 + 2
