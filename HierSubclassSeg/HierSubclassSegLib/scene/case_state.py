"""What an annotation holds, as a mark that is cheap to compare and a digest that says the same tomorrow."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import slicer

from hierseg.errors import LabelTreeError
from hierseg.labeltree import LabelTree
from HierSubclassSegLib.scene import layers, tree_store
from HierSubclassSegLib.ticks import Steps, finish


def mark_of(segmentation_node: slicer.vtkMRMLSegmentationNode) -> tuple[Any, ...]:
    """Equal as long as nothing has been done to voxels, tree or complete marks; costs no look at a voxel.

    It may differ though all is the same: entering Refine and saving rearrange label maps.
    """
    try:
        tree = tree_store.read_tree(segmentation_node)
    except LabelTreeError:
        tree = None
    segments = []
    for segment_id, segment in tree_store.segments(segmentation_node):
        image = layers.label_map(segment)
        modified = image.GetMTime() if image is not None else 0
        segments.append((segment_id, layers.address(image), modified, segment.GetLabelValue()))
    state = json.dumps(tree_store.read_state(segmentation_node).get("complete"), sort_keys=True)
    return (tree.fingerprint if tree is not None else "", state, *segments)


def digest(tree: LabelTree, labels: np.ndarray, slices_complete: Sequence[Mapping[str, Any]]) -> str:
    """A digest of what an export would write: equal if and only if the case would be."""
    return finish(digest_steps(tree, labels, slices_complete))


def digest_steps(tree: LabelTree, labels: np.ndarray, slices_complete: Sequence[Mapping[str, Any]]) -> Steps[str]:
    """:func:`digest` in small steps."""
    found = hashlib.sha256(f"{tree.fingerprint} {labels.shape}".encode())
    found.update(json.dumps([dict(entry) for entry in slices_complete], sort_keys=True).encode())
    # The memory of a label map as it is read here: x fastest.
    for k in range(labels.shape[2]):
        found.update(np.asfortranarray(labels[:, :, k], dtype=tree.dtype).tobytes(order="F"))
        yield k / labels.shape[2]
    return found.hexdigest()
