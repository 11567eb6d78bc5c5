"""The geometry contract on the whole path: file → Slicer's reader → worker process → segmentation node → exported label map.

Each voxel that is bright in the file is marked at the same place in the exported label map, and no other: both grids are
compared in millimeters, because Slicer may turn an axis around while it loads.  A real worker serves all examples; its
network marks bright voxels.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from hierseg.dataset import Dataset
from hierseg.imageio import read_volume, write_volume
from HierSubclassSegLib.compute.client import WorkerClient
from HierSubclassSegLib.compute.jobs import PredictionResult, RemoteError
from HierSubclassSegLib.compute.launch import environment, worker_command
from HierSubclassSegLib.compute.prepare import copy_steps
from HierSubclassSegLib.compute.segmenter import Segmenter
from HierSubclassSegLib.compute.transport import SubprocessTransport
from HierSubclassSegLib.scene import annotation, export, frames, geometry, inputs, prediction, reading, region, session
from HierSubclassSegLib.scene.tags import SceneError
from HierSubclassSegLib.ticks import finish
from standins.grids import grids, least_voxels, marked_box
from standins.known_network import brain_tree
from standins.threshold_bundle import BRIGHT, write_threshold_bundle

FEWER = settings(max_examples=max(1, settings().max_examples // 3))
"""Of the profile's examples, for what the first property has shown for most grids already."""
TREE = brain_tree()
CORE, EDEMA = TREE.node("core").value, TREE.node("edema").value
MODELS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "1 mm": {"spacing": [1.0, 1.0, 1.0], "orientation": "LPS"},
    "2 mm": {"spacing": [2.0, 2.0, 2.0], "orientation": "PIR", "overlap": 0.3},
    "two channels": {"channels": 2},
}


class Desk:
    """One worker, one scene, and the models: each example takes the whole way through them."""

    def __init__(self, opened: session.Session, folder: Path) -> None:
        self.scene = opened.scene
        self.bundles = {}
        for name, config in MODELS.items():
            path = folder / name.replace(" ", "-")
            self.bundles[name] = write_threshold_bundle(path, config.get("channels", 1), **{k: v for k, v in config.items() if k != "channels"})  # fmt: skip
        self.results: list[PredictionResult] = []
        self.errors: list[RemoteError] = []
        self.segmenter = Segmenter(
            lambda on_log: WorkerClient(SubprocessTransport(worker_command(), environment()), on_log=on_log),
            on_result=self.results.append,
            on_error=self.errors.append,
        )

    def load(self, path: Path) -> Any:
        """A file as Slicer's own reader loads it."""
        node = self.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", path.name.split(".")[0])
        storage = self.scene.AddNewNodeByClass("vtkMRMLVolumeArchetypeStorageNode")
        storage.SetFileName(str(path))
        storage.SetCenterImage(0)
        assert storage.ReadData(node)
        return node

    def ask(self, images: list[Any], model: str) -> PredictionResult:
        """What the worker answers; its error is raised."""
        self.results.clear()
        self.errors.clear()
        self.segmenter.start(finish(copy_steps(images)), self.bundles[model], device="cpu")
        end = time.monotonic() + 120.0
        while not (self.results or self.errors):
            assert time.monotonic() < end
            self.segmenter.poll()
            time.sleep(0.001)
        if self.errors:
            raise self.errors[0]
        return self.results[0]

    def segment(self, volumes: list[Any], model: str, roi: Any = None) -> Any:
        """The prediction's node, made as the panel makes it (``gui/run.py``)."""
        part = region.region_of(roi, volumes[0]) if roi is not None else None
        images = inputs.images_of(volumes)
        if part is not None:
            images[0] = part.crop(*images[0])
        result = self.ask(images, model)
        labels, confidence = region.whole_maps(part, result.tree, result.labels, result.confidence)
        return prediction.create_prediction(
            volumes,
            result.tree,
            labels,
            confidence=confidence,
            bundle_id=result.bundle,
            affine=result.affine if part is None else None,
        )

    def export(self, node: Any, volumes: list[Any], folder: Path) -> tuple[np.ndarray, np.ndarray]:
        """Label map and matrix of the file that an annotation made of the whole prediction is exported to."""
        dataset = Dataset.create(folder / "dataset", "test", [volume.GetName() for volume in volumes], TREE)
        whole = annotation.annotation_from_prediction(node, superclasses_only=False)
        case = export.export_case(whole, dataset, volume_nodes=volumes)
        written = read_volume(dataset.label_path(case))
        return written.array, written.affine


