"""Which patches a training step sees: two streams, centered on annotated voxels.

Half of the patches come from cases with subclass-labelled voxels, half from cases with coarse ones (paper A, section
3.1; the share is a switch).  Which case belongs to which stream is read off its voxels; a case that was annotated with both is in both.
Patches are centered on annotated voxels, because a patch anywhere would mostly see unlabelled space: with
probability 2/3 on a node drawn uniformly among those of the case, else on any annotated voxel.

Everything is a pure function of the seed and the iteration.  Nothing of the sampler has to be saved to resume, and
it does not matter how many processes prepare batches.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hierseg.data.cases import VoxelIndex, coarse_values, subclass_values
from hierseg.errors import TrainingError
from hierseg.labeltree import LabelTree

BALANCED = 2.0 / 3.0
"""Share of patches centered on a node drawn uniformly."""

_MOST_NAMES = 5

FINE, COARSE = "fine", "coarse"
_STREAM_NUMBER = {FINE: 0, COARSE: 1}


@dataclass(frozen=True)
class Draw:
    """One patch of a batch.

    Attributes:
        case: position of the case.
        center: voxel at the patch's center ``(x, y, z)``.
        stream: ``fine`` or ``coarse``.
        seed: of everything random about the patch.
        partner: position of a case with subclass labels, to mix with; None if there is none, or for a fine patch.
        partner_center: one of the partner's subclass-labelled voxels; 2D networks mix with its slice.
    """

    case: int
    center: tuple[int, int, int]
    stream: str
    seed: int
    partner: int | None = None
    partner_center: tuple[int, int, int] | None = None


class TwoStreamSampler:
    """Draws the patches of each iteration.

    Args:
        indices: one voxel index a case.
        shapes: the cases' spatial shapes.
        tree: of their labels.
        batch_size: patches an iteration.
        seed: with the iteration, it determines every draw.
        fine_share: share of the fine stream, where there are both, kept as exactly as whole patches allow
            (a batch of one alternates with 0.5).

    Raises:
        TrainingError: there is no case.
    """

    def __init__(
        self,
        indices: Sequence[VoxelIndex],
        shapes: Sequence[tuple[int, int, int]],
        tree: LabelTree,
        batch_size: int,
        seed: int,
        fine_share: float = 0.5,
    ) -> None:
        if not indices:
            raise TrainingError("there is no case to train on; add cases with label maps to 'training' of the dataset.")
        self.indices, self.shapes, self.tree = list(indices), list(shapes), tree
        self.batch_size, self.seed, self.fine_share = batch_size, seed, fine_share
        fine, coarse = subclass_values(tree), coarse_values(tree)
        # A case that shows top-level leaves alone teaches the superclasses, so that it joins the coarse stream.
        self.fine = [i for i, index in enumerate(indices) if fine & index.counts.keys()]
        # A case of which all labels are hidden (``hold_out``) is in neither.
        labelled = [i for i, index in enumerate(indices) if index.counts]
        if not labelled:
            raise TrainingError(
                "no case has a labelled voxel that is not hidden; annotate some, or hide fewer classes."
            )
        self.coarse = [i for i in labelled if coarse & indices[i].counts.keys() or i not in set(self.fine)]
        if not coarse:
            # A flat tree: every leaf is a top-level node, and there is nothing coarse.
            self.fine, self.coarse = labelled, []
        self._subclasses = fine
        self._allowed = {FINE: set(tree.leaf_values.tolist()), COARSE: set(tree.values.tolist()) - fine}
        self._orders: dict[tuple[str, int], np.ndarray] = {}

    def usable_by(self, method: str) -> list[str]:
        """What a method leaves aside, in sentences.

        Raises:
            TrainingError: ``unet`` learns from subclasses alone, and no case shows any.
        """
        if method != "unet":
            return []
        if not self.fine:
            raise TrainingError(
                "no case has a voxel that is labelled with a subclass, and the method 'unet' learns from nothing else; "
                "refine some cases, or choose another method."
            )
        unused = len(set(self.coarse) - set(self.fine))
        if not unused:
            return []
        return [
            (
                f"{unused} of {len(self.indices)} training cases show{'s' if unused == 1 else ''} no subclass and {'is' if unused == 1 else 'are'} "
                "not used: the method 'unet' learns from subclasses alone."
            )
        ]

    @property
    def notes(self) -> list[str]:
        """What is missing for training as the paper does, in sentences."""
        if self.coarse and not self.fine:
            return ["No case has a subclass-labelled voxel: only the superclasses are learned; the subclasses are not."]
        notes = []
        if not self.coarse and coarse_values(self.tree):
            notes.append(
                "Every case is annotated with subclasses only: all patches come from them, and nothing is mixed."
            )
        shown = {value for index in self.indices for value in index.counts}
        absent = [f"'{leaf.name}'" for leaf in self.tree.leaves if leaf.value not in shown]
        if absent:
            named = ", ".join(absent[:_MOST_NAMES]) + (
                f" and {len(absent) - _MOST_NAMES} more" if len(absent) > _MOST_NAMES else ""
            )
            notes.append(
                f"No training case shows {named}: what nobody drew is not learned; it stays in the label tree and in the tables."
            )
        return notes

    @property
    def taught(self) -> frozenset[str]:
        """Names of the top-level nodes that the cases show subclasses of; in a flat tree, of all that they show."""
        values = self._subclasses or set(self.tree.leaf_values.tolist())
        shown = {value for index in self.indices for value in index.counts if value in values}
        return frozenset(self.tree.top_of(node).name for node in self.tree.nodes if node.value in shown)

    def draws(self, iteration: int) -> list[Draw]:
        """The patches of an iteration, fine ones first."""
        return [
            self._draw(stream, number, iteration, slot) for slot, (stream, number) in enumerate(self._slots(iteration))
        ]

    def _slots(self, iteration: int) -> list[tuple[str, int]]:
        """For each patch of the batch: its stream, and the how-manieth of that stream it is since the beginning."""
        size = self.batch_size
        if not self.fine or not self.coarse:
            stream = FINE if self.fine else COARSE
            return [(stream, iteration * size + k) for k in range(size)]
        # The small number keeps a product such as 0.1 * 10 from being rounded up to the next patch.
        before, after = (math.ceil(self.fine_share * size * i - 1e-9) for i in (iteration, iteration + 1))
        fine = [(FINE, k) for k in range(before, after)]
        return fine + [(COARSE, k) for k in range(iteration * size - before, (iteration + 1) * size - after)]

    def _draw(self, stream: str, number: int, iteration: int, slot: int) -> Draw:
        rng = np.random.default_rng([self.seed, 1, iteration, slot])
        case = self._case(stream, number)
        center = self._center(case, self._allowed[stream], rng)
        seed = int(rng.integers(2**31))
        if stream == FINE or not self.fine:
            return Draw(case, center, stream, seed)
        partner = self.fine[int(rng.integers(len(self.fine)))]
        return Draw(case, center, stream, seed, partner, self._center(partner, self._subclasses, rng))

    def _case(self, stream: str, number: int) -> int:
        """Cases are passed through in a fresh random order each time, so that all are seen equally often."""
        cases = self.fine if stream == FINE else self.coarse
        turn, place = divmod(number, len(cases))
        if (stream, turn) not in self._orders:
            self._orders = {key: order for key, order in self._orders.items() if key[0] != stream}
            self._orders[stream, turn] = np.random.default_rng(
                [self.seed, 2, _STREAM_NUMBER[stream], turn]
            ).permutation(len(cases))
        return cases[int(self._orders[stream, turn][place])]

    def _center(self, case: int, allowed: set[int], rng: np.random.Generator) -> tuple[int, int, int]:
        index = self.indices[case]
        nodes = [value for value in index.counts if value in allowed] or list(index.counts)
        if rng.random() < BALANCED:
            value = nodes[int(rng.integers(len(nodes)))]
        else:
            counts = np.array([index.counts[node] for node in nodes], dtype=np.float64)
            value = nodes[int(rng.choice(len(nodes), p=counts / counts.sum()))]
        positions = index.positions[value]
        x, y, z = np.unravel_index(int(positions[int(rng.integers(len(positions)))]), self.shapes[case])
        return int(x), int(y), int(z)


def window(center: Sequence[int], patch_size: Sequence[int], shape: Sequence[int]) -> tuple[int, ...]:
    """The first voxel of a patch: around the center, moved inside the image as far as the image is large enough.

    Where the image is smaller than the patch, the image lies in the patch's middle (the start is negative).

    Args:
        center: a voxel, one number a patch axis.
        patch_size: of the patch.
        shape: of the image.
    """
    starts = []
    for middle, size, length in zip(center, patch_size, shape, strict=True):
        if length <= size:
            starts.append(-((size - length) // 2))
        else:
            starts.append(min(max(middle - size // 2, 0), length - size))
    return tuple(starts)


def crop(array: np.ndarray, start: Sequence[int], size: Sequence[int], fill: float | np.ndarray) -> np.ndarray:
    """Copy a box out of the last ``len(start)`` axes; what lies outside the array is ``fill``,
    one number or an array that broadcasts.
    """
    lead = array.ndim - len(start)
    result = np.full((*array.shape[:lead], *size), fill, dtype=array.dtype)
    source, target = [slice(None)] * lead, [slice(None)] * lead
    for begin, extent, length in zip(start, size, array.shape[lead:], strict=True):
        low, high = max(begin, 0), min(begin + extent, length)
        source.append(slice(low, high))
        target.append(slice(low - begin, high - begin))
    result[tuple(target)] = array[tuple(source)]
    return result
