"""From a described data set to a dataset folder: case by case, so that it may be killed at any time and run again.

One case is in memory at a time, and it is saved as a whole (:mod:`hierseg.transaction`).  What a case was made from
(names, sizes and times of its files, the tree, fine or coarse) is recorded as a fingerprint in its provenance: the
next run keeps what has the same one.  A case that was annotated in the meantime has another provenance and is never
overwritten.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import hierseg
from hierseg.dataset import Case, Dataset
from hierseg.errors import ConfigError, DatasetError, HiersegError
from hierseg.imageio import write_volume
from hierseg.importers.reading import CaseData, read_case
from hierseg.importers.report import IMPORTED, KEPT, REFUSED, Report, Row
from hierseg.importers.source import Source, SourceCase

TOOL = "hierseg import"
FINE_ORDERS = ("drawn", "listed")
Progress = Callable[[int, int], None]
_VERSION = 1  # of what an import makes of the same files: raise it when that changes


@dataclass(frozen=True)
class Options:
    """How to import.

    Attributes:
        fine: how many groups (patients) of the training cases keep their subclass labels, the rest get their
            superclasses; None: all.
        seed: which ones are drawn from.
        fine_order: ``drawn``, or ``listed``: the first ones in the data set's own order.
        bring: resample what lies on another grid than the first channel.
    """

    fine: int | None = None
    seed: int = 0
    fine_order: str = "drawn"
    bring: bool = False

    def check(self) -> None:
        """Refuse what makes no sense.

        Raises:
            ConfigError: names the option.
        """
        if self.fine is not None and self.fine < 0:
            raise ConfigError(f"--fine is {self.fine}; give a number of 0 or more.")
        if self.seed < 0:
            raise ConfigError(f"the seed is {self.seed}; give an integer of 0 or more.")
        if self.fine_order not in FINE_ORDERS:
            raise ConfigError(f"--fine-order is {self.fine_order!r}; choose {' or '.join(FINE_ORDERS)}.")


def import_cases(source: Source, out: str | Path, options: Options, progress: Progress | None = None) -> Report:
    """Import a data set, or go on with an import that was interrupted.

    Args:
        source: what there is.
        out: the dataset folder; a new or empty one, or that of an earlier run.
        options: how.
        progress: called with the number of cases that are done and their total.

    Returns:
        What became of each case; it is also written into the folder, if anything could be imported.

    Raises:
        ConfigError: an option is out of range.
        DatasetError: the folder holds another data set, or cannot be written.
    """
    options.check()
    out = Path(out)
    if out.resolve() == source.folder.resolve():
        raise DatasetError(f"{out}: the dataset folder would be the data set's own folder; give another one.")
    writer = _Writer(source, out, options)
    rows: dict[str, Row] = {}
    for row in writer.rows():
        rows[row.name] = row
        if progress is not None:
            progress(len(rows), len(source.cases))
    report = Report(
        source.kind,
        source.folder.resolve().name,
        out.resolve().name,
        (
            *(rows[case.id] for case in source.cases),
            *(Row(other.name, REFUSED, reason=writer.within(other.reason)) for other in source.refused),
        ),
        (*source.notes, *writer.notes(list(rows.values()))),
    )
    if report.there:
        report.save(out)
    return report


class _Writer:
    def __init__(self, source: Source, out: Path, options: Options) -> None:
        self.source = source
        self.out = out
        self.options = options
        self.dataset = self._opened() if (out / "dataset.json").is_file() else None
        self.known = {case.id: case for case in self.dataset.cases()} if self.dataset else {}

    def rows(self) -> Iterable[Row]:
        """Import all cases; where only some stay fine, group by group until there are enough of them."""
        training: dict[str, list[SourceCase]] = {}
        for case in self.source.cases:
            if case.split == "training":
                training.setdefault(case.group or case.id, []).append(case)
        left = self.options.fine
        for name in self._order(list(training)):
            fine = left is None or left > 0
            taken = [self._take(case, fine) for case in training[name]]
            # A group of which nothing could be read does not count.
            if left is not None and any(row.labels == "subclasses" for row in taken):
                left -= 1
            yield from taken
        for case in self.source.cases:
            if case.split != "training":
                yield self._take(case, fine=True)

    def notes(self, rows: list[Row]) -> list[str]:
        """Sentences about the fine cases, and about cases that the folder has from elsewhere."""
        others = sorted(set(self.known) - {case.id for case in self.source.cases})
        said = (
            [f"Cases in the folder that this import does not know were left as they are: {', '.join(others)}."]
            if others
            else []
        )
        fine = self.options.fine
        if fine is None:
            return said
        kept = {row.group or row.name for row in rows if row.labels == "subclasses" and row.split == "training"}
        how = "in the data set's own order" if self.options.fine_order == "listed" else f"seed {self.options.seed}"
        short = "" if len(kept) == fine else f", though {fine} were asked for"
        return [
            *said,
            f"{len(kept)} of the training groups keep their subclass labels ({how}){short}: {', '.join(sorted(kept))}.",
        ]

    def _order(self, groups: list[str]) -> list[str]:
        if self.options.fine is None or self.options.fine_order == "listed":
            return groups
        # The draw depends on the set of names alone.
        drawn = np.random.default_rng([self.options.seed, 0]).permutation(len(groups))
        return [sorted(groups)[index] for index in drawn]

    def _take(self, case: SourceCase, fine: bool) -> Row:
        labels = "none" if case.label is None else "subclasses" if fine else "superclasses"
        fact = partial(Row, case.id, split=case.split, group=case.group, labels=labels)
        try:
            print_ = _fingerprint(self.source, case, fine, self.options.bring)
            old = self.known.get(case.id)
            if old is not None and not str(old.provenance.get("tool", "")).startswith(TOOL):
                return fact(KEPT, notes=("It was annotated after an earlier import and is left as it is.",))
            if old is not None and old.provenance.get("fingerprint") == print_ and self._is_whole(old):
                return fact(KEPT)
            data = read_case(case, self.source.tree, fine=fine, bring=self.options.bring)
        except HiersegError as error:
            return Row(case.id, REFUSED, reason=self.within(error.sentence))
        self._save(case, data, labels, print_)
        return fact(IMPORTED, notes=tuple(self.within(note) for note in data.notes))

    def within(self, sentence: str) -> str:
        """A sentence with the names of files as they are in the data set: the report may travel with the folder."""
        return sentence.replace(f"{self.source.folder}{os.sep}", "")

    def _save(self, case: SourceCase, data: CaseData, labels: str, print_: str) -> None:
        if self.dataset is None:
            self.dataset = Dataset.create(self.out, self.source.name, list(self.source.channels), self.source.tree)
        affine = data.images[0].affine
        provenance: dict[str, Any] = {
            "when": datetime.now(UTC).isoformat(timespec="seconds"),
            "tool": f"{TOOL} {self.source.kind} {hierseg.__version__}",
            "source": [self.source.shown(path) for path in case.files],
            "labels": labels,
            "fingerprint": print_,
        }
        self.dataset.save_case(
            case.id,
            [partial(write_volume, array=image.array, affine=affine) for image in data.images],
            None if data.label is None else partial(write_volume, array=data.label, affine=affine),
            split=case.split,
            group=case.group,
            provenance=provenance,
            slices_complete=data.slices_complete,
        )

    def _is_whole(self, case: Case) -> bool:
        return all((self.out / relative).is_file() for relative in case.files)

    def _opened(self) -> Dataset:
        dataset = Dataset.open(self.out)
        if dataset.channels != list(self.source.channels) or dataset.tree != self.source.tree:
            raise DatasetError(
                f"{self.out}: the dataset '{dataset.name}' here has the channels {', '.join(dataset.channels)} and the label tree '{dataset.tree.fingerprint}', "
                f"the data set has {', '.join(self.source.channels)} and '{self.source.tree.fingerprint}'; give another folder."
            )
        return dataset


def _fingerprint(source: Source, case: SourceCase, fine: bool, bring: bool) -> str:
    """A short hash of all that decides what the case becomes, without reading a voxel."""
    files = []
    for path in case.files:
        try:
            facts = path.stat()
        except OSError as error:
            raise DatasetError(f"{path}: the file cannot be found ({error.strerror or error}); restore it.") from error
        files.append([source.shown(path), facts.st_size, facts.st_mtime_ns])
    pictures = [[source.shown(picture.path), picture.frame] for picture in case.images]
    values = getattr(case.label, "values", None)
    content = [
        _VERSION, source.kind, source.tree.fingerprint, files, pictures, case.split, case.group, fine, bring,
        sorted(values.items()) if values else None,
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]
