"""Each method's terms against a computation by hand, and what its switches change."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from engine.blobs import TREE
from hierseg.data.batches import Batches
from hierseg.engine.config import TrainConfig
from hierseg.engine.optimization import set_training_mode
from hierseg.engine.setup import build_model
from hierseg.losses import TreeTriplet
from hierseg.methods import Method, build_method
from hierseg.methods.consistency import consistency_weight, ramp_up
from hierseg.methods.cps import cross_pseudo_loss, drawn_anew
from hierseg.methods.uamt import entropy, masked_distance
from hierseg.networks import HierarchicalSegmenter

CORE, EDEMA, TUMOR = 1, 2, 5


def prepared(made: Batches) -> tuple[HierarchicalSegmenter, Method]:
    model = build_model(made.config, TREE, 1)
    method = build_method(TREE, made.config)
    method.attach(model)
    return model.eval(), method.eval()


@torch.no_grad()
def make_sure(network: torch.nn.Module, image: torch.Tensor) -> None:
    """Scale a random network's output until it is sure of about half of the voxels."""
    for _ in range(100):
        if entropy(network(image).leaf_logits.softmax(dim=1)).median() < 0.52:
            return
        for name, parameter in network.named_parameters():
            if name.startswith(("heads.leaf", "heads.superclass")):
                parameter.mul_(1.05)
    raise AssertionError("the network stays unsure")


def cross_entropy_and_dice(p: torch.Tensor, label: torch.Tensor, values: list[int]) -> torch.Tensor:
    """½ CE + ½ Dice over the voxels that carry one of the values, written out."""
    columns = p.movedim(1, -1)[torch.isin(label, torch.tensor(values))]
    truth = torch.stack([label == value for value in values], dim=-1)[torch.isin(label, torch.tensor(values))].float()
    ce = -(truth * columns.log()).sum(dim=1).mean()
    overlap, sizes = (columns * truth).sum(dim=0), (columns.square() + truth.square()).sum(dim=0)
    dice = 1 - (2 * overlap + 1e-5) / (sizes + 1e-5)
    return 0.5 * ce + 0.5 * dice[truth.sum(dim=0) > 0].mean()


def test_u_net_is_cross_entropy_and_dice_of_the_leaves(batches: Callable[..., Batches]) -> None:
    made = batches(method="unet")
    model, method = prepared(made)
    batch = made[0]
    expected = cross_entropy_and_dice(model(batch.image).leaf_logits.softmax(dim=1), batch.label, [0, CORE, EDEMA])
    assert method.step(model, batch)["partial"].item() == pytest.approx(expected.item(), rel=1e-4)


@pytest.mark.parametrize("only", [True, False])
def test_l_f_of_fine_patches_or_of_all_leaves(batches: Callable[..., Batches], only: bool) -> None:
    made = batches(method="two_head", losses={"fine_patches_only": only})
    model, method = prepared(made)
    batch = made[0]
    rows = torch.tensor([0, 1] if only else [0, 1, 2, 3])
    p = model(batch.image).leaf_logits.softmax(dim=1)[rows]
    expected = cross_entropy_and_dice(p, batch.label[rows], [0, CORE, EDEMA])
    assert (batch.label[2:] == 0).any()
    assert method.step(model, batch)["partial"].item() == pytest.approx(expected.item(), rel=1e-4)


