"""One press of Apply: what goes to the worker, frame by frame, and what becomes of the answers."""

from __future__ import annotations

import time
from typing import Any

import slicer

from hierseg.bundle import Bundle
from HierSubclassSegLib.compute.jobs import PredictionResult
from HierSubclassSegLib.scene.frames import Frames, browser_of
from HierSubclassSegLib.scene.inputs import images_of
from HierSubclassSegLib.scene.prediction import prediction_steps
from HierSubclassSegLib.scene.region import Region, region_of, whole_maps
from HierSubclassSegLib.ticks import Steps


class Run:
    """What was asked for when Apply was pressed; later choices in the panel do not change it.

    Args:
        bundle: the model.
        volumes: one a channel.
        roi: only this region; None for the whole volume.
        every_frame: all the frames of the first volume's sequence.

    Raises:
        SceneError: the region does not fit the volume.
    """

    def __init__(self, bundle: Bundle, volumes: list[Any], roi: Any = None, every_frame: bool = False) -> None:
        self.bundle, self.volumes = bundle, list(volumes)
        self.region: Region | None = region_of(roi, volumes[0]) if roi is not None else None
        browser = browser_of(volumes[0]) if every_frame else None
        self.frames = Frames(browser, volumes) if browser is not None else None
        self.frame = 0
        self._began = time.monotonic()

    @property
    def count(self) -> int:
        """How many frames are segmented."""
        return self.frames.count if self.frames is not None else 1

    @property
    def seconds(self) -> float:
        """Since Apply, for each frame that is done."""
        return (time.monotonic() - self._began) / max(1, self.frame)

    @property
    def gone(self) -> bool:
        """Whether a volume has left the scene."""
        return not all(slicer.mrmlScene.IsNodePresent(volume) for volume in self.volumes)

    def images(self) -> list[Any]:
        """The present frame's images, for the worker.

        Raises:
            SceneError: a volume cannot be sent.
        """
        images = images_of(self.volumes) if self.frames is None else self.frames.images(self.frame)
        if self.region is not None:
            images[0] = self.region.crop(*images[0])
        return images

    def importing(self, result: PredictionResult) -> Steps[Any]:
        """The answer on its way into the scene.

        Raises:
            SceneError: it does not fit the volume.
        """
        labels, confidence = whole_maps(self.region, result.tree, result.labels, result.confidence)
        return prediction_steps(
            self.volumes,
            result.tree,
            labels,
            confidence=confidence,
            bundle_id=result.bundle,
            # A region's matrix is the box's; the maps are the whole volume's, which has its own.
            affine=result.affine if self.region is None else None,
        )

    def take(self, node: Any) -> Any:
        """Keep a frame's prediction.

        Returns:
            The node to show; None while frames are missing.
        """
        if self.frames is None:
            self.frame += 1
            return node
        self.frames.put(self.frame, node)
        self.frame += 1
        return self.frames.show() if self.frame == self.count else None

    def stop(self) -> Any:
        """End early: frames that are done are kept.

        Returns:
            The node to show, if there is one.
        """
        if self.frames is None:
            return None
        if self.gone:
            self.frames.discard()
            return None
        return self.frames.show()

    def forget(self) -> None:
        """End without a trace in a scene that stays."""
        if self.frames is not None:
            self.frames.discard()
