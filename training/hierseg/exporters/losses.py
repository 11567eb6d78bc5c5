"""What another format cannot hold, counted while the cases go through and told in one sentence each."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from hierseg.dataset import Case
from hierseg.labeltree import LabelTree

FILE_NAME = "what-was-lost.md"


@dataclass
class Losses:
    """Counts over all exported cases.

    Attributes:
        tree: of the dataset.
        coarse: voxels that carry an inner node, and in how many cases.
        unlabelled: voxels of which nothing is known, and in how many cases.
        sliced: cases with slices that are marked complete.
        grouped: cases with a group.
        made: cases that say how their label map was made.
    """

    tree: LabelTree
    coarse: list[int] = field(default_factory=lambda: [0, 0])
    unlabelled: list[int] = field(default_factory=lambda: [0, 0])
    sliced: int = 0
    grouped: int = 0
    made: int = 0

    def count(self, case: Case, label: np.ndarray | None) -> None:
        """Add a case."""
        self.sliced += bool(case.slices_complete)
        self.grouped += bool(case.group)
        self.made += bool(case.provenance)
        if label is None:
            return
        inner = [node.value for node in self.tree.nodes if not self.tree.is_leaf(node)]
        for total, found in (
            (self.coarse, int(np.isin(label, inner).sum())),
            (self.unlabelled, int((label == self.tree.unlabelled).sum())),
        ):
            total[0] += found
            total[1] += found > 0


def cases(number: int) -> str:
    """A number of cases in words."""
    return f"{number} case" if number == 1 else f"{number} cases"


def voxels(counted: list[int]) -> str:
    """A number of voxels, and in how many cases."""
    return f"{counted[0]:,} voxel{'s' if counted[0] != 1 else ''} of {cases(counted[1])}"


def as_text(title: str, sentences: list[str], refused: dict[str, str]) -> str:
    """The content of the file beside an export."""
    lines = [f"# {title}", ""]
    lines += [f"- {sentence}" for sentence in sentences] or ["Nothing was lost."]
    if refused:
        lines += ["", "Cases that could not be exported:", ""]
        lines += [f"- {name}: {reason}" for name, reason in refused.items()]
    return "\n".join(lines) + "\n"