@pytest.mark.parametrize("balanced", [False, True])
def test_negative_learning_by_hand(batches: Callable[..., Batches], balanced: bool) -> None:
    made = batches(method="nl", losses={"negative": 2.0, "balanced_marginal": balanced})
    model, method = prepared(made)
    batch = made[0]
    coarse, fine = batch.coarse, torch.tensor([0, 1])
    assert coarse.tolist() == [2, 3]
    p = model(batch.image).leaf_logits.softmax(dim=1)
    label = batch.label[coarse]
    background, tumor = p[coarse, 0], p[coarse, 1] + p[coarse, 2]
    if balanced:
        expected = -background[label == 0].log().mean() - tumor[label == TUMOR].log().mean()
    else:
        outside = torch.where(
            label == TUMOR, -(1 - background).log(), -(1 - p[coarse, 1]).log() - (1 - p[coarse, 2]).log()
        )
        expected = outside[label != 255].mean()
    terms = method.step(model, batch)
    assert terms["negative"].item() == pytest.approx(2 * expected.item(), rel=1e-4)
    # The labelled half alone gives L_f: the coarse patches' background does not count twice.
    expected = cross_entropy_and_dice(p[fine], batch.label[fine], [0, CORE, EDEMA])
    assert terms["partial"].item() == pytest.approx(expected.item(), rel=1e-4)


