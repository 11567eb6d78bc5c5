"""Strokes without a background: thresholds from validation, and whether hidden classes are noticed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.blobs import TINY, TREE, make
from hierseg.bundle import Bundle
from hierseg.cli import main
from hierseg.dataset import Dataset
from hierseg.engine import train
from hierseg.engine.hidden import hidden_values, hide
from hierseg.engine.thresholds import add_counts, threshold_of
from hierseg.errors import ConfigError, LabelTreeError
from hierseg.evaluation.out_of_distribution import separation
from hierseg.imageio import read_volume
from hierseg.inference import Predictor
from hierseg.inference.window import Probabilities
from standins import spectral
from standins.label_trees import tree_of

SPECTRAL: dict[str, Any] = {
    "method": "two_head",
    "iterations": 40,
    "batch_size": 4,
    "patch_size": [32, 32],
    "width": 8,
    "learning_rate": 0.05,
    "normalization": {"type": "none"},
    "losses": {"marginal": 1.0},
    "augmentation": {"flip_axes": [0, 1], "affine_probability": 0, "intensity_probability": 0},
    "validation": {"interval": 0},
}


@pytest.fixture(scope="session")
def spectra(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return spectral.make_spectral(tmp_path_factory.mktemp("spectral") / "data")


@pytest.fixture(scope="session")
def trained(spectra: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on the spectral data by the public command."""
    folder = tmp_path_factory.mktemp("spectral-run")
    settings = folder / "settings.yaml"
    settings.write_text(json.dumps(SPECTRAL), encoding="utf-8")
    words = ["train", str(spectra.folder), "--out", str(folder / "run"), "--config", str(settings), "--quiet"]
    assert main([*words, "--device", "cpu", "--threads", "1"]) == 0
    return folder / "run"


# -- thresholds ----------------------------------------------------------------------------------------------------


def test_a_threshold_lets_the_wanted_share_pass() -> None:
    count = np.zeros(10, dtype=np.int64)
    count[[2, 5, 9]] = (1, 4, 15)
    assert threshold_of(count, 0.95) == 0.5
    assert threshold_of(count, 0.96) == 0.2
    assert threshold_of(count, 0.75) == 0.9
    assert threshold_of(count, 1.0) == 0.2
    assert threshold_of(count, 0.0) == 0.9


def test_the_probability_of_each_voxel_s_own_node_is_counted() -> None:
    tree = tree_of({"tissue": {"normal": {}, "abnormal": {}}, "tool": {}})
    superclass = torch.tensor([[0.65, 0.25, 0.55], [0.35, 0.75, 0.45]]).view(2, 3, 1, 1)
    leaf = torch.tensor([[0.15, 0.1, 0.5], [0.45, 0.1, 0.1], [0.4, 0.8, 0.4]]).view(3, 3, 1, 1)
    value = {node.name: node.value for node in tree.nodes}
    label = np.array([value["abnormal"], value["tool"], value["tissue"]]).reshape(3, 1, 1)
    counts = {node.name: np.zeros(10000, dtype=np.int64) for node in tree.nodes}
    add_counts(counts, Probabilities(superclass, leaf), label, tree)

    def seen(name: str) -> list[float]:
        return (np.flatnonzero(counts[name]) / 10000).tolist()

    assert seen("tissue") == pytest.approx([0.55, 0.65], abs=2e-4)  # the superclass output's, coarse voxels too
    assert seen("abnormal") == pytest.approx([0.45], abs=2e-4)
    assert seen("tool") == pytest.approx([0.75], abs=2e-4)
    assert seen("normal") == []


def test_a_tree_without_background_gets_thresholds_and_a_voxel_may_be_none_of_them(
    trained: Path, spectra: Dataset
) -> None:
    bundle = Bundle.open(trained / "bundle")
    limits = bundle.config["thresholds"]
    assert set(limits) == {node.name for node in spectral.TREE.nodes}
    assert "95 % of its validation voxels" in bundle.card
    predictor = Predictor(bundle, device="cpu")
    shares = []
    noticed = 0
    for case in spectra.cases("validation"):
        seed = int(case.id.removeprefix("frame"))
        _, classes = spectral.scene(seed)
        label = spectral.strokes(classes, seed)
        found = predictor.predict([read_volume(path) for path in spectra.image_paths(case)]).labels[..., 0]
        unknown = classes == len(spectral.CLASSES)
        known = label != spectral.TREE.unlabelled
        shares.append((found[known] != spectral.TREE.unlabelled).mean())
        noticed += int((found[unknown] == spectral.TREE.unlabelled).sum())
    assert np.mean(shares) > 0.85  # nearly all strokes' voxels stay something
    values = set(np.unique(found).tolist())
    assert values <= {*spectral.TREE.values.tolist(), spectral.TREE.unlabelled}
    # Of what nobody annotated some is recognized as nothing of these.
    assert noticed > 0
    without = predictor.predict([read_volume(path) for path in spectra.image_paths(case)], thresholds={}).labels
    assert (without != spectral.TREE.unlabelled).all()


