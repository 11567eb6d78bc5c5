"""Phantom subjects to disk: as a dataset folder that ``hierseg train`` takes, or in the published layout of the original.

Everything is written into a temporary folder beside the target, which takes its place at the end: an interrupted run
leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from hierseg.atomic import new_folder
from hierseg.data.translation import coarsened
from hierseg.dataset import Dataset
from hierseg.errors import ConfigError
from hierseg.imageio import write_volume
from hierseg.labeltree import LabelTree
from hierseg.phantoms.acdc import AcdcPhantom
from hierseg.phantoms.brain import BrainPhantom
from hierseg.phantoms.brats import BratsPhantom
from hierseg.phantoms.hyperspectral import HyperspectralPhantom
from hierseg.phantoms.shapes import Scan

Progress = Callable[[int, int], None]
SMALLEST, LARGEST = 16, 512


class Phantom(Protocol):
    """What every kind of phantom offers."""

    name: str
    channels: tuple[str, ...]
    default_size: int
    dataset_name: str

    def tree(self) -> LabelTree:
        """The label tree of the truth."""
        ...

    def subject(self, rng: np.random.Generator, index: int, size: int, difficulty: float) -> list[Scan]:
        """Draw the scans of one subject."""
        ...


@runtime_checkable
class Sparse(Protocol):
    """A phantom whose training subjects are annotated by a few strokes."""

    def annotated(self, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """What an annotator says of a label map, unlabelled elsewhere."""
        ...


@runtime_checkable
class Published(Protocol):
    """A phantom whose original has a layout of its own."""

    def write_published(self, folder: Path, scans: list[Scan], rng: np.random.Generator) -> None:
        """Write one subject in that layout."""
        ...


PHANTOMS: dict[str, Phantom] = {
    phantom.name: phantom for phantom in (AcdcPhantom(), BratsPhantom(), BrainPhantom(), HyperspectralPhantom())
}


@dataclass(frozen=True)
class Request:
    """What to make.

    Attributes:
        kind: a key of :data:`PHANTOMS`.
        cases: number of subjects for training; an ACDC subject has two scans.
        test: number of further subjects, in the split "test".
        fine: how many training subjects keep their subclass labels; the rest get superclass labels. None: all.
        seed: the same seed gives the same bytes; subject i does not depend on how many there are.
        size: voxels along the longest side, or None for the original's size.
        difficulty: 0 to 1.
        raw: the original's published layout instead of a dataset folder.
        dense: training subjects carry their dense truth where the phantom would give them a few strokes.
    """

    kind: str
    cases: int
    test: int = 0
    fine: int | None = None
    seed: int = 0
    size: int | None = None
    difficulty: float = 0.5
    raw: bool = False
    dense: bool = False

    def check(self) -> None:
        """Refuse what cannot be made.

        Raises:
            ConfigError: names the value, what is allowed and what was found.
        """
        if self.kind not in PHANTOMS:
            raise ConfigError(f"there is no phantom '{self.kind}'; choose {', '.join(PHANTOMS)}.")
        if self.cases < 1 or self.test < 0:
            raise ConfigError(f"{self.cases} cases and {self.test} test cases were asked for; give at least 1 and 0.")
        if self.seed < 0:
            raise ConfigError(f"the seed is {self.seed}; give an integer of 0 or more.")
        if self.fine is not None and not 0 <= self.fine <= self.cases:
            raise ConfigError(f"--fine is {self.fine}; give a number from 0 to the number of cases, {self.cases}.")
        if self.size is not None and not SMALLEST <= self.size <= LARGEST:
            raise ConfigError(f"--size is {self.size}; give a number of voxels from {SMALLEST} to {LARGEST}.")
        if not 0 <= self.difficulty <= 1:
            raise ConfigError(f"--difficulty is {self.difficulty:g}; give a number from 0 to 1.")
        if self.raw and self.fine is not None:
            raise ConfigError("--raw and --fine exclude each other: the published layout has no superclass labels.")
        if self.raw and not isinstance(PHANTOMS[self.kind], Published):
            raise ConfigError(f"'{self.kind}' has no published layout; leave out --raw.")


def make_phantom(request: Request, out: str | Path, progress: Progress | None = None) -> dict[str, Any]:
    """Make a synthetic data set.

    Args:
        request: what to make.
        out: the folder to make; it may exist if it is empty.
        progress: called with the number of subjects that are done and their total.

    Returns:
        What was made, for people and programs: folder, kind, subjects, scans, fine and coarse scans.

    Raises:
        ConfigError: the request is out of range.
        DatasetError: the folder is not empty or cannot be written.
    """
    request.check()
    out = Path(out)
    fine = fine_subjects(request)
    scans = fine_scans = 0
    total = request.cases + request.test
    with new_folder(out) as folder:
        write = _raw_writer(request, folder) if request.raw else _dataset_writer(request, folder)
        for index in range(total):
            subject = draw_subject(request, index)
            write(subject, index, index in fine)
            scans += len(subject)
            fine_scans += len(subject) if index in fine else 0
            if progress is not None:
                progress(index + 1, total)
    return {
        "folder": str(out),
        "kind": request.kind,
        "layout": "published" if request.raw else "dataset",
        "seed": request.seed,
        "subjects": total,
        "scans": scans,
        "fine_scans": fine_scans,
        "coarse_scans": scans - fine_scans,
    }


def draw_subject(request: Request, index: int) -> list[Scan]:
    """The scans of subject ``index``: they depend on kind, seed, size, difficulty and index alone."""
    phantom = PHANTOMS[request.kind]
    return phantom.subject(_generator(request, index), index, request.size or phantom.default_size, request.difficulty)


def _generator(request: Request, *numbers: int) -> np.random.Generator:
    return np.random.default_rng([request.seed, list(PHANTOMS).index(request.kind), *numbers])


def fine_subjects(request: Request) -> set[int]:
    """Indices of the subjects that keep subclass labels: a seeded choice, and all test subjects."""
    count = request.cases if request.fine is None else request.fine
    chosen = _generator(request, 0, 2).permutation(request.cases)[:count]
    return {int(index) for index in chosen} | set(range(request.cases, request.cases + request.test))


def _dataset_writer(request: Request, folder: Path) -> Callable[[list[Scan], int, bool], None]:
    phantom = PHANTOMS[request.kind]
    tree = phantom.tree()
    dataset = Dataset.create(folder, phantom.dataset_name, list(phantom.channels), tree)

    def write(subject: list[Scan], index: int, fine: bool) -> None:
        for scan in subject:
            labels = scan.labels
            if isinstance(phantom, Sparse) and not request.dense and index < request.cases:
                labels = phantom.annotated(labels, _generator(request, index, 3))
            labels = labels.astype(tree.dtype) if fine else coarsened(labels, tree)
            dataset.save_case(
                scan.id,
                [partial(write_volume, array=image, affine=scan.affine) for image in scan.images],
                partial(write_volume, array=labels, affine=scan.affine),
                split="training" if index < request.cases else "test",
                group=scan.group,
                provenance={
                    "tool": "hierseg phantom",
                    "phantom": request.kind,
                    "seed": request.seed,
                    "difficulty": request.difficulty,
                    "labels": "subclasses" if fine else "superclasses",
                },
            )

    return write


def _raw_writer(request: Request, folder: Path) -> Callable[[list[Scan], int, bool], None]:
    phantom = PHANTOMS[request.kind]

    def write(subject: list[Scan], index: int, fine: bool) -> None:
        if isinstance(phantom, Published):
            phantom.write_published(folder, subject, _generator(request, index, 1))

    return write