def test_the_ramp_is_that_of_the_published_code() -> None:
    config = TrainConfig.from_dict({"iterations": 40000})
    for iteration in (0, 149, 150, 12345, 29999, 30000, 39999):
        t = min(iteration // 150, 200)
        assert consistency_weight(config, iteration) == pytest.approx(0.1 * math.exp(-5 * (1 - t / 200) ** 2))
    assert ramp_up(2.0) == 1.0
    flat = TrainConfig.from_dict({"consistency": {"ramp_up": 0, "weight": 0.3}})
    assert consistency_weight(flat, 0) == pytest.approx(0.3)


def test_cross_pseudo_supervision_by_hand(batches: Callable[..., Batches]) -> None:
    made = batches(method="cps", consistency={"ramp_up": 0, "weight": 0.4})
    model, method = prepared(made)
    batch = made[0]
    outputs = [model(batch.image), method.helpers["other"](batch.image)]
    terms = method.step(model, batch)
    logits = [output.leaf_logits[batch.coarse] for output in outputs]
    p = [one.softmax(dim=1) for one in logits]
    expected = torch.zeros(())
    for mine, other in ((p[0], p[1]), (p[1], p[0])):
        chosen = other.argmax(dim=1)
        expected = expected - mine.gather(1, chosen.unsqueeze(1)).log().mean()
    assert terms["cross"].item() == pytest.approx(0.4 * expected.item(), rel=1e-4)
    # Half of L_c + L_f for each of the two.
    halves = [method.supervised(output, batch) for output in outputs]
    for name in ("superclass", "partial"):
        assert terms[name].item() == pytest.approx(0.5 * (halves[0][name] + halves[1][name]).item(), rel=1e-5)
    assert cross_pseudo_loss(logits[0][:0], logits[1][:0]) == 0


def test_pseudo_labels_teach_both_networks_and_get_no_gradient() -> None:
    one, other = (torch.randn(1, 3, 4, requires_grad=True) for _ in range(2))
    loss = cross_pseudo_loss(one, other)
    (gradient,) = torch.autograd.grad(F.cross_entropy(one, other.detach().argmax(dim=1)), one, retain_graph=True)
    loss.backward()
    assert torch.allclose(one.grad, gradient)
    assert other.grad is not None


def test_the_second_network_is_another_one_and_the_same_in_every_run() -> None:
    config = TrainConfig.from_dict({"patch_size": [32, 16, 16], "width": 4})
    model = build_model(config, TREE, 1)
    torch.manual_seed(5)
    before = torch.rand(1)
    torch.manual_seed(5)
    one = drawn_anew(model, 7)
    assert torch.equal(torch.rand(1), before)  # nothing else is drawn differently
    same, another = drawn_anew(model, 7), drawn_anew(model, 8)
    weights = [dict(network.named_parameters()) for network in (one, same, another, model)]
    name = next(name for name, tensor in weights[0].items() if tensor.ndim == 5)
    assert torch.equal(weights[0][name], weights[1][name])
    assert not torch.equal(weights[0][name], weights[2][name])
    assert not torch.equal(weights[0][name], weights[3][name])


def test_mean_teacher_by_hand(batches: Callable[..., Batches]) -> None:
    """Without noise and dropout all passes are alike, and the whole term can be written out."""
    made = batches(method="uamt", consistency={"ramp_up": 0, "weight": 0.5, "noise": 0.0, "passes": 3})
    model, method = prepared(made)
    teacher = method.helpers["teacher"]
    batch = made[0]
    make_sure(teacher, batch.image[batch.coarse])
    now = model(batch.image).leaf_logits[batch.coarse].softmax(dim=1)
    wanted = teacher(batch.image[batch.coarse]).leaf_logits.softmax(dim=1).detach()
    uncertainty = -(wanted * (wanted + 1e-6).log()).sum(dim=1)
    mask = uncertainty < (0.75 + 0.25 * math.exp(-5.0)) * math.log(2)
    assert 0 < mask.float().mean() < 1
    squares = (now - wanted).square().sum(dim=1)
    expected = 0.5 * squares[mask].sum() / (2 * mask.sum())
    assert method.step(model, batch)["teacher"].item() == pytest.approx(expected.item(), rel=1e-4)
    assert method.observed["sure_share"].item() == pytest.approx(mask.float().mean().item())


def test_parts_of_the_teacher_term() -> None:
    assert entropy(torch.tensor([[0.5, 0.5]])).item() == pytest.approx(math.log(2), abs=1e-5)
    assert entropy(torch.tensor([[1.0, 0.0]])).item() == pytest.approx(0.0, abs=1e-5)
    now, wanted = torch.tensor([[[1.0, 0.2], [0.0, 0.8]]]), torch.tensor([[[0.5, 0.2], [0.5, 0.8]]])
    assert masked_distance(now, wanted, torch.tensor([[[True, True]]])).item() == pytest.approx(0.5 / 4)
    assert masked_distance(now, wanted, torch.tensor([[[True, False]]])).item() == pytest.approx(0.5 / 2)
    assert masked_distance(now, wanted, torch.zeros(1, 1, 2, dtype=torch.bool)) == 0


def test_dropout_and_noise_make_the_teacher_unsure(batches: Callable[..., Batches]) -> None:
    """The mean of passes that differ has a larger entropy than one pass."""
    image = batches()[0].image
    found = []
    for noise, dropout in ((0.0, 0.0), (2.0, 0.0), (0.0, 0.5)):
        made = batches(method="uamt", consistency={"noise": noise}, trunk_arguments={"dropout": dropout})
        _, method = prepared(made)
        method.helpers["teacher"].train()
        passes: Any = method
        torch.manual_seed(0)
        one = passes._noisy_pass(image)
        same = torch.equal(one, passes._noisy_pass(image))
        found.append(same)
        assert bool(method.notes) == (dropout == 0.0)
    assert found == [True, False, False]


def test_the_teacher_is_a_moving_average_of_the_weights(batches: Callable[..., Batches]) -> None:
    made = batches(method="uamt", consistency={"decay": 0.9})
    model, method = prepared(made)
    teacher = method.helpers["teacher"]
    name = "heads.superclass.0.bias"
    with torch.no_grad():
        model.get_parameter(name).fill_(1.0)
        teacher.get_parameter(name).fill_(0.0)
    method.after_step(model, 3)  # 1 − 1/4 is below the decay
    assert teacher.get_parameter(name).item() == pytest.approx(0.25)
    method.after_step(model, 999)
    assert teacher.get_parameter(name).item() == pytest.approx(0.25 * 0.9 + 0.1)
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    # Statistics are the teacher's own.
    before = teacher.get_buffer("heads.branches.0.0.running_mean").clone()
    model.get_buffer("heads.branches.0.0.running_mean").add_(1.0)
    method.after_step(model, 0)
    assert torch.equal(teacher.get_buffer("heads.branches.0.0.running_mean"), before)
    set_training_mode(teacher, made.config)  # type: ignore[arg-type]
    assert teacher.training


SWITCHES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("ess", {"mix": {"mode": "full", "tau_start": 0.0}}, {"mix": {"mode": "mixup", "tau_start": 0.0}}),
    ("ess", {"mix": {"mode": "full", "tau_start": 0.0}}, {"mix": {"mode": "pseudo", "tau_start": 0.0}}),
    ("ess", {"mix": {"mode": "mixup"}}, {"mix": {"mode": "off"}}),
    ("ess", {"prior_concatenation": True}, {"prior_concatenation": False}),
    ("ess", {"separate_normalization": True}, {"separate_normalization": False}),
    ("nl", {"losses": {"balanced_marginal": False}}, {"losses": {"balanced_marginal": True}}),
    ("regions", {"losses": {"shared_ignore": False}}, {"losses": {"shared_ignore": True}}),
    ("cps", {"consistency": {"weight": 0.0}}, {"consistency": {"weight": 1.0, "ramp_up": 0}}),
    ("uamt", {"consistency": {"weight": 0.0}}, {"consistency": {"weight": 1.0, "ramp_up": 0}}),
    ("two_head", {"losses": {"cross_entropy": 0.5}}, {"losses": {"cross_entropy": 1.0}}),
    ("two_head", {"losses": {"fine_patches_only": False}}, {"losses": {"fine_patches_only": True}}),
    ("two_head", {"losses": {"dice": 0.5}}, {"losses": {"dice": 0.0}}),
    ("two_head", {}, {"losses": {"wasserstein": 1.0}}),
    ("two_head", {}, {"losses": {"tree_cross_entropy": 1.0}}),
    ("two_head", {"losses": {"tree_cross_entropy": 1.0}}, {"losses": {"tree_cross_entropy": 1.0, "level_weights": [5.0, 1.0]}}),
    ("two_head", {}, {"losses": {"node_dice": 1.0}}),
    ("ess", {}, {"losses": {"triplet": 1.0}}),
    ("unet", {}, {"losses": {"marginal": 1.0}}),
    ("two_head", {}, {"head": "path_softmax"}),
    ("two_head", {}, {"head": "leaf"}),
]  # fmt: skip


