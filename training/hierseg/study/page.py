"""A study's results as one HTML page: the tables, every case's number as a box plot, Dice over the number of fine labels."""

from __future__ import annotations

from collections.abc import Sequence

from hierseg.evaluation.html import Curve, Section, box_plot, curve_plot, page, table
from hierseg.study.config import ALL, Study
from hierseg.study.results import RowResult
from hierseg.study.tables import COLUMNS, tables_of

_SHARES = ("dice", "sensitivity", "balanced_accuracy", "auroc", "fpr95", "known_accepted", "unknown_accepted")


def to_page(study: Study, results: Sequence[RowResult], story: Sequence[str]) -> str:
    """The page.

    Args:
        study: what was asked for.
        results: one a line.
        story: sentences on data, machine and settings.
    """
    sections = [Section(one.title, table(one.head, one.rows), " ".join(one.about)) for one in tables_of(study, results)]
    sections[1:1] = [_boxes(study, results, metric) for metric in study.metrics]
    if any(len(one.row.fine) > 1 for one in results):
        sections.insert(1, _curves(study, results))
    return page(study.title, sections, " ".join(story).replace("`", ""))


def _boxes(study: Study, results: Sequence[RowResult], metric: str) -> Section:
    name, scale, _digits = COLUMNS[metric]
    groups = {
        one.row.name if len(one.row.fine) == 1 else f"{one.row.name}, {one.fine} fine": {
            name: one.by_case.get(metric, {})
        }
        for one in results
        if one.seeds
    }
    plot = box_plot(groups, f"mean {name}", scale=scale, highest=100.0 if metric in _SHARES else None)
    return Section(f"Cases: {name}", plot, "Mean over the leaves of each case, and over seeds.")


def _curves(study: Study, results: Sequence[RowResult]) -> Section:
    points: dict[str, dict[float, list[float]]] = {}
    for one in results:
        if one.fine != ALL and one.seeds:
            points.setdefault(one.row.name, {})[float(one.fine)] = list(one.by_case["dice"].values())
    curves = [Curve(name, found) for name, found in points.items() if len(study.row(name).fine) > 1]
    bounds = {
        one.row.name: summary.mean
        for one in results
        if one.row.name in (study.lower, study.upper) and (summary := one.mean.get("dice")) is not None
    }
    plot = curve_plot(curves, "subjects with subclass labels", "mean Dice %", scale=100.0, lines=bounds, highest=100.0)
    return Section("Number of fine labels", plot, "Mean over the cases with its 95 % interval (bootstrap over cases).")
