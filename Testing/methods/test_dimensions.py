"""Slices of thick stacks, volumes, and mirroring: through the public command, from phantom to prediction."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from engine.blobs import blob, save
from hierseg.bundle import Bundle
from hierseg.cli import main
from hierseg.data.batches import Batches
from hierseg.data.caching import CaseCache
from hierseg.data.sampling import TwoStreamSampler
from hierseg.dataset import Dataset
from hierseg.engine import train
from hierseg.engine.config import TrainConfig
from hierseg.engine.setup import bundle_config
from hierseg.labeltree import LabelTree
from standins.label_trees import tree_of


def trained(data: Path, out: Path, *settings: str) -> Bundle:
    words = ["train", str(data), "--out", str(out), "--quiet", "--device", "cpu", "--threads", "1"]
    for pair in ("iterations=2", "width=4", "batch_size=2", *settings):
        words += ["--set", pair]
    assert main(words) == 0
    return Bundle.open(out / "bundle")


def test_slices_of_a_thick_stack_become_one_volume(hearts: Path, tmp_path: Path) -> None:
    bundle = trained(hearts, tmp_path / "run", "patch_size=[32,16]")
    assert bundle.config["spatial_dims"] == 2
    image = min((hearts / "images").iterdir())
    stack = nib.load(image)
    assert stack.header.get_zooms()[2] > stack.header.get_zooms()[0]
    assert main(["predict", str(bundle.folder), str(image), "--out", str(tmp_path / "all"), "--device", "cpu"]) == 0
    whole = np.asarray(nib.load(next((tmp_path / "all").glob("*_labels.nii.gz"))).dataobj)
    assert whole.shape == stack.shape
    assert set(np.unique(whole)) <= set(bundle.tree.values.tolist())
    # Slices do not see each other: the same stack with its slices in another order gives the same slices.
    turned = nib.Nifti1Image(np.asarray(stack.dataobj)[..., ::-1], stack.affine)
    nib.save(turned, tmp_path / "turned.nii.gz")
    words = ["predict", str(bundle.folder), str(tmp_path / "turned.nii.gz"), "--out", str(tmp_path / "t")]
    assert main([*words, "--device", "cpu"]) == 0
    other = np.asarray(nib.load(next((tmp_path / "t").glob("*_labels.nii.gz"))).dataobj)
    assert np.mean(other[..., ::-1] == whole) > 0.999


def test_volumes_of_four_channels(tmp_path: Path) -> None:
    data = tmp_path / "tumors"
    assert main(["phantom", "brats", "--cases", "2", "--fine", "1", "--size", "32", "--out", str(data)]) == 0
    bundle = trained(data, tmp_path / "run", "patch_size=[32,16,16]")
    assert len(bundle.config["channels"]) == 4
    assert bundle.config["spatial_dims"] == 3
    words = ["predict", str(bundle.folder), "--dataset", str(data), "--out", str(tmp_path / "p"), "--device", "cpu"]
    assert main(words) == 0
    assert len(list((tmp_path / "p").glob("*_labels.nii.gz"))) == 2


STILL = {"flip_axes": [], "affine_probability": 0, "intensity_probability": 0}

SIDED = tree_of({"background": {}, "body": {"left part": {}, "right part": {}}}, opposites={"left part": "right part"})


def sided(tree: LabelTree, folder: Path) -> Dataset:
    dataset = Dataset.create(folder, "sides", ["MRI"], tree)
    value = {node.name: node.value for node in tree.nodes}
    for seed in range(3):
        image, label = blob(seed)
        halves = np.full(label.shape, value["left part"])
        halves[12:] = value["right part"]
        fine = np.where(label > 0, halves, 0).astype(np.uint8)
        save(dataset, f"case{seed}", image, fine if seed else np.where(fine > 0, value["body"], 0).astype(np.uint8))
    return dataset


@pytest.mark.parametrize("opposites", [True, False])
def test_mirroring_swaps_sides_where_the_tree_knows_them(tmp_path: Path, opposites: bool) -> None:
    tree = SIDED if opposites else tree_of({"background": {}, "body": {"left part": {}, "right part": {}}})
    dataset = sided(tree, tmp_path / "data")
    patches = {}
    for chance in (0.0, 1.0):
        settings: dict[str, Any] = {
            "patch_size": [32, 32, 32], "width": 4, "method": "two_head",
            "augmentation": {**STILL, "flip_axes": [0], "flip_probability": chance},
        }  # fmt: skip
        config = TrainConfig.from_dict(settings)
        cache = CaseCache(dataset, dataset.cases(), bundle_config(config, dataset.channels, None))
        cache.fill()
        sampler = TwoStreamSampler(cache.indices, cache.shapes, tree, 2, 0)
        patches[chance] = Batches(cache, sampler, config, tree)[0]
    mirrored, plain = patches[1.0], patches[0.0]
    assert torch.equal(mirrored.image, plain.image.flip(2))
    left, right = (tree.node(name).value for name in ("left part", "right part"))
    moved = plain.label.flip(1)
    swapped = torch.where(moved == left, right, torch.where(moved == right, left, moved))
    assert torch.equal(mirrored.label, swapped if opposites else moved)
    assert (plain.label == left).any()
    result = train(
        dataset,
        tmp_path / "run",
        {
            "patch_size": [32, 16, 16],
            "width": 4,
            "iterations": 2,
            "augmentation": {"flip_axes": [0, 1, 2], "flip_probability": 1.0},
        },
        threads=1,
        device="cpu",
    )
    assert result.state == "finished"


@pytest.mark.parametrize("trunk", ["unet", "segresnet", "dynunet"])
def test_both_papers_on_three_trunks(hearts: Path, tmp_path: Path, trunk: str) -> None:
    """Paper A's heads and mixing and paper B's losses do not ask what trunk there is."""
    pairs = [f"trunk={trunk}", "width=8", "patch_size=[32,16]", "iterations=1"]
    bundle = trained(hearts, tmp_path / "run", *pairs, "losses.wasserstein=1", "losses.tree_cross_entropy=1")
    assert bundle.config["network"]["arguments"]["trunk"] == trunk
