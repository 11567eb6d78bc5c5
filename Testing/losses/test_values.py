"""Each loss against its definition, on small cases and on random trees."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from torch.nn import functional as F

from hierseg.errors import ConfigError
from hierseg.labeltree import LabelTree
from hierseg.losses import (
    MarginalCrossEntropy,
    NegativeLearning,
    PartialCrossEntropyDice,
    SplitCrossEntropy,
    TreeCrossEntropy,
    TreeWasserstein,
)
from standins.label_trees import random_map, tree_of, trees

TUMOR = {"background": {}, "tumor": {"core": {}, "edema": {}}}


def logits_of(*rows: tuple[float, ...]) -> torch.Tensor:
    """Logits ``(1, K, voxels)`` whose softmax is the rows, one a voxel."""
    return torch.tensor(rows, dtype=torch.float64).log().T.unsqueeze(0)


def draw(tree: LabelTree, seed: int, shape: tuple[int, ...] = (2, 3, 3)) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.standard_normal((shape[0], len(tree.leaves), *shape[1:]))), torch.from_numpy(
        random_map(tree, shape, rng)
    )


# -- marginal cross-entropy --------------------------------------------------------------------------------------


def test_marginal_by_hand() -> None:
    tree = tree_of(TUMOR)  # values: background 0, tumor 1, core 2, edema 3
    logits = logits_of((0.5, 0.25, 0.25), (0.5, 0.2, 0.3), (0.1, 0.2, 0.7))
    target = torch.tensor([[1, 2, 255]])
    assert MarginalCrossEntropy(tree)(logits, target).item() == pytest.approx(-(math.log(0.5) + math.log(0.2)) / 2)


def test_split_by_hand() -> None:
    tree = tree_of({"hindbrain": {"brainstem": {}, "cerebellum": {"cortex": {}, "white": {}}}, "rest": {}})
    value = {node.name: node.value for node in tree.nodes}
    column = {leaf.name: index for index, leaf in enumerate(tree.leaves)}
    probability = {"brainstem": 0.2, "cortex": 0.3, "white": 0.1, "rest": 0.4}
    row = tuple(probability[name] for name in sorted(column, key=lambda name: column[name]))
    # Three voxels of the brainstem, one coarse one of the cerebellum, one of its white matter; the rest teaches nothing.
    target = torch.tensor([[value[name] for name in ("brainstem",) * 3 + ("cerebellum", "white", "rest")] + [255]])
    hindbrain = (3 * -math.log(0.2 / 0.6) + 2 * -math.log(0.4 / 0.6)) / 5
    cerebellum = -math.log(0.1 / 0.4)
    found = SplitCrossEntropy(tree)(logits_of(*[row] * 7), target)
    assert found.item() == pytest.approx((hindbrain + cerebellum) / 2)


@given(trees(), st.integers(0, 99))
def test_splits_do_not_move_a_superclass_against_the_others(tree: LabelTree, seed: int) -> None:
    logits, target = draw(tree, seed)
    logits.requires_grad_(True)
    SplitCrossEntropy(tree)(logits, target).backward()
    assert logits.grad is not None
    for top in tree.top_level:
        below = torch.from_numpy(tree.membership[tree.nodes.index(top)])
        assert logits.grad[:, below].sum(dim=1).abs().max() < 1e-12


def test_marginal_is_cross_entropy_where_only_leaves_are_labelled(deep: LabelTree, batch: Any) -> None:
    logits, _ = batch(deep, (2, 4, 4))
    leaves = torch.randint(0, len(deep.leaves), (2, 4, 4))
    target = torch.from_numpy(deep.leaf_values)[leaves]
    assert torch.allclose(MarginalCrossEntropy(deep)(logits, target), F.cross_entropy(logits, leaves))


def test_marginal_does_not_care_how_a_superclass_is_divided() -> None:
    tree = tree_of(TUMOR)
    target = torch.tensor([[1]])
    loss = MarginalCrossEntropy(tree)
    assert loss(logits_of((0.4, 0.5, 0.1)), target).item() == pytest.approx(
        loss(logits_of((0.4, 0.1, 0.5)), target).item()
    )


@settings(max_examples=30, deadline=None)
@given(tree=trees(), seed=st.integers(0, 2**32 - 1))
def test_marginal_is_minus_the_log_of_summed_leaves(tree: LabelTree, seed: int) -> None:
    logits, target = draw(tree, seed)
    p = logits.softmax(dim=1).numpy()
    expected = [
        -math.log(p[(at[0], tree.membership[tree.node_index_table[value]], *at[1:])].sum())
        for at, value in np.ndenumerate(target.numpy())
        if value != tree.unlabelled
    ]
    assert MarginalCrossEntropy(tree)(logits, target).item() == pytest.approx(np.mean(expected) if expected else 0.0)


# -- cross-entropy and Dice --------------------------------------------------------------------------------------


def test_partial_by_hand() -> None:
    tree = tree_of(TUMOR)
    logits = logits_of((0.6, 0.3, 0.1), (0.2, 0.7, 0.1), (0.9, 0.05, 0.05))
    target = torch.tensor([[0, 2, 1]])  # the third carries the inner node: it counts for nothing
    ce = -(math.log(0.6) + math.log(0.7)) / 2
    background = 1 - 2 * 0.6 / (0.6**2 + 0.2**2 + 1)
    core = 1 - 2 * 0.7 / (0.3**2 + 0.7**2 + 1)
    dice = (background + core) / 2  # nobody drew edema: no term
    assert PartialCrossEntropyDice(tree)(logits, target).item() == pytest.approx(0.5 * (ce + dice), abs=1e-4)
    assert PartialCrossEntropyDice(tree, dice=0.0, cross_entropy=1.0)(logits, target).item() == pytest.approx(ce)
    assert PartialCrossEntropyDice(tree, dice=1.0, cross_entropy=0.0)(logits, target).item() == pytest.approx(
        dice, abs=1e-4
    )


def test_dice_counts_over_the_whole_batch(flat: LabelTree, batch: Any) -> None:
    """A class that one sample lacks is no case of its own: splitting a sample in two changes nothing."""
    logits, target = batch(flat, (1, 4, 6))
    split_logits = torch.cat([logits[..., :3], logits[..., 3:]])
    split_target = torch.cat([target[..., :3], target[..., 3:]])
    loss = PartialCrossEntropyDice(flat)
    assert torch.allclose(loss(logits, target), loss(split_logits, split_target))


def test_superclass_voxels_get_no_gradient_from_partial(deep: LabelTree, batch: Any) -> None:
    logits, target = batch(deep, (2, 6, 6))
    PartialCrossEntropyDice(deep)(logits, target).backward()
    inner = torch.from_numpy(deep.leaf_index_table)[target] < 0
    assert (inner & (target != deep.unlabelled)).any()
    assert logits.grad[inner.unsqueeze(1).expand_as(logits)].abs().max() == 0


@settings(max_examples=25, deadline=None)
@given(tree=trees(), seed=st.integers(0, 2**32 - 1))
def test_one_hot_targets_are_node_values(tree: LabelTree, seed: int) -> None:
    logits, target = draw(tree, seed)
    leaves = torch.from_numpy(tree.leaf_index_table)[target]
    soft = (leaves.unsqueeze(1) == torch.arange(len(tree.leaves)).view(1, -1, 1, 1)).double()
    loss = PartialCrossEntropyDice(tree)
    assert torch.allclose(loss(logits, soft), loss(logits, target))


def test_soft_cross_entropy_is_averaged_over_voxels_with_mass() -> None:
    tree = tree_of(TUMOR)
    logits = logits_of((0.6, 0.3, 0.1), (0.2, 0.7, 0.1), (0.9, 0.05, 0.05))
    soft = torch.tensor([[0.5, 0.0, 0.5], [0.0, 0.6, 0.0], [0.0, 0.0, 0.0]], dtype=torch.float64).T.unsqueeze(0)
    expected = -(0.5 * math.log(0.6) + 0.5 * math.log(0.1) + 0.6 * math.log(0.7)) / 2
    assert PartialCrossEntropyDice(tree, cross_entropy=1.0, dice=0.0)(logits, soft).item() == pytest.approx(expected)


def test_a_voxel_of_half_mass_still_wants_its_leaf_entirely() -> None:
    """Dice with a mass of 0.5 is lowest where the leaf's probability is 1, not 0.5."""
    tree = tree_of(TUMOR)
    soft = torch.tensor([[[0.0], [0.5], [0.0]]], dtype=torch.float64)
    loss = PartialCrossEntropyDice(tree, cross_entropy=0.0, dice=1.0)
    values = [loss(logits_of(((1 - p) / 2, p, (1 - p) / 2)), soft).item() for p in (0.3, 0.5, 0.7, 0.98)]
    assert values == sorted(values, reverse=True)
    assert values[-1] < 0.02