@pytest.mark.parametrize(
    ("wish", "some"), [("auto", False), ("always", True), ("never", False)], ids=["auto", "always", "never"]
)
def test_a_tree_with_background_gets_thresholds_on_request(tmp_path: Path, wish: str, some: bool) -> None:
    dataset = make(tmp_path / "blobs")
    settings = {**TINY, "iterations": 1, "validation": {"thresholds": wish}}
    result = train(dataset, tmp_path / "run", settings, threads=1, device="cpu")
    assert bool(Bundle.open(result.bundle).config["thresholds"]) == some


def test_nothing_to_choose_thresholds_on_is_said(tmp_path: Path) -> None:
    dataset = make(tmp_path / "blobs")
    settings = {**TINY, "iterations": 1, "validation": {"thresholds": "always", "fraction": 0}}
    result = train(dataset, tmp_path / "run", settings, threads=1, device="cpu")
    assert any("No thresholds were chosen" in note for note in result.notes)


# -- hidden classes ------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(
    known=st.lists(st.integers(0, 5), min_size=1, max_size=30),
    unknown=st.lists(st.integers(0, 5), min_size=1, max_size=30),
)
def test_area_and_false_positives_by_counting_pairs(known: list[int], unknown: list[int]) -> None:
    found = separation(np.array(known), np.array(unknown))
    pairs = [(a > b) + 0.5 * (a == b) for a in known for b in unknown]
    assert found.auroc == pytest.approx(np.mean(pairs))
    thresholds = [t for t in range(6) if np.mean([a >= t for a in known]) >= 0.95 - 1e-12]
    assert found.fpr95 == pytest.approx(np.mean([b >= max(thresholds) for b in unknown]))


def test_without_one_of_the_two_there_is_no_score() -> None:
    found = separation(np.array([0.5]), np.zeros(0))
    assert (found.auroc, found.fpr95, found.known, found.unknown) == (None, None, 1, 0)


def test_hidden_nodes_take_their_descendants_along() -> None:
    assert hidden_values(TREE, ["tumor"]) == [1, 2, 5]
    assert hide([1, 2])(np.array([0, 1, 5], dtype=np.uint8), 255).tolist() == [0, 255, 5]
    with pytest.raises(LabelTreeError, match="nose"):
        hidden_values(TREE, ["nose"])
    with pytest.raises(ConfigError, match="hides every leaf"):
        hidden_values(TREE, ["background", "tumor"])


def test_a_hidden_class_is_not_learned_and_its_voxels_are_told_apart(spectra: Dataset, tmp_path: Path) -> None:
    result = train(
        spectra, tmp_path / "run", {**SPECTRAL, "iterations": 25, "hold_out": ["vein"]}, threads=1, device="cpu"
    )
    found = result.out_of_distribution
    assert found is not None
    assert found.auroc is not None
    assert found.unknown > 0
    assert 0 <= found.auroc <= 1
    assert result.measurement is not None
    assert result.measurement.mean("vein") is None  # hidden from the scores as well
    assert "vein" not in Bundle.open(result.bundle).config["thresholds"]
    assert any("No training case shows 'vein'" in note for note in result.notes)
    events = [json.loads(line) for line in (tmp_path / "run" / "events.jsonl").read_text(encoding="utf-8").splitlines()]
    assert next(event for event in events if event["event"] == "out_of_distribution")["hidden"] == ["vein"]


def test_every_class_is_hidden_in_turn_and_what_is_done_is_not_done_again(
    spectra: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text(json.dumps({**SPECTRAL, "iterations": 2}), encoding="utf-8")
    words = [
        "train",
        str(spectra.folder),
        "--out",
        str(tmp_path / "runs"),
        "--config",
        str(settings),
        "--device",
        "cpu",
    ]
    words += ["--hold-out-each", "top", "--threads", "1"]
    capsys.readouterr()
    assert main([*words, "--json"]) == 0
    table = json.loads(capsys.readouterr().out)
    assert set(table["classes"]) == {"tissue", "vessel", "tool"}
    scores = [row["auroc"] for row in table["classes"].values()]
    assert table["mean"]["auroc"] == pytest.approx(np.mean(scores))
    before = (tmp_path / "runs" / "tool" / "last.pt").stat().st_mtime_ns
    assert main(words) == 0
    assert "AUROC" in capsys.readouterr().out
    assert (tmp_path / "runs" / "tool" / "last.pt").stat().st_mtime_ns == before
    assert main([*words, "--set", "hold_out=[tool]"]) == 2
    assert main([*words, "--resume"]) == 2
