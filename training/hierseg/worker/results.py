"""A prediction as the worker sends it: only what the client cannot derive, and only where there is something.

The superclass of a voxel follows from its label and the tree, so it stays here.  The confidence travels as the scene
keeps it: uint8, 255 for 1.  Both are cut down to what differs from the most frequent value (``crops``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from hierseg.worker.crops import cropped

if TYPE_CHECKING:
    from hierseg.inference import Prediction


def packed(prediction: Prediction) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The fields and arrays of a ``result`` message that hold what was predicted."""
    confidence = as_bytes(prediction.confidence)
    arrays, crops = {}, {}
    for name, whole in (("labels", prediction.labels), ("confidence", confidence)):
        arrays[name], crops[name] = cropped(whole)
    counts, sums = _tally(prediction, confidence, crops["labels"], arrays["labels"].shape)
    return {"crops": crops, "summary": _summary(prediction, counts, sums)}, arrays


def as_bytes(confidence: np.ndarray) -> np.ndarray:
    """0..1 as uint8 0..255, rounded; what is no number (a damaged network's) becomes 0."""
    result = np.empty(confidence.shape, np.uint8)
    scratch = np.empty(confidence.shape[1:], np.float32)
    # Plane by plane: each is read from memory once, though four things are done to it.
    for plane, target in zip(confidence, result, strict=True):
        np.multiply(plane, 255.0, out=scratch)
        np.add(scratch, 0.5, out=scratch)
        if not math.isfinite(float(scratch.sum())):
            np.nan_to_num(scratch, copy=False)
        np.clip(scratch, 0.0, 255.5, out=scratch)
        np.copyto(target, scratch, casting="unsafe")
    return result


def _summary(prediction: Prediction, counts: np.ndarray, sums: np.ndarray) -> dict[str, Any]:
    """What :meth:`Prediction.volumes_ml` and :meth:`Prediction.mean_confidence` say, from what was counted."""
    tree, voxel = prediction.tree, abs(float(np.linalg.det(prediction.affine[:3, :3]))) / 1000.0
    volumes: dict[str, float | list[float]] = {}
    for node in tree.nodes:
        values = [node.value, *(below.value for below in tree.descendants(node))]
        found = [round(float(count[values].sum()) * voxel, 4) for count in counts]
        volumes[node.name] = found if prediction.labels.ndim == 4 else found[0]
    total = counts.sum(axis=0)
    means = {
        node.name: round(float(sums[node.value] / total[node.value] / 255.0), 4)
        for node in tree.nodes
        if total[node.value]
    }
    return {"volumes_ml": volumes, "mean_confidence": means}


def _tally(
    prediction: Prediction, confidence: np.ndarray, crop: Mapping[str, Any], size: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Voxels by frame and value, and the sum of the confidence by value; only the box is looked at voxel by voxel."""
    labels, values = prediction.labels, [*prediction.tree.values, prediction.tree.unlabelled]
    box = tuple(slice(low, low + extent) for low, extent in zip(crop["start"], size, strict=True))
    row_of = np.zeros(prediction.tree.unlabelled + 1, dtype=np.uint32)
    row_of[values] = np.arange(len(values))
    frames = labels.shape[3] if labels.ndim == 4 else 1
    # How often each value meets each confidence: one count gives both sums.
    joint = np.zeros((frames, len(values), 256), dtype=np.int64)
    for plane, sure in zip(labels[box], confidence[box], strict=True):
        both = (row_of[plane] << np.uint32(8)) | sure
        for frame in range(frames):
            part = both if labels.ndim == 3 else both[..., frame]
            joint[frame] += np.bincount(part.reshape(-1), minlength=joint[0].size).reshape(joint[0].shape)
    counts = np.zeros((frames, prediction.tree.unlabelled + 1), dtype=np.int64)
    counts[:, values] = joint.sum(axis=2)
    sums = np.zeros(prediction.tree.unlabelled + 1)
    sums[values] = (joint.sum(axis=0) * np.arange(256)).sum(axis=1)
    # All around the box there is one value.
    counts[:, crop["fill"]] += labels.size // frames - counts.sum(axis=1)
    sums[crop["fill"]] += sum(int(plane.sum(dtype=np.int64)) for plane in confidence) - sums.sum()
    return counts, sums
