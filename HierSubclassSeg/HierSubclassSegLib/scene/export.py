"""Annotations into a dataset folder.

The label map lies on the first channel's own grid, without its parent transform (which is recorded).  Each voxel gets
the deepest annotated node there; elsewhere it is ``unlabelled``, except in complete slices, where it is background (and
stays ``unlabelled`` in a tree without background).  What is left of a parent stays coarse.  Where siblings overlap, the
latest segment wins.  Hidden segments are exported like visible ones.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import slicer

import hierseg
from hierseg.dataset import Case, Dataset
from hierseg.errors import DatasetError, HiersegError
from hierseg.labeltree import LabelTree
from HierSubclassSegLib.scene import (
    annotation,
    case_state,
    geometry,
    marks,
    nifti,
    prediction,
    reading,
    tags,
    tree_store,
)
from HierSubclassSegLib.ticks import Steps, finish

#: attributes of the annotation: where it was exported to or loaded from
CASE = "HierSubclassSeg.Case"
GROUP = "HierSubclassSeg.Group"


@dataclass(frozen=True)
class Exported:
    """A case that was written.

    Attributes:
        case: as the dataset describes it.
        digest, mark: of the annotation at the moment that was written (``case_state``).
    """

    case: Case
    digest: str
    mark: tuple[Any, ...]


def export_case(
    annotation_node: slicer.vtkMRMLSegmentationNode,
    dataset: Dataset | str | Path,
    *,
    volume_nodes: Sequence[slicer.vtkMRMLVolumeNode] | None = None,
    case_id: str | None = None,
    group: str | None = None,
    user: str | None = None,
    update_tree: bool = False,
) -> Case:
    """Write an annotation and its images as a case of a dataset folder; the same annotation again replaces the case.

    Args:
        annotation_node: an annotation; never a prediction.
        dataset: the folder or an open dataset.
        volume_nodes: the channels, in the dataset's order; default: those that the annotation refers to.
        case_id: default: the id that the annotation was exported to or loaded from, else a generated one.
        group: cases of one group (one patient) never lie on both sides of a split; default: as before.
        user: who annotated; recorded only if given.
        update_tree: give the dataset the annotation's tree if it has another one that its label maps still fit.

    Returns:
        The saved case.

    Raises:
        SceneError: a prediction, no label tree, no volume, another tree than the dataset's, a wrong number of
            channels, a volume of colors, or a non-linear transform.
        DatasetError: the folder cannot be written.
    """
    return finish(
        export_steps(
            annotation_node,
            dataset,
            volume_nodes=volume_nodes,
            case_id=case_id,
            group=group,
            user=user,
            update_tree=update_tree,
        )
    ).case


def export_steps(
    annotation_node: slicer.vtkMRMLSegmentationNode,
    dataset: Dataset | str | Path,
    *,
    volume_nodes: Sequence[slicer.vtkMRMLVolumeNode] | None = None,
    case_id: str | None = None,
    group: str | None = None,
    user: str | None = None,
    update_tree: bool = False,
    keep: Collection[int] = (),
    extra: Mapping[str, Any] | None = None,
) -> Steps[Exported]:
    """:func:`export_case` in small steps; the dataset is touched by the last one alone.  Arguments and errors as there.

    Channels whose numbers are in ``keep`` have their files already, which are not written again; ``extra`` are more keys
    of the case in ``dataset.json``.
    """
    dataset = dataset if isinstance(dataset, Dataset) else Dataset.open(dataset)
    volumes = volumes_for(annotation_node, volume_nodes)
    check_role(annotation_node)
    tree = annotation.tree_of(annotation_node)
    if len(volumes) != len(dataset.channels):
        raise tags.SceneError(
            f"the annotation '{annotation_node.GetName()}' has {len(volumes)} volumes, the dataset has {len(dataset.channels)} channels "
            f"({', '.join(dataset.channels)}); choose one volume for each."
        )
    if dataset.tree != tree and not update_tree:
        raise tags.SceneError(
            f"the annotation '{annotation_node.GetName()}' uses the label tree '{tree.fingerprint}', the dataset {dataset.folder} "
            f"'{dataset.tree.fingerprint}'; update the dataset's tree, or choose a dataset of this tree."
        )
    (labels, complete, notes), mark = yield from _collect_steadily(annotation_node, volumes)
    digest = yield from case_state.digest_steps(tree, labels, complete)
    grid = geometry.volume_grid(volumes[0])
    with tempfile.TemporaryDirectory(prefix="hiersubclassseg-") as made:
        # Packing takes long: it is done aside, and the dataset's lock is held for the moment of moving the files in.
        targets: list[Path | None] = []
        for index, volume in enumerate(volumes):
            target = Path(made) / f"{index}.nii.gz"
            targets.append(None if index in keep else target)
            if index not in keep:
                yield from _aside(target, _channel(volume, grid), grid, volume.GetName())
        label = Path(made) / "label.nii.gz"
        yield from _aside(label, labels, grid, annotation_node.GetName())
        if dataset.tree != tree:
            dataset.set_tree(tree)
        case_id = case_id or annotation_node.GetAttribute(CASE)
        old = next((case for case in dataset.cases() if case.id == case_id), None)
        group = group or annotation_node.GetAttribute(GROUP) or (old.group if old else None)
        case = dataset.save_case(
            case_id,
            [None if target is None else partial(shutil.move, target) for target in targets],
            partial(shutil.move, label),
            split=old.split if old else "training",
            group=group,
            provenance={**_kept_model(old), **_provenance(annotation_node, volumes[0], tree, user, notes)},
            slices_complete=complete,
            extra=extra,
        )
    annotation_node.SetAttribute(CASE, case.id)
    annotation_node.SetAttribute(GROUP, group)
    return Exported(case, digest, mark)


def collect(
    annotation_node: slicer.vtkMRMLSegmentationNode, volumes: Sequence[slicer.vtkMRMLVolumeNode]
) -> tuple[np.ndarray, list[dict[str, Any]], list[str]]:
    """The label map on the first volume's grid, the complete slices along its stored axes, and sentences to show.

    Raises:
        SceneError: as :func:`export_case`.
    """
    return finish(collect_steps(annotation_node, volumes))


def collect_steps(
    annotation_node: slicer.vtkMRMLSegmentationNode, volumes: Sequence[slicer.vtkMRMLVolumeNode]
) -> Steps[tuple[np.ndarray, list[dict[str, Any]], list[str]]]:
    """:func:`collect` in small steps; what is painted between two of them is half in the result."""
    check_role(annotation_node)
    tree = annotation.tree_of(annotation_node)
    grid = geometry.volume_grid(volumes[0])
    for volume in volumes:
        geometry.parent_to_world(volume)
        if volume.GetImageData() is not None and volume.GetImageData().GetNumberOfScalarComponents() != 1:
            raise tags.SceneError(
                f"the volume '{volume.GetName()}' has several numbers a voxel (colors?); choose a volume with one."
            )
    labels = yield from reading.read_steps(annotation_node, tree, grid)
    complete = complete_on(annotation_node, tree, grid)
    fill_complete(tree, labels, complete)
    notes = []
    known = set(tree_store.segments_by_path(annotation_node, tree).values())
    foreign = [
        segment.GetName() for segment_id, segment in tree_store.segments(annotation_node) if segment_id not in known
    ]
    if foreign:
        notes.append(f"Left out, because they belong to no node of the label tree: {', '.join(foreign)}.")
    notes += [
        f"'{volume.GetName()}' lies on another grid and is resampled."
        for volume in volumes[1:]
        if not _on_grid(volume, grid)
    ]
    return labels, complete, notes


def volumes_for(
    annotation_node: slicer.vtkMRMLSegmentationNode, volume_nodes: Sequence[slicer.vtkMRMLVolumeNode] | None = None
) -> list[slicer.vtkMRMLVolumeNode]:
    """The volumes given, else those that the annotation refers to.

    Raises:
        SceneError: there are none.
    """
    volumes = list(volume_nodes or prediction.volumes_of(annotation_node))
    if not volumes:
        raise tags.SceneError(
            f"'{annotation_node.GetName()}' does not say which volume it belongs to; choose its volume."
        )
    return volumes


def _on_grid(volume: slicer.vtkMRMLVolumeNode, grid: geometry.Grid) -> bool:
    own = geometry.volume_grid(volume)
    return own.shape == grid.shape and geometry.same_place(own.world, grid.world, grid.shape)


def check_role(annotation_node: slicer.vtkMRMLSegmentationNode) -> None:
    """Refuse a prediction.

    Raises:
        SceneError: it is one.
    """
    if annotation_node.GetAttribute(tree_store.ROLE) == "prediction":
        raise tags.SceneError(
            f"'{annotation_node.GetName()}' is a prediction, which is never exported; make an annotation from it and check that first."
        )


def _collect_steadily(
    annotation_node: slicer.vtkMRMLSegmentationNode, volumes: Sequence[slicer.vtkMRMLVolumeNode]
) -> Steps[tuple[tuple[np.ndarray, list[dict[str, Any]], list[str]], tuple[Any, ...]]]:
    """What the annotation is at one moment, though somebody may paint meanwhile; and its mark at that moment."""
    for _attempt in range(3):
        before = case_state.mark_of(annotation_node)
        found = yield from collect_steps(annotation_node, volumes)
        if case_state.mark_of(annotation_node) == before:
            return found, before
    return collect(annotation_node, volumes), case_state.mark_of(annotation_node)


def _channel(volume: slicer.vtkMRMLVolumeNode, grid: geometry.Grid) -> np.ndarray:
    """The volume's voxels on the grid."""
    image = volume.GetImageData()
    if not _on_grid(volume, grid):
        own = geometry.volume_grid(volume)
        image = geometry.resample(image, own.world, grid, linear=True, fill=image.GetScalarRange()[0])
    return geometry.array_of(image)


