"""Fine-tuning as the Slicer module starts it: slices held out, the start model measured, only what was taught learns."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from engine.blobs import TREE, blob, coarsen, save
from hierseg import courtesy, resources
from hierseg.bundle import Bundle
from hierseg.dataset import Dataset
from hierseg.engine import train
from hierseg.engine.config import TrainConfig
from hierseg.engine.validation import Measurement
from hierseg.errors import TrainingError
from hierseg.labeltree import LabelTree
from hierseg.networks.weights import load_model
from standins.tiny_bundle import write_tiny_bundle

FEW: dict[str, Any] = {
    "iterations": 3,
    "batch_size": 1,
    "patch_size": [32, 16, 16],
    "freeze": "auto",
    "ema": 0.5,
    "losses": {"mix": 0.0, "split": 1.0, "keep": 1.0},
    "mix": {"mode": "off"},
    "validation": {"least_groups": 5, "slices": 0.3, "interval": 2},
}


@pytest.fixture
def start(tmp_path: Path) -> Bundle:
    return write_tiny_bundle(tmp_path / "start")


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    """One case with subclasses in five slices, under a tree with one subclass more than the model knows."""
    tree = TREE.to_dict()
    tree["nodes"] = [*tree["nodes"], {"name": "vessel", "value": 3}, {"name": "rim", "parent": "tumor", "value": 4}]
    dataset = Dataset.create(tmp_path / "data", "data", ["MRI"], LabelTree.from_dict(tree))
    image, label = blob(0)
    sparse = coarsen(label)
    for index in (8, 10, 12, 14, 16):
        sparse[:, index] = label[:, index]
        inside = np.argwhere(label[:, index] == 1)
        sparse[inside[0][0], index, inside[0][1]] = 4
    save(dataset, "only", image, sparse)
    return dataset


def events(run: Path, kind: str) -> list[dict[str, Any]]:
    lines = (run / "events.jsonl").read_text(encoding="utf-8").splitlines()
    return [event for line in lines if (event := json.loads(line))["event"] == kind]


def test_slices_are_held_out_and_the_start_model_is_measured_on_them(
    start: Bundle, data: Dataset, tmp_path: Path
) -> None:
    result = train(data, tmp_path / "run", FEW, init=start, threads=1, device="cpu")
    (begin,) = events(tmp_path / "run", "start")
    assert (begin["validation"], begin["held"]) == (0, "slices")
    (before,) = events(tmp_path / "run", "baseline")
    assert before["start"] == start.id
    assert before["scores"]["rim"] is None, "the start model does not know it"
    assert before["scores"]["tumor"] is not None
    after = events(tmp_path / "run", "validation")[-1]
    assert after["scores"]["rim"] is not None
    subclasses = [after["scores"][name] for name in ("core", "edema")]
    assert after["known"] == pytest.approx(sum(subclasses) / 2), "compared on what both models know"
    assert before["score"] == pytest.approx(sum(before["scores"][name] for name in ("core", "edema")) / 2)
    used = json.loads((tmp_path / "run" / "dataset.json").read_text(encoding="utf-8"))
    held = used["held_slices"]["only"]
    assert held["axis"] == 1
    assert set(held["indices"]) < {8, 10, 12, 14, 16}
    assert len(held["indices"]) == 2
    assert any("kept for measuring" in note for note in result.notes)
    assert not any("nothing is left" in note for note in result.notes)
    card = Bundle.open(result.bundle).card
    assert "annotated slices of 1 case (only)" in card
    assert f"| node | mean Dice | cases | {start.id} |" in card
    assert LabelTree.load(tmp_path / "run" / "label_tree.json") == data.tree


def test_slices_do_not_choose_between_weights_that_are_nearly_as_good(
    start: Bundle, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([0.50, 0.47, 0.40])

    def measured(model: Any, cache: Any, positions: Any, config: Any, iteration: int, **_more: Any) -> Measurement:
        return Measurement(iteration, {"only": {"core": next(scores) if iteration else 0.5}})

    monkeypatch.setattr("hierseg.engine.run.measure", measured)
    every = {**FEW, "validation": {**FEW["validation"], "interval": 1}}
    result = train(data, tmp_path / "run", every, init=start, threads=1, device="cpu")
    assert [event["best"] for event in events(tmp_path / "run", "validation")] == [True, True, False]
    assert result.measurement is not None
    assert result.measurement.iteration == 2


def test_only_what_was_taught_learns(start: Bundle, data: Dataset, tmp_path: Path) -> None:
    result = train(data, tmp_path / "run", FEW, init=start, threads=1, device="cpu")
    before, after = (load_model(one).state_dict() for one in (start, Bundle.open(result.bundle)))
    places = {node.name: index for index, node in enumerate(start.tree.top_level)}
    kept = [f"heads.branches.{places[name]}." for name in ("background", "vessel")]
    moved = f"heads.branches.{places['tumor']}."
    names = {node.name: index for index, node in enumerate(data.tree.top_level)}
    # Statistics of a layer that never saw a batch, as in this untrained model, are collected all the same.
    before = {name: old for name, old in before.items() if "running" not in name and "num_batches" not in name}
    for name, old in before.items():
        if name.startswith("trunk."):
            torch.testing.assert_close(after[name].float(), old.float(), atol=2e-3, rtol=2e-3)
        for branch, top in zip(kept, ("background", "vessel"), strict=True):
            if name.startswith(branch):
                new = after[name.replace(branch, f"heads.branches.{names[top]}.")]
                torch.testing.assert_close(new.float(), old.float(), atol=2e-3, rtol=2e-3)
    changed = [
        float((after[name.replace(moved, f"heads.branches.{names['tumor']}.")].float() - old.float()).abs().max())
        for name, old in before.items()
        if name.startswith(moved)
    ]
    assert max(changed) > 1e-4


def test_a_resumed_fine_tuning_needs_no_start_bundle(start: Bundle, data: Dataset, tmp_path: Path) -> None:
    train(data, tmp_path / "run", FEW, init=start, threads=1, device="cpu")
    before = json.loads((tmp_path / "run" / "dataset.json").read_text(encoding="utf-8"))["held_slices"]
    # The annotator went on in the meantime: what was held out stays the same.
    save(data, "only", blob(0)[0], blob(0)[1])
    result = train(data, tmp_path / "run", {**FEW, "iterations": 4}, resume=True, threads=1, device="cpu")
    assert result.iterations == 4
    assert json.loads((tmp_path / "run" / "dataset.json").read_text(encoding="utf-8"))["held_slices"] == before
    # The panel's "go on" gives the run's own command again, the start bundle included.
    more = {**FEW, "iterations": 5}
    assert train(data, tmp_path / "run", more, init=start, resume=True, threads=1, device="cpu").iterations == 5
    assert len(events(tmp_path / "run", "baseline")) == 1


def test_the_start_models_tree_can_be_kept(start: Bundle, data: Dataset, tmp_path: Path) -> None:
    result = train(data, tmp_path / "run", {**FEW, "tree": "start"}, init=start, threads=1, device="cpu")
    assert Bundle.open(result.bundle).tree == start.tree
    again = train(
        data, tmp_path / "run", {**FEW, "tree": "start", "iterations": 4}, resume=True, threads=1, device="cpu"
    )
    assert again.iterations == 4


def test_without_any_subclass_there_is_nothing_to_learn(start: Bundle, tmp_path: Path) -> None:
    coarse = Dataset.create(tmp_path / "coarse", "coarse", ["MRI"], TREE)
    save(coarse, "only", blob(0)[0], coarsen(blob(0)[1]))
    with pytest.raises(TrainingError, match="no case has a voxel that is labelled with a subclass"):
        train(coarse, tmp_path / "run", FEW, init=start, threads=1, device="cpu")


def test_the_presets_are_valid_and_replay_by_default() -> None:
    for name in ("quick", "standard", "thorough"):
        text = resources.path("configs", f"finetune-{name}").read_text(encoding="utf-8")
        config = TrainConfig.from_dict(yaml.safe_load(text))
        assert config.losses.keep > 0
        assert config.freeze == "auto"
        assert config.validation.slices > 0


def test_a_background_training_waits_for_a_prediction(
    start: Bundle, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HIERSEG_HOME", str(tmp_path / "home"))
    stages: list[str] = []
    with contextlib.ExitStack() as prediction:
        prediction.enter_context(courtesy.predicting())

        def watch(status: dict[str, Any]) -> None:
            stages.append(status["stage"])
            if status["stage"] == "waiting":
                assert status["iteration"] == 0, "it waits before it begins"
                prediction.close()

        result = train(
            data, tmp_path / "run", FEW, init=start, threads=1, device="cpu", background=True, progress=watch
        )
    assert result.state == "finished"
    assert stages.count("waiting") == 1


def test_background_work_gives_way_to_a_prediction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIERSEG_HOME", str(tmp_path))
    assert not courtesy.somebody_predicts()
    with courtesy.predicting():
        assert courtesy.somebody_predicts()
    assert not courtesy.somebody_predicts()
    left = tmp_path / "predicting" / "999999"
    left.mkdir(parents=True)
    assert not courtesy.somebody_predicts(), "a worker that was killed holds no lock"
    assert not left.exists()