@pytest.fixture(scope="module")
def desk(one_scene: session.Session, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    made = Desk(one_scene, tmp_path_factory.mktemp("models"))
    yield made
    made.segmenter.close(3.0)


@pytest.fixture
def folder(desk: Desk) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)
    desk.scene.Clear(True)


def check(source: np.ndarray, affine: np.ndarray, written: np.ndarray, matrix: np.ndarray, value: int = CORE) -> None:
    """The voxels that are bright in the source, and no others, carry the value at their place in the other grid."""
    assert written.size == source.size
    places = np.argwhere(np.ones(source.shape, bool))
    between = np.linalg.inv(matrix) @ affine
    there = places @ between[:3, :3].T + between[:3, 3]
    index = np.rint(there).astype(int)
    # A hundredth of a voxel, far below the half that is promised: the grids differ by whole voxels and turned axes alone.
    assert np.abs(there - index).max() < 1e-2
    assert (index >= 0).all()
    assert (index < written.shape).all()
    marked = source[tuple(places.T)] > BRIGHT / 2
    assert marked.any()
    np.testing.assert_array_equal(written[tuple(index.T)] == value, marked)


def bright_box(draw: Any, shape: tuple[int, int, int], affine: np.ndarray, model: str, dtype: Any) -> np.ndarray:
    spacing = MODELS[model].get("spacing", [None])[0]
    least = [least_voxels(step, spacing) for step in np.linalg.norm(affine[:3, :3], axis=0)]
    image = np.zeros(shape, dtype)
    box = marked_box(draw, shape, least)
    image[box] = BRIGHT
    if image.min() == BRIGHT:  # a constant image is refused
        image.flat[0] = 0
    return image


@given(
    st.data(),
    grids(),
    st.sampled_from(["nii.gz", "nii", "nrrd", "mha"]),
    st.sampled_from(["as it is", "1 mm", "2 mm"]),
    st.sampled_from([np.uint8, np.int16, np.float32]),
    st.booleans(),
)
def test_marked_voxels_come_back_where_they_are(
    desk: Desk, data: Any, grid: Any, ending: str, model: str, dtype: Any, moved: bool
) -> None:
    shape, affine = grid
    image = bright_box(data.draw, shape, affine, model, dtype)
    model = "as it is" if image.flat[0] == 0 and (image == 0).sum() == 1 else model
    try:
        with tempfile.TemporaryDirectory() as name:
            path = Path(name) / f"scan.{ending}"
            write_volume(path, image, affine)
            volume = desk.load(path)
            if moved:
                under(desk.scene, [volume], turned(data.draw))
            node = desk.segment([volume], model)
            written, matrix = desk.export(node, [volume], Path(name))
            check(image, affine, written, matrix)
            # In the scene it lies where the volume lies, under the same transform.
            world = geometry.volume_grid(volume)
            segment_id = reading.tree_store.segment_id_of(node, "tumor/core")
            seen = reading.segment_mask(node, segment_id, world)
            np.testing.assert_array_equal(seen, geometry.array_of(volume.GetImageData()) > BRIGHT / 2)
            assert node.GetParentTransformNode() is volume.GetParentTransformNode()
    finally:
        desk.scene.Clear(True)


