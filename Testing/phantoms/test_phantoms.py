"""Phantoms: the same bytes for the same seed, truth inside the tree, and subclasses that intensity alone cannot tell."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hierseg.data.translation import coarsened
from hierseg.dataset import Dataset
from hierseg.errors import ConfigError, DatasetError
from hierseg.imageio import read_volume
from hierseg.labeltree import LabelTree
from hierseg.phantoms.writing import PHANTOMS, Request, Sparse, draw_subject, make_phantom

KINDS = sorted(PHANTOMS)
DENSE = [kind for kind in KINDS if not isinstance(PHANTOMS[kind], Sparse)]


def tree_of(kind: str) -> LabelTree:
    return PHANTOMS[kind].tree()


def content(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below the folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("kind", KINDS)
def test_same_seed_gives_same_bytes(kind: str, tmp_path: Path) -> None:
    request = Request(kind, cases=2, fine=1, test=1, seed=3, size=24)
    make_phantom(request, tmp_path / "a")
    make_phantom(request, tmp_path / "b")
    make_phantom(replace(request, seed=4), tmp_path / "c")
    first, again, other = content(tmp_path / "a"), content(tmp_path / "b"), content(tmp_path / "c")
    assert first == again
    images = [name for name in first if name.startswith("images/")]
    assert images
    assert all(first[name] != other[name] for name in images)


@settings(max_examples=4)
@given(kind=st.sampled_from(KINDS), seed=st.integers(0, 2**20), index=st.integers(0, 5), size=st.integers(16, 40))
def test_truth_lies_in_the_tree_and_images_on_its_grid(kind: str, seed: int, index: int, size: int) -> None:
    tree = tree_of(kind)
    for scan in draw_subject(Request(kind, cases=1, seed=seed, size=size), index):
        known = set(tree.leaf_values.tolist()) | ({tree.unlabelled} if kind not in DENSE else set())
        assert set(np.unique(scan.labels)) <= known
        assert len(scan.images) == len(PHANTOMS[kind].channels)
        assert all(image.shape == scan.labels.shape and image.dtype == np.int16 for image in scan.images)
        assert max(scan.labels.shape) == size
        assert all(image.min() < image.max() for image in scan.images)


@pytest.mark.parametrize("kind", DENSE)
def test_every_leaf_occurs(kind: str) -> None:
    tree = tree_of(kind)
    for index in range(2):
        for scan in draw_subject(Request(kind, cases=1, size=80), index):
            assert set(np.unique(scan.labels)) == set(tree.leaf_values.tolist()), scan.id


@pytest.mark.parametrize("kind", KINDS)
def test_a_superclass_is_the_union_of_its_children(kind: str, tmp_path: Path) -> None:
    """A coarse case is the fine case of the same seed, with each voxel moved up to its top-level node."""
    tree = tree_of(kind)
    make_phantom(Request(kind, cases=2, seed=5, size=24), tmp_path / "fine")
    made = make_phantom(Request(kind, cases=2, fine=0, seed=5, size=24), tmp_path / "coarse")
    assert made["fine_scans"] == 0
    fine, coarse = Dataset.open(tmp_path / "fine"), Dataset.open(tmp_path / "coarse")
    for case in fine.cases():
        leaves = read_volume(fine.label_path(case)).array
        tops = read_volume(coarse.label_path(coarse.case(case.id))).array
        for node in tree.top_level:
            below = [leaf.value for leaf in tree.leaves_under(node)]
            assert np.array_equal(tops == node.value, np.isin(leaves, below)), (case.id, node.name)


@pytest.mark.parametrize("kind", KINDS)
def test_fine_keeps_exactly_that_many_subjects(kind: str, tmp_path: Path) -> None:
    tree = tree_of(kind)
    make_phantom(Request(kind, cases=3, fine=1, test=1, size=24), tmp_path / "d")
    dataset = Dataset.open(tmp_path / "d")
    assert dataset.check() == []
    inner = {node.value for node in tree.nodes if not tree.is_leaf(node)}
    fine_groups = set()
    for case in dataset.cases():
        present = set(np.unique(read_volume(dataset.label_path(case)).array).tolist())
        if not present & inner:
            fine_groups.add((case.split, case.group))
    assert sum(split == "training" for split, _ in fine_groups) == 1
    assert sum(split == "test" for split, _ in fine_groups) == 1


def test_a_subject_does_not_depend_on_how_many_there_are(tmp_path: Path) -> None:
    make_phantom(Request("brain", cases=1, size=24), tmp_path / "one")
    make_phantom(Request("brain", cases=2, size=24), tmp_path / "two")
    name = "images/brain_0000_MRI.nii.gz"
    assert content(tmp_path / "one")[name] == content(tmp_path / "two")[name]


def best_interval(feature: np.ndarray, inside: np.ndarray) -> tuple[float, float]:
    """The rule "intensity from a to below b" with the highest Dice for the voxels ``inside``."""
    edges = np.quantile(feature, np.linspace(0, 1, 41))
    bins = np.clip(np.searchsorted(edges, feature, side="right") - 1, 0, 39)
    hits = np.concatenate([[0], np.cumsum(np.bincount(bins[inside], minlength=40))])
    chosen = np.concatenate([[0], np.cumsum(np.bincount(bins, minlength=40))])
    dice = np.triu(2 * (hits[None] - hits[:, None]) / np.maximum(1, chosen[None] - chosen[:, None] + hits[-1]))
    low, high = np.unravel_index(int(np.argmax(dice)), dice.shape)
    return float(edges[low]), float(np.inf if high == 40 else edges[high])


def gaussian_dice(features: np.ndarray, labels: np.ndarray) -> float:
    """Mean Dice of assigning each voxel by all its channels to the likeliest subclass, each a Gaussian fitted to itself."""
    values = np.unique(labels)
    scores = []
    for value in values:
        own = features[labels == value]
        covariance = np.atleast_2d(np.cov(own.T)) + 1e-6 * np.eye(features.shape[1])
        away = features - own.mean(axis=0)
        distance = np.einsum("ij,jk,ik->i", away, np.linalg.inv(covariance), away)
        scores.append(-0.5 * (distance + np.linalg.slogdet(covariance)[1]))
    found = values[np.argmax(scores, axis=0)]
    dice = [2 * np.sum((found == v) & (labels == v)) / (np.sum(found == v) + np.sum(labels == v)) for v in values]
    return float(np.mean(dice))


@pytest.mark.parametrize("kind", DENSE)
def test_intensity_alone_cannot_tell_subclasses(kind: str) -> None:
    """Within each superclass, at the default difficulty: what was chosen on some subjects does not hold for others.

    Intensities are scaled by the scan's range, as trainers do.  ``bench_phantoms.py`` measures the same with more subjects.
    """
    tree = tree_of(kind)

    def inside(index: int, children: list[int]) -> tuple[np.ndarray, np.ndarray]:
        scan = draw_subject(Request(kind, cases=1, size=40), index)[0]
        kept = np.isin(scan.labels, children)
        columns = [(image[kept] - np.min(image)) / np.percentile(image, 99.5) for image in scan.images]
        return np.stack(columns, axis=1), scan.labels[kept]

    for top in tree.top_level:
        children = [leaf.value for leaf in tree.leaves_under(top)]
        if len(children) < 2:
            continue
        features, labels = (np.concatenate(part) for part in zip(*[inside(i, children) for i in range(6)], strict=True))
        seen = [inside(index, children) for index in range(6, 12)]
        dice = []
        for value in children:
            rules = [best_interval(column, labels == value) for column in features.T]
            for channel, (low, high) in enumerate(rules):
                found = [(scan[:, channel] >= low) & (scan[:, channel] < high) for scan, _ in seen]
                scores = [
                    2 * np.sum(f & (truth == value)) / (f.sum() + np.sum(truth == value))
                    for f, (_, truth) in zip(found, seen, strict=True)
                ]
                dice.append((value, channel, float(np.mean(scores))))
        best = [max(score for other, _, score in dice if other == value) for value in children]
        assert np.mean(best) < 0.65, (top.name, dice)


@pytest.mark.parametrize("kind", DENSE)
def test_difficulty_makes_intensities_overlap(kind: str) -> None:
    tree = tree_of(kind)
    top = max(tree.top_level, key=lambda node: len(tree.leaves_under(node)))
    children = [leaf.value for leaf in tree.leaves_under(top)]

    def told_apart(difficulty: float) -> float:
        """By one intensity rule for all subjects, who differ the more the harder it is; brains differ at any difficulty."""
        features, labels = [], []
        for index in range(3):
            scan = draw_subject(Request(kind, cases=1, size=48, difficulty=difficulty), index)[0]
            inside = np.isin(scan.labels, children)
            columns = [image[inside] / np.percentile(image, 99.5) for image in scan.images]
            features.append(np.stack(columns, axis=1))
            labels.append(scan.labels[inside])
        if kind == "brain":
            return float(np.mean([gaussian_dice(*scan) for scan in zip(features, labels, strict=True)]))
        return gaussian_dice(np.concatenate(features), np.concatenate(labels))

    assert told_apart(1.0) < told_apart(0.0)


def test_published_layout_of_acdc(tmp_path: Path) -> None:
    make_phantom(Request("acdc", cases=1, size=32, raw=True), tmp_path / "acdc")
    patient = tmp_path / "acdc" / "patient001"
    info = dict(line.split(": ") for line in (patient / "Info.cfg").read_text(encoding="utf-8").splitlines())
    assert set(info) == {"ED", "ES", "Group", "Height", "NbFrame", "Weight"}
    for frame in (info["ED"], info["ES"]):
        image = read_volume(patient / f"patient001_frame{int(frame):02d}.nii.gz")
        truth = read_volume(patient / f"patient001_frame{int(frame):02d}_gt.nii.gz")
        assert set(np.unique(truth.array)) == {0, 1, 2, 3}
        assert np.allclose(image.affine, truth.affine)
        assert truth.spacing[2] == pytest.approx(10.0)
    diastole = read_volume(patient / "patient001_frame01_gt.nii.gz").array
    systole = read_volume(patient / "patient001_frame12_gt.nii.gz").array
    assert np.sum(systole == 3) < np.sum(diastole == 3), "the ventricle contracts"


def test_published_layout_of_brats(tmp_path: Path) -> None:
    make_phantom(Request("brats", cases=2, size=48, raw=True), tmp_path / "brats")
    for name in ("BraTS2021_00000", "BraTS2021_00001"):
        files = {path.name for path in (tmp_path / "brats" / name).iterdir()}
        assert files == {f"{name}_{part}.nii.gz" for part in ("flair", "t1", "t1ce", "t2", "seg")}
        truth = read_volume(tmp_path / "brats" / name / f"{name}_seg.nii.gz").array
        assert set(np.unique(truth)) == {0, 1, 2, 4}
        flair = read_volume(tmp_path / "brats" / name / f"{name}_flair.nii.gz").array
        assert np.all(flair[truth > 0] > 0), "the tumor lies in the brain"
        assert np.mean(flair == 0) > 0.1, "the skull is stripped to exact zeros"


def test_grid_and_size_are_those_of_the_originals() -> None:
    acdc = draw_subject(Request("acdc", cases=1), 0)[0]
    assert np.allclose(np.abs(np.diag(acdc.affine)[:3]), [1.4, 1.4, 10.0])
    assert PHANTOMS["brats"].default_size == 240


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"kind": "liver"}, "liver"),
        ({"cases": 0}, "0 cases"),
        ({"fine": 3}, "--fine is 3"),
        ({"size": 4}, "--size is 4"),
        ({"difficulty": 2.0}, "--difficulty is 2"),
        ({"seed": -1}, "seed is -1"),
        ({"raw": True, "fine": 1}, "exclude"),
        ({"raw": True, "kind": "brain"}, "no published layout"),
    ],
)
def test_wrong_requests_are_refused(change: dict, part: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=part):
        make_phantom(replace(Request("acdc", cases=2, size=24), **change), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_full_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep", encoding="utf-8")
    with pytest.raises(DatasetError, match="new or empty"):
        make_phantom(Request("brain", cases=1, size=16), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_an_interrupted_run_leaves_nothing(tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_phantom(Request("brain", cases=2, size=16), tmp_path / "out", interrupt)
    assert list(tmp_path.iterdir()) == []


def test_coarsened_keeps_top_level_leaves() -> None:
    tree = tree_of("brats")
    labels = np.array([[0, 1], [2, 4]], dtype=np.uint8)
    top = tree.top_of(tree.by_value(1)).value
    assert coarsened(labels, tree).tolist() == [[0, top], [top, top]]