def _aside(path: Path, array: np.ndarray, grid: geometry.Grid, name: str) -> Steps[None]:
    """Write a file to be moved into the dataset.

    Raises:
        DatasetError: it cannot be written.
        ImageError: NIfTI-1 has no place for it; the sentence names the node.
    """
    try:
        yield from nifti.write_steps(path, array, grid.affine)
    except HiersegError as error:
        raise error.about(path, f"'{name}'") from error
    except OSError as error:
        raise DatasetError(
            f"{path.parent}: '{name}' cannot be written ({error.strerror or error}); free space there, and try again."
        ) from error


def fill_complete(tree: LabelTree, labels: np.ndarray, complete: Sequence[Mapping[str, Any]]) -> None:
    """Make what nothing is known of background, in slices where everything is annotated; in place."""
    background = tree.background
    if background is None:
        return
    for entry in complete:
        if entry["node"] is None:
            place = (slice(None),) * entry["axis"] + (entry["indices"],)
            part = labels[place]
            labels[place] = np.where(part == tree.unlabelled, tree.dtype.type(background.value), part)


def complete_on(
    annotation_node: slicer.vtkMRMLSegmentationNode, tree: LabelTree, grid: geometry.Grid
) -> list[dict[str, Any]]:
    """The complete slices, counted along the volume's stored axes.

    They are marked along the axes of the annotation's reference grid.  Slicer may have flipped the volume's voxel
    order since (it does so with left-handed volumes when it loads a scene): the indices follow.

    Raises:
        SceneError: the two grids do not share their planes.
    """
    complete = marks.slices_complete(annotation_node, tree)
    if not complete:
        return []
    reference = annotation.reference_grid(annotation_node)
    between = np.linalg.inv(grid.world) @ reference.world
    turn = np.rint(between[:3, :3])
    if not np.allclose(between[:3, :3], turn, atol=1e-3) or not (np.abs(turn).sum(axis=0) == 1).all():
        raise tags.SceneError(
            f"'{annotation_node.GetName()}' has slices marked complete, but the volume that it is exported on lies on another grid; "
            "export on the volume that was annotated."
        )
    found = []
    for entry in complete:
        axis = int(np.flatnonzero(turn[:, entry["axis"]])[0])
        step, start = turn[axis, entry["axis"]], np.rint(between[axis, 3])
        indices = sorted(int(start + step * index) for index in entry["indices"])
        found.append(
            {
                "axis": axis,
                "indices": [index for index in indices if 0 <= index < grid.shape[axis]],
                "node": entry["node"],
            }
        )
    return [entry for entry in found if entry["indices"]]