def test_soft_targets_without_mass_give_zero_and_finite_gradients(deep: LabelTree, batch: Any) -> None:
    logits, _ = batch(deep)
    loss = PartialCrossEntropyDice(deep)(logits, torch.zeros_like(logits))
    loss.backward()
    assert loss == 0
    assert logits.grad.abs().max() == 0


def test_soft_gradients_are_the_derivatives(deep: LabelTree, batch: Any) -> None:
    logits, _ = batch(deep, (1, 2, 3))
    soft = torch.rand(logits.shape, dtype=torch.float64) * (torch.rand(1, 1, 2, 3) > 0.3)
    assert torch.autograd.gradcheck(lambda x: PartialCrossEntropyDice(deep)(x, soft), (logits,))


def test_a_soft_target_of_another_shape_is_refused(deep: LabelTree, batch: Any) -> None:
    logits, _ = batch(deep)
    with pytest.raises(ConfigError, match="must be equal"):
        PartialCrossEntropyDice(deep)(logits, torch.zeros(2, 5, 3, 3))


def test_the_superclass_head_uses_the_same_loss_on_the_top_tree(deep: LabelTree, batch: Any) -> None:
    _, target = batch(deep)
    top = deep.top()
    logits = torch.randn(2, 3, 3, 4, dtype=torch.float64)
    mapped = torch.from_numpy(deep.top_value_table)[target]
    names = [node.name for node in deep.top_level]
    index = [
        names.index(deep.top_of(deep.by_value(v)).name) if v != deep.unlabelled else -1
        for v in target.flatten().tolist()
    ]
    expected = F.cross_entropy(logits, torch.tensor(index).view_as(target), ignore_index=-1)
    assert torch.allclose(PartialCrossEntropyDice(top, cross_entropy=1.0, dice=0.0)(logits, mapped), expected)


