"""Back to the input's grid: probabilities travel, decisions are made there.

Upsampling a label map would give staircases.  Here probabilities are resampled onto the input's grid and compared there, so
that borders are smooth; block by block, so that no volume of all classes, nor of one, ever exists at the input's size.

Probabilities may come slab by slab (:class:`Restorer`): linear interpolation needs one plane on either side, so each
plane of the input is decided as soon as its two neighbors on the network's grid are known.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch

from hierseg.data.preprocess import Geometry
from hierseg.data.resampling import parallel_axes, voxel_map
from hierseg.inference.deciding import Box, Rules, decide, shifted
from hierseg.inference.sliding import Cancelled
from hierseg.inference.window import Probabilities, Slab
from hierseg.labeltree import LabelTree

_SAME_PLACE = 1e-6
"""In voxels: a plane of the input this far behind a plane of the network's grid is taken to lie on it."""

EDGE = {"cpu": 64, "cuda": 192}
"""Most voxels along a block's edge: small blocks hold few classes and stay in a processor's cache; a graphics card wants much to do."""


class Restored(NamedTuple):
    """Results on the input's grid ``(x, y, z)``.

    Attributes:
        labels: node values, in the tree's integer type.
        superclass: values of the top-level nodes.
        confidence: float32, the probability of the chosen leaf.
        seconds: ``{"decode": ..., "restore": ...}``: comparing, and resampling.
    """

    labels: np.ndarray
    superclass: np.ndarray
    confidence: np.ndarray
    seconds: dict[str, float]


def restore(
    probabilities: Probabilities,
    affine: np.ndarray,
    source: Geometry,
    tree: LabelTree,
    *,
    mode: str = "hierarchical",
    thresholds: Mapping[str, float] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Restored:
    """Decide for every voxel of the input's grid.

    Args:
        probabilities: on the network's grid.
        affine: of the network's grid.
        source: the input's grid.
        tree: the label tree.
        mode: as in :func:`~hierseg.inference.decode.decode`.
        thresholds: by node name or path: going down from the top, a node whose probability is below its threshold
            is not accepted; the voxel keeps the last accepted node, or ``unlabelled``.
        cancelled: asked before each block.

    Raises:
        Cancelled: ``cancelled`` returned True.
        ConfigError: the mode is unknown or a threshold out of range.
        LabelTreeError: a threshold names a node that is not in the tree.
        BundleError: the probabilities are not numbers.
    """
    shape = probabilities.leaf.shape[1:]
    restorer = Restorer(affine, shape, source, tree, mode=mode, thresholds=thresholds, cancelled=cancelled)
    restorer.add(Slab(0, 0, 0, shape[0], probabilities))
    return restorer.result()


class Restorer:
    """Decides slab by slab; arguments and errors as :func:`restore`.

    Args:
        affine: of the network's grid.
        shape: of the network's grid.
        source: the input's grid.
        tree: the label tree.
        mode: as in :func:`restore`.
        thresholds: as in :func:`restore`.
        cancelled: as in :func:`restore`.
    """

    def __init__(
        self,
        affine: np.ndarray,
        shape: Sequence[int],
        source: Geometry,
        tree: LabelTree,
        *,
        mode: str = "hierarchical",
        thresholds: Mapping[str, float] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> None:
        self._rules = Rules(tree, mode, thresholds or {})
        self._affine, self._shape, self._source = affine, tuple(shape), source
        self._cancelled = cancelled
        self._matrix = voxel_map(affine, source.affine)
        self._labels = np.empty(source.shape, tree.dtype)
        self._superclass = np.empty(source.shape, tree.dtype)
        self._confidence = np.empty(source.shape, np.float32)
        self._seconds = {"decode": 0.0, "restore": 0.0}

    @property
    def streams(self) -> bool:
        """Whether slabs can be taken; grids that are oblique to each other need all planes at once."""
        return parallel_axes(self._matrix, self._source.shape) is not None

    def add(self, slab: Slab) -> None:
        """Decide the input's planes that this slab completes."""
        box = self._box(slab)
        if box is None:
            return
        first = [slice(0, None)] * 3
        first[slab.axis] = slice(slab.first, None)
        affine = shifted(self._affine, first)
        edge = EDGE["cpu" if slab.probabilities.leaf.device.type == "cpu" else "cuda"]
        # Neither on the input's grid nor behind it on the network's is a block longer than that.
        steps = np.maximum(1.0, np.linalg.norm(self._matrix[:3, :3], axis=0))
        with torch.inference_mode():
            for parts in itertools.product(
                *(_even_parts(part, max(1, int(edge / step))) for part, step in zip(box, steps, strict=True))
            ):
                if self._cancelled is not None and self._cancelled():
                    raise Cancelled
                self._decide(slab.probabilities, affine, (parts[0], parts[1], parts[2]))

    def _decide(self, probabilities: Probabilities, affine: np.ndarray, box: Box) -> None:
        began = time.perf_counter()
        shape = tuple(part.stop - part.start for part in box)
        block = Geometry((shape[0], shape[1], shape[2]), shifted(self._source.affine, box), self._source.path)
        found = decide(probabilities, affine, block, self._rules)
        self._labels[box], self._superclass[box] = found.labels, found.superclass
        self._confidence[box] = found.confidence
        self._seconds["restore"] += found.resampling
        self._seconds["decode"] += time.perf_counter() - began - found.resampling

    def result(self) -> Restored:
        """All of it, after the last slab."""
        return Restored(self._labels, self._superclass, self._confidence, dict(self._seconds))

    def _box(self, slab: Slab) -> Box | None:
        """The planes of the input between the last plane handed on before and the last plane of this slab."""
        whole = slice(0, self._source.shape[0]), slice(0, self._source.shape[1]), slice(0, self._source.shape[2])
        if slab.start == 0 and slab.stop == self._shape[slab.axis]:
            return whole
        order = parallel_axes(self._matrix, self._source.shape)
        if order is None:
            raise ValueError("grids that are oblique to each other cannot be restored slab by slab")
        axis = order.index(slab.axis)
        places = self._matrix[slab.axis, 3] + self._matrix[slab.axis, axis] * np.arange(self._source.shape[axis])
        low = -np.inf if slab.start == 0 else slab.start - 1 + _SAME_PLACE
        high = np.inf if slab.stop == self._shape[slab.axis] else slab.stop - 1 + _SAME_PLACE
        inside = np.flatnonzero((places > low) & (places <= high))
        if inside.size == 0:
            return None
        box = list(whole)
        box[axis] = slice(int(inside[0]), int(inside[-1]) + 1)
        return box[0], box[1], box[2]


def _even_parts(whole: slice, most: int) -> list[slice]:
    """A range in as few parts as may be, none longer than ``most``, all nearly as long."""
    count = math.ceil((whole.stop - whole.start) / most)
    ends = [whole.start + (whole.stop - whole.start) * number // count for number in range(count + 1)]
    return [slice(start, stop) for start, stop in itertools.pairwise(ends)]
