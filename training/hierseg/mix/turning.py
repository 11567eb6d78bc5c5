"""Flips and quarter turns under which a prediction should stay the same.

Images are oriented (one axis runs from the patient's left to the right), and networks use that to tell the sides
apart.  In a tree that names sides ("left hippocampus"), therefore, nothing may carry a structure to the other side
unless its name changes with it: such a tree turns only in the plane that has no left-right axis, and flips
left-right only together with a swap of the opposite leaves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch

from hierseg.labeltree import LabelTree


@dataclass(frozen=True)
class Turn:
    """A transformation T of images ``(B, C, *spatial)``: quarter turns in a plane, then a flip.

    Attributes:
        quarters: number of quarter turns, 0 to 3.
        plane: the two spatial axes (0 is the first) that it turns in.
        flip: the spatial axis that is flipped, or None.
        swap: for each leaf channel the channel that it comes from when a prediction is turned back, or None; given
            when the flip changes left and right.
    """

    quarters: int = 0
    plane: tuple[int, int] = (0, 1)
    flip: int | None = None
    swap: tuple[int, ...] | None = None

    def apply(self, image: torch.Tensor) -> torch.Tensor:
        """T of an image."""
        turned = torch.rot90(image, self.quarters, [axis + 2 for axis in self.plane]) if self.quarters else image
        return turned if self.flip is None else turned.flip(self.flip + 2)

    def undo(self, prediction: torch.Tensor) -> torch.Tensor:
        """T⁻¹ of a prediction ``(B, K, *spatial)``, with opposite leaves swapped if the flip changes sides."""
        back = prediction if self.flip is None else prediction.flip(self.flip + 2)
        if self.quarters:
            back = torch.rot90(back, -self.quarters, [axis + 2 for axis in self.plane])
        return back if self.swap is None else back[:, list(self.swap)]


def draw_turn(
    shape: Sequence[int],
    tree: LabelTree,
    rng: np.random.Generator,
    *,
    spacing: Sequence[float] | None = None,
    left_right_axis: int | None = 0,
) -> Turn:
    """Draw a transformation as paper A does: zero to three quarter turns, then a flip along one axis.

    Args:
        shape: spatial shape of the patch.
        tree: the label tree; one with opposites restricts what is drawn.
        rng: the source of randomness.
        spacing: voxel size in mm along each axis; None if it is not known, then nothing is turned by 90°, because
            that is right in square planes with square pixels only.
        left_right_axis: the spatial axis between left and right (0 in RAS orientation); None if no axis is.
    """
    sided = tree.opposites and left_right_axis is not None
    planes = []
    if spacing is not None:
        for first, second in combinations(range(len(shape)), 2):
            square = shape[first] == shape[second] and abs(spacing[first] - spacing[second]) <= 1e-3 * abs(
                spacing[first]
            )
            if square and not (sided and left_right_axis in (first, second)):
                planes.append((first, second))
    swap = opposite_channels(tree) if sided else None
    flips = [axis for axis in range(len(shape)) if not (sided and axis == left_right_axis and swap is None)]
    plane = planes[int(rng.integers(len(planes)))] if planes else (0, 1)
    quarters = int(rng.integers(4)) if planes else 0
    flip = flips[int(rng.integers(len(flips)))] if flips else None
    return Turn(quarters, plane, flip, swap if sided and flip == left_right_axis else None)


def opposite_channels(tree: LabelTree) -> tuple[int, ...] | None:
    """For each leaf the channel of the opposite leaf (its own if it has none).

    None if swapping leaves does not swap every pair of opposite nodes: a tree whose "left lung" and "right lung"
    have leaves without opposites cannot be mirrored.
    """
    column = {leaf.name: index for index, leaf in enumerate(tree.leaves)}
    channels = []
    for leaf in tree.leaves:
        other = leaf.opposite if leaf.opposite is not None else leaf.name
        if other not in column:
            return None
        channels.append(column[other])
    for node in tree.nodes:
        if node.opposite is not None:
            mirrored = {channels[column[leaf.name]] for leaf in tree.leaves_under(node)}
            if mirrored != {column[leaf.name] for leaf in tree.leaves_under(node.opposite)}:
                return None
    return tuple(channels)