# -- Wasserstein -------------------------------------------------------------------------------------------------


def transport_cost(p: np.ndarray, leaf: int, distance: np.ndarray) -> float:
    """Optimal transport from p to all mass in one leaf, as a linear program."""
    count = len(p)
    g = np.eye(count)[leaf]
    rows = np.kron(np.eye(count), np.ones(count))
    columns = np.kron(np.ones(count), np.eye(count))
    solved = linprog(distance.ravel(), A_eq=np.vstack([rows, columns]), b_eq=np.concatenate([p, g]), bounds=(0, None))
    assert solved.success
    return float(solved.fun)


@settings(max_examples=20, deadline=None)
@given(tree=trees(max_nodes=9), seed=st.integers(0, 2**32 - 1))
def test_wasserstein_of_leaves_is_optimal_transport(tree: LabelTree, seed: int) -> None:
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(len(tree.leaves)), size=3)
    leaves = rng.integers(len(tree.leaves), size=3)
    loss = TreeWasserstein(tree)(torch.from_numpy(np.log(p).T[None]), torch.from_numpy(tree.leaf_values[leaves][None]))
    expected = np.mean([transport_cost(row, leaf, tree.distance) for row, leaf in zip(p, leaves, strict=True)])
    assert loss.item() == pytest.approx(expected, abs=1e-6)
    assert loss.item() == pytest.approx(
        np.mean([row @ tree.distance[:, leaf] for row, leaf in zip(p, leaves, strict=True)]), abs=1e-6
    )


@settings(max_examples=30, deadline=None)
@given(tree=trees(), seed=st.integers(0, 2**32 - 1))
def test_wasserstein_is_the_sum_over_edges_not_below_the_node(tree: LabelTree, seed: int) -> None:
    logits, target = draw(tree, seed)
    p = np.einsum("nk,bkxy->bnxy", tree.membership.astype(float), logits.softmax(dim=1).numpy())
    costs = []
    for at, value in np.ndenumerate(target.numpy()):
        if value == tree.unlabelled:
            continue
        node = tree.by_value(int(value))
        true = {node.name, *(other.name for other in tree.ancestors(node))}
        below = {other.name for other in tree.descendants(node)}
        costs.append(
            sum(
                edge.edge_weight * abs(p[(at[0], row, *at[1:])] - (edge.name in true))
                for row, edge in enumerate(tree.nodes)
                if edge.name not in below
            )
            / tree.distance_scale
        )
    assert TreeWasserstein(tree)(logits, target).item() == pytest.approx(np.mean(costs) if costs else 0.0, abs=1e-6)


def test_wasserstein_mass_inside_an_inner_node_is_free() -> None:
    tree = tree_of(TUMOR)
    loss = TreeWasserstein(tree)
    inside = loss(logits_of((1e-12, 0.3, 0.7)), torch.tensor([[1]]))
    assert inside.item() == pytest.approx(0.0, abs=1e-9)
    # From background to tumor: two edges of length 1; the longest way (to a leaf) has 3.
    assert loss(logits_of((1.0, 1e-12, 1e-12)), torch.tensor([[1]])).item() == pytest.approx(2 / 3)


def test_errors_inside_a_branch_cost_less() -> None:
    tree = tree_of({"a": {"a1": {}, "a2": {}}, "b": {"b1": {}, "b2": {}}})
    target = torch.tensor([[tree.node("a1").value]])
    near = TreeWasserstein(tree)(logits_of((1e-9, 1.0, 1e-9, 1e-9)), target)
    far = TreeWasserstein(tree)(logits_of((1e-9, 1e-9, 1.0, 1e-9)), target)
    assert near.item() == pytest.approx(0.5)
    assert far.item() == pytest.approx(1.0)


