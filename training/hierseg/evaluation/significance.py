"""Models compared by their scores on the same cases: paired tests with a correction for their number."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hierseg.errors import ConfigError
from hierseg.evaluation.case_scores import LOWER_IS_BETTER, METRICS, WHOLE
from hierseg.evaluation.report import read_scores
from hierseg.evaluation.statistics import PairedTest, holm, paired_test

MEAN = "mean of the subclasses"
ALL = "all labelled voxels"
"""The one row of a number that belongs to a case as a whole."""
LEVEL = 0.05


@dataclass(frozen=True)
class Row:
    """One test.

    Attributes:
        baseline, model: names; ``test.difference`` is model − baseline.
        node: a structure, :data:`MEAN` or :data:`ALL`.
        test: of the cases that both have.
        wilcoxon_holm, permutation_holm: corrected over all rows of the table.
    """

    baseline: str
    model: str
    node: str
    test: PairedTest
    wilcoxon_holm: float
    permutation_holm: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def compare_models(contents: Mapping[str, Sequence[Mapping[str, Any]]], metric: str = "dice") -> list[Row]:
    """Compare every later model with the first one.

    Args:
        contents: scores of each model by its name (:func:`read_models`); several of a model (seeds) are averaged case by case first.
        metric: which number.

    Raises:
        ConfigError: fewer than two models, no such metric, or no cases that all share.
    """
    if metric not in (*METRICS, *WHOLE):
        raise ConfigError(f"there is no metric '{metric}'; choose {', '.join((*METRICS, *WHOLE))}.")
    if len(contents) < 2:
        raise ConfigError("one model was given; name at least two as NAME=SCORES.")
    tables = {name: mean_over_files(found, metric) for name, found in contents.items()}
    baseline, *others = contents
    found: list[tuple[str, str, PairedTest]] = []
    for model in others:
        for node in tables[baseline]:
            first, second = tables[baseline][node], tables[model].get(node, {})
            cases = sorted(set(first) & set(second))
            test = paired_test([first[case] for case in cases], [second[case] for case in cases])
            if test is not None:
                found.append((model, node, test))
    if not found:
        raise ConfigError(
            f"no structure has the metric '{metric}' in two cases that all models share; compare on the same cases."
        )
    ranked = holm([test.wilcoxon for _, _, test in found])
    permuted = holm([test.permutation for _, _, test in found])
    return [
        Row(baseline, model, node, test, one, other)
        for (model, node, test), one, other in zip(found, ranked, permuted, strict=True)
    ]


def is_significant(row: Row) -> bool:
    """Whether both corrected p-values are below 0.05."""
    return max(row.wilcoxon_holm, row.permutation_holm) < LEVEL


def to_markdown(rows: Sequence[Row], metric: str) -> str:
    """A table; a star where both corrected p-values are below 0.05."""
    better = "lower is better" if metric in LOWER_IS_BETTER else "higher is better"
    lines = [
        f"# {metric} ({better}), compared with {rows[0].baseline}",
        "",
        "Differences case by case, mean over seeds first [95 % interval, bootstrap over cases]; p of Wilcoxon's signed-rank",
        f"test and of the permutation test, two-sided, with Holm's correction over the {len(rows)} rows. *: both below {LEVEL}.",
        "",
        "| model | structure | cases | difference | Wilcoxon p | permutation p | |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        test = row.test
        star = "*" if is_significant(row) else ""
        lines.append(
            f"| {row.model} | {row.node} | {test.number} | {test.difference:+.4f} [{test.low:+.4f}, {test.high:+.4f}] "
            f"| {row.wilcoxon_holm:.4f} | {row.permutation_holm:.4f} | {star} |"
        )
    return "\n".join(lines) + "\n"


def to_csv(rows: Sequence[Row]) -> str:
    """One line a test."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    tests = ["number", "difference", "low", "high", "wilcoxon", "permutation"]
    writer.writerow(["baseline", "model", "node", *tests, "wilcoxon_holm", "permutation_holm"])
    for row in rows:
        numbers = [getattr(row.test, name) for name in tests]
        writer.writerow([row.baseline, row.model, row.node, *numbers, row.wilcoxon_holm, row.permutation_holm])
    return text.getvalue()


def read_models(files: Mapping[str, Sequence[Path]]) -> dict[str, list[dict[str, Any]]]:
    """What the scores of each model hold, one entry a file.

    Raises:
        ConfigError: a model without a file.
        ImageError: a file is no scores.
    """
    contents = {name: [read_scores(path) for path in paths] for name, paths in files.items()}
    empty = next((name for name, found in contents.items() if not found), None)
    if empty is not None:
        raise ConfigError(f"no scores were given for '{empty}'.")
    return contents


def mean_over_files(contents: Sequence[Mapping[str, Any]], metric: str) -> dict[str, dict[str, float]]:
    """Mean over a model's files (seeds), by node and case; with the mean of a case's leaves as a node more."""
    seen: dict[str, dict[str, list[float]]] = {}
    for content in contents:
        for case, scores in content["cases"].items():
            if metric in WHOLE:
                if scores.get(metric) is not None:
                    seen.setdefault(ALL, {}).setdefault(case, []).append(float(scores[metric]))
                continue
            leaves = []
            for node, values in scores["nodes"].items():
                value = values.get(metric)
                if value is not None:
                    seen.setdefault(node, {}).setdefault(case, []).append(float(value))
                    if node in content["leaves"] and node != content.get("background"):
                        leaves.append(float(value))
            if leaves:
                seen.setdefault(MEAN, {}).setdefault(case, []).append(float(np.mean(leaves)))
    # A case that not every seed has a number of would compare different things.
    return {
        node: {case: float(np.mean(values)) for case, values in cases.items() if len(values) == len(contents)}
        for node, cases in seen.items()
    }
