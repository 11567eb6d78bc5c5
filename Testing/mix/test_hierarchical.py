"""The HierarchicalMix loss: its target, its gradient, its schedule and its switches."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from hierseg.errors import ConfigError
from hierseg.mix import MODES, HierarchicalMix, mix_case
from hierseg.networks import HierarchicalSegmenter
from standins.label_trees import tree_of

TREE = tree_of({"background": {}, "tumor": {"core": {}, "edema": {}}})
BACKGROUND, TUMOR, CORE, EDEMA = (node.value for node in TREE.nodes)


def build(mode: str = "full", **arguments: Any) -> HierarchicalMix:
    return HierarchicalMix(TREE, 100, mode=mode, spacing=(1.0, 1.0), **{"threshold": (0.0, 0.0), **arguments})


@pytest.fixture
def model() -> HierarchicalSegmenter:
    torch.manual_seed(0)
    return HierarchicalSegmenter(TREE, 1, 2, width=4)


@pytest.fixture
def batch() -> tuple[torch.Tensor, ...]:
    """x, its map, x_mix, z and the weight, of two patches of 16 by 16."""
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(2):
        image, partner = rng.random((1, 16, 16)).astype(np.float32), rng.random((1, 16, 16)).astype(np.float32)
        node_map, partner_map = np.full((16, 16), BACKGROUND), np.full((16, 16), BACKGROUND)
        node_map[2:12, 3:14] = TUMOR
        partner_map[4:14, 2:9], partner_map[4:10, 2:9], partner_map[10:14, 2:6] = TUMOR, CORE, EDEMA
        mixed = mix_case(image, node_map, partner, partner_map, TREE, 0.75)
        rows.append((image, node_map, mixed.image, mixed.label, mixed.weight))
    return tuple(torch.from_numpy(np.stack(column)) for column in zip(*rows, strict=True))


def run(mix: HierarchicalMix, model: Any, batch: tuple[torch.Tensor, ...], iteration: int = 0, **arguments: Any) -> Any:
    return mix(model, *batch, iteration=iteration, rng=np.random.default_rng(1), **arguments)


@pytest.mark.parametrize("mode", ["full", "mixup", "pseudo"])
def test_the_gradient_flows_through_the_prediction(mode: str, model: HierarchicalSegmenter, batch: Any) -> None:
    """The published code of paper A computes this loss without gradient: it trains nothing."""
    result = run(build(mode), model, batch)
    assert result.loss.requires_grad
    result.loss.backward()
    assert model.heads.leaf[1].weight.grad.abs().sum() > 0
    assert next(model.trunk.parameters()).grad.abs().sum() > 0


def test_no_gradient_flows_through_the_pseudo_label(model: HierarchicalSegmenter, batch: Any) -> None:
    """The gradient is that of the same loss with the target held fixed."""
    model.eval()
    mix = build()
    run(mix, model, batch).loss.backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    targets: list[torch.Tensor] = []
    mix.criterion.register_forward_pre_hook(lambda _module, inputs: targets.append(inputs[1]))
    run(mix, model, batch)
    assert not targets[0].requires_grad
    model.zero_grad(set_to_none=True)
    build().criterion(model(batch[2]).leaf_logits, targets[0].clone()).backward()
    assert found.keys() == {name for name, p in model.named_parameters() if p.grad is not None}
    assert all(
        torch.allclose(found[name], p.grad, atol=1e-7) for name, p in model.named_parameters() if p.grad is not None
    )


def test_the_target_by_hand() -> None:
    pseudo = torch.tensor([[2, -1, 1, -1]])
    label = torch.tensor([[CORE, EDEMA, TREE.unlabelled, TREE.unlabelled]])
    weight = torch.tensor([[0.75, 0.75, 0.0, 0.0]])
    mix = build()
    both = [[0.0, 0.75, 0.25], [0.0, 0.0, 0.75], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]
    assert mix.target(pseudo, label, weight)[0].T.tolist() == both
    assert mix.target(None, label, weight)[0].T.tolist() == [[0.0, 0.75, 0.0], [0.0, 0.0, 0.75], [0.0] * 3, [0.0] * 3]
    assert mix.target(pseudo, None, None)[0].T.tolist() == [[0.0, 0.0, 1.0], [0.0] * 3, [0.0, 1.0, 0.0], [0.0] * 3]
    with pytest.raises(ConfigError):
        mix.target(None, None, None)


def test_agreeing_labels_add_up() -> None:
    target = build().target(torch.tensor([[1]]), torch.tensor([[CORE]]), torch.tensor([[0.75]]))
    assert target.flatten().tolist() == [0.0, 1.0, 0.0]


def test_outside_the_overlap_nothing_is_called_background(model: HierarchicalSegmenter, batch: Any) -> None:
    """The published code gives the weight α to "background" there, even inside the superclass."""
    _, node_map, _, label, weight = batch
    target = build().target(torch.full_like(node_map, -1), label, weight)
    tumor_outside = (node_map == TUMOR) & (weight == 0)
    assert tumor_outside.any()
    assert target.movedim(1, -1)[tumor_outside].abs().sum() == 0


def test_without_certainty_only_the_mixed_voxels_teach(model: HierarchicalSegmenter, batch: Any) -> None:
    result = run(build(threshold=(1.01, 1.01)), model.eval(), batch)
    assert result.pseudo_share == 0
    assert result.mixed_share > 0
    mixup = run(build("mixup"), model, batch)
    assert torch.allclose(result.loss, mixup.loss)


def test_pseudo_only_learns_from_the_unmixed_image(model: HierarchicalSegmenter, batch: Any) -> None:
    model.eval()
    changed = (*batch[:2], torch.randn_like(batch[2]), *batch[3:])
    assert torch.equal(run(build("pseudo"), model, batch).loss, run(build("pseudo"), model, changed).loss)
    assert torch.equal(run(build("pseudo"), model, batch).loss, run(build("pseudo"), model, batch[:2]).loss)
    assert not torch.equal(run(build(), model, batch).loss, run(build(), model, changed).loss)


def test_off_or_no_rows_cost_no_forward_pass(batch: Any) -> None:
    def forbidden(_: torch.Tensor) -> Any:
        raise AssertionError("the network was called")

    assert run(build("off"), forbidden, batch).loss == 0
    assert run(build("full"), forbidden, tuple(part[:0] for part in batch)).loss == 0


def test_nothing_to_learn_is_a_finite_zero(model: HierarchicalSegmenter, batch: Any) -> None:
    """No overlap and no pseudo label, as at the first iteration of a case without superclasses."""
    nothing = (*batch[:2], batch[0], torch.full_like(batch[3], TREE.unlabelled), torch.zeros_like(batch[4]))
    result = run(build(threshold=(1.0, 0.4)), model, nothing)
    result.loss.backward()
    assert result.loss == 0
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_known_logits_give_the_same_loss(model: HierarchicalSegmenter, batch: Any) -> None:
    model.eval()
    for mode in ("full", "pseudo"):
        logits = model(batch[0]).leaf_logits
        assert torch.allclose(
            run(build(mode), model, batch, leaf_logits=logits).loss, run(build(mode), model, batch).loss
        )


def test_tau_falls_linearly() -> None:
    mix = HierarchicalMix(TREE, 1000)
    assert [mix.threshold(i) for i in (0, 250, 500, 1000, 5000)] == pytest.approx([1.0, 0.85, 0.7, 0.4, 0.4])


def test_the_published_ramp_is_a_switch(model: HierarchicalSegmenter, batch: Any) -> None:
    ramped = build(ramp=True)
    assert [round(ramped.ramp_weight(i), 3) for i in (0, 1, 1000, 1001, 40000)] == [0.5, 0.731, 0.731, 0.881, 1.0]
    assert build().ramp_weight(0) == 1.0
    model.eval()
    assert run(ramped, model, batch).loss.item() == pytest.approx(0.5 * run(build(), model, batch).loss.item())


def test_the_same_generator_state_gives_the_same_loss(model: HierarchicalSegmenter, batch: Any) -> None:
    model.eval()
    assert run(build(threshold=(0.4, 0.4)), model, batch).loss == run(build(threshold=(0.4, 0.4)), model, batch).loss


def test_options_out_of_range_are_refused(model: HierarchicalSegmenter, batch: Any) -> None:
    with pytest.raises(ConfigError, match="choose one of full, mixup, pseudo, off"):
        build("blend")
    with pytest.raises(ConfigError, match="at least 1"):
        HierarchicalMix(TREE, 0)
    with pytest.raises(ConfigError, match="needs mixed images"):
        run(build("full"), model, batch[:2])
    assert set(MODES) == {"full", "mixup", "pseudo", "off"}


def test_three_dimensions() -> None:
    model = HierarchicalSegmenter(TREE, 1, 3, width=4)
    rng = np.random.default_rng(0)
    image, node_map = rng.random((1, 16, 16, 16)).astype(np.float32), np.full((16, 16, 16), TUMOR)
    partner_map = np.full((10, 12, 14), CORE)
    mixed = mix_case(image, node_map, rng.random((1, 10, 12, 14)), partner_map, TREE, 0.5)
    mix = HierarchicalMix(TREE, 10, spacing=(1.0, 1.0, 1.0), threshold=(0.0, 0.0))
    stacked = [
        torch.from_numpy(np.stack([array, array]))
        for array in (image, node_map, mixed.image, mixed.label, mixed.weight)
    ]
    result = run(mix, model, tuple(stacked))
    assert math.isfinite(result.loss.item())
    assert result.mixed_share == 1
