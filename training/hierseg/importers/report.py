"""What became of each case of an import: for people as a table, for programs as JSON."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hierseg.atomic import write_json, write_text

REPORT_NAME = "import-report.json"
TABLE_NAME = "import-report.txt"
IMPORTED, KEPT, REFUSED = "imported", "kept", "refused"


@dataclass(frozen=True)
class Row:
    """One case.

    Attributes:
        name: its id, or the name of what was refused before it had one.
        status: ``imported`` (written now), ``kept`` (there already, unchanged) or ``refused``.
        split: in the dataset folder; empty if refused.
        group: of cases that stay together, or None.
        labels: ``subclasses``, ``superclasses``, ``none``, or empty if refused.
        reason: why it was refused.
        notes: what was done to it.
    """

    name: str
    status: str
    split: str = ""
    group: str | None = None
    labels: str = ""
    reason: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """An import.

    Attributes:
        kind: the format.
        source: the name of the data set's folder, without what lies above it.
        folder: the dataset folder's, likewise.
        rows: one a case.
        notes: sentences about the whole.
    """

    kind: str
    source: str
    folder: str
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = field(default=())

    @property
    def counts(self) -> dict[str, int]:
        """Cases by what became of them."""
        found = Counter(row.status for row in self.rows)
        return {status: found[status] for status in (IMPORTED, KEPT, REFUSED)}

    @property
    def there(self) -> list[Row]:
        """The cases that the dataset folder has."""
        return [row for row in self.rows if row.status != REFUSED]

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        by_split = Counter(row.split for row in self.there)
        by_labels = Counter(row.labels for row in self.there)
        return {
            "format_version": 1,
            "kind": self.kind,
            "source": self.source,
            "folder": self.folder,
            "counts": self.counts,
            "splits": dict(by_split),
            "labels": dict(by_labels),
            "notes": list(self.notes),
            "cases": [asdict(row) for row in self.rows],
        }

    def summary(self) -> str:
        """A few lines: how many of what, and all that was refused."""
        counts = self.counts
        lines = [
            f"{self.folder}: {_cases(counts[IMPORTED])} imported, {counts[KEPT]} kept as they were, {counts[REFUSED]} refused"
        ]
        found = self.to_dict()
        lines += [
            f"  {key}: " + ", ".join(f"{number} {name}" for name, number in sorted(found[key].items()))
            for key in ("splits", "labels")
            if found[key]
        ]
        lines += [f"  {note}" for note in self.notes]
        lines += [f"  refused {row.name}: {row.reason}" for row in self.rows if row.status == REFUSED]
        return "\n".join(lines) + "\n"

    def table(self) -> str:
        """The summary, then a line a case."""
        head = ("case", "status", "split", "group", "labels", "")
        rows = [
            (row.name, row.status, row.split, row.group or "", row.labels, " ".join((row.reason, *row.notes)).strip())
            for row in self.rows
        ]
        widths = [max(len(line[column]) for line in [head, *rows]) for column in range(5)]
        lines = [
            "  ".join([*(cell.ljust(width) for cell, width in zip(line, widths, strict=False)), line[5]]).rstrip()
            for line in [head, *rows]
        ]
        return self.summary() + "\n" + "\n".join(lines) + "\n"

    def save(self, folder: Path) -> None:
        """Write both forms into a folder."""
        write_json(folder / REPORT_NAME, self.to_dict())
        write_text(folder / TABLE_NAME, self.table())


def _cases(number: int) -> str:
    return f"{number} case" if number == 1 else f"{number} cases"