def turned(draw: Any) -> np.ndarray:
    """A rigid transform."""
    matrix = np.eye(4)
    angles = draw(st.tuples(*[st.integers(-180, 180)] * 3))
    matrix[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    matrix[:3, 3] = draw(st.tuples(*[st.floats(-50, 50)] * 3))
    return matrix


def under(scene: Any, volumes: list[Any], matrix: np.ndarray) -> Any:
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    transform.SetMatrixTransformToParent(geometry.to_vtk(matrix))
    for volume in volumes:
        volume.SetAndObserveTransformNodeID(transform.GetID())
    return transform


@FEWER
@given(st.data(), grids())
def test_a_region_is_predicted_alone_and_where_it_lies(desk: Desk, data: Any, grid: Any) -> None:
    shape, affine = grid
    shape = tuple(max(size, 7) for size in shape)
    image = np.random.default_rng(0).integers(0, 2, shape).astype(np.int16) * BRIGHT
    image[0, 0, 0], image[-1, -1, -1] = 0, BRIGHT
    low = np.array([data.draw(st.integers(0, size - 5)) for size in shape])
    high = np.array([data.draw(st.integers(start + 4, size)) for start, size in zip(low, shape, strict=True)])
    try:
        with tempfile.TemporaryDirectory() as name:
            write_volume(Path(name) / "scan.nrrd", image, affine)
            volume = desk.load(Path(name) / "scan.nrrd")
            roi = desk.scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "box")
            # Along the volume's axes, a tenth of a voxel within the chosen ones.
            axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
            if np.linalg.det(axes) < 0:
                axes = axes * [1, 1, -1]
            placed = np.eye(4)
            placed[:3, :3] = axes
            placed[:3, 3] = (affine @ [*((low + high - 1) / 2), 1.0])[:3]
            roi.SetAndObserveObjectToNodeMatrix(geometry.to_vtk(placed))
            roi.SetSize([float(v) for v in (high - low - 0.2) * np.linalg.norm(affine[:3, :3], axis=0)])
            node = desk.segment([volume], "as it is", roi)
            written, matrix = desk.export(node, [volume], Path(name))
            inside = np.zeros(shape, bool)
            inside[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = True
            check(np.where(inside, image, 0), affine, written, matrix)
    finally:
        desk.scene.Clear(True)


@FEWER
@given(st.data(), grids(), st.booleans())
def test_channels_on_different_grids_meet_in_the_world(desk: Desk, data: Any, grid: Any, moved: bool) -> None:
    """The second channel is finer, turned, and under a transform of its own: what it shows is marked where it lies."""
    shape, affine = grid
    first = np.zeros(shape, np.int16)
    first.flat[0] = BRIGHT
    # The same field of view with other axes: reversed and permuted, each voxel cut into two along the first axis.
    order = data.draw(st.permutations([0, 1, 2]))
    second = np.zeros(shape, np.float32)
    box = marked_box(data.draw, shape, [3, 3, 3])
    second[box] = BRIGHT
    second.flat[0] = 0.0
    if second.max() == 0:
        second.flat[-1] = BRIGHT
    fine = np.repeat(second, 2, axis=0)
    to_first = np.diag([0.5, 1.0, 1.0, 1.0])  # centers of the halves
    to_first[0, 3] = -0.25
    turn = np.zeros((4, 4))
    turn[3, 3] = 1.0
    for target, source in enumerate(order):
        turn[source, target] = -1.0
        turn[source, 3] = fine.shape[source] - 1
    fine_array = fine.transpose(order)[::-1, ::-1, ::-1]
    where = affine @ to_first @ turn
    try:
        with tempfile.TemporaryDirectory() as name:
            matrix = turned(data.draw) if moved else np.eye(4)
            write_volume(Path(name) / "a.nii.gz", first, affine)
            write_volume(Path(name) / "b.mha", np.ascontiguousarray(fine_array), np.linalg.inv(matrix) @ where)
            volumes = [desk.load(Path(name) / file) for file in ("a.nii.gz", "b.mha")]
            if moved:
                under(desk.scene, volumes[1:], matrix)
            node = desk.segment(volumes, "two channels")
            written, found = desk.export(node, volumes, Path(name))
            check(first, affine, written, found, CORE)
            check(second, affine, written, found, EDEMA)
    finally:
        desk.scene.Clear(True)


def test_frames_of_a_file_come_back_one_by_one(desk: Desk, folder: Path) -> None:
    """A 4D file as a sequence in Slicer, and as a file that is sent as it is."""
    affine = np.array([[0, -1.5, 0, 10], [1.5, 0, 0, -20], [0, 0, -3.0, 5], [0, 0, 0, 1]])
    cine = np.random.default_rng(1).integers(0, 2, (7, 8, 5, 3)).astype(np.int16) * BRIGHT
    write_volume(folder / "cine.nrrd", cine, affine)
    logic = slicer.vtkSlicerSequencesLogic()
    logic.SetMRMLScene(desk.scene)
    sequence = desk.scene.AddNewNodeByClass("vtkMRMLSequenceNode", "cine")
    storage = desk.scene.AddNewNodeByClass("vtkMRMLVolumeSequenceStorageNode")
    storage.SetFileName(str(folder / "cine.nrrd"))
    assert storage.ReadData(sequence)
    browser = desk.scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode")
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    logic.UpdateProxyNodesFromSequences(browser)
    proxy = browser.GetProxyNode(sequence)
    work = frames.Frames(browser, [proxy])
    assert work.count == 3
    for number in range(3):
        result = desk.ask(work.images(number), "as it is")
        check(cine[..., number], affine, result.labels, result.affine)
    logic.SetMRMLScene(None)
    whole = desk.ask([folder / "cine.nrrd"], "as it is")
    assert whole.labels.shape == cine.shape
    np.testing.assert_array_equal(whole.labels == CORE, cine > 0)


@pytest.mark.parametrize(("codes", "right_end"), [("RAS", True), ("LPS", False), ("LAS", False)])
def test_the_right_side_is_on_the_right(desk: Desk, folder: Path, codes: str, right_end: bool) -> None:
    signs = {"R": 1, "L": -1, "A": 1, "P": -1, "S": 1, "I": -1}
    affine = np.diag([*[float(signs[code]) for code in codes], 1.0])
    image = np.zeros((12, 10, 8), np.uint8)
    image[-3:] = BRIGHT
    write_volume(folder / "scan.nii.gz", image, affine)
    volume = desk.load(folder / "scan.nii.gz")
    written, matrix = desk.export(desk.segment([volume], "as it is"), [volume], folder)
    right = (np.argwhere(written == CORE) @ matrix[:3, :3].T + matrix[:3, 3])[:, 0]
    middle = (matrix @ [*((np.array(written.shape) - 1) / 2), 1.0])[0]
    assert ((right > middle) == right_end).all()


def _sheared_channel(desk: Desk, folder: Path) -> list[Any]:
    shape, volumes = (9, 9, 9), []
    for name in ("a", "b"):
        write_volume(folder / f"{name}.nrrd", np.random.default_rng(0).random(shape).astype(np.float32), np.eye(4))
        volumes.append(desk.load(folder / f"{name}.nrrd"))
    lean = np.eye(4)
    lean[0, 2] = np.tan(np.radians(15.0))
    under(desk.scene, volumes[1:], lean)
    return volumes


def _colors(desk: Desk, folder: Path) -> list[Any]:
    import SimpleITK as sitk  # noqa: N813 -- the name that its own documentation uses

    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((3, 4, 5, 3), np.uint8), isVector=True), str(folder / "rgb.nrrd"))
    node = desk.scene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "rgb")
    storage = desk.scene.AddNewNodeByClass("vtkMRMLVolumeArchetypeStorageNode")
    storage.SetFileName(str(folder / "rgb.nrrd"))
    assert storage.ReadData(node)
    assert node not in inputs.input_volumes(desk.scene)
    return [node]


@pytest.mark.parametrize(
    ("make", "model", "said"),
    [(_sheared_channel, "two channels", "sheared by 15.00°"), (_colors, "as it is", "has 3 values a voxel")],
)
def test_what_cannot_be_segmented_is_a_sentence_with_its_number(
    desk: Desk, folder: Path, make: Callable[..., list[Any]], model: str, said: str
) -> None:
    volumes = make(desk, folder)
    with pytest.raises((RemoteError, SceneError)) as caught:
        desk.segment(volumes, model)
    assert said in caught.value.sentence
    assert "\n" not in caught.value.sentence
