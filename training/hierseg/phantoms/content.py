"""What a dataset folder says, as one number: a study is frozen on it before its methods are compared."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

from hierseg.dataset import Dataset
from hierseg.imageio import Volume, read_volume


def content_hash(folder: str | Path) -> str:
    """SHA-256 of a dataset's images, label maps, affines, splits, groups, channels and label values.

    Compressed bytes, times, provenance, colors and the folder's name do not count, nor does the order of the cases.

    Args:
        folder: a dataset folder.

    Returns:
        64 hexadecimal digits.

    Raises:
        DatasetError: the folder is no dataset, or a file is missing.
    """
    dataset = Dataset.open(folder)
    tree = dataset.label_tree
    total = hashlib.sha256()
    _add(total, [dataset.channels, sorted((node.value, node.path) for node in tree.nodes), tree.unlabelled])
    for case in sorted(dataset.cases(), key=lambda case: (case.split, case.id)):
        label = dataset.label_path(case)
        _add(total, [case.split, case.id, case.group, label is not None])
        for path in [*dataset.image_paths(case), *([label] if label else [])]:
            _add_volume(total, read_volume(path))
    return total.hexdigest()


def _add(total: hashlib._Hash, words: list[object]) -> None:
    total.update(json.dumps(words).encode() + b"\n")


def _add_volume(total: hashlib._Hash, volume: Volume) -> None:
    _add(total, [volume.array.dtype.str, list(volume.array.shape), np.round(volume.affine, 4).tolist()])
    total.update(np.ascontiguousarray(volume.array).tobytes())
