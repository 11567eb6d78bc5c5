"""What the architecture promises of every loss: shapes, masking, precision, gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hierseg.errors import ConfigError
from hierseg.labeltree import LabelTree
from hierseg.losses import (
    MarginalCrossEntropy,
    NegativeLearning,
    NodeDice,
    PartialCrossEntropyDice,
    SplitCrossEntropy,
    TreeCrossEntropy,
    TreeWasserstein,
)
from standins.label_trees import random_map, trees

CLASSES = [
    PartialCrossEntropyDice,
    MarginalCrossEntropy,
    SplitCrossEntropy,
    TreeWasserstein,
    TreeCrossEntropy,
    NegativeLearning,
    NodeDice,
]


@pytest.mark.parametrize("shape", [(2, 5, 6), (1, 3, 4, 5)], ids=["2D", "3D"])
def test_a_scalar_with_gradient_in_2d_and_3d(loss_of: Any, deep: LabelTree, batch: Any, shape: tuple[int, ...]) -> None:
    logits, target = batch(deep, shape)
    loss = loss_of(deep)(logits, target)
    loss.backward()
    assert loss.shape == ()
    assert loss > 0
    assert logits.grad.abs().sum() > 0


def test_unlabelled_voxels_change_nothing_and_get_no_gradient(loss_of: Any, deep: LabelTree, batch: Any) -> None:
    logits, target = batch(deep)
    loss = loss_of(deep)
    before = loss(logits, target)
    before.backward()
    hidden = (target == deep.unlabelled).unsqueeze(1).expand_as(logits)
    assert hidden.any()
    assert logits.grad[hidden].abs().max() == 0
    changed = torch.where(hidden, 50.0 * torch.randn_like(logits), logits)
    assert torch.allclose(loss(changed, target), before)


def test_nothing_labelled_gives_zero_and_finite_gradients(loss_of: Any, deep: LabelTree, batch: Any) -> None:
    logits, target = batch(deep)
    loss = loss_of(deep)(logits, torch.full_like(target, deep.unlabelled))
    loss.backward()
    assert loss == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_gradients_are_the_derivatives(loss_of: Any, deep: LabelTree, batch: Any) -> None:
    logits, target = batch(deep, (2, 3, 2))
    loss = loss_of(deep)
    assert torch.autograd.gradcheck(lambda x: loss(x, target), (logits,))


def test_a_constant_added_to_all_logits_changes_nothing(loss_of: Any, deep: LabelTree, batch: Any) -> None:
    logits, target = batch(deep)
    loss = loss_of(deep)
    assert torch.allclose(loss(logits, target), loss(logits + 7.0, target))


@pytest.mark.parametrize("size", [1e3, 1e4])
def test_huge_logits_stay_finite(loss_of: Any, deep: LabelTree, batch: Any, size: float) -> None:
    logits, target = batch(deep)
    single = (size * logits.detach()).float().requires_grad_()
    loss = loss_of(deep)(single, target)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(single.grad).all()


def test_computed_in_single_precision_under_autocast(loss_of: Any, deep: LabelTree, batch: Any) -> None:
    logits, target = batch(deep)
    low = logits.detach().to(torch.bfloat16)
    loss = loss_of(deep)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = loss(low, target)
    assert inside.dtype == torch.float32
    assert torch.allclose(inside, loss(low.float(), target))


def test_the_order_of_the_file_is_the_order_of_the_channels(loss_of: Any, deep: LabelTree, batch: Any) -> None:
    """The same tree, listed backwards, with the channels reordered: the same loss."""
    content = deep.to_dict()
    backwards = LabelTree.from_dict({**content, "nodes": content["nodes"][::-1]})
    order = [deep.leaves.index(leaf) for leaf in backwards.leaves]
    assert order != sorted(order)
    logits, target = batch(deep)
    assert torch.allclose(loss_of(backwards)(logits[:, order], target), loss_of(deep)(logits, target))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_integer_types_give_the_same_loss(loss_of: Any, deep: LabelTree, batch: Any, dtype: torch.dtype) -> None:
    logits, target = batch(deep)
    assert torch.equal(loss_of(deep)(logits, target.to(dtype)), loss_of(deep)(logits, target))


def test_a_foreign_value_counts_as_unlabelled(loss_of: Any, deep: LabelTree, batch: Any) -> None:
    logits, target = batch(deep)
    unlabelled = target == deep.unlabelled
    loss = loss_of(deep)
    for foreign in (77, 65535, 100000, -1, -5):
        assert torch.equal(loss(logits, torch.where(unlabelled, foreign, target)), loss(logits, target))


def test_shapes_that_do_not_fit_are_refused(loss_of: Any, deep: LabelTree, batch: Any) -> None:
    logits, target = batch(deep)
    loss = loss_of(deep)
    with pytest.raises(ConfigError, match=r"needs \(B, 5, \.\.\.\)"):
        loss(logits[:, :3], target)
    with pytest.raises(ConfigError, match="target"):
        loss(logits, target[:, :2])
    with pytest.raises(ConfigError, match="target"):
        loss(logits, target.double())


def test_tables_are_not_part_of_the_state(loss_of: Any, deep: LabelTree) -> None:
    loss = loss_of(deep)
    assert not loss.state_dict()
    assert {name for name, _ in loss.named_buffers()} >= {"node_index", "leaf_index", "membership"}


@settings(max_examples=25, deadline=None)
@given(tree=trees(), seed=st.integers(0, 2**32 - 1))
def test_any_tree_gives_a_finite_loss_and_gradient(tree: LabelTree, seed: int) -> None:
    rng = np.random.default_rng(seed)
    target = torch.from_numpy(random_map(tree, (2, 3, 3), rng))
    for loss_class in CLASSES:
        logits = torch.from_numpy(rng.standard_normal((2, len(tree.leaves), 3, 3))).requires_grad_()
        loss = loss_class(tree)(logits, target)
        loss.backward()
        assert loss >= 0
        assert torch.isfinite(logits.grad).all()
        # Nothing of a loss depends on logits' common part: gradients of a voxel sum to 0.
        assert logits.grad.sum(dim=1).abs().max() < 1e-9


@settings(max_examples=25, deadline=None)
@given(tree=trees(), seed=st.integers(0, 2**32 - 1))
def test_sure_and_right_costs_nothing(tree: LabelTree, seed: int) -> None:
    """All probability on one leaf under the voxel's node: no loss, whatever the tree."""
    rng = np.random.default_rng(seed)
    target = rng.choice(tree.values, size=(1, 4, 4))
    right = np.zeros((1, len(tree.leaves), 4, 4))
    for at in np.ndindex(4, 4):
        under = tree.leaves_under(tree.by_value(int(target[(0, *at)])))
        right[(0, tree.leaves.index(under[rng.integers(len(under))]), *at)] = 200.0
    logits = torch.from_numpy(right)
    for loss_class in CLASSES:
        assert loss_class(tree)(logits, torch.from_numpy(target)).abs() < 1e-6
