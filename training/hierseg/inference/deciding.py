"""Which node each voxel of a block of the input's grid is, from probabilities on the network's grid.

A class is resampled only where it can win.  Linear interpolation stays between the least and the largest of the values
that it joins: within a block, a class whose largest probability is below another's least one wins nowhere.  Most blocks
hold few classes, so most of them are settled by looking at the network's coarser voxels.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch

from hierseg.data.preprocess import Geometry
from hierseg.data.resampling import Resampler, voxel_map
from hierseg.errors import BundleError
from hierseg.inference.decode import Step, check_mode, leaf_of_node, levels, node_thresholds, path_values, top_nodes
from hierseg.inference.window import Probabilities
from hierseg.labeltree import LabelTree

_NEGLIGIBLE = 1e-3
"""Below this a class is not looked at; the few voxels where *all* classes in question are below it are settled last."""

_ROUNDING = 1e-5
"""By which interpolated probabilities may leave the range of those that they are made of; more than they really do."""

Box = tuple[slice, slice, slice]


class Decision(NamedTuple):
    """Of the voxels of a block ``(x, y, z)``.

    Attributes:
        labels: node values, in the tree's integer type.
        superclass: values of the top-level nodes.
        confidence: float32, the probability of the chosen leaf.
        resampling: seconds that resampling took.
    """

    labels: np.ndarray
    superclass: np.ndarray
    confidence: np.ndarray
    resampling: float


class _Check(NamedTuple):
    """A node whose probability has to reach a threshold: its depth, its leaves, and its row if it is a top-level node."""

    depth: int
    limit: float
    leaves: torch.Tensor
    top: int | None


class Rules:
    """How voxels are decided: what depends on the tree alone, once for all blocks.

    Args:
        tree: the label tree.
        mode: as in :func:`~hierseg.inference.decode.decode`.
        thresholds: by node name or path; see :func:`~hierseg.inference.restore.restore`.

    Raises:
        ConfigError: the mode is unknown or a threshold out of range.
        LabelTreeError: a threshold names a node that is not in the tree.
    """

    def __init__(self, tree: LabelTree, mode: str, thresholds: Mapping[str, float]) -> None:
        check_mode(mode)
        self.tree, self.mode = tree, mode
        self.limits = node_thresholds(thresholds, tree)
        self.values = path_values(tree)
        self.tops = torch.tensor([*top_nodes(tree), -1], dtype=torch.int16)
        self.leaf_of_node = torch.from_numpy(leaf_of_node(tree).astype(np.int16))
        # Siblings, which compete with each other, level by level from above.
        self.families: list[list[list[Step]]] = []
        for level in levels(tree):
            siblings: dict[int, list[Step]] = {}
            for step in level:
                siblings.setdefault(step.parent, []).append(step)
            self.families.append(list(siblings.values()))
        self.deepest = max(node.depth for node in tree.leaves)
        rows = {node.name: row for row, node in enumerate(tree.nodes)}
        tops = {node.name: row for row, node in enumerate(tree.top_level)}
        self.checks = [
            _Check(tree.node(name).depth, limit, torch.from_numpy(tree.membership[rows[name]]), tops.get(name))
            for name, limit in self.limits.items()
        ]


def decide(probabilities: Probabilities, affine: np.ndarray, block: Geometry, rules: Rules) -> Decision:
    """Decide for every voxel of a block.

    Args:
        probabilities: on the network's grid; more of it than lies behind the block is not looked at.
        affine: of the network's grid.
        block: the block's grid.
        rules: how.

    Raises:
        BundleError: the probabilities are not numbers.
    """
    ends = [(0.0, float(size - 1)) for size in block.shape]
    behind = _behind(ends, voxel_map(affine, block.affine), tuple(probabilities.leaf.shape[1:]))
    near = Probabilities(*(part[(slice(None), *behind)] for part in probabilities))
    grid = _Block(near, shifted(affine, behind), block)
    if not grid.copies:
        near = Probabilities(*(part.float().contiguous() for part in near))
    if rules.mode == "leaf":
        leaf, confidence = _argmax(grid, near.leaf, True)
        superclass = leaf
    else:
        superclass, _ = _argmax(grid, near.superclass, False)
        leaf, confidence = _descend(grid, near, rules, superclass)
    if (superclass < 0).any():
        raise BundleError(
            "the network's output is not a number (NaN) for some voxels; its weights are damaged, train or get the bundle again."
        )
    values, chosen = rules.values, leaf.cpu().numpy()
    if rules.limits:
        accepted = _accepted_depth(grid, near, rules, leaf).cpu().numpy()
        labels, coarse = values[chosen, accepted], values[chosen, np.minimum(accepted, 1)]
    else:
        labels, coarse = values[:, -1][chosen], values[:, 1][chosen]
    return Decision(labels, coarse, confidence.clamp_(0.0, 1.0).cpu().numpy(), grid.seconds)


def shifted(affine: np.ndarray, box: Sequence[slice]) -> np.ndarray:
    """The affine of a part of a grid."""
    shift = np.eye(4)
    shift[:3, 3] = [part.start for part in box]
    result: np.ndarray = affine @ shift
    return result


def _behind(ends: Sequence[tuple[float, float]], matrix: np.ndarray, shape: Sequence[int]) -> Box:
    """The voxels of the network's grid that a block's are made of; the nearest ones if it is outside."""
    corners = np.array([[*corner, 1.0] for corner in itertools.product(*ends)]) @ matrix.T
    last = np.array(shape) - 1
    low = np.clip(np.floor(corners[:, :3].min(axis=0) + 1e-3), 0, last).astype(np.int64)
    high = np.clip(np.ceil(corners[:, :3].max(axis=0) - 1e-3), 0, last).astype(np.int64)
    parts = [slice(int(a), int(b) + 1) for a, b in zip(low, high, strict=True)]
    return parts[0], parts[1], parts[2]


class _Block:
    """Resamples classes from the voxels behind a block onto the block's grid."""

    def __init__(self, near: Probabilities, affine: np.ndarray, block: Geometry) -> None:
        self.device = near.leaf.device
        self.shape = block.shape
        self.inner = tuple(near.leaf.shape[1:])
        self.to_inner = voxel_map(affine, block.affine)
        # Values at points, not averages: one thick slice, seen by the network as several, would lose to its neighbors.
        self._resampler = Resampler(self.inner, affine, block.affine, block.shape, self.device, antialias=False)
        self.copies = self._resampler.copies
        self.seconds = 0.0

    def resampled(self, channel: torch.Tensor) -> torch.Tensor:
        """One class's probabilities ``(X, Y, Z)`` at the network's voxels as those of the block's."""
        began = self._now()
        result = self._resampler(channel[None].float())[0]
        self.seconds += self._now() - began
        return result

    def full(self, value: float, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """One value for each voxel of the block."""
        return torch.full(self.shape, value, dtype=dtype, device=self.device)

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


def _ends(grid: _Block, channels: torch.Tensor) -> tuple[list[float], list[float]]:
    """The least and the largest probability of each class; where nothing is resampled, looking for them would not pay."""
    if grid.copies:
        return [0.0] * len(channels), [1.0] * len(channels)
    flat = channels.flatten(1)
    # Not aminmax, which takes several times as long.
    return flat.amin(dim=1).tolist(), flat.amax(dim=1).tolist()


def _contenders(least: Sequence[float], largest: Sequence[float]) -> list[int]:
    """Which of several classes can be the most probable one somewhere."""
    bound = max(least) - _ROUNDING
    return [number for number, most in enumerate(largest) if most > _NEGLIGIBLE and most >= bound]


def _put(index: torch.Tensor, where: torch.Tensor, value: int) -> None:
    """``index[where] = value`` for int16, by bits: on a processor a tenth of the time of a masked filling."""
    mask = where.to(torch.int16).neg_()
    index.bitwise_xor_(mask.bitwise_and_(index ^ value))


def _argmax(grid: _Block, channels: torch.Tensor, confident: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """The class of largest probability (int16, −1 where none) and, where ``confident``, that probability."""
    best, index = grid.full(0.0), grid.full(-1, torch.int16)
    contenders = _contenders(*_ends(grid, channels))
    if len(contenders) == 1 and not confident:
        return index.fill_(contenders[0]), best
    for number in contenders:
        value = grid.resampled(channels[number])
        _put(index, value > best, number)
        torch.maximum(best, value, out=best)
    return index, best


def _descend(
    grid: _Block, near: Probabilities, rules: Rules, superclass: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """From the superclass down, level by level, to a leaf (int16) and its probability."""
    node = rules.tops.to(grid.device)[superclass.long()]
    confidence = grid.full(0.0)
    least, largest = _ends(grid, near.leaf)
    for families in rules.families:
        present = set(torch.unique(node).tolist())
        steps: list[Step] = []
        for family in families:
            if family[0].parent not in present:
                continue
            # A node's probability is its leaves' together: between the sums of their ends.
            ends = [[sum(end[leaf] for leaf in step.leaves) for step in family] for end in (least, largest)]
            steps += [family[number] for number in _contenders(*ends)]
        chosen, best = node.clone(), grid.full(0.0)
        for step in steps:
            value = grid.resampled(step.channel(near.leaf)) * (node == step.parent)
            _put(chosen, value > best, step.node)
            torch.maximum(best, value, out=best)
        node, confidence = chosen, torch.where(best > 0, best, confidence)
    leaf = rules.leaf_of_node.to(grid.device)[node.long()]
    # A top-level leaf may have been chosen by the superclass head alone; no leaf head gave it a probability then.
    _settle(grid, near, rules.tree, node, leaf, confidence)
    return leaf, confidence


def _settle(
    grid: _Block,
    near: Probabilities,
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
    values = near.leaf[:, x, y, z]
    below = torch.from_numpy(np.ascontiguousarray(tree.membership.T)).to(grid.device)
    values = values.masked_fill(~below[:, node[tuple(stuck.T)].long()], -1.0)
    value, choice = values.max(dim=0)
    leaf[tuple(stuck.T)] = choice.to(leaf.dtype)
    confidence[tuple(stuck.T)] = value.to(confidence.dtype)


def _accepted_depth(grid: _Block, near: Probabilities, rules: Rules, leaf: torch.Tensor) -> torch.Tensor:
    """How deep the path to the chosen leaf is accepted: 0 = not at all (int64)."""
    depth = grid.full(rules.deepest, torch.int64)
    for check in rules.checks:
        members = check.leaves.to(grid.device)
        concerned = members[leaf.long()] & (depth >= check.depth)
        if not concerned.any():
            continue
        by_superclass = check.top is not None and rules.mode == "hierarchical"
        channel = near.superclass[check.top] if by_superclass else near.leaf[members].sum(dim=0)
        depth[concerned & (grid.resampled(channel) < check.limit)] = check.depth - 1
    return depth
