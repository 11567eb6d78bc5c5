"""Large inputs are worked on part by part: the same loss, the same gradient, and no second array of the logits' size."""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import pytest
import torch

from hierseg.cli import main
from hierseg.errors import ConfigError
from hierseg.labeltree import LabelTree
from hierseg.losses import PartialCrossEntropyDice, RegionLoss, base
from hierseg.losses.benchmark import LOSSES, layered_tree, measure_one


@pytest.fixture(params=[1, 7, 60], ids=["single planes", "odd parts", "samples"])
def small_parts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "PART", request.param)


def loss_and_gradient(loss: Any, logits: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    given = logits.detach().requires_grad_()
    found = 3.0 * loss(given, target)
    (gradient,) = torch.autograd.grad(found, given)
    return found.detach(), gradient


@pytest.mark.parametrize("shape", [(2, 5, 3), (3, 4, 2, 3)], ids=["2D", "3D"])
def test_parts_give_what_the_whole_gives(
    loss_of: Any, deep: LabelTree, batch: Any, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    logits, target = batch(deep, shape)
    loss = loss_of(deep)
    whole = loss_and_gradient(loss, logits, target)
    for part in (1, 7, 60):
        monkeypatch.setattr(base, "PART", part)
        for found, expected in zip(loss_and_gradient(loss, logits, target), whole, strict=True):
            assert torch.allclose(found, expected, atol=1e-12)


@pytest.mark.usefixtures("small_parts")
def test_gradients_of_parts_are_the_derivatives(loss_of: Any, deep: LabelTree, batch: Any) -> None:
    logits, target = batch(deep, (2, 3, 2))
    assert torch.autograd.gradcheck(lambda x: loss_of(deep)(x, target), (logits,))


def test_soft_targets_and_regions_in_parts(deep: LabelTree, batch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    logits, target = batch(deep, (2, 4, 3))
    soft = torch.rand(logits.shape, dtype=torch.float64) * (torch.rand(2, 1, 4, 3) > 0.4)
    nodes = torch.randn(2, len(deep.nodes), 4, 3, dtype=torch.float64)
    for loss, given, wanted in ((PartialCrossEntropyDice(deep), logits, soft), (RegionLoss(deep), nodes, target)):
        monkeypatch.setattr(base, "PART", 10**6)
        whole = loss_and_gradient(loss, given, wanted)
        monkeypatch.setattr(base, "PART", 20)
        for found, expected in zip(loss_and_gradient(loss, given, wanted), whole, strict=True):
            assert torch.allclose(found, expected, atol=1e-12)


def test_strides_of_the_logits_do_not_matter(deep: LabelTree, batch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    logits, target = batch(deep, (2, 4, 3, 5))
    monkeypatch.setattr(base, "PART", 10)
    loss = PartialCrossEntropyDice(deep)
    last = logits.detach().contiguous(memory_format=torch.channels_last_3d)
    for found, expected in zip(
        loss_and_gradient(loss, last, target), loss_and_gradient(loss, logits, target), strict=True
    ):
        assert torch.allclose(found, expected)


def test_a_backward_twice_gives_the_same(deep: LabelTree, batch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "PART", 10)
    logits, target = batch(deep)
    loss = PartialCrossEntropyDice(deep)(logits, target)
    (first,) = torch.autograd.grad(loss, logits, retain_graph=True)
    (second,) = torch.autograd.grad(2 * loss, logits)
    assert torch.allclose(2 * first, second)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process reset its largest memory")
@pytest.mark.may_skip("the memory is measured on Linux; the losses are the same everywhere")
def test_the_benchmark_sees_memory_that_a_loss_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """At 30 leaves and 64³ (31 MB of logits): in small parts next to nothing, at once several times the logits."""
    monkeypatch.setattr(base, "PART", 2**16)
    little = measure_one("marginal", 64, 30, "cpu", 0)["beyond_mb"]
    monkeypatch.setattr(base, "PART", 2**30)
    much = measure_one("marginal", 64, 30, "cpu", 0)["beyond_mb"]
    assert little is not None
    assert much is not None
    assert little < 31
    assert much > 60


def test_the_benchmark_runs_each_loss_by_itself(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in list(LOSSES)[1:]:
        monkeypatch.delitem(LOSSES, name)  # each takes seconds to start
    assert main(["bench", "losses", "--size", "8", "--leaves", "9", "--runs", "1", "--device", "cpu"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found["losses"]) == set(LOSSES)
    assert found["logits_mb"] == pytest.approx(4 * 9 * 8**3 / 1e6, abs=0.1)
    with pytest.raises(ConfigError, match="no loss 'hinge'"):
        measure_one("hinge", 8, 9, "cpu", 0)


def test_the_tree_of_the_benchmark_has_three_levels() -> None:
    tree = layered_tree(117)
    assert (len(tree.leaves), len(tree.top_level)) == (117, 4)
    assert {node.depth for node in tree.leaves} == {3}
    assert np.array_equal(np.sort(tree.leaf_values), np.arange(117))