# -- tree cross-entropy ------------------------------------------------------------------------------------------


def test_tree_cross_entropy_by_hand() -> None:
    tree = tree_of(TUMOR)
    logits = logits_of((0.5, 0.2, 0.3), (0.5, 0.2, 0.3))
    target = torch.tensor([[2, 1]])  # core, and tumor of unknown kind
    assert TreeCrossEntropy(tree)(logits, target).item() == pytest.approx(-(2 * math.log(0.5) + math.log(0.2)) / 2)
    weighted = TreeCrossEntropy(tree, [3.0, 0.5])(logits, target)
    assert weighted.item() == pytest.approx(-(3 * math.log(0.5) + 0.5 * math.log(0.2) + 3 * math.log(0.5)) / 2)


def test_tree_cross_entropy_takes_edge_weights() -> None:
    tree = tree_of(TUMOR, weights={"tumor": 2.0, "core": 0.25})
    loss = TreeCrossEntropy(tree)(logits_of((0.5, 0.2, 0.3)), torch.tensor([[2]]))
    assert loss.item() == pytest.approx(-(2 * math.log(0.5) + 0.25 * math.log(0.2)))


def test_level_weights_must_fit_the_depth(deep: LabelTree) -> None:
    with pytest.raises(ConfigError, match="3 numbers"):
        TreeCrossEntropy(deep, [1.0, 2.0])
    with pytest.raises(ConfigError, match="0 or more"):
        TreeCrossEntropy(deep, [1.0, 2.0, -1.0])


# -- negative learning -------------------------------------------------------------------------------------------


def test_negative_learning_by_hand() -> None:
    tree = tree_of(TUMOR)
    logits = logits_of((0.5, 0.2, 0.3), (0.5, 0.2, 0.3))
    target = torch.tensor([[1, 2]])  # tumor: only background is outside; core: background and edema are
    expected = -(math.log(0.5) + math.log(0.5) + math.log(0.7)) / 2
    assert NegativeLearning(tree)(logits, target).item() == pytest.approx(expected)


def test_negative_learning_still_pulls_where_the_network_is_sure_and_wrong() -> None:
    """In single precision 1 − p rounds to 0 there; the loss is the logits' gap and the gradient is 1."""
    tree = tree_of(TUMOR)
    logits = torch.tensor([[[60.0], [0.0], [0.0]]], requires_grad=True)
    loss = NegativeLearning(tree)(logits, torch.tensor([[1]]))
    loss.backward()
    assert loss.item() == pytest.approx(60.0 - math.log(2.0))
    assert logits.grad.flatten().tolist() == pytest.approx([1.0, -0.5, -0.5])


def test_balanced_marginal_is_the_published_form() -> None:
    """Minus the mean of log P(fg) over foreground, minus that of log P(bg) over background (paper A's code)."""
    tree = tree_of(TUMOR)
    logits = torch.randn(1, 3, 50, dtype=torch.float64)
    target = torch.tensor([[1] * 10 + [0] * 40])
    p = logits.softmax(dim=1)
    expected = -(p[0, 1:, :10].sum(dim=0).log().mean() + p[0, 0, 10:].log().mean())
    assert torch.allclose(NegativeLearning(tree, balanced_marginal=True)(logits, target), expected)


# -- a flat tree -------------------------------------------------------------------------------------------------


def test_with_a_flat_tree_all_are_what_they_are_called(flat: LabelTree, batch: Any) -> None:
    logits, target = batch(flat, (2, 5, 5))
    leaves = torch.from_numpy(flat.leaf_index_table)[target]
    known = leaves >= 0
    ce = F.cross_entropy(logits, leaves, ignore_index=-1)
    own = logits.softmax(dim=1).gather(1, leaves.clamp(min=0).unsqueeze(1)).squeeze(1)[known]
    assert torch.allclose(MarginalCrossEntropy(flat)(logits, target), ce)
    assert torch.allclose(TreeCrossEntropy(flat)(logits, target), ce)
    assert torch.allclose(TreeWasserstein(flat)(logits, target), (1.0 - own).mean())


@settings(max_examples=30, deadline=None)
@given(tree=trees())
def test_the_tree_distance_is_a_metric(tree: LabelTree) -> None:
    distance = tree.distance
    assert np.allclose(distance, distance.T)
    assert np.allclose(np.diag(distance), 0.0)
    assert (distance[:, None, :] <= distance[:, :, None] + distance[None, :, :] + 1e-12).all()
    assert distance.max() <= 1.0
