"""What a published data set offers, before any voxel is read: its label tree, its channels and its cases.

A format's module builds a :class:`Source` from the names of files and from small text files alone; what it can refuse
already then (a channel without a file) it puts into :attr:`Source.refused`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from hierseg.errors import ConfigError
from hierseg.imageio import Volume, read_label
from hierseg.labeltree import LabelTree


@dataclass(frozen=True)
class Picture:
    """Where a channel's voxels are.

    Attributes:
        path: an image file.
        frame: of a 4D file, the frame that is meant; None for a 3D file.
        frames: how many frames the file must have, where each is a channel; None if any number will do.
    """

    path: Path
    frame: int | None = None
    frames: int | None = None


@dataclass(frozen=True)
class Labels:
    """A label map that was read.

    Attributes:
        volume: node values, on the file's own grid.
        anywhere: whether it may lie on another grid than the image by its nature, as segmentations of Slicer do.
        outside: the value of voxels that ``volume`` does not cover.
        slices_complete: as a case of a dataset folder has it, but for the grid.
        counted_on: affine of the grid along whose axes they are counted; None: the image's.
        fill: the value that unlabelled voxels of complete slices get, or None.
        notes: sentences for the report.
    """

    volume: Volume
    anywhere: bool = False
    outside: int | None = None
    slices_complete: Sequence[Mapping[str, Any]] = ()
    counted_on: np.ndarray | None = None
    fill: int | None = None
    notes: tuple[str, ...] = ()


class LabelSource(Protocol):
    """A label map that is not read yet."""

    @property
    def path(self) -> Path:
        """Its file."""
        ...

    def read(self, tree: LabelTree) -> Labels:
        """Read it as node values of the tree."""
        ...


@dataclass(frozen=True)
class LabelFile:
    """A label map in a file of its own.

    Attributes:
        path: the file.
        values: what its numbers are in the tree; None if they are the tree's.
    """

    path: Path
    values: Mapping[int, int] | None = field(default=None, hash=False)

    def read(self, tree: LabelTree) -> Labels:
        """Read it; a number that means nothing is refused."""
        return Labels(read_label(self.path, tree, values=self.values))


@dataclass(frozen=True)
class SourceCase:
    """A case of the data set.

    Attributes:
        id: what it will be called in the dataset folder.
        images: one a channel.
        label: None if it has none.
        split: ``training``, ``validation`` or ``test``.
        group: of cases that must stay together (a patient's); None if the case stands for itself.
        notes: sentences for the report.
    """

    id: str
    images: tuple[Picture, ...]
    label: LabelSource | None
    split: str = "training"
    group: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """All files of the case, each once."""
        paths = [picture.path for picture in self.images] + ([self.label.path] if self.label else [])
        return tuple(dict.fromkeys(paths))


@dataclass(frozen=True)
class Refused:
    """Something in the data set that is not taken.

    Attributes:
        name: a case, a file or a folder, as its user knows it.
        reason: one sentence.
    """

    name: str
    reason: str


@dataclass(frozen=True)
class Source:
    """A data set.

    Attributes:
        kind: the name of its format on the command line.
        name: what the dataset folder will be called.
        folder: where it lies; file names in reports are relative to it.
        channels: names, in order.
        tree: the label tree.
        cases: all cases that have their files.
        refused: what else there is.
        notes: sentences about the whole.
    """

    kind: str
    name: str
    folder: Path
    channels: tuple[str, ...]
    tree: LabelTree
    cases: tuple[SourceCase, ...]
    refused: tuple[Refused, ...] = ()
    notes: tuple[str, ...] = ()

    def shown(self, path: Path) -> str:
        """A file's name for reports: relative to the data set, where it lies in it."""
        return path.relative_to(self.folder).as_posix() if path.is_relative_to(self.folder) else path.name


def case_id(name: str) -> str:
    """A case's name as an id: ``scan 1.5T`` becomes ``scan-1-5T``."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-") or "case"


def distinct(names: Iterable[str]) -> tuple[str, ...]:
    """The names, numbered where two are alike: ``CT, CT`` becomes ``CT, CT 2``."""
    found: list[str] = []
    for name in names:
        number, new = 2, name
        while new.lower() in {other.lower() for other in found}:
            number, new = number + 1, f"{name} {number}"
        found.append(new)
    return tuple(found)


def grouping(pattern: str | None) -> Callable[[str], str | None]:
    """A function from a case's id to its group: the first match of a regular expression, or of its first bracket.

    Raises:
        ConfigError: the expression is wrong.
    """
    if pattern is None:
        return lambda name: None
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"--group is {pattern!r}, which is no regular expression ({error}); correct it.") from error

    def group(name: str) -> str | None:
        found = expression.search(name)
        return None if found is None else str(found.group(1 if expression.groups else 0) or "") or None

    return group


def drawn_split(groups: Sequence[str], shares: tuple[float, float], seed: int) -> dict[str, str]:
    """A split of each group, drawn.

    Args:
        groups: their names; which split one gets depends on their set, not on their order.
        shares: of training and of validation, of 1; the rest is for the test.
        seed: of the draw.
    """
    names = sorted(set(groups))
    drawn = [names[index] for index in np.random.default_rng([seed, 1]).permutation(len(names))]
    ends = [round(len(names) * shares[0]), round(len(names) * shares[0]) + round(len(names) * shares[1])]
    return {
        name: "training" if place < ends[0] else "validation" if place < ends[1] else "test"
        for place, name in enumerate(drawn)
    }
