"""``freeze: others``: a superclass gets subclasses, and every other one stays bit for bit what it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from engine.blobs import TINY, TREE, blob, save
from hierseg.bundle import Bundle
from hierseg.dataset import Dataset
from hierseg.engine import train
from hierseg.errors import ConfigError
from hierseg.labeltree import LabelTree
from hierseg.networks.weights import load_model

BASE = {**TINY, "iterations": 2, "mix": {"mode": "off"}, "validation": {"fraction": 0.0, "interval": 0}}
FROZEN = {**BASE, "iterations": 4, "freeze": "others", "losses": {"keep": 1.0}}


def split_core() -> LabelTree:
    content = TREE.to_dict()
    content["nodes"] += [
        {"name": "necrosis", "parent": "core", "value": 6},
        {"name": "rim", "parent": "core", "value": 7},
    ]
    return LabelTree.from_dict(content)


@pytest.fixture
def start(blobs: Dataset, tmp_path: Path) -> Bundle:
    return Bundle.open(train(blobs.folder, tmp_path / "start", BASE, threads=1).bundle)


@pytest.fixture
def refined(tmp_path: Path) -> Dataset:
    dataset = Dataset.create(tmp_path / "refined", "refined", ["MRI"], split_core())
    image, label = blob(0)
    label[(label == 1) & (np.arange(24) % 2 == 0)[:, None, None]] = 6
    label[label == 1] = 7
    save(dataset, "case", image, label)
    return dataset


def test_only_the_refined_superclass_learns(start: Bundle, refined: Dataset, tmp_path: Path) -> None:
    before = load_model(start)
    result = train(refined.folder, tmp_path / "run", FROZEN, init=start.folder, threads=1)
    after = load_model(Bundle.open(result.bundle))
    background, tumor = 0, 1
    old, new = before.state_dict(), after.state_dict()
    kept = [name for name in old if name.startswith(("trunk", "heads.branches.0.", "heads.superclass.0."))]
    assert len(kept) > 20
    assert all(torch.equal(old[name], new[name]) for name in kept)
    moved = [name for name in old if name.startswith(f"heads.branches.{tumor}.2")]
    assert moved
    assert not any(torch.equal(old[name], new[name]) for name in moved)
    image = torch.rand(1, 1, 16, 16, 16)
    with torch.no_grad():
        assert torch.equal(
            before(image).superclass_logits[:, background], after(image).superclass_logits[:, background]
        )


def test_resuming_knows_what_was_frozen(start: Bundle, refined: Dataset, tmp_path: Path) -> None:
    """Without ``keep`` the start model is needed for its tree alone."""
    settings = {**FROZEN, "losses": {"keep": 0.0}}
    whole = train(refined.folder, tmp_path / "whole", settings, init=start.folder, threads=1)
    (tmp_path / "part").mkdir()
    stopped: list[int] = []

    def stop(status: dict[str, object]) -> None:
        if status["iteration"] == 2 and not stopped:
            stopped.append(2)
            (tmp_path / "part" / "stop").touch()

    train(refined.folder, tmp_path / "part", settings, init=start.folder, threads=1, progress=stop)
    resumed = train(refined.folder, tmp_path / "part", settings, resume=True, threads=1)
    one, other = (load_model(Bundle.open(result.bundle)).state_dict() for result in (whole, resumed))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_what_cannot_be_frozen_is_explained(start: Bundle, blobs: Dataset, refined: Dataset, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="give one by --init"):
        train(refined.folder, tmp_path / "a", {**FROZEN, "losses": {"keep": 0.0}}, threads=1)
    with pytest.raises(ConfigError, match="label tree is that of the start model"):
        train(blobs.folder, tmp_path / "b", FROZEN, init=start.folder, threads=1)
