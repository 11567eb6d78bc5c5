"""The case that is being worked on: which nodes were loaded for it, whether it has unsaved work, and saving it.

What has to be known tomorrow, in a scene that was saved and loaded again, lies in attributes of the nodes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from enum import Enum
from typing import Any

import slicer

from hierseg.dataset import Case, Dataset
from hierseg.errors import DatasetError
from HierSubclassSegLib.scene import annotation, case_state, export, geometry, load_case, prediction
from HierSubclassSegLib.ticks import Steps

#: attribute of every node that was loaded with a case: the case's id
LOADED = "HierSubclassSeg.LoadedCase"
#: attribute of an annotation: the digest of what was last saved or loaded
SAVED = "HierSubclassSeg.SavedDigest"
#: attribute of an annotation: what its case looked like in the dataset then
SEEN = "HierSubclassSeg.SeenInDataset"


class Elsewhere(Enum):
    """What others have done to a case since it was opened or saved here."""

    NOTHING = 0
    CHANGED = 1
    REMOVED = 2


def loaded_nodes(scene: slicer.vtkMRMLScene) -> list[slicer.vtkMRMLNode]:
    """The nodes that were loaded with cases, annotations first."""
    found = [scene.GetNthNode(index) for index in range(scene.GetNumberOfNodes())]
    found = [node for node in found if node is not None and node.GetAttribute(LOADED)]
    return sorted(found, key=lambda node: not node.IsA("vtkMRMLSegmentationNode"))


def remove_loaded(scene: slicer.vtkMRMLScene, keep: tuple[Any, ...] = ()) -> None:
    """Take the nodes that were loaded with cases out of the scene, and no others."""
    for node in loaded_nodes(scene):
        if node not in keep and node.GetScene() is scene:
            scene.RemoveNode(node)


class OpenCase:
    """One annotation and the case that it is, or is to be, in a dataset.

    Args:
        annotation_node: the annotation.

    Attributes:
        annotation: the annotation.
    """

    def __init__(self, annotation_node: slicer.vtkMRMLSegmentationNode) -> None:
        self.annotation = annotation_node
        # The mark at which the annotation is known to be as it was saved; and the images that the files hold.
        self._clean: tuple[Any, ...] | None = None
        self._images: dict[str, tuple[Any, ...]] = {}

    @property
    def id(self) -> str | None:
        """The case's id; None if the annotation has never been in a dataset."""
        found = self.annotation.GetAttribute(export.CASE)
        return str(found) if found else None

    # -- state ------------------------------------------------------------------------------------------------------

    def surely_clean(self) -> bool:
        """Whether nothing was touched since it was saved; False means that :meth:`dirty_steps` has to look."""
        return self._clean is not None and case_state.mark_of(self.annotation) == self._clean

    def dirty_steps(self) -> Steps[bool]:
        """Whether there is something that the dataset does not have.

        Raises:
            SceneError: the annotation cannot be exported as it is.
        """
        if self.surely_clean():
            return False
        mark = case_state.mark_of(self.annotation)
        labels, complete, _notes = yield from export.collect_steps(self.annotation, export.volumes_for(self.annotation))
        digest = yield from case_state.digest_steps(annotation.tree_of(self.annotation), labels, complete)
        same = digest == self.annotation.GetAttribute(SAVED)
        if same and case_state.mark_of(self.annotation) == mark:
            self._clean = mark
        return not same

    def elsewhere(self, dataset: Dataset) -> Elsewhere:
        """What others have done to the case; the dataset is read again.

        Raises:
            DatasetError: it cannot be read any more.
        """
        dataset.reload()
        seen = self.annotation.GetAttribute(SEEN)
        if not self.id:
            return Elsewhere.NOTHING
        case = next((case for case in dataset.cases() if case.id == self.id), None)
        if case is None:
            return Elsewhere.REMOVED
        return Elsewhere.NOTHING if look_of(dataset, case) == seen else Elsewhere.CHANGED

    # -- loading and saving -----------------------------------------------------------------------------------------

    @classmethod
    def load_steps(cls, dataset: Dataset, case_id: str, scene: slicer.vtkMRMLScene) -> Steps[OpenCase]:
        """Load a case; its nodes are marked as loaded.  Errors as in ``load_case``."""
        loaded = yield from load_case.load_steps(dataset, case_id, scene)
        opened = cls(loaded.annotation)
        for node in (loaded.annotation, *loaded.volumes, loaded.transform):
            if node is not None:
                node.SetAttribute(LOADED, case_id)
        try:
            yield 0.97
            tree = annotation.tree_of(loaded.annotation)
            grid = geometry.volume_grid(loaded.volumes[0])
            complete = export.complete_on(loaded.annotation, tree, grid)
            mark = case_state.mark_of(loaded.annotation)
            labels = loaded.labels
            if labels is None:
                labels, complete, _notes = yield from export.collect_steps(loaded.annotation, loaded.volumes)
            elif complete:
                labels = labels.astype(tree.dtype, order="F")
                export.fill_complete(tree, labels, complete)
            found = yield from case_state.digest_steps(tree, labels, complete)
            opened._saved(dataset, loaded.case, found, mark)
        except BaseException:
            loaded.remove()
            raise
        return opened

    def save_steps(
        self,
        dataset: Dataset,
        *,
        as_new: bool = False,
        group: str | None = None,
        user: str | None = None,
        update_tree: bool = False,
        extra: Mapping[str, Any] | None = None,
    ) -> Steps[Case]:
        """Save the annotation as its case, or as a new one; images that the case has already are not written again.

        Raises:
            SceneError, DatasetError: as in ``export.export_case``.
        """
        volumes = export.volumes_for(self.annotation)
        if as_new:
            self.annotation.RemoveAttribute(export.CASE)
        known = self.id is not None and any(case.id == self.id for case in dataset.cases())
        keep = [
            index for index, volume in enumerate(volumes) if self._images.get(volume.GetID()) == _image_mark(volume)
        ]
        exported = yield from export.export_steps(
            self.annotation,
            dataset,
            volume_nodes=volumes,
            group=group,
            user=user,
            update_tree=update_tree,
            keep=keep if known else (),
            extra=extra,
        )
        self._saved(dataset, exported.case, exported.digest, exported.mark)
        return exported.case

    def _saved(self, dataset: Dataset, case: Case, digest: str, mark: tuple[Any, ...]) -> None:
        self.annotation.SetAttribute(SAVED, digest)
        self.annotation.SetAttribute(SEEN, look_of(dataset, case))
        # As of the moment of looking: what was painted while the files were written is not in them.
        self._clean = mark
        self._images = {volume.GetID(): _image_mark(volume) for volume in prediction.volumes_of(self.annotation)}


def look_of(dataset: Dataset, case: Case) -> str:
    """A digest of a case as it lies in the dataset: its row, its label map, the sizes of its images.

    Keys of other programs, and the status, may change without anybody's work being lost.
    """
    row = {key: value for key, value in case.to_dict().items() if key not in case.extra}
    found = hashlib.sha256(json.dumps(row, sort_keys=True).encode())
    try:
        if case.label is not None:
            found.update((dataset.folder / case.label).read_bytes())
        for path in case.image:
            found.update(f"{path} {(dataset.folder / path).stat().st_size}".encode())
    except OSError as error:
        raise DatasetError(
            f"{error.filename}: case '{case.id}' lists this file, but it cannot be read ({error.strerror}); put it back."
        ) from error
    return found.hexdigest()


def _image_mark(volume: slicer.vtkMRMLVolumeNode) -> tuple[Any, ...]:
    image = volume.GetImageData()
    # The parent transform too: channels on other grids are resampled through world space.
    place = geometry.volume_affine(volume).tobytes() + geometry.parent_to_world(volume).tobytes()
    return (image, image.GetMTime() if image is not None else 0, place)
