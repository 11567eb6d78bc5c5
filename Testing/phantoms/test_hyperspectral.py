"""Scenes in many bands: strokes that are right, a tree without a background, materials that are in no class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hierseg.cli import main
from hierseg.dataset import Dataset
from hierseg.imageio import read_volume
from hierseg.phantoms.hyperspectral import BANDS, LEAVES, UNLABELLED, HyperspectralPhantom, _spectra
from hierseg.phantoms.strokes import drawn
from hierseg.phantoms.writing import Request, draw_subject, make_phantom

SMALL = Request("hyperspectral", cases=2, test=1, seed=1, size=32)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("scenes") / "made"
    make_phantom(SMALL, out)
    return out


def test_training_scenes_have_strokes_and_test_scenes_their_dense_truth(scenes: Path) -> None:
    dataset = Dataset.open(scenes)
    assert len(dataset.channels) == BANDS
    for index, case in enumerate(dataset.cases()):
        truth = draw_subject(SMALL, index)[0].labels
        said = read_volume(dataset.label_path(case)).array
        known = said != UNLABELLED
        assert np.array_equal(said[known], truth[known]), "a stroke says what is there"
        if case.split == "test":
            assert np.array_equal(said, truth)
        else:
            assert 0.01 < known.mean() < 0.5
            assert set(np.unique(said[known])) == set(np.unique(truth[truth != UNLABELLED])), "each structure has one"


def test_dense_gives_training_scenes_their_truth(tmp_path: Path) -> None:
    out = tmp_path / "dense"
    words = ["phantom", "hyperspectral", "--cases", "1", "--size", "24", "--seed", "1", "--dense", "--out", str(out)]
    assert main(words) == 0
    dataset = Dataset.open(out)
    said = read_volume(dataset.label_path(dataset.cases()[0])).array
    assert np.array_equal(said, draw_subject(Request("hyperspectral", cases=1, seed=1, size=24), 0)[0].labels)


def test_the_tree_has_no_background_and_every_leaf_and_unknown_materials_occur() -> None:
    tree = HyperspectralPhantom().tree()
    assert all(not tree.is_leaf(node) for node in tree.top_level)
    assert len(tree.leaves) == len(LEAVES)
    labels = [draw_subject(Request("hyperspectral", cases=1, size=64), index)[0].labels for index in range(12)]
    assert set(np.unique(labels)) == {*tree.leaf_values.tolist(), UNLABELLED}
    assert 0.01 < np.mean(np.array(labels) == UNLABELLED) < 0.3


def test_members_of_a_group_are_nearer_to_each_other_than_groups_are() -> None:
    spectra = _spectra(0.5)
    means = spectra.reshape(4, 3, BANDS).mean(axis=1)
    within = np.linalg.norm(spectra.reshape(4, 3, BANDS) - means[:, None], axis=2).max()
    between = min(np.linalg.norm(a - b) for i, a in enumerate(means) for b in means[:i])
    assert within < 0.5 * between


def test_lamps_differ_between_scenes() -> None:
    colors = []
    for index in range(6):
        images = np.array(draw_subject(Request("hyperspectral", cases=1, size=32), index)[0].images, dtype=float)
        colors.append(images.mean(axis=(1, 2, 3)))
    assert np.std(colors, axis=0).mean() > 0.05 * np.mean(colors)


@settings(max_examples=25)
@given(seed=st.integers(0, 2**20), length=st.integers(1, 20), strokes=st.integers(1, 3))
def test_strokes_lie_inside_and_are_connected(seed: int, length: int, strokes: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, (6, 5, 2)).repeat(3, axis=0).repeat(3, axis=1).astype(np.uint8)
    labels[0, 0] = UNLABELLED
    said = drawn(labels, UNLABELLED, rng, strokes=strokes, length=length)
    known = said != UNLABELLED
    assert np.array_equal(said[known], labels[known])
    for index in range(2):
        for value in set(np.unique(labels[..., index])) - {UNLABELLED}:
            count = int(np.sum(said[..., index] == value))
            assert 1 <= count <= strokes * length


def test_it_trains_with_the_ordinary_command(scenes: Path, tmp_path: Path) -> None:
    """Bands are channels, scenes are slices; at the end there is a threshold for every node that validation shows."""
    words = ["train", str(scenes), "--out", str(tmp_path / "run"), "--quiet", "--device", "cpu", "--threads", "1"]
    for pair in (
        "method=nl",
        "iterations=2",
        "width=4",
        "batch_size=2",
        "patch_size=[32,32]",
        "losses.marginal=1",
        "validation.fraction=0.5",
    ):
        words += ["--set", pair]
    assert main(words) == 0
    assert "thresholds" in (tmp_path / "run" / "events.jsonl").read_text(encoding="utf-8")
