"""Back to the input's grid: probabilities travel, decisions are made there.

Upsampling a label map would give staircases.  Here each class's probabilities are resampled onto the input's grid and
compared with the best so far (a running maximum), so that borders are smooth and yet no volume of all classes ever
exists at the input's size.  A class is resampled only where it has any probability to speak of.

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
from hierseg.data.resampling import parallel_axes, resample, voxel_map
from hierseg.errors import BundleError
from hierseg.inference.decode import (
    check_mode,
    leaf_of_node,
    levels,
    node_thresholds,
    path_values,
    top_nodes,
)
from hierseg.inference.sliding import Cancelled, Progress
from hierseg.inference.window import Probabilities, Slab
from hierseg.labeltree import LabelTree

_NEGLIGIBLE = 1e-3
"""Below this a class is not looked at; the few voxels where *all* classes in question are below it are settled last."""

_SAME_PLACE = 1e-6
"""In voxels: a plane of the input this far behind a plane of the network's grid is taken to lie on it."""

_MOST_VOXELS = 4_000_000
"""Of the input, that are decided at a time."""

Box = tuple[slice, slice, slice]


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
    progress: Progress | None = None,
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
        progress: called with ``("restore", fraction done)``.
        cancelled: asked before each class.

    Raises:
        Cancelled: ``cancelled`` returned True.
        ConfigError: the mode is unknown or a threshold out of range.
        LabelTreeError: a threshold names a node that is not in the tree.
        BundleError: the probabilities are not numbers.
    """
    check_mode(mode)
    limits = node_thresholds(thresholds or {}, tree)
    began = time.perf_counter()
    with torch.inference_mode():
        grid = _Grid(probabilities, affine, source)
        steps = _Steps(grid.count(tree, mode) + len(limits), progress, cancelled)
        if mode == "leaf":
            leaf, confidence = _argmax(grid, probabilities.leaf, steps)
            superclass = leaf
        else:
            superclass, _ = _argmax(grid, probabilities.superclass, steps)
            leaf, confidence = _descend(grid, probabilities, tree, superclass, steps)
        if (superclass < 0).any():
            raise BundleError(
                "the network's output is not a number (NaN) for some voxels; its weights are damaged, train or get the bundle again."
            )
        values = path_values(tree)
        depth = _accepted_depth(grid, probabilities, tree, limits, leaf, mode, steps) if limits else None
        chosen = leaf.cpu().numpy()
        if depth is None:
            labels, coarse = values[:, -1][chosen], values[:, 1][chosen]
        else:
            accepted = depth.cpu().numpy()
            labels, coarse = values[chosen, accepted], values[chosen, np.minimum(accepted, 1)]
        result = confidence.clamp_(0.0, 1.0).cpu().numpy()
    return Restored(
        labels, coarse, result, {"decode": time.perf_counter() - began - grid.seconds, "restore": grid.seconds}
    )


class Restorer:
    """Decides slab by slab; arguments and errors as :func:`restore`.

    Args:
        affine: of the network's grid.
        shape: of the network's grid.
        source: the input's grid.
        tree: the label tree.
        mode: as in :func:`restore`.
        thresholds: as in :func:`restore`.
        cancelled: asked before each class of each slab.
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
        check_mode(mode)
        node_thresholds(thresholds or {}, tree)
        self._affine, self._shape, self._source, self._tree = affine, tuple(shape), source, tree
        self._mode, self._thresholds, self._cancelled = mode, thresholds, cancelled
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
        """Decide the input's planes that this slab completes, some of them at a time.

        While classes are compared, each voxel takes far more memory than in the result: an image much finer than the network's
        grid has so many voxels behind one slab that this would count.
        """
        box = self._box(slab)
        if box is None:
            return
        along = max(range(3), key=lambda axis: box[axis].stop - box[axis].start)
        planes = box[along].stop - box[along].start
        voxels = math.prod(part.stop - part.start for part in box)
        most = max(_MOST_VOXELS, slab.probabilities.leaf[0].numel())
        step = max(1, planes * most // voxels)
        for start in range(box[along].start, box[along].stop, step):
            part = list(box)
            part[along] = slice(start, min(start + step, box[along].stop))
            self._decide(slab, (part[0], part[1], part[2]))

    def _decide(self, slab: Slab, box: Box) -> None:
        shape = tuple(part.stop - part.start for part in box)
        part = Geometry((shape[0], shape[1], shape[2]), _shifted(self._source.affine, box), self._source.path)
        first = [0, 0, 0]
        first[slab.axis] = slab.first
        affine = _shifted(self._affine, [slice(start, None) for start in first])
        result = restore(
            slab.probabilities, affine, part, self._tree,
            mode=self._mode, thresholds=self._thresholds, cancelled=self._cancelled,
        )  # fmt: skip
        began = time.perf_counter()
        self._labels[box], self._superclass[box] = result.labels, result.superclass
        self._confidence[box] = result.confidence
        for stage, seconds in result.seconds.items():
            self._seconds[stage] += seconds
        self._seconds["decode"] += time.perf_counter() - began

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


class _Steps:
    """Counts classes for progress and asks whether to go on."""

    def __init__(self, total: int, progress: Progress | None, cancelled: Callable[[], bool] | None) -> None:
        self.total, self.done, self.progress, self.cancelled = total, 0, progress, cancelled

    def next(self) -> None:
        if self.cancelled is not None and self.cancelled():
            raise Cancelled
        self.done += 1
        if self.progress is not None:
            self.progress("restore", self.done / max(1, self.total))


class _Grid:
    """Resamples single classes from the network's grid onto boxes of the input's grid."""

    def __init__(self, probabilities: Probabilities, affine: np.ndarray, source: Geometry) -> None:
        self.device = probabilities.leaf.device
        self.shape = source.shape
        self.affine, self.target_affine = affine, source.affine
        self.inner = tuple(probabilities.leaf.shape[1:])
        self.to_inner = voxel_map(affine, source.affine)
        self.to_outer = voxel_map(source.affine, affine)
        self.seconds = 0.0

    def count(self, tree: LabelTree, mode: str) -> int:
        if mode == "leaf":
            return len(tree.leaves)
        return len(tree.top_level) + sum(len(level) for level in levels(tree))

    def box(self, channel: torch.Tensor) -> Box | None:
        """The box of the input's grid outside of which a class is negligible; None if it is so everywhere."""
        # Two passes over the class: along z, which gives the profiles in x and y, and along x.
        across, along = channel.amax(dim=2), channel.amax(dim=0)
        ends = []
        for profile in (across.amax(dim=1), along.amax(dim=1), along.amax(dim=0)):
            hit = torch.nonzero(profile > _NEGLIGIBLE).flatten()
            if hit.numel() == 0:
                return None
            ends.append((float(hit[0]) - 1.0, float(hit[-1]) + 1.0))
        # What touches the border of the network's grid is repeated beyond it: such an end stays open.
        far = 1e6
        ends = [
            (-far if low <= 0 else low, far if high >= size - 1 else high)
            for (low, high), size in zip(ends, self.inner, strict=True)
        ]
        return _mapped_box(ends, self.to_outer, self.shape)

    def channel(self, channel: torch.Tensor, box: Box) -> torch.Tensor:
        """One class's probabilities ``(X, Y, Z)`` on a box of the input's grid."""
        began = self._now()
        ends = [(float(part.start), float(part.stop - 1)) for part in box]
        inner = _mapped_box(ends, self.to_inner, self.inner, margin=2.0)
        if inner is None:  # the box lies outside of the network's grid: its border is repeated
            inner = slice(0, self.inner[0]), slice(0, self.inner[1]), slice(0, self.inner[2])
        shape = [part.stop - part.start for part in box]
        # Values at points, not averages: one thick slice, seen by the network as several, would lose to its neighbors.
        source, target = _shifted(self.affine, inner), _shifted(self.target_affine, box)
        result = resample(channel[inner][None].float(), source, target, shape, antialias=False)[0]
        self.seconds += self._now() - began
        return result

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


def _shifted(affine: np.ndarray, box: Sequence[slice]) -> np.ndarray:
    shift = np.eye(4)
    shift[:3, 3] = [part.start for part in box]
    return affine @ shift


def _mapped_box(
    ends: Sequence[tuple[float, float]], matrix: np.ndarray, shape: Sequence[int], margin: float = 0.0
) -> Box | None:
    """The box around a mapped box, within ``shape``; None where they do not meet."""
    corners = np.array([[*corner, 1.0] for corner in itertools.product(*ends)]) @ matrix.T
    low = np.floor(corners[:, :3].min(axis=0) - margin + 1e-3).astype(np.int64)
    high = np.ceil(corners[:, :3].max(axis=0) + margin - 1e-3).astype(np.int64)
    parts = [slice(max(0, int(a)), min(size, int(b) + 1)) for a, b, size in zip(low, high, shape, strict=True)]
    return (parts[0], parts[1], parts[2]) if all(part.start < part.stop for part in parts) else None


def _argmax(grid: _Grid, channels: torch.Tensor, steps: _Steps) -> tuple[torch.Tensor, torch.Tensor]:
    """The class of largest probability (int16, −1 where none) and that probability, on the input's grid."""
    best = torch.zeros(grid.shape, device=grid.device)
    index = torch.full(grid.shape, -1, dtype=torch.int16, device=grid.device)
    for number, channel in enumerate(channels):
        steps.next()
        box = grid.box(channel)
        if box is None:
            continue
        value = grid.channel(channel, box)
        better = value > best[box]
        index[box].masked_fill_(better, number)
        best[box] = torch.where(better, value, best[box])
    return index, best


def _descend(
    grid: _Grid, probabilities: Probabilities, tree: LabelTree, superclass: torch.Tensor, steps: _Steps
) -> tuple[torch.Tensor, torch.Tensor]:
    """From the superclass down, level by level, to a leaf (int16) and its probability, on the input's grid."""
    node = torch.tensor([*top_nodes(tree), -1], dtype=torch.int16, device=grid.device)[superclass.long()]
    confidence = torch.zeros(grid.shape, device=grid.device)
    for level in levels(tree):
        chosen, best = node.clone(), torch.zeros(grid.shape, device=grid.device)
        for step in level:
            steps.next()
            channel = step.channel(probabilities.leaf)
            box = grid.box(channel)
            if box is None:
                continue
            within = node[box] == step.parent
            if not within.any():
                continue
            value = grid.channel(channel, box)
            better = within & (value > best[box])
            chosen[box].masked_fill_(better, step.node)
            best[box] = torch.where(better, value, best[box])
        node, confidence = chosen, torch.where(best > 0, best, confidence)
    leaf = torch.from_numpy(leaf_of_node(tree).astype(np.int16)).to(grid.device)[node.long()]
    # A top-level leaf may have been chosen by the superclass head alone; no leaf head gave it a probability then.
    _settle(grid, probabilities, tree, node, leaf, confidence)
    return leaf, confidence


def _settle(
    grid: _Grid,
    probabilities: Probabilities,
    tree: LabelTree,
    node: torch.Tensor,
    leaf: torch.Tensor,
    confidence: torch.Tensor,
) -> None:
    """Voxels that got stuck at a node without a leaf of probability to speak of: its best leaf at the nearest voxel of the network's grid."""
    stuck = torch.nonzero(((leaf < 0) | (confidence <= 0)) & (node >= 0))
    if stuck.numel() == 0:
        return
    places = np.rint(stuck.cpu().numpy() @ grid.to_inner[:3, :3].T + grid.to_inner[:3, 3]).astype(np.int64)
    x, y, z = torch.from_numpy(np.clip(places, 0, np.array(grid.inner) - 1).T).to(grid.device)
    values = probabilities.leaf[:, x, y, z]
    below = torch.from_numpy(np.ascontiguousarray(tree.membership.T)).to(grid.device)
    values = values.masked_fill(~below[:, node[tuple(stuck.T)].long()], -1.0)
    value, choice = values.max(dim=0)
    leaf[tuple(stuck.T)] = choice.to(leaf.dtype)
    confidence[tuple(stuck.T)] = value.to(confidence.dtype)


def _accepted_depth(
    grid: _Grid,
    probabilities: Probabilities,
    tree: LabelTree,
    limits: Mapping[str, float],
    leaf: torch.Tensor,
    mode: str,
    steps: _Steps,
) -> torch.Tensor:
    """How deep the path to the chosen leaf is accepted: 0 = not at all (int64, on the input's grid)."""
    deepest = max(node.depth for node in tree.leaves)
    depth = torch.full(grid.shape, deepest, dtype=torch.int64, device=grid.device)
    rows = {node.name: row for row, node in enumerate(tree.nodes)}
    tops = {node.name: row for row, node in enumerate(tree.top_level)}
    whole = (slice(0, grid.shape[0]), slice(0, grid.shape[1]), slice(0, grid.shape[2]))
    for name, limit in limits.items():
        steps.next()
        node = tree.node(name)
        members = torch.from_numpy(tree.membership[rows[name]]).to(grid.device)
        concerned = members[leaf.long()] & (depth >= node.depth)
        if not concerned.any():
            continue
        channel = (
            probabilities.superclass[tops[name]]
            if node.depth == 1 and mode == "hierarchical"
            else probabilities.leaf[members].sum(dim=0)
        )
        depth[concerned & (grid.channel(channel, whole) < limit)] = node.depth - 1
    return depth
