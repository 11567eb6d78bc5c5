"""The demo's steps on a small head: worker, scene, strokes, export, fine-tuning, the tuned model again."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

import scans
from main_job import MainJob, read_table

from hierseg import resources
from hierseg.dataset import Dataset
from hierseg.engine import train
from hierseg.imageio import read_label, read_volume, write_volume
from hierseg.labeltree import LabelTree
from hierseg.phantoms.contrast import synthesize
from HierSubclassSegLib.scene.session import open_session
from HierSubclassSegLib.scene.storage import load_scene, load_segmentation
from HierSubclassSegLib.scene.tree_store import node_of, read_tree, segments
from HierSubclassSegLib.scene.views import SLICE_VIEWS

SPLIT = scans.split_tree(LabelTree.load(resources.path("label_trees", "brain_start")))
MEANS = {0: (0.0, 0.01), 1: (0.7, 0.01), 2: (0.95, 0.01), 17: (0.4, 0.01), 18: (0.25, 0.01)}


def anatomy(shift: int) -> np.ndarray:
    """Cortex around white matter above a cerebellum that has a white heart; node values of the split tree."""
    labels = np.zeros((36, 36, 36), np.uint8)
    labels[4:32, 4 + shift : 32, 16:32] = SPLIT.node("cerebral cortex").value
    labels[8:28, 8 + shift : 28, 19:29] = SPLIT.node("cerebral white matter").value
    labels[8:28, 6 + shift : 24, 3:15] = SPLIT.node("cerebellar cortex").value
    labels[12:24, 10 + shift : 20, 6:12] = SPLIT.node("cerebellar white matter").value
    return labels


@dataclass(frozen=True)
class SmallScan(scans.Scan):
    """A scan of the small head, in a folder instead of a package."""

    folder: Path = Path()

    def fetch(self) -> Path:
        return self.folder / f"{self.name}.nii.gz"

    def reference_map(self, tree: LabelTree) -> np.ndarray:
        return read_label(self.folder / self.reference, tree).array


@pytest.fixture(scope="module")
def small_scans(tmp_path_factory: pytest.TempPathFactory) -> list[SmallScan]:
    folder = tmp_path_factory.mktemp("scans")
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    made = []
    for number, name in enumerate("AB"):
        labels = anatomy(number)
        image = synthesize(labels, np.random.default_rng(number), spacing=(2.0,) * 3, means=MEANS, strength=0)
        write_volume(folder / f"{name}.nii.gz", image, affine)
        write_volume(folder / f"{name}_reference.nii.gz", labels, affine)
        made.append(SmallScan(name, f"small head {name}", scans.A.package, "", f"{name}_reference.nii.gz", folder))
    return made


@pytest.fixture(scope="module")
def start_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that knows the cerebellum as one structure, trained for seconds on a third head."""
    folder = tmp_path_factory.mktemp("start")
    tree = LabelTree.load(resources.path("label_trees", "brain_start"))
    labels = anatomy(2)
    labels[np.isin(labels, [17, 18])] = tree.node("cerebellum").value
    image = synthesize(anatomy(2), np.random.default_rng(9), spacing=(2.0,) * 3, means=MEANS, strength=0)
    dataset = Dataset.create(folder / "dataset", "third head", ["MRI"], tree)
    affine = np.diag([2.0, 2.0, 2.0, 1.0])

    def writer(array: np.ndarray):
        return lambda path: nib.save(nib.Nifti1Image(array, affine), path)

    dataset.save_case("third", [writer(image)], writer(labels))
    settings = {
        "iterations": 150,
        "batch_size": 1,
        "patch_size": [32, 32, 32],
        "width": 4,
        "method": "two_head",
        "learning_rate": 0.2,
        "validation": {"fraction": 0.0, "interval": 0},
        "augmentation": {"affine_probability": 0.0, "intensity_probability": 0.0},
    }
    return train(folder / "dataset", folder / "run", settings, threads=1, name="small-start").bundle


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory, small_scans: list[SmallScan], start_bundle: Path) -> MainJob:
    out = tmp_path_factory.mktemp("demo")
    config = out / "finetune.yaml"
    config.write_text(
        "iterations: 8\nbatch_size: 1\nvalidation: {fraction: 0.0, interval: 0}\nmix: {mode: 'off'}\n", encoding="utf-8"
    )
    made = MainJob(out, start_bundle, config, None, a=small_scans[0], b=small_scans[1])
    made.run()
    return made


def test_everything_that_the_demo_promises_is_written(job: MainJob) -> None:
    for what, path in job.written:
        assert path.exists(), what
    names = {path.name for _, path in job.written}
    assert {"B_labels.nii.gz", "B_superclass.nii.gz", "segmentation.seg.nrrd", "scene.mrb", "demo.png"} <= names


def test_label_maps_lie_on_the_grid_of_the_scan(job: MainJob) -> None:
    scan = read_volume(job.b.fetch())
    labels = read_label(job.out / "B_labels.nii.gz", SPLIT)
    assert labels.array.shape == scan.array.shape
    assert np.allclose(labels.affine, scan.affine, atol=1e-6)


def test_the_annotation_holds_strokes_in_at_most_five_slices(job: MainJob) -> None:
    dataset = Dataset.open(job.out / "dataset")
    case = dataset.case("scan-A")
    labels = read_label(dataset.label_path(case), dataset.tree).array
    strokes = np.isin(labels, [17, 18])
    assert strokes.any()
    assert np.unique(np.nonzero(strokes)[1]).size <= 5
    assert (labels == SPLIT.node("cerebellum").value).any(), "the rest of the cerebellum stays coarse"


def test_the_tuned_model_knows_the_new_subclasses(job: MainJob) -> None:
    table = read_table(job.out)
    assert table["dice"]["after"]["cerebellar cortex"] is not None
    assert table["dice"]["nearest"]["cerebellar cortex"] > 0
    assert set(table["dice"]["after"]) == {node.name for node in SPLIT.nodes}


def test_segments_and_scene_open_again_with_their_hierarchy(job: MainJob) -> None:
    session = open_session()
    segmentation = load_segmentation(session.scene, job.out / "segmentation.seg.nrrd")
    tree = read_tree(segmentation)
    assert tree is not None
    assert [(node.path, node.value) for node in tree.nodes] == [(node.path, node.value) for node in SPLIT.nodes]
    found = {node_of(segmentation, segment_id).name for segment_id, _ in segments(segmentation)}
    assert {"cerebrum", "cerebral cortex"} <= found
    session.scene.Clear(True)
    load_scene(session.scene, job.out / "scene.mrb")
    nodes = [session.scene.GetNthNodeByClass(index, "vtkMRMLSegmentationNode") for index in range(3)]
    assert session.scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 3
    # It opens on scan B with the tuned model's result, not on three segmentations over nothing.
    assert [bool(node.GetDisplayVisibility()) for node in nodes] == [False, False, True]
    for view in SLICE_VIEWS:
        composite = session.scene.GetSingletonNode(view, "vtkMRMLSliceCompositeNode")
        shown = session.scene.GetNodeByID(composite.GetBackgroundVolumeID())
        assert shown.GetName() == "scan B"
    session.close()
