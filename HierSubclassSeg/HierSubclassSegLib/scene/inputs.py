"""What goes into a model: the chosen volumes as arrays with affines, and what can be said before it is run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import slicer

from HierSubclassSegLib.scene import geometry
from HierSubclassSegLib.scene.prediction import CONFIDENCE
from HierSubclassSegLib.scene.tags import SceneError


@dataclass(frozen=True)
class InputCheck:
    """What does not fit.

    Attributes:
        missing: channels without a volume.
        hardening: names of volumes under a non-linear transform, which has to be hardened first.
        empty: names of volumes without voxels.
        resampled: names of volumes on another grid than the first one; they are resampled.
        twice: the name of a volume that was chosen for two channels, or empty.
    """

    missing: tuple[str, ...] = ()
    hardening: tuple[str, ...] = ()
    empty: tuple[str, ...] = ()
    resampled: tuple[str, ...] = ()
    twice: str = ""

    @property
    def runnable(self) -> bool:
        """Whether the model can be run on these volumes."""
        return not (self.missing or self.hardening or self.empty)


def input_volumes(scene: slicer.vtkMRMLScene) -> list[slicer.vtkMRMLScalarVolumeNode]:
    """The volumes of a scene that a model may be given: no label maps, no color images, no prediction's confidence."""
    confidences = {node.GetNodeReferenceID(CONFIDENCE) for node in _nodes(scene, "vtkMRMLSegmentationNode")}
    return [
        volume
        for volume in _nodes(scene, "vtkMRMLScalarVolumeNode")
        # Label maps, vector and tensor volumes derive from it.
        if volume.GetClassName() == "vtkMRMLScalarVolumeNode"
        and not volume.GetHideFromEditors()
        and volume.GetID() not in confidences
    ]


def check_inputs(channels: Sequence[str], volumes: Sequence[slicer.vtkMRMLScalarVolumeNode | None]) -> InputCheck:
    """Look at the volumes chosen for a model's channels; nothing is changed.

    Args:
        channels: the model's channel names.
        volumes: one a channel, None where none is chosen.
    """
    chosen = [volume for volume in volumes if volume is not None]
    empty = tuple(volume.GetName() for volume in chosen if not _has_voxels(volume))
    bent = tuple(volume.GetName() for volume in chosen if _is_bent(volume))
    names = [volume.GetName() for volume in chosen]
    ids = [volume.GetID() for volume in chosen]
    return InputCheck(
        missing=tuple(name for name, volume in zip(channels, volumes, strict=True) if volume is None),
        hardening=bent,
        empty=empty,
        resampled=() if empty or bent or not chosen or len(chosen) < max(2, len(channels)) else _on_other_grids(chosen),
        twice=next((name for name, id_ in zip(names, ids, strict=True) if ids.count(id_) > 1), ""),
    )


def images_of(volumes: Sequence[slicer.vtkMRMLScalarVolumeNode]) -> list[tuple[np.ndarray, np.ndarray]]:
    """The volumes as a worker wants them: views of their voxels (nothing is copied), and affines to RAS mm.

    Affines are relative to the first volume's own coordinate system: a transform above all of them changes nothing,
    and a volume under another transform lies where the user sees it.

    Raises:
        SceneError: a volume is empty, or under a non-linear transform.
    """
    grids = [geometry.volume_grid(volume) for volume in volumes]
    to_first = np.linalg.inv(geometry.parent_to_world(volumes[0]))
    images = []
    for volume, grid in zip(volumes, grids, strict=True):
        array = geometry.array_of(volume.GetImageData())
        if array.ndim != 3:
            raise SceneError(
                f"the volume '{volume.GetName()}' has {array.shape[3]} values a voxel; a model takes one. Split it first."
            )
        images.append((array, grid.affine if volume is volumes[0] else to_first @ grid.world))
    return images


def _nodes(scene: slicer.vtkMRMLScene, kind: str) -> list[slicer.vtkMRMLNode]:
    return [scene.GetNthNodeByClass(index, kind) for index in range(scene.GetNumberOfNodesByClass(kind))]


def _has_voxels(volume: slicer.vtkMRMLScalarVolumeNode) -> bool:
    image = volume.GetImageData()
    return image is not None and 0 not in image.GetDimensions()


def _is_bent(volume: slicer.vtkMRMLScalarVolumeNode) -> bool:
    try:
        geometry.parent_to_world(volume)
    except SceneError:
        return True
    return False


def _on_other_grids(volumes: Sequence[slicer.vtkMRMLScalarVolumeNode]) -> tuple[str, ...]:
    first, *others = [geometry.volume_grid(volume) for volume in volumes]
    return tuple(
        volume.GetName()
        for volume, grid in zip(volumes[1:], others, strict=True)
        if grid.shape != first.shape or not geometry.same_place(grid.world, first.world, first.shape)
    )
