"""What all exports of data sets share: going through the cases, one in memory at a time, into a folder made at the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from hierseg.atomic import new_folder, write_text
from hierseg.dataset import Case, Dataset
from hierseg.errors import DatasetError, HiersegError
from hierseg.exporters.losses import FILE_NAME, Losses, as_text
from hierseg.importers.reading import CaseData, read_case
from hierseg.importers.source import LabelFile, Picture, SourceCase

Progress = Callable[[int, int], None]


class Exporter(Protocol):
    """One format."""

    kind: str
    title: str

    def check(self, dataset: Dataset, out: Path) -> None:
        """Refuse what the format cannot hold at all, before anything is written."""
        ...

    def left_out(self, case: Case) -> str | None:
        """Why a case is not exported, or None."""
        ...

    def write(self, folder: Path, case: Case, data: CaseData) -> None:
        """Write one case."""
        ...

    def finish(self, folder: Path, dataset: Dataset, losses: Losses) -> list[str]:
        """Write what describes the whole, and say what is lost."""
        ...


@dataclass(frozen=True)
class Exported:
    """What an export did.

    Attributes:
        kind: the format.
        folder: what was made.
        cases: ids of the exported cases.
        lost: one sentence each.
        refused: reason by id, of the cases that were not exported.
    """

    kind: str
    folder: str
    cases: tuple[str, ...]
    lost: tuple[str, ...]
    refused: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "format_version": 1,
            "kind": self.kind,
            "folder": self.folder,
            "cases": list(self.cases),
            "lost": list(self.lost),
            "refused": self.refused,
        }


def export_dataset(
    dataset: Dataset, out: str | Path, exporter: Exporter, *, bring: bool = False, progress: Progress | None = None
) -> Exported:
    """Write a dataset folder in another format, into a new folder.

    Args:
        dataset: what to export.
        out: the folder to make; it may exist if it is empty.  An export that is interrupted leaves nothing.
        exporter: the format.
        bring: resample what lies on another grid than its case's first channel instead of leaving the case out.
        progress: called with the number of cases that are done and their total.

    Raises:
        DatasetError: the folder is not empty or cannot be written, or no case could be exported.
        ConfigError, LabelTreeError: the format cannot hold this dataset.
    """
    out = Path(out)
    exporter.check(dataset, out)
    losses = Losses(dataset.tree)
    done: list[str] = []
    refused: dict[str, str] = {}
    with new_folder(out) as folder:
        for number, case in enumerate(dataset.cases(), start=1):
            reason = exporter.left_out(case)
            try:
                if reason is None:
                    data = read_stored(dataset, case, bring)
            except HiersegError as error:
                reason = error.sentence
            if reason is None:
                exporter.write(folder, case, data)
                losses.count(case, data.label)
                done.append(case.id)
            else:
                refused[case.id] = reason
            if progress is not None:
                progress(number, len(dataset.cases()))
        if not done:
            first = next(iter(refused.items()), ("the dataset", "It has no case."))
            raise DatasetError(f"{dataset.folder}: nothing could be exported; {first[0]}: {first[1]}")
        lost = exporter.finish(folder, dataset, losses)
        dataset.label_tree.save(folder / _tree_place(exporter))
        write_text(
            folder / FILE_NAME, as_text(f"What {exporter.title} does not hold of '{dataset.name}'", lost, refused)
        )
    return Exported(exporter.kind, str(out), tuple(done), tuple(lost), refused)


def _tree_place(exporter: Exporter) -> str:
    """Where the label tree goes, which no other format has: beside the labels, for whoever imports them again."""
    return "derivatives/hierseg/label_tree.json" if exporter.kind == "bids" else "label_tree.json"


def read_stored(dataset: Dataset, case: Case, bring: bool) -> CaseData:
    """A case of a dataset folder, checked as on its way in."""
    label = dataset.label_path(case)
    source = SourceCase(
        case.id,
        tuple(Picture(path) for path in dataset.image_paths(case)),
        None if label is None else LabelFile(label),
        case.split,
        case.group,
    )
    return read_case(source, dataset.label_tree, bring=bring)
