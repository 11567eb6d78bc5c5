"""A region of a volume, and the frames of a sequence, as a model is given them and as its answers come back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import slicer

from hierseg.labeltree import LabelTree
from HierSubclassSegLib.scene import frames, geometry, prediction, region, tree_store
from HierSubclassSegLib.scene.tags import SceneError

TREE = LabelTree.from_dict(
    {
        "format_version": 1,
        "name": "two",
        "unlabelled": 255,
        "nodes": [{"name": "background", "value": 0}, {"name": "a", "value": 1}, {"name": "b", "value": 2}],
    }
)


@pytest.fixture
def volume(scene: Any) -> Any:
    voxels = np.arange(20 * 16 * 12, dtype=np.float32).reshape(20, 16, 12)
    affine = np.array([[0.0, 2, 0, 5], [-1, 0, 0, 7], [0, 0, 3, -9], [0, 0, 0, 1]])
    return geometry.make_volume(scene, voxels, affine, "oblique")


def box(scene: Any, volume: Any, low: tuple[int, ...], high: tuple[int, ...]) -> Any:
    """A ROI around the voxels from ``low`` up to and without ``high``."""
    corners = [geometry.volume_grid(volume).world @ [*(np.array(end) - 0.5), 1.0] for end in (low, high)]
    roi = scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "box")
    roi.SetCenter([float(value) for value in (corners[0][:3] + corners[1][:3]) / 2])
    roi.SetSize([float(value) for value in abs(corners[1][:3] - corners[0][:3])])
    return roi


def test_a_region_is_cut_out_and_put_back_where_it_lay(scene: Any, volume: Any) -> None:
    found = region.region_of(box(scene, volume, (3, 4, 2), (9, 12, 8)), volume)
    assert (found.start, found.stop) == ((3, 4, 2), (9, 12, 8))
    array, affine = geometry.array_of(volume.GetImageData()), geometry.volume_affine(volume)
    inside, moved = found.crop(array, affine)
    assert inside.shape == (6, 8, 6)
    assert np.allclose(moved @ [0, 0, 0, 1], affine @ [3, 4, 2, 1])
    labels = np.ones(inside.shape, np.uint8)
    whole, sure = region.whole_maps(found, TREE, labels, labels * 200)
    assert whole.shape == array.shape
    assert (whole[found.slices] == 1).all()
    assert (whole == TREE.unlabelled).sum() == array.size - labels.size
    assert sure.sum() == 200 * labels.size
    node = prediction.create_prediction([volume], TREE, whole, confidence=sure, bundle_id="tiny@1.0.0")
    assert node.GetSegmentation().GetNumberOfSegments() == 1


def test_a_region_follows_transforms_and_is_cut_at_the_volume(scene: Any, volume: Any) -> None:
    moved = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "moved")
    moved.SetMatrixTransformToParent(
        geometry.to_vtk(np.array([[1.0, 0, 0, 40], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]))
    )
    volume.SetAndObserveTransformNodeID(moved.GetID())
    found = region.region_of(box(scene, volume, (-5, 4, 2), (9, 99, 8)), volume)
    assert (found.start, found.stop) == ((0, 4, 2), (9, 16, 8))


def test_a_region_elsewhere_or_without_size_is_a_sentence(scene: Any, volume: Any) -> None:
    with pytest.raises(SceneError, match="has no size yet"):
        region.region_of(scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "new"), volume)
    with pytest.raises(SceneError, match="does not reach into the volume 'oblique'"):
        region.region_of(box(scene, volume, (50, 50, 50), (60, 60, 60)), volume)


@pytest.fixture
def browser(scene: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A browser of three frames of growing brightness."""
    logic = slicer.vtkSlicerSequencesLogic()
    logic.SetMRMLScene(scene)
    modules = getattr(slicer, "modules", None)
    if modules is None or not hasattr(modules, "sequences"):
        from types import SimpleNamespace

        known = vars(modules) if modules is not None else {}
        monkeypatch.setattr(
            slicer, "modules", SimpleNamespace(**known, sequences=SimpleNamespace(logic=lambda: logic)), raising=False
        )
    sequence = scene.AddNewNodeByClass("vtkMRMLSequenceNode", "beats")
    for number in range(3):
        frame = slicer.vtkMRMLScalarVolumeNode()
        image = geometry.image_like(np.int16, (6, 7, 8))
        geometry.array_of(image)[...] = number
        frame.SetAndObserveImageData(image)
        sequence.SetDataNodeAtValue(frame, str(number))
    made = scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "browser")
    made.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    logic.UpdateProxyNodesFromSequences(made)
    yield made
    logic.SetMRMLScene(None)


def test_frames_come_one_by_one_and_their_results_follow_the_images(scene: Any, browser: Any) -> None:
    proxy = browser.GetProxyNode(browser.GetMasterSequenceNode())
    assert frames.browser_of(proxy) is browser
    work = frames.Frames(browser, [proxy])
    assert work.count == 3
    before = scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode")
    for number in range(3):
        ((array, affine),) = work.images(number)
        assert (array == number).all()
        labels = np.where(np.arange(8) < number, 1, 2).astype(np.uint8) * np.ones((6, 7, 1), np.uint8)
        node = prediction.create_prediction([proxy], TREE, labels, bundle_id="tiny@1.0.0", affine=affine)
        work.put(number, node)
        assert scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == before
    shown = work.show()
    assert shown.GetAttribute(tree_store.ROLE) == "prediction"
    assert prediction.volumes_of(shown) == [proxy]
    assert shown.GetSegmentation().GetNumberOfSegments() == 1
    browser.SetSelectedItemNumber(2)
    slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
    assert shown.GetSegmentation().GetNumberOfSegments() == 2
    assert tree_store.read_tree(shown) == TREE


def test_a_volume_without_frames_has_no_browser(scene: Any, volume: Any) -> None:
    assert frames.browser_of(volume) is None
    assert frames.browser_of(None) is None