@pytest.mark.parametrize(("method", "one", "other"), SWITCHES)
def test_a_switch_changes_what_is_computed(
    batches: Callable[..., Batches], method: str, one: dict[str, Any], other: dict[str, Any]
) -> None:
    totals = []
    for settings in (one, other):
        made = batches(method=method, **settings)
        model, chosen = prepared(made)
        # Mixing changes what the batch is made of; all else is the same.
        torch.manual_seed(0)
        batch = made[0]
        if method == "unet":
            batch = batches(method="two_head")[0]
        if method == "uamt":
            make_sure(chosen.helpers["teacher"], batch.image[batch.coarse])
        batch = dataclasses.replace(batch, iteration=5)  # weights that rise are 0 at first
        totals.append(torch.stack(list(chosen.step(model.train(), batch).values())).sum().item())
    assert totals[0] != totals[1]
    assert all(math.isfinite(total) for total in totals)


def test_the_triplet_term_looks_at_the_trunk_s_features_and_rises(batches: Callable[..., Batches]) -> None:
    made = batches(method="two_head", losses={"triplet": 0.5})
    model, method = prepared(made)
    batch = made[0]
    found = []
    for iteration in (0, 5, 10):
        torch.manual_seed(0)
        found.append(method.step(model, dataclasses.replace(batch, iteration=iteration))["triplet"])
    torch.manual_seed(0)
    whole = TreeTriplet(TREE)(model.trunk(batch.image), batch.label)
    assert [term.item() for term in found] == pytest.approx([0.0, 0.25 * whole.item(), 0.5 * whole.item()], rel=1e-4)
    found[2].backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.trunk.parameters())
    assert not model.trunk._forward_hooks