def _kept_model(old: Case | None) -> dict[str, Any]:
    """The model that a case's annotation came from: a loaded annotation no longer refers to its prediction."""
    return {"model": old.provenance["model"]} if old is not None and "model" in old.provenance else {}


def _provenance(
    annotation_node: slicer.vtkMRMLSegmentationNode,
    volume: slicer.vtkMRMLVolumeNode,
    tree: LabelTree,
    user: str | None,
    notes: Sequence[str],
) -> dict[str, Any]:
    predicted_by = annotation.prediction_of(annotation_node)
    content: dict[str, Any] = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "tool": tags.TOOL,
        "version": hierseg.__version__,
        "slicer": slicer_version(),
        "sources": {},
    }
    algorithms = {}
    for path, segment_id in tree_store.segments_by_path(annotation_node, tree).items():
        segment = annotation_node.GetSegmentation().GetSegment(segment_id)
        content["sources"][path] = tags.get_tag(segment, tags.SOURCE, tags.MANUAL)
        if content["sources"][path] == tags.MIXED:
            algorithms[path] = tags.get_tag(segment, tags.ALGORITHM_NAME, tags.TOOL)
    if algorithms:
        content["algorithms"] = algorithms
    if predicted_by is not None and predicted_by.GetAttribute(prediction.MODEL):
        content["model"] = predicted_by.GetAttribute(prediction.MODEL)
    if user:
        content["user"] = user
    parent = geometry.parent_to_world(volume)
    if not np.array_equal(parent, np.eye(4)):
        content["parent_transform"] = parent.tolist()
    if notes:
        content["notes"] = list(notes)
    return content


def slicer_version() -> str:
    """The application's version, or that of the ``slicer-core`` wheel."""
    application = getattr(slicer, "app", None)
    if application is not None:
        return str(application.applicationVersion)
    try:
        return f"slicer-core {metadata.version('slicer-core')}"
    except metadata.PackageNotFoundError:
        return "unknown"
