"""The start bundle's recipe: classes, synthetic heads and downloads."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hierseg import resources
from hierseg.bundle_files import sha256
from hierseg.errors import ConfigError, ResourceError
from hierseg.labeltree import LabelTree
from hierseg.phantoms.contrast import synthesize
from hierseg.recipes import downloads
from hierseg.recipes.brain_classes import CLASSES, LEAF_OF_CLASS, UNLABELLED
from hierseg.recipes.brain_generator import HeadGenerator, class_of_region
from hierseg.recipes.brain_start_evaluate import fold, parse_case


def head() -> np.ndarray:
    """Nested boxes of classes, not symmetric."""
    classes = np.zeros((40, 44, 40), np.uint8)
    for depth, name in enumerate(("soft tissue", "skull", "cerebral cortex", "cerebral white matter", "thalamus")):
        classes[
            3 * depth + 2 : -(2 * depth + 2), 3 * depth + 2 : -(3 * depth + 2), 2 * depth + 2 : -(3 * depth + 2)
        ] = CLASSES[name][0]
    return classes


def test_every_leaf_of_the_start_tree_is_taught_by_a_class() -> None:
    tree = LabelTree.load(resources.path("label_trees", "brain_start"))
    taught = set(LEAF_OF_CLASS.values()) - {UNLABELLED}
    assert taught == {leaf.value for leaf in tree.leaves}


def test_a_patch_depends_on_seed_and_number_alone() -> None:
    maps = [head()]
    first = HeadGenerator(maps, [1.0], 24, seed=3)
    second = HeadGenerator(maps, [1.0], 24, seed=3)
    second.draw(0)
    for one, other in zip(first.draw(5), second.draw(5), strict=True):
        assert np.array_equal(one, other)
    assert not np.array_equal(first.draw(5)[0], first.draw(6)[0])


def test_patches_are_normalized_and_labelled_with_leaves() -> None:
    generator = HeadGenerator([head()], [1.0], 24, seed=1)
    tree = LabelTree.load(resources.path("label_trees", "brain_start"))
    for number in range(6):
        image, leaves = generator.draw(number)
        assert image.shape == (1, 24, 24, 24)
        assert image.min() >= 0
        assert image.max() <= 1
        assert np.isfinite(image).all()
        assert set(np.unique(leaves)) <= set(tree.leaf_values) | {UNLABELLED}


@pytest.mark.parametrize(
    ("region", "name"),
    [
        ("ctx-lh-insula", "cerebral cortex"),
        ("subc-rh-putamen", "putamen"),
        ("cer-lh-dentate", "cerebellar white matter"),
        ("vent-mid-fourth-ventricle", "fourth ventricle"),
        ("vent-lh-inferior-lateral-ventricle", "lateral ventricle"),
        ("bstem-mid-pons", "brainstem"),
    ],
)
def test_regions_of_the_living_subject_are_recognized(region: str, name: str) -> None:
    assert class_of_region(region) == CLASSES[name][0]


def test_synthesize_shows_the_means_that_it_was_given() -> None:
    labels = np.zeros((24, 24, 24), int)
    labels[:, :, 12:] = 1
    image = synthesize(
        labels, np.random.default_rng(0), means={0: (0.2, 0.01), 1: (0.9, 0.01)}, background=None, strength=0
    )
    assert abs(image[:, :, :9].mean() - 0.2) < 0.02
    assert abs(image[:, :, 15:].mean() - 0.9) < 0.02


def test_fold_takes_finer_nodes_to_the_deepest_common_one() -> None:
    coarse = LabelTree.load(resources.path("label_trees", "brain_start"))
    content = coarse.to_dict()
    content["nodes"].append({"name": "vermis", "parent": "cerebellum", "value": 30})
    content["nodes"].append({"name": "eye", "value": 31})
    fine = LabelTree.from_dict(content)
    folded = fold(np.array([30, 16, 3, 31, 255]), fine, coarse)
    assert folded.tolist() == [16, 16, 3, 255, 255]


@pytest.mark.parametrize("text", ["", "A", "A=only.nii.gz", "=a,b"])
def test_a_scan_argument_of_another_form_is_explained(text: str) -> None:
    with pytest.raises(ConfigError, match="write NAME=IMAGE,REFERENCE"):
        parse_case(text)


def test_a_download_with_another_hash_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIERSEG_CACHE", str(tmp_path))
    wheel = tmp_path / "fake-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("fake/data.txt", "scan")
    package = downloads.Package("fake", "1", wheel.name, sha256(wheel), "MIT", 1)
    assert downloads.extract(package, "fake/data.txt").read_text(encoding="utf-8") == "scan"
    with pytest.raises(ResourceError, match="not the expected one"):
        downloads.fetch(replace(package, sha256="0" * 64))
