"""Other people's answers: linear programs, MONAI's generalized Wasserstein Dice, and trees of odd shapes."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.losses import GeneralizedWassersteinDiceLoss
from scipy.optimize import linprog
from torch.nn import functional as F

from hierseg.labeltree import LabelTree
from hierseg.losses import (
    MarginalCrossEntropy,
    NegativeLearning,
    NodeDice,
    PartialCrossEntropyDice,
    RegionLoss,
    SplitCrossEntropy,
    TreeCrossEntropy,
    TreeTriplet,
    TreeWasserstein,
)
from standins.label_trees import random_map, tree_of, trees

ALL = [
    PartialCrossEntropyDice, MarginalCrossEntropy, SplitCrossEntropy, TreeWasserstein, TreeCrossEntropy, NegativeLearning, NodeDice,
]  # fmt: skip


def cheapest_flow(tree: LabelTree, p: np.ndarray, target: str) -> float:
    """What moving the leaves' mass into a node costs, as a flow along the tree's edges; inside the node moving is free.

    One variable for each direction of each edge (a node and its parent, the root last); at every node as much leaves as
    comes in, but for the mass that a leaf starts with and the mass that stays in the target.
    """
    index = {node.name: row for row, node in enumerate(tree.nodes)}
    root = len(tree.nodes)
    inside = {index[target], *(index[node.name] for node in tree.descendants(target))}
    balance, cost = np.zeros((root + 1, 2 * root + len(inside))), np.zeros(2 * root + len(inside))
    for row, node in enumerate(tree.nodes):
        parent = root if node.parent is None else index[node.parent]
        free = row in inside and parent in inside
        for column, (start, end) in enumerate(((row, parent), (parent, row))):
            balance[start, 2 * row + column] += 1.0
            balance[end, 2 * row + column] -= 1.0
            cost[2 * row + column] = 0.0 if free else node.edge_weight
    for column, row in enumerate(sorted(inside)):
        balance[row, 2 * root + column] = 1.0
    supply = np.zeros(root + 1)
    for mass, leaf in zip(p, tree.leaves, strict=True):
        supply[index[leaf.name]] = mass
    solved = linprog(cost, A_eq=balance, b_eq=supply, bounds=(0, None))
    assert solved.success
    return float(solved.fun)


@settings(max_examples=20, deadline=None)
@given(tree=trees(max_nodes=9), seed=st.integers(0, 2**32 - 1))
def test_wasserstein_of_any_node_is_the_cheapest_flow_into_it(tree: LabelTree, seed: int) -> None:
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(len(tree.leaves)))
    loss = TreeWasserstein(tree)
    for node in tree.nodes:
        found = loss(torch.from_numpy(np.log(p)[None, :, None]), torch.tensor([[node.value]]))
        assert found.item() == pytest.approx(cheapest_flow(tree, p, node.name) / tree.distance_scale, abs=1e-6)


def test_monais_generalized_wasserstein_dice_from_our_distances() -> None:
    """GWDL of one sample is a function of W over all voxels and W over those that are not background (Fidon et al. 2017).

    Its matrix must have the largest distance between background and everything else, as this tree's has.
    """
    tree = tree_of({"background": {}, "tumor": {"core": {}, "edema": {}, "rim": {}}}, weights={"background": 2.0})
    rng = np.random.default_rng(3)
    logits = torch.from_numpy(rng.standard_normal((1, 4, 5, 6)))
    leaves = torch.from_numpy(rng.integers(4, size=(1, 5, 6)))
    target = torch.from_numpy(tree.leaf_values)[leaves]
    monai = GeneralizedWassersteinDiceLoss(dist_matrix=tree.distance, smooth_nr=0.0, smooth_dr=0.0)
    expected = monai(logits, leaves.unsqueeze(1))
    ours = TreeWasserstein(tree)
    foreground = leaves > 0
    all_cost = ours(logits, target) * target.numel()
    front_cost = ours(logits, torch.where(foreground, target, tree.unlabelled)) * foreground.sum()
    overlap = foreground.sum() - front_cost
    assert expected.item() == pytest.approx((1 - 2 * overlap / (2 * overlap + all_cost)).item(), abs=1e-6)


# -- trees of odd shapes -----------------------------------------------------------------------------------------

SHAPES = {
    "one leaf": tree_of({"all": {}}),
    "a chain to one leaf": tree_of({"a": {"b": {"c": {}}}}),
    "single-child chains": tree_of({"background": {}, "a": {"b": {"c": {}, "d": {"e": {}}}}}),
    "unbalanced": tree_of({"a": {}, "b": {"c": {}, "d": {"e": {}, "f": {"g": {}, "h": {}}}}}),
    "three hundred leaves": LabelTree.from_dict(
        {
            "format_version": 1, "name": "large", "unlabelled": 65535,
            "nodes": [{"name": f"top {n}", "value": 1000 + n} for n in range(20)]
            + [{"name": f"leaf {n}", "value": n, "parent": f"top {n % 20}"} for n in range(300)],
        }
    ),
}  # fmt: skip


@pytest.mark.parametrize("tree", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("loss_class", [*ALL, RegionLoss], ids=lambda kind: kind.__name__)
def test_odd_trees_give_true_gradients(tree: LabelTree, loss_class: type) -> None:
    rng = np.random.default_rng(1)
    target = torch.from_numpy(random_map(tree, (1, 2, 2), rng))
    channels = len(tree.nodes if loss_class is RegionLoss else tree.leaves)
    logits = torch.from_numpy(rng.standard_normal((1, channels, 2, 2))).requires_grad_()
    loss = loss_class(tree)
    # Of a large tree a random direction is checked instead of all entries.
    assert torch.autograd.gradcheck(lambda x: loss(x, target), (logits,), fast_mode=channels > 50)


def test_with_one_leaf_nothing_can_be_wrong() -> None:
    for name in ("one leaf", "a chain to one leaf"):
        tree = SHAPES[name]
        target = torch.full((1, 3), tree.nodes[0].value)
        for loss_class in ALL:
            assert loss_class(tree)(torch.randn(1, 1, 3), target).item() == pytest.approx(0.0, abs=1e-6)


def test_a_single_child_is_its_parent() -> None:
    """P(e) = P(d): the marginal of both is the same, and the tree cross-entropy counts the edge twice."""
    tree = SHAPES["single-child chains"]
    value = {node.name: node.value for node in tree.nodes}
    logits = torch.randn(1, len(tree.leaves), 4, dtype=torch.float64)
    d, e = (torch.full((1, 4), value[name]) for name in "de")
    marginal = MarginalCrossEntropy(tree)
    assert torch.allclose(marginal(logits, d), marginal(logits, e))
    loss = TreeCrossEntropy(tree)
    assert torch.allclose(loss(logits, e), loss(logits, d) + marginal(logits, d))
    assert SplitCrossEntropy(tree)(logits, e) > 0  # d against c; e in d and b in a are no decisions
    assert torch.allclose(TreeWasserstein(tree)(logits, d), TreeWasserstein(tree)(logits, e) - excess(tree, logits))


def excess(tree: LabelTree, logits: torch.Tensor) -> torch.Tensor:
    """Mass outside of d has one edge more to go to e."""
    leaf = [node.name for node in tree.leaves].index("e")
    return (1 - logits.softmax(dim=1)[:, leaf]).mean() / tree.distance_scale


# -- flat trees, and values by hand ------------------------------------------------------------------------------


def test_a_flat_tree_reduces_the_new_ones_too(flat: LabelTree) -> None:
    logits = torch.randn(2, 3, 5, dtype=torch.float64)
    target = torch.randint(3, (2, 5))
    dice = PartialCrossEntropyDice(flat, cross_entropy=0.0, dice=1.0)
    assert torch.allclose(NodeDice(flat)(logits, target), dice(logits, target))
    one_hot = F.one_hot(target, 3).movedim(-1, 1).double()
    p = logits.sigmoid()
    region_dice = 1 - (2 * (p * one_hot).sum((0, 2)) + 1e-5) / (p.sum((0, 2)) + one_hot.sum((0, 2)) + 1e-5)
    expected = F.binary_cross_entropy_with_logits(logits, one_hot) + region_dice.mean()
    assert torch.allclose(RegionLoss(flat)(logits, target), expected)
    assert torch.allclose(RegionLoss(flat, shared_ignore=True)(logits, target), expected)


def test_node_dice_by_hand() -> None:
    tree = tree_of({"background": {}, "tumor": {"core": {}, "edema": {}}})
    rows = torch.tensor([[0.5, 0.2, 0.3], [0.1, 0.8, 0.1], [0.7, 0.1, 0.2]], dtype=torch.float64)
    target = torch.tensor([[1, 2, 0]])  # tumor of unknown kind, core, background
    top = [(0.5, 0.0), (0.1, 0.0), (0.7, 1.0)]
    background = 1 - 2 * 0.7 / (sum(p * p + t for p, t in top))
    tumor = 1 - 2 * (0.5 + 0.9) / (0.5**2 + 0.9**2 + 0.3**2 + 2)
    core = 1 - 2 * 0.8 / (0.8**2 + 1)  # only the second voxel is known to be core or edema
    found = NodeDice(tree)(rows.log().T.unsqueeze(0), target)
    assert found.item() == pytest.approx((background + tumor + core) / 3, abs=1e-4)


def test_regions_by_hand() -> None:
    tree = tree_of({"background": {}, "tumor": {"core": {}}})  # values 0, 1, 2
    z = torch.tensor([[[0.5, -1.0], [2.0, 0.3], [-0.4, 1.2]]], dtype=torch.float64)  # channels × voxels
    target = torch.tensor([[1, 2]])  # tumor of unknown kind, core

    def ce(value: float, truth: int) -> float:
        p = 1 / (1 + math.exp(-value))
        return -math.log(p if truth else 1 - p)

    known = [ce(0.5, 0), ce(2.0, 1), ce(-1.0, 0), ce(0.3, 1), ce(1.2, 1)]  # the first voxel's core is not known
    p = z.sigmoid()[0]
    dices = [1.0, 1 - 2 * p[1].sum() / (p[1].sum() + 2), 1 - 2 * p[2, 1] / (p[2, 1] + 1)]
    expected = sum(known) / 5 + sum(float(dice) for dice in dices) / 3
    assert RegionLoss(tree)(z, target).item() == pytest.approx(expected, abs=1e-4)
    second = [ce(-1.0, 0), ce(0.3, 1), ce(1.2, 1)]
    dices = [1.0, 1 - 2 * p[1, 1] / (p[1, 1] + 1), 1 - 2 * p[2, 1] / (p[2, 1] + 1)]
    expected = sum(second) / 3 + sum(float(dice) for dice in dices) / 3
    assert RegionLoss(tree, shared_ignore=True)(z, target).item() == pytest.approx(expected, abs=1e-4)


def test_regions_leave_out_what_is_unlabelled() -> None:
    tree = tree_of({"background": {}, "tumor": {"core": {}}})
    logits = torch.randn(1, 3, 4, requires_grad=True)
    loss = RegionLoss(tree)(logits, torch.full((1, 4), 255))
    loss.backward()
    assert loss == 0
    assert logits.grad.abs().sum() == 0


# -- triplets ----------------------------------------------------------------------------------------------------


def test_a_triplet_by_hand() -> None:
    tree = tree_of({"a": {"a1": {}, "a2": {}}, "b": {"b1": {}}})
    value = {node.name: node.value for node in tree.nodes}
    target = torch.tensor([[value["a1"], value["a2"], value["b1"], value["a"], 255]])
    features = torch.tensor([[[1.0, 0.6, 0.0, 9.0, 9.0], [0.0, 0.8, 2.0, 9.0, 9.0]]])
    # a1 is the anchor: cos 0.6 to a2, 0 to b1.  a2: 0.6 to a1, 0.8 to b1.  b1 has no sibling.
    expected = (max(0.0, 0.0 - 0.6 + 0.6) + max(0.0, 0.8 - 0.6 + 0.6)) / 2
    assert TreeTriplet(tree)(features, target).item() == pytest.approx(expected, abs=1e-6)


def test_without_a_sibling_or_another_superclass_there_is_no_triplet() -> None:
    tree = tree_of({"a": {"a1": {}, "a2": {}}, "b": {}})
    value = {node.name: node.value for node in tree.nodes}
    features = torch.randn(1, 3, 4, requires_grad=True)
    for names in (("a1", "a1", "a2", "a2"), ("a1", "b", "b", "b"), ("a", "a", "b", "b")):
        loss = TreeTriplet(tree)(features, torch.tensor([[value[name] for name in names]]))
        loss.backward()
        assert loss == 0
    target = torch.tensor([[value[name] for name in ("a1", "a2", "b", "b")]])
    assert torch.autograd.gradcheck(
        lambda x: _seeded(lambda: TreeTriplet(tree, most=1)(x, target)),
        (features.detach().double().requires_grad_(),),
        atol=1e-3,
        eps=1e-3,
    )


def _seeded(compute: Callable[[], torch.Tensor]) -> torch.Tensor:
    torch.manual_seed(0)
    return compute()
