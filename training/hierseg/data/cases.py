"""A case as training holds it: prepared image, node values, and where each node's voxels lie."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from hierseg.data.preprocess import Preprocessor
from hierseg.data.resampling import same_grid
from hierseg.data.translation import translate
from hierseg.dataset import Case, Dataset
from hierseg.errors import DatasetError, ImageError, LabelTreeError, TrainingError
from hierseg.imageio import read_label, read_volume
from hierseg.labeltree import LabelTree

ChangeLabel = Callable[[np.ndarray, int], np.ndarray]
"""Takes a map of node values and the value of ``unlabelled``."""

MOST_VOXELS = 4096
"""Voxel positions kept of each node of a case: enough to center patches anywhere, and bounded for large cases."""


@dataclass(frozen=True)
class VoxelIndex:
    """Positions of labelled voxels, by node.

    Attributes:
        counts: number of voxels of each node value that is present.
        positions: flat indices (C order) of up to :data:`MOST_VOXELS` voxels of each, drawn without replacement.
    """

    counts: dict[int, int]
    positions: dict[int, np.ndarray]

    @classmethod
    def of(cls, label: np.ndarray, unlabelled: int, seed: int = 0) -> VoxelIndex:
        """Index a map of node values; which positions are kept depends on the map and ``seed`` alone."""
        flat = label.ravel()
        places = np.flatnonzero(flat != unlabelled)
        carried = flat[places]
        order = np.argsort(carried, kind="stable")
        values, starts, counts = np.unique(carried[order], return_index=True, return_counts=True)
        rng = np.random.default_rng(seed)
        positions = {}
        for value, start, count in zip(values.tolist(), starts.tolist(), counts.tolist(), strict=True):
            members = places[order[start : start + count]]
            if count > MOST_VOXELS:
                members = np.sort(rng.choice(members, MOST_VOXELS, replace=False))
            positions[value] = members.astype(np.int64)
        return cls(dict(zip(values.tolist(), counts.tolist(), strict=True)), positions)

    @property
    def total(self) -> int:
        """Number of labelled voxels."""
        return sum(self.counts.values())


@dataclass(frozen=True)
class TrainingCase:
    """A preprocessed case.

    Attributes:
        id: of the dataset's case.
        image: float32 ``(C, X, Y, Z)``, possibly memory-mapped.
        label: node values ``(X, Y, Z)`` in the tree's integer type.
        affine: 4×4, voxel index → millimeters in RAS, of both arrays.
        index: where the labelled voxels are.
        notes: what was done to the case that its owner should know.
    """

    id: str
    image: np.ndarray
    label: np.ndarray
    affine: np.ndarray
    index: VoxelIndex
    notes: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int, int]:
        """Spatial shape."""
        x, y, z = self.label.shape
        return x, y, z


def load_case(
    dataset: Dataset,
    case: Case,
    preprocessor: Preprocessor,
    *,
    need_label: bool = True,
    change_label: ChangeLabel | None = None,
) -> TrainingCase:
    """Read and preprocess one case.

    Args:
        dataset: the folder, whose tree the label map must follow.
        case: one of its cases.
        preprocessor: with one normalization a channel of the dataset.
        need_label: refuse a case without any labelled voxel.
        change_label: what becomes of the stored label map before it is brought to the image's grid.

    Raises:
        TrainingError: the case cannot be trained on; names the case, what was found and what to do.
    """
    tree = dataset.tree
    try:
        volumes = [read_volume(path) for path in dataset.image_paths(case)]
        prepared = preprocessor.image(volumes)
        path = dataset.label_path(case)
        notes = list(prepared.notes)
        elsewhere = False
        if path is None:
            label = np.full(prepared.array.shape[1:], tree.unlabelled, dtype=tree.dtype)
        else:
            given = read_label(path, dataset.label_tree)
            if tree != dataset.label_tree:
                given = replace(given, array=translate(given.array, dataset.label_tree, tree))
            if change_label is not None:
                given = replace(given, array=change_label(np.asarray(given.array), tree.unlabelled))
            elsewhere = not same_grid(given.shape, given.affine, prepared.source.shape, prepared.source.affine)
            label = preprocessor.label(given, prepared, tree).astype(tree.dtype)
    except (ImageError, DatasetError, LabelTreeError) as error:
        raise TrainingError(f"case '{case.id}': {error.sentence}", hint=error.hint) from error
    index = VoxelIndex.of(label, tree.unlabelled)
    if elsewhere and not index.counts and (given.array != tree.unlabelled).any():
        raise TrainingError(
            f"case '{case.id}': no labelled voxel of its label map {path} lies in the image {prepared.source.path}; check that both show the same patient and place."
        )
    if elsewhere:
        notes.append(
            f"case '{case.id}': the label map {path} lies on another grid than the image and was brought onto it; voxels that it does not cover are unlabelled."
        )
    if need_label and not index.counts:
        raise TrainingError(
            f"case '{case.id}': its label map {path or '(none)'} has no labelled voxel; annotate it, or take the case out of the dataset."
        )
    return TrainingCase(case.id, prepared.array, label, prepared.affine, index, tuple(notes))


def subclass_values(tree: LabelTree) -> set[int]:
    """Values of the leaves that are subclasses: leaves below a top-level node.

    A top-level leaf (usually the background) is superclass and subclass at once; whether it is drawn says nothing
    about how finely a case is annotated.
    """
    return {leaf.value for leaf in tree.leaves if leaf.parent is not None}


def coarse_values(tree: LabelTree) -> set[int]:
    """Values of the inner nodes: there only a superclass is known."""
    return {node.value for node in tree.nodes if not tree.is_leaf(node)}
