"""Too little memory, classes that nobody drew, losses that are no numbers: told, and nothing is lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.blobs import TINY, TREE, blob, save
from hierseg.bundle import Bundle
from hierseg.data.batches import Batch
from hierseg.dataset import Dataset
from hierseg.engine import train
from hierseg.engine.checkpoints import load_checkpoint
from hierseg.errors import TrainingError
from hierseg.methods.ess import EfficientSubclassSegmentation
from hierseg.methods.two_head import TwoHead

Step = Any


def narrow(step: Step, most: int, kind: type[Exception] = torch.OutOfMemoryError) -> Step:
    """A training step for which only so many patches fit into the memory."""

    def limited(self: Any, model: Any, batch: Batch) -> Any:
        if len(batch.cases) > most:
            raise kind("CUDA out of memory: tried to allocate 20.00 GiB")
        return step(self, model, batch)

    return limited


@pytest.mark.parametrize("kind", [torch.OutOfMemoryError, RuntimeError, MemoryError])
def test_a_batch_that_does_not_fit_is_divided_and_it_is_said(
    blobs: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    monkeypatch.setattr(EfficientSubclassSegmentation, "step", narrow(EfficientSubclassSegmentation.step, 1, kind))
    out = tmp_path / "run"
    result = train(blobs, out, {**TINY, "batch_size": 4, "iterations": 2}, threads=1, device="cpu")
    assert (result.state, result.iterations) == ("finished", 2)
    said = [note for note in result.notes if "too small" in note]
    assert [note.split(" adds up ")[1][:1] for note in said] == ["2", "4"]
    events = [json.loads(line) for line in (out / "events.jsonl").read_text(encoding="utf-8").splitlines()]
    assert sum("adds up" in event.get("message", "") for event in events) == 2
    assert "adds up 4 smaller batches" in Bundle.open(result.bundle).card
    assert load_checkpoint(out / "last.pt")["divided"] == 4


def test_one_patch_that_does_not_fit_ends_the_training_with_its_checkpoint(
    blobs: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EfficientSubclassSegmentation, "step", narrow(EfficientSubclassSegmentation.step, 0))
    with pytest.raises(TrainingError, match="one patch at a time; lower 'patch_size'"):
        train(blobs, tmp_path / "run", TINY, threads=1, device="cpu")
    assert load_checkpoint(tmp_path / "run" / "last.pt")["iteration"] == 0


def test_a_divided_run_is_resumed_divided_bit_for_bit(
    blobs: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TwoHead, "step", narrow(TwoHead.step, 2))
    settings = {**TINY, "method": "two_head", "batch_size": 4, "iterations": 4}
    train(blobs, tmp_path / "whole", settings, threads=1, device="cpu")
    out = tmp_path / "halves"

    def stop(status: dict[str, Any]) -> None:
        if status["iteration"] == 2:
            (out / "stop").touch()

    train(blobs, out, settings, progress=stop, threads=1, device="cpu")
    monkeypatch.undo()  # there is memory again, and the run goes on as it was
    train(blobs, out, settings, resume=True, threads=1, device="cpu")
    first, second = (load_checkpoint(folder / "last.pt")["model"] for folder in (tmp_path / "whole", out))
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def test_parts_of_a_batch_have_fine_and_coarse_patches_in_turn() -> None:
    size = 5
    batch = Batch(
        0,
        tuple("abcde"),
        torch.arange(size).float().view(size, 1, 1),
        torch.arange(size).view(size, 1),
        rows=torch.tensor([3, 4]),
        mixed_image=torch.tensor([30.0, 40.0]).view(2, 1, 1),
        mixed_label=torch.tensor([30, 40]).view(2, 1),
        mixed_weight=torch.tensor([0.3, 0.4]).view(2, 1),
        coarse=torch.tensor([2, 3, 4]),
    )
    assert batch.split(1) == [batch]
    parts = batch.split(2)
    assert [part.cases for part in parts] == [("a", "c", "e"), ("b", "d")]
    assert [part.image.flatten().tolist() for part in parts] == [[0, 2, 4], [1, 3]]
    assert [part.coarse.tolist() for part in parts] == [[1, 2], [1]]
    assert [part.rows.tolist() for part in parts] == [[2], [1]]
    assert [part.mixed_label.flatten().tolist() for part in parts] == [[40], [30]]
    assert len(batch.split(99)) == size


def test_a_class_that_nobody_drew_is_named_and_stays_in_the_tables(tmp_path: Path) -> None:
    dataset = Dataset.create(tmp_path / "data", "no edema", ["MRI"], TREE)
    for seed in range(3):
        image, label = blob(seed)
        save(dataset, f"case{seed}", image, np.where(label == 2, 5, label).astype(np.uint8))
    image, label = blob(7)
    save(dataset, "complete", image, label, split="validation")
    result = train(dataset, tmp_path / "run", {**TINY, "iterations": 1}, threads=1, device="cpu")
    assert any("No training case shows 'edema'" in note for note in result.notes)
    assert result.measurement is not None
    # The reference shows it, so its score counts, low as it is.
    assert result.measurement.mean("edema") is not None
    assert "| tumor/edema |" in Bundle.open(result.bundle).card
