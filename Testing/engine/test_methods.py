"""What the methods turn a batch into: terms, gradients, mixed patches, and knowledge that is kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.blobs import TREE
from hierseg.data.batches import Batch, Batches
from hierseg.data.caching import CaseCache
from hierseg.data.sampling import COARSE, TwoStreamSampler
from hierseg.dataset import Dataset
from hierseg.engine import train
from hierseg.engine.config import TrainConfig
from hierseg.engine.optimization import AveragedWeights, build_optimizer, set_learning_rate, set_training_mode
from hierseg.engine.setup import build_model, bundle_config
from hierseg.labeltree import LabelTree
from hierseg.methods import Geometry, build_method
from hierseg.methods.keeping import KnowledgeKeeping, common_groups
from hierseg.mix import mix_case
from hierseg.networks import HierarchicalSegmenter
from hierseg.networks.transfer import initialize_from

STILL = {"flip_axes": [], "affine_probability": 0, "intensity_probability": 0}
SMALL = {"patch_size": [32, 16, 16], "width": 4, "batch_size": 4, "iterations": 10}


def batches(dataset: Dataset, **settings: Any) -> Batches:
    config = TrainConfig.from_dict({**SMALL, "augmentation": STILL, **settings})
    cache = CaseCache(dataset, dataset.cases(), bundle_config(config, dataset.channels, None))
    cache.fill()
    sampler = TwoStreamSampler(cache.indices, cache.shapes, dataset.tree, config.batch_size, config.seed)
    return Batches(cache, sampler, config, dataset.tree)


def test_a_mixed_patch_is_the_crop_of_the_mixed_whole(blobs: Dataset) -> None:
    made = batches(blobs, mix={"alpha_low": 0.7, "alpha_high": 0.7}, patch_size=[16, 16, 32])
    blended = 0
    for iteration in range(6):
        batch = made[iteration]
        draws = made.sampler.draws(iteration)
        assert batch.rows.tolist() == [2, 3]
        for number, row in enumerate(batch.rows.tolist()):
            draw = draws[row]
            assert draw.stream == COARSE
            assert draw.partner is not None
            case, partner = made.cache[draw.case], made.cache[draw.partner]
            whole = mix_case(case.image, case.label, partner.image, partner.label, TREE, 0.7)
            places = np.argwhere(
                np.lib.stride_tricks.sliding_window_view(whole.image[0], (16, 16, 24)).reshape(9, 9, 1, -1)[..., 0]
                == batch.mixed_image[number, 0, 0, 0, 4].item()
            )
            assert any(
                np.array_equal(batch.mixed_image[number, 0, :, :, 4:28], whole.image[0, x : x + 16, y : y + 16])
                and np.array_equal(batch.mixed_label[number, :, :, 4:28], whole.label[x : x + 16, y : y + 16])
                and np.array_equal(batch.mixed_weight[number, :, :, 4:28], whole.weight[x : x + 16, y : y + 16])
                for x, y, _ in places
            )
            # The padding at both ends carries nothing.
            assert (batch.mixed_label[number, :, :, :4] == 255).all()
            assert (batch.mixed_weight[number, :, :, 28:] == 0).all()
            assert (batch.label[row, :, :, :4] == 255).all()
            blended += int((batch.mixed_weight[number] > 0).sum())
    assert blended > 0


def test_the_share_of_a_partner_is_drawn_anew_for_each_patch(blobs: Dataset) -> None:
    made = batches(blobs, patch_size=[32, 32, 32])
    mixed = [weight for iteration in range(40) for weight in made[iteration].mixed_weight if weight.any()]
    shares = [weight[weight > 0].unique().tolist() for weight in mixed]
    assert all(len(found) == 1 for found in shares), "one a patch"
    drawn = [found[0] for found in shares]
    # Paper A's bounds, which are the settings' defaults.
    assert 0.5 <= min(drawn) < 0.55
    assert 0.95 < max(drawn) <= 1.0


@pytest.mark.parametrize("settings", [{"mix": {"mode": "off"}}, {"method": "two_head"}, {"losses": {"mix": 0}}])
def test_nothing_is_mixed_when_mixing_is_off(blobs: Dataset, settings: dict[str, Any]) -> None:
    assert len(batches(blobs, **settings)[0].rows) == 0


@pytest.mark.parametrize("method", ["ess", "two_head"])
@pytest.mark.parametrize("separate", [True, False])
def test_every_weight_gets_a_gradient_and_the_terms_are_there(blobs: Dataset, method: str, separate: bool) -> None:
    made = batches(
        blobs, method=method, separate_normalization=separate, losses={"marginal": 0.5}, mix={"tau_start": 0.0}
    )
    model = build_model(made.config, TREE, 1).train()
    terms = build_method(TREE, made.config, None, Geometry((1.0,) * 3, 0)).step(model, made[0])
    assert set(terms) == {"superclass", "partial", "marginal"} | ({"mix"} if method == "ess" else set())
    assert all(term.isfinite() for term in terms.values())
    torch.stack(list(terms.values())).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
    heads = [parameter.grad for name, parameter in model.named_parameters() if "leaf" in name or "superclass" in name]
    assert all(gradient.abs().sum() > 0 for gradient in heads)


def test_a_batch_without_any_label_gives_finite_terms_and_no_gradient(blobs: Dataset) -> None:
    made = batches(blobs, losses={"marginal": 1})
    model = build_model(made.config, TREE, 1).train()
    given = made[0]
    empty = Batch(0, given.cases, given.image, torch.full_like(given.label, 255), given.rows[:0], *(tensor[:0] for tensor in (given.mixed_image, given.mixed_label, given.mixed_weight)))  # fmt: skip
    total = torch.stack(list(build_method(TREE, made.config).step(model, empty).values())).sum()
    assert total.item() == 0
    total.backward()
    assert all((parameter.grad == 0).all() for parameter in model.parameters() if parameter.grad is not None)


def test_the_marginal_term_weighs_all_labelled_voxels_alike(blobs: Dataset) -> None:
    """Averaged over the coarse voxels alone, it taught the leaf output to see their superclass everywhere."""
    made = batches(blobs, method="two_head", losses={"marginal": 1, "superclass": 0})
    model = build_model(made.config, TREE, 1).eval()
    method = build_method(TREE, made.config)
    batch = made[0]
    probability = model(batch.image).leaf_logits.softmax(dim=1)
    known = {node.value: probability[:, TREE.membership[index]].sum(dim=1) for index, node in enumerate(TREE.nodes)}
    values = torch.cat([share[batch.label == value] for value, share in known.items()])
    assert (batch.label == 5).any()
    assert (batch.label == 5).sum() < len(values)
    assert method.step(model, batch)["marginal"].item() == pytest.approx(-values.log().mean().item(), rel=1e-4)


# -- knowledge keeping ----------------------------------------------------------------------------------------------


def tree_of(*rows: tuple[str, str | None]) -> LabelTree:
    nodes = [
        {"name": name, "value": number} | ({"parent": parent} if parent else {})
        for number, (name, parent) in enumerate(rows)
    ]
    return LabelTree.from_dict({"format_version": 1, "name": "made", "unlabelled": 255, "nodes": nodes})


FLAT = tree_of(("background", None), ("tumor", None), ("vessel", None))
SPLIT = tree_of(("background", None), ("tumor", None), ("core", "tumor"), ("edema", "tumor"), ("vessel", None))


def test_groups_are_the_nodes_in_common() -> None:
    new, old = common_groups(SPLIT, FLAT)
    assert old.tolist() == [[True, False, False], [False, True, False], [False, False, True], [False, False, False]]
    assert new[:3].tolist() == [[True, False, False, False], [False, True, True, False], [False, False, False, True]]
    back_new, back_old = common_groups(FLAT, SPLIT)
    assert np.array_equal(back_new, old)
    assert np.array_equal(back_old, new)
    other_new, other_old = common_groups(tree_of(("background", None), ("bone", None)), FLAT)
    assert other_new.tolist() == [[True, False], [False, True]]
    assert other_old.tolist() == [[True, False, False], [False, True, True]]


def test_a_fresh_split_has_forgotten_nothing_and_a_change_costs() -> None:
    torch.manual_seed(0)
    start = HierarchicalSegmenter(FLAT, 1, 2, width=4).eval()
    model = HierarchicalSegmenter(SPLIT, 1, 2, width=4).eval()
    initialize_from(model, start.state_dict(), FLAT)
    keep = KnowledgeKeeping(SPLIT, start)
    image, label = torch.rand(2, 1, 32, 32), torch.full((2, 32, 32), 255)
    assert keep(model(image), image, label).item() == pytest.approx(0, abs=1e-5)
    with torch.no_grad():
        model.heads.leaf[1].bias[0] += 1.0  # divides tumor otherwise, and takes from the others too
        model.heads.superclass[2].bias += 1.0
    assert keep(model(image), image, label).item() > 1e-3
    assert keep(model(image), image, torch.zeros_like(label)).item() == 0  # every voxel carries a leaf
    assert not [name for name, _ in keep.named_parameters() if keep.get_parameter(name).requires_grad]
    keep.train()
    assert not keep.start.training


# -- what surrounds the step ----------------------------------------------------------------------------------------


def test_schedules() -> None:
    model = build_model(TrainConfig.from_dict(SMALL), TREE, 1)
    for schedule, expected in [
        ("linear", [0.1, 0.05, 0.01]),
        ("constant", [0.1, 0.1, 0.1]),
        ("poly", [0.1, 0.1 * 0.5**0.9, 0.1 * 0.1**0.9]),
    ]:
        config = TrainConfig.from_dict(
            {**SMALL, "schedule": schedule, "learning_rate": 0.1, "learning_rate_trunk": 0.5}
        )
        optimizer = build_optimizer(model, config)
        assert [set_learning_rate(optimizer, config, iteration) for iteration in (0, 5, 9)] == pytest.approx(expected)
        assert optimizer.param_groups[0]["lr"] == pytest.approx(0.5 * expected[-1])
    config = TrainConfig.from_dict({**SMALL, "schedule": "constant", "learning_rate": 0.1, "warmup": 3})
    assert [set_learning_rate(optimizer, config, iteration) for iteration in range(4)] == pytest.approx(
        [0.025, 0.05, 0.075, 0.1]
    )


def test_freezing() -> None:
    norms = [
        module
        for module in build_model(TrainConfig.from_dict(SMALL), TREE, 1).modules()
        if isinstance(module, torch.nn.BatchNorm3d)
    ]
    assert norms
    for freeze, trunk_learns, statistics_move in [("none", True, True), ("norm", True, False), ("trunk", False, True)]:
        config = TrainConfig.from_dict({**SMALL, "freeze": freeze})
        model = build_model(config, TREE, 1).train()
        model(torch.rand(2, 1, 32, 16, 16))
        optimizer = build_optimizer(model, config)
        set_training_mode(model, config)
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        output = model(torch.rand(2, 1, 32, 16, 16) * 3)
        (output.leaf_logits.square().mean() + output.superclass_logits.square().mean()).backward()
        optimizer.step()
        moved = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
        assert any(name.startswith("trunk") and name.endswith("weight") for name in moved) == trunk_learns
        assert any(name.startswith("heads") and "running" in name for name in moved) == statistics_move
        if freeze == "trunk":
            assert not [name for name in moved if name.startswith("trunk")]
    fresh = build_model(TrainConfig.from_dict(SMALL), TREE, 1)
    set_training_mode(fresh, TrainConfig.from_dict({**SMALL, "freeze": "norm"}))
    assert all(module.training for module in fresh.modules() if isinstance(module, torch.nn.BatchNorm3d))


def test_averaged_weights() -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(0.0)
    average = AveragedWeights(model, 0.5)
    with torch.no_grad():
        model.weight.fill_(1.0)
    average.update(model, 1000)
    assert average.model.weight.item() == pytest.approx(0.5)
    average.update(model, 0)  # early on, the average follows more quickly
    assert average.model.weight.item() == pytest.approx(0.95)


def test_a_small_training_learns(blobs: Dataset, tmp_path: Path) -> None:
    settings = {
        **SMALL,
        "iterations": 30,
        "batch_size": 2,
        "augmentation": STILL,
        "schedule": "constant",
        "log_interval": 10,
    }
    train(blobs, tmp_path / "run", {**settings, "validation": {"fraction": 0}}, threads=1, device="cpu")
    events = [json.loads(line) for line in (tmp_path / "run" / "events.jsonl").read_text(encoding="utf-8").splitlines()]
    losses = [event for event in events if event["event"] == "losses"]
    assert [event["iteration"] for event in losses] == [10, 20, 30]
    for term in ("superclass", "partial"):
        assert losses[2][term] < 0.8 * losses[0][term]
