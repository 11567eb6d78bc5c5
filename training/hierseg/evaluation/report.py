"""The scores of many cases: means with their uncertainty, as Markdown for people, CSV for tables, JSON for programs."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hierseg.atomic import write_json, write_text
from hierseg.errors import ImageError
from hierseg.evaluation.case_scores import ABSENT, INVENTED, METRICS, MISSED, WHOLE, CaseScores
from hierseg.evaluation.out_of_distribution import Notice
from hierseg.evaluation.statistics import Summary, summarize
from hierseg.labeltree import LabelTree

FORMAT = "hierseg-scores"
JSON_NAME, CSV_NAME, MARKDOWN_NAME, PAGE_NAME = "scores.json", "scores.csv", "scores.md", "report.html"
# metric → heading, factor and digits; those of structures in the order of the tables
COLUMNS = {
    "dice": ("Dice %", 100.0, 1),
    "hausdorff95": ("HD95 mm", 1.0, 2),
    "surface_distance": ("mean surface distance mm", 1.0, 2),
    "surface_dice": ("surface Dice %", 100.0, 1),
    "volume_error": ("volume error %", 100.0, 1),
    "sensitivity": ("sensitivity %", 100.0, 1),
    "balanced_accuracy": ("balanced accuracy %", 100.0, 1),
    "tree_distance": ("tree distance", 1.0, 4),
    "error_distance": ("tree distance where wrong", 1.0, 3),
    "wrong": ("labelled voxels wrong %", 100.0, 2),
}
SHARES = tuple(metric for metric, (_, factor, _) in COLUMNS.items() if factor == 100 and metric != "volume_error")
"""Metrics that go from 0 to 1, shown in percent."""


@dataclass(frozen=True)
class Evaluation:
    """Scores of a set of cases.

    Attributes:
        tree: whose nodes are scored.
        cases: scores by case.
        tolerance: mm, of the surface Dice.
        notice: whether what the model never learned was noticed; None where this was not asked.
    """

    tree: LabelTree
    cases: Mapping[str, CaseScores]
    tolerance: float
    notice: Notice | None = None

    def by_case(self, node: str, metric: str) -> dict[str, float]:
        """A number of a node, by the cases that have it."""
        found = {name: getattr(case.nodes[node], metric) for name, case in self.cases.items()}
        return {name: value for name, value in found.items() if value is not None}

    def values(self, node: str, metric: str) -> list[float]:
        """The same without the cases' names."""
        return list(self.by_case(node, metric).values())

    def summary(self, node: str, metric: str) -> Summary | None:
        """Its mean, deviation and interval."""
        return summarize(self.values(node, metric))

    def states(self, node: str) -> Counter[str]:
        """In how many cases the node was scored, missed, invented or absent."""
        return Counter(case.nodes[node].state for case in self.cases.values())

    def counts(self, node: str) -> list[str]:
        """Cells of the tables: the cases that show the node, those where it was missed, and those where it was invented."""
        states = self.states(node)
        return [str(len(self.cases) - states[ABSENT] - states[INVENTED]), str(states[MISSED]), str(states[INVENTED])]

    def whole(self, name: str) -> Summary | None:
        """The tree distance of the errors, over cases."""
        found = (getattr(case, name) for case in self.cases.values())
        return summarize([value for value in found if value is not None])

    def to_dict(self) -> dict[str, Any]:
        """As ``scores.json`` has it."""

        def plain(summary: Summary | None) -> dict[str, Any] | None:
            return None if summary is None else asdict(summary)

        return {
            "format": FORMAT,
            "format_version": 1,
            "tree": self.tree.fingerprint,
            "leaves": [leaf.name for leaf in self.tree.leaves],
            "background": self.tree.background.name if self.tree.background else None,
            "tolerance_mm": self.tolerance,
            "cases": {name: case.to_dict() for name, case in self.cases.items()},
            "nodes": {
                node.name: {
                    "states": dict(self.states(node.name)),
                    **{metric: plain(self.summary(node.name, metric)) for metric in METRICS},
                }
                for node in self.tree.nodes
            },
            **{name: plain(self.whole(name)) for name in WHOLE},
            **({} if self.notice is None else {"out_of_distribution": self.notice.to_dict()}),
        }

    def to_csv(self) -> str:
        """One line a case and node."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        fields = ["state", "complete", *METRICS, "reference_ml", "predicted_ml"]
        writer.writerow(["case", "node", *fields])
        for name, case in self.cases.items():
            for node, scores in case.nodes.items():
                row = (getattr(scores, field) for field in fields)
                writer.writerow([name, node, *("" if value is None else value for value in row)])
        return text.getvalue()

    def to_markdown(self) -> str:
        """A table of the nodes, then what the errors are like."""
        shown = [metric for metric in METRICS if any(self.values(node.name, metric) for node in self.tree.nodes)]
        head = ["structure", "cases", "missed", "invented", *(COLUMNS[metric][0] for metric in shown)]
        lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
        for node in self.tree.nodes:
            cells = [
                "&nbsp;" * 2 * (node.depth - 1) + node.name,
                *self.counts(node.name),
                *(cell(self.summary(node.name, metric), metric) for metric in shown),
            ]
            lines.append("| " + " | ".join(cells) + " |")
        count = len(self.cases)
        lines = [
            f"# Scores of {count} case{'' if count == 1 else 's'}",
            "",
            "Mean ± standard deviation over the cases that show the structure [95 % interval of the mean, bootstrap over cases].",
            "Missed: in the reference, nowhere predicted (Dice 0, no distance). Invented: predicted, not in the reference (no Dice).",
            f"Surface Dice: within {self.tolerance:g} mm. Distances and volumes: only where the reference is complete.",
            "",
            *lines,
        ]
        distance, error, wrong = (self.whole(name) for name in WHOLE)
        if wrong is not None and distance is not None:
            worse = "" if error is None else f", {error.mean:.3f} on average where wrong"
            lines += [
                "",
                f"Wrong: {100 * wrong.mean:.2f} % of the labelled voxels. Tree distance (0 to 1): {distance.mean:.4f} over all of them{worse}.",
            ]
        for sentence in () if self.notice is None else self.notice.sentences():
            lines += ["", sentence]
        return "\n".join(lines) + "\n"

    def save(self, folder: Path) -> None:
        """Write all three forms into a folder."""
        write_json(folder / JSON_NAME, self.to_dict())
        write_text(folder / CSV_NAME, self.to_csv())
        write_text(folder / MARKDOWN_NAME, self.to_markdown())


def cell(summary: Summary | None, metric: str) -> str:
    """Mean ± deviation [interval] of a metric, in the units and digits of its column."""
    if summary is None:
        return "–"
    _, scale, digits = COLUMNS[metric]
    text = f"{scale * summary.mean:.{digits}f}"
    if summary.std is not None:
        text += f" ± {scale * summary.std:.{digits}f}"
    if summary.low is not None and summary.high is not None:
        text += f" [{scale * summary.low:.{digits}f}, {scale * summary.high:.{digits}f}]"
    return text


def read_scores(path: Path) -> dict[str, Any]:
    """A ``scores.json``, or the one in a folder.

    Raises:
        ImageError: there is none, or it is something else.
    """
    path = path / JSON_NAME if path.is_dir() else path
    if not path.exists():
        raise ImageError(f"{path}: there is no such file or folder; give what 'hierseg evaluate --out' wrote.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ImageError(
            f"{path}: the scores cannot be read ({error}); give what 'hierseg evaluate --out' wrote."
        ) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ImageError(f"{path}: these are no scores; give the scores.json that 'hierseg evaluate --out' wrote.")
    return content
