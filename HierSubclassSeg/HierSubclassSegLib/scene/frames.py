"""Sequences: a volume that shows one frame after another, and a segmentation that follows it frame by frame.

Slicer's sequence browser copies the frame that is selected into a *proxy* node, which is what a user sees and chooses.
The frames themselves lie in a sequence node.  Each frame's prediction becomes a frame of a new sequence of
segmentations in the same browser, whose proxy then shows what belongs to the image beside it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import slicer

from HierSubclassSegLib.scene import geometry, tree_store
from HierSubclassSegLib.scene.prediction import CONFIDENCE, MODEL, VOLUMES
from HierSubclassSegLib.scene.tags import SceneError


def browser_of(volume: slicer.vtkMRMLVolumeNode | None) -> slicer.vtkMRMLSequenceBrowserNode | None:
    """The browser that a volume is the proxy of, if it has more than one frame."""
    if volume is None or volume.GetScene() is None:
        return None
    scene = volume.GetScene()
    kind = "vtkMRMLSequenceBrowserNode"
    for index in range(scene.GetNumberOfNodesByClass(kind)):
        browser = scene.GetNthNodeByClass(index, kind)
        if browser.IsProxyNodeID(volume.GetID()) and browser.GetNumberOfItems() > 1:
            return browser
    return None


class Frames:
    """All the frames of a browser, and what is predicted on them.

    Args:
        browser: of the first volume.
        volumes: one a channel; one that is no proxy of this browser stays the same in each frame.
    """

    def __init__(
        self, browser: slicer.vtkMRMLSequenceBrowserNode, volumes: Sequence[slicer.vtkMRMLScalarVolumeNode]
    ) -> None:
        self._browser, self._volumes = browser, list(volumes)
        self._master = browser.GetMasterSequenceNode()
        self._results: slicer.vtkMRMLSequenceNode | None = None
        self._attributes: dict[str, str] = {}

    @property
    def count(self) -> int:
        """How many there are."""
        return int(self._browser.GetNumberOfItems())

    def images(self, index: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """A frame as a worker wants it; see ``inputs.images_of``.

        Raises:
            SceneError: the frame has no voxels, other dimensions than the one that is shown, or a volume is under a
                non-linear transform.
        """
        to_first = np.linalg.inv(geometry.parent_to_world(self._volumes[0]))
        images = []
        for volume in self._volumes:
            frame = self._frame_of(volume, index)
            image = frame.GetImageData()
            if image is None or 0 in image.GetDimensions():
                raise SceneError(
                    f"frame {index + 1} of '{volume.GetName()}' has no voxels; remove it from the sequence."
                )
            if volume is self._volumes[0] and image.GetDimensions() != volume.GetImageData().GetDimensions():
                raise SceneError(
                    f"frame {index + 1} of '{volume.GetName()}' has other dimensions than the frame that is shown; segment it by itself."
                )
            affine = to_first @ geometry.parent_to_world(volume) @ geometry.volume_affine(frame)
            images.append((geometry.array_of(image), affine))
        return images

    def put(self, index: int, prediction: slicer.vtkMRMLSegmentationNode) -> None:
        """Move a frame's prediction out of the scene into the sequence of results."""
        scene = prediction.GetScene()
        if self._results is None:
            self._results = scene.AddNewNodeByClass("vtkMRMLSequenceNode", prediction.GetName())
            self._results.SetIndexName(self._master.GetIndexName())
            self._results.SetIndexUnit(self._master.GetIndexUnit())
            self._results.SetIndexType(self._master.GetIndexType())
            self._attributes = {name: prediction.GetAttribute(name) for name in (tree_store.ROLE, MODEL)}
        confidence = prediction.GetNodeReference(CONFIDENCE)
        # What a frame of a sequence refers to in the scene is not carried along.
        prediction.RemoveNodeReferenceIDs(CONFIDENCE)
        self._results.SetDataNodeAtValue(prediction, self._master.GetNthIndexValue(index))
        for node in (prediction, confidence):
            if node is not None:
                scene.RemoveNode(node)

    def show(self) -> slicer.vtkMRMLSegmentationNode | None:
        """Let the browser show the results that there are beside the images; gives the segmentation that follows."""
        if self._results is None:
            return None
        self._browser.AddSynchronizedSequenceNode(self._results)
        slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(self._browser)
        proxy = self._browser.GetProxyNode(self._results)
        for name, value in self._attributes.items():
            proxy.SetAttribute(name, value)
        proxy.SetName(self._results.GetName())
        for volume in self._volumes:
            proxy.AddNodeReferenceID(VOLUMES, volume.GetID())
        geometry.place_beside(proxy, self._volumes[0])
        self._results = None
        return proxy

    def discard(self) -> None:
        """Take back what was put."""
        results, self._results = self._results, None
        if results is not None and results.GetScene() is not None:
            results.GetScene().RemoveNode(results)

    def _frame_of(self, volume: slicer.vtkMRMLScalarVolumeNode, index: int) -> slicer.vtkMRMLScalarVolumeNode:
        if not self._browser.IsProxyNodeID(volume.GetID()):
            return volume
        value = self._master.GetNthIndexValue(index)
        return self._browser.GetSequenceNode(volume).GetDataNodeAtValue(value, False) or volume
