"""``hierseg compare`` and the slices that a training holds out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from engine.blobs import TREE, blob, coarsen, save
from hierseg.bundle import Bundle
from hierseg.cli import main
from hierseg.data.heldout import HeldSlices, choose_slices
from hierseg.data.translation import translate
from hierseg.dataset import Dataset
from hierseg.labeltree import LabelTree
from standins.tiny_bundle import write_tiny_bundle


def strokes(seed: int, slices: list[int]) -> np.ndarray:
    """Subclasses in some slices along the second axis, their superclass elsewhere."""
    label = blob(seed)[1]
    sparse = coarsen(label)
    sparse[:, slices] = label[:, slices]
    return sparse


def test_whole_bands_of_strokes_are_held_out_and_every_subclass_stays() -> None:
    label = strokes(0, [8, 10, 12, 14, 16])
    held = choose_slices(label, TREE, 0.2)
    assert held is not None
    assert held.axis == 1
    assert len(held.indices) == 1, "one of five"
    place = held.indices[0]
    paint = {index: int(np.isin(label[:, index], (1, 2)).sum()) for index in (8, 10, 12, 14, 16)}
    assert paint[place] < max(paint.values()), "not the one with the most paint"
    shown, rest = held.only(label, 255), held.hide(label, 255)
    assert np.array_equal(shown[:, place], label[:, place])
    assert (shown[:, :place] == 255).all()
    assert (rest[:, place] == 255).all()
    assert {1, 2} <= set(np.unique(rest))
    assert HeldSlices.from_dict(json.loads(json.dumps(held.to_dict()))) == held


def test_strokes_beside_a_structure_that_was_taken_over() -> None:
    # One subclass fills every slice, the other was painted in five: only a painted slice is held out.
    label = blob(0)[1]
    label[label == 1] = 5
    label[:, [8, 10, 12, 14, 16]] = blob(0)[1][:, [8, 10, 12, 14, 16]]
    held = choose_slices(label, TREE, 0.2)
    assert held is not None
    assert held.axis == 1
    assert len(held.indices) == 1
    assert held.indices[0] in (8, 10, 12, 14, 16)


def test_a_whole_annotation_gives_thin_blocks_and_a_poor_one_gives_nothing() -> None:
    label = blob(0)[1]
    held = choose_slices(label, TREE, 0.2)
    assert held is not None
    places = np.flatnonzero((label > 0).any(axis=tuple(axis for axis in range(3) if axis != held.axis)))
    assert len(held.indices) <= 0.3 * len(places)
    assert set(held.indices) < set(places[1:-1].tolist())
    for value in (1, 2):
        slices = (label == value).any(axis=tuple(axis for axis in range(3) if axis != held.axis))
        assert slices[list(held.indices)].sum() <= slices.sum() / 2
    assert choose_slices(strokes(0, [12]), TREE, 0.2) is None
    assert choose_slices(strokes(0, [8, 16]), TREE, 0.2) is None
    assert choose_slices(coarsen(label), TREE, 0.2) is None


def test_what_another_tree_tells_apart_is_merged() -> None:
    coarse = LabelTree.from_dict(
        {"format_version": 1, "name": "coarse", "unlabelled": 255, "nodes": [{"name": "tumor", "value": 7}]}
    )
    assert translate(np.array([0, 1, 5, 255], np.uint8), TREE, coarse).tolist() == [255, 7, 7, 255]


@pytest.fixture
def models(tmp_path: Path) -> tuple[Bundle, Bundle]:
    """Two untrained models; the second does not know the subclasses' names of the first."""
    return write_tiny_bundle(tmp_path / "a"), write_tiny_bundle(tmp_path / "b", metadata={"name": "other"})


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    dataset = Dataset.create(tmp_path / "data", "data", ["MRI"], TREE)
    for seed in range(2):
        image, _label = blob(seed)
        save(dataset, f"case{seed}", image, strokes(seed, [8, 12, 16]), split="validation" if seed else "training")
    return dataset


def test_the_cases_for_validation_are_compared(
    models: tuple[Bundle, Bundle], data: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["compare", str(models[0].folder), str(models[1].folder), str(data.folder), "--device", "cpu"]
    assert main([*words, "--json", "--threads", "1"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["models"] == ["tiny@1.0.0", "other@1.0.0"]
    assert found["cases"] == ["case1"]
    assert found["lost"] == []
    for scores in found["nodes"].values():
        assert scores["points"] in (0.0, None)
    assert main([*words, "--cases", "case0", "case1"]) == 0
    assert "Dice on 2 cases: tiny@1.0.0, other@1.0.0" in capsys.readouterr().out


def test_what_a_run_held_out_is_compared(
    models: tuple[Bundle, Bundle], data: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["compare", str(models[0].folder), str(models[1].folder), str(data.folder), "--json", "--device", "cpu"]
    run = tmp_path / "run"
    assert main([*words, "--run", str(run)]) == 2
    assert "cannot be read there" in capsys.readouterr().err
    run.mkdir()
    record = {"validation": [], "held_slices": {"case0": {"axis": 1, "indices": [12]}}}
    (run / "dataset.json").write_text(json.dumps(record), encoding="utf-8")
    assert main([*words, "--run", str(run)]) == 0
    assert json.loads(capsys.readouterr().out)["held_slices"] == record["held_slices"]
    (run / "dataset.json").write_text(json.dumps({"validation": [], "held_slices": {}}), encoding="utf-8")
    assert main([*words, "--run", str(run)]) == 2
    assert "held nothing out" in capsys.readouterr().err


def test_nothing_to_compare_on_is_a_sentence(
    models: tuple[Bundle, Bundle], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = Dataset.create(tmp_path / "empty", "empty", ["MRI"], TREE)
    assert main(["compare", str(models[0].folder), str(models[1].folder), str(empty.folder)]) == 2
    assert "no annotated case in 'validation'" in capsys.readouterr().err
