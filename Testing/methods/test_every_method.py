"""What holds for each method: it learns, through the public command, and stops and goes on bit for bit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.blobs import TINY, TREE
from hierseg.bundle import Bundle
from hierseg.cli import main
from hierseg.data.batches import Batches
from hierseg.dataset import Dataset
from hierseg.engine import train
from hierseg.engine.checkpoints import load_checkpoint
from hierseg.engine.config import TrainConfig
from hierseg.engine.optimization import build_optimizer
from hierseg.engine.settings import HEADS, METHODS
from hierseg.engine.setup import build_model
from hierseg.errors import ConfigError, TrainingError
from hierseg.methods import build_method
from hierseg.networks.arguments import HEADS as NETWORK_HEADS
from hierseg.networks.weights import load_model

TERMS = {
    "ess": {"superclass", "partial", "mix"},
    "two_head": {"superclass", "partial"},
    "unet": {"partial"},
    "nl": {"partial", "negative"},
    "cps": {"superclass", "partial", "cross"},
    "uamt": {"superclass", "partial", "teacher"},
    "regions": {"regions"},
    "salt": {"path", "node_dice"},
}


def test_the_list_is_that_of_the_settings() -> None:
    assert set(TERMS) == set(METHODS)
    assert HEADS == NETWORK_HEADS


@pytest.mark.parametrize("method", METHODS)
def test_the_loss_of_a_fixed_batch_goes_down(batches: Callable[..., Batches], method: str) -> None:
    made = batches(method=method, batch_size=4, learning_rate=0.05, mix={"tau_start": 0.0})
    model = build_model(made.config, TREE, 1).train()
    chosen = build_method(TREE, made.config)
    chosen.attach(model)
    optimizer = build_optimizer(model, made.config, others=chosen.learners)
    totals = []
    for step in range(12):
        torch.manual_seed(0)
        terms = chosen.step(model, made[0])
        assert set(terms) == TERMS[method]
        total = torch.stack([value for name, value in terms.items() if name not in ("cross", "teacher", "mix")]).sum()
        totals.append(total.item())
        optimizer.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        optimizer.step()
        chosen.after_step(model, step)
    assert totals[-1] < 0.9 * totals[0]


@pytest.mark.parametrize("method", METHODS)
def test_each_trains_on_a_phantom_by_the_command(
    hearts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], method: str
) -> None:
    out = tmp_path / "run"
    words = ["train", str(hearts), "--out", str(out), "--method", method, "--device", "cpu", "--threads", "1", "--json"]
    for pair in ("iterations=3", "patch_size=[32,16]", "width=4", "batch_size=4", "ema=0.5", "log_interval=1"):
        words += ["--set", pair]
    capsys.readouterr()
    assert main([*words, "--quiet"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["state"] == "finished"
    assert any("learns from subclasses alone" in note for note in result["notes"]) == (method == "unet")
    bundle = Bundle.open(out / "bundle")
    assert bundle.metadata["training"]["method"] == method
    # The published weights are the averaged ones of the one network, whatever else was trained beside it.
    best = load_checkpoint(out / "best.pt")["model"]
    loaded = load_model(bundle).state_dict()
    assert loaded.keys() == best.keys()
    assert all(torch.allclose(loaded[name].float(), best[name].float(), rtol=2e-3, atol=1e-4) for name in best)
    last = load_checkpoint(out / "last.pt")
    assert bool(last["helpers"]) == (method in ("cps", "uamt"))
    logged = [json.loads(line) for line in (out / "events.jsonl").read_text(encoding="utf-8").splitlines()]
    assert TERMS[method] <= next(event for event in logged if event["event"] == "losses").keys()


def stop_after(out: Path, iteration: int) -> Any:
    """A progress callback that asks the run to stop at an iteration."""

    def callback(status: dict[str, Any]) -> None:
        if status["iteration"] == iteration:
            (out / "stop").touch()

    return callback


@pytest.mark.parametrize("method", ["cps", "uamt", "nl"])
def test_two_networks_go_on_bit_for_bit(blobs: Dataset, tmp_path: Path, method: str) -> None:
    settings = {**TINY, "method": method, "ema": 0.9, "trunk_arguments": {"dropout": 0.2}}
    train(blobs, tmp_path / "whole", settings, threads=1, device="cpu")
    halves = tmp_path / "halves"
    train(blobs, halves, settings, progress=stop_after(halves, 3), threads=1, device="cpu")
    torch.manual_seed(99)
    train(blobs, halves, settings, resume=True, threads=1, device="cpu")
    first, second = load_checkpoint(tmp_path / "whole" / "last.pt"), load_checkpoint(halves / "last.pt")
    for part in ("model", "average", "helpers"):
        assert first[part].keys() == second[part].keys()
        assert all(torch.equal(tensor, second[part][name]) for name, tensor in first[part].items()), part
    momenta = [[state["momentum_buffer"] for state in one["optimizer"]["state"].values()] for one in (first, second)]
    assert all(torch.equal(one, other) for one, other in zip(*momenta, strict=True))
    if method == "cps":
        # Both networks have momentum, and they are not the same network.
        assert len(momenta[0]) == 2 * sum(1 for _ in load_model(Bundle.open(halves / "bundle")).parameters())
        assert not torch.equal(
            first["helpers"]["other.heads.superclass.0.bias"], first["model"]["heads.superclass.0.bias"]
        )


def test_a_run_keeps_its_method(blobs: Dataset, tmp_path: Path) -> None:
    settings = {**TINY, "iterations": 1, "method": "cps"}
    train(blobs, tmp_path / "run", settings, threads=1, device="cpu")
    with pytest.raises(ConfigError, match="begun with cps"):
        train(blobs, tmp_path / "run", {"method": "uamt", "iterations": 2}, resume=True, threads=1, device="cpu")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"method": "unet", "head": "two_heads"}, "two_head"),
        ({"method": "regions", "head": "leaf"}, "go together"),
        ({"method": "ess", "head": "regions"}, "go together"),
        ({"method": "cps", "freeze": "trunk"}, "begins with random weights"),
        ({"losses": {"cross_entropy": 0, "dice": 0}}, "both 0"),
        ({"losses": {"level_weights": [1, -1]}}, "0 or more"),
    ],
)
def test_settings_that_contradict_each_other(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        TrainConfig.from_dict(settings)


def test_a_u_net_refuses_data_without_subclasses(blobs: Dataset, tmp_path: Path) -> None:
    from engine.blobs import blob, coarsen, save

    coarse = Dataset.create(tmp_path / "coarse", "coarse", ["MRI"], TREE)
    for seed in range(2):
        save(coarse, f"case{seed}", blob(seed)[0], coarsen(blob(seed)[1]))
    with pytest.raises(TrainingError, match="'unet' learns from nothing else"):
        train(coarse, tmp_path / "run", {**TINY, "method": "unet"}, threads=1, device="cpu")


def test_a_u_net_never_sees_a_coarse_patch(batches: Callable[..., Batches]) -> None:
    made = batches(method="unet")
    for iteration in range(6):
        batch = made[iteration]
        assert len(batch.coarse) == 0
        assert set(batch.cases) <= {"case0", "case1", "case2"}
    assert len(batches(method="nl")[0].coarse) == 2
