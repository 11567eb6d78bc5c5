"""Label maps of each level of a tree, for programs that know nothing of trees."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import numpy as np
import slicer

from hierseg.errors import ImageError
from hierseg.labeltree import LabelTree
from HierSubclassSegLib.scene import annotation, export, geometry, labelmaps, nifti, reading
from HierSubclassSegLib.ticks import Steps


def file_steps(segmentation_node: slicer.vtkMRMLSegmentationNode, folder: str | Path) -> Steps[list[Path]]:
    """Write one ``.nii.gz`` a level into a folder, on the scan's grid, and the tree that says what the values mean.

    Voxels without any node are 0 if the tree has no other node of that value, else ``unlabelled``.

    Returns:
        The files: ``<name>_level1.nii.gz`` (superclasses), and so on; ``<name>_label_tree.json``.

    Raises:
        SceneError: the segmentation has no label tree or no volume.
        ImageError: a file cannot be written.
    """
    tree = annotation.tree_of(segmentation_node)
    grid = geometry.volume_grid(export.volumes_for(segmentation_node)[0])
    labels = yield from reading.read_steps(segmentation_node, tree, grid)
    stem = re.sub(r"[^\w.-]+", "_", segmentation_node.GetName()).strip("_.") or "segmentation"
    deepest = max(node.depth for node in tree.nodes)
    written = []
    part = Path(folder) / f".{stem}.part.nii.gz"
    try:
        for depth in range(1, deepest + 1):
            target = Path(folder) / f"{stem}_level{depth}.nii.gz"
            yield from nifti.write_steps(part, _level(tree, labels, depth), grid.affine)
            # In place by one rename: nobody ever sees half a file.
            part.replace(target)
            written.append(target)
        target = Path(folder) / f"{stem}_label_tree.json"
        tree.save(target)
        written.append(target)
    except OSError as error:
        raise ImageError(
            f"{folder}: the label maps cannot be written ({error.strerror or error}); free space or choose another folder."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
    return written


def _level(tree: LabelTree, labels: np.ndarray, depth: int) -> np.ndarray:
    """The label map of a level, with 0 for nothing where 0 means nothing else."""
    background = tree.background
    empty = 0 if 0 not in tree.values or (background is not None and background.value == 0) else tree.unlabelled
    level = labelmaps.level_map(tree, labels, depth)
    level[level == tree.unlabelled] = empty
    return level
