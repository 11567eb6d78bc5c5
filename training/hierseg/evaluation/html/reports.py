"""The pages of ``hierseg evaluate --out`` and ``hierseg compare --scores``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hierseg.evaluation.case_scores import METRICS, CaseScores, Mistake
from hierseg.evaluation.html.curves import Curve, curve_plot
from hierseg.evaluation.html.page import Section, page, table
from hierseg.evaluation.html.pictures import pictures
from hierseg.evaluation.html.plots import bar_plot, box_plot
from hierseg.evaluation.out_of_distribution import Notice
from hierseg.evaluation.report import COLUMNS, SHARES, Evaluation, cell
from hierseg.evaluation.significance import MEAN, Row, is_significant, mean_over_files
from hierseg.evaluation.statistics import summarize
from hierseg.evaluation.worst import Picture

_PLOTTED = ("dice", "hausdorff95")
_PAIRS = 15  # most frequent errors in the table
_BINS = 12  # bars of distances, at most
_BOX = "Box: first to third quartile, with the median; diamond: mean; whiskers: within 1.5 box lengths; dots: cases."
_BY_DISTANCE = (
    "Share of the labelled voxels that are wrong, by how far apart prediction and reference are in the label tree (0 to 1); "
    "mean over the cases."
)


def evaluation_page(found: Evaluation, shown: Sequence[Picture] = (), title: str = "Scores") -> str:
    """The page of one model.

    Args:
        found: its scores.
        shown: slices of the worst cases.
        title: of the page.
    """
    tree, cases = found.tree, found.cases
    nodes = [node for node in tree.nodes if node != tree.background]
    sections = [Section("Scores by structure", _node_table(found), _HOW.format(found.tolerance))]
    for metric in _PLOTTED:
        groups = {"  " * (node.depth - 1) + node.name: {"": found.by_case(node.name, metric)} for node in nodes}
        groups = {name: series for name, series in groups.items() if series[""]}
        if groups:
            sections.append(_boxes(groups, metric))
    sections += _errors({"": [cases[name].errors for name in cases]}, {"": [case.labelled for case in cases.values()]})
    if found.notice is not None:
        sections.append(_notice(found.notice))
    if shown:
        captions = [_caption(cases[one.case], one) for one in shown]
        sections.append(
            Section(
                "Worst cases",
                pictures(shown, tree, captions),
                "The cases with the lowest mean Dice of the subclasses, each in the slice with the largest error. "
                "Pictures end a little outside of what was annotated.",
            )
        )
    count = len(cases)
    return page(title, sections, f"{count} case{'' if count == 1 else 's'}, label tree “{tree.name}”.", _facts(found))


def comparison_page(
    contents: Mapping[str, Sequence[Mapping[str, Any]]],
    rows: Sequence[Row],
    metric: str,
    fine: Mapping[str, tuple[str, float]] | None = None,
    title: str = "Models compared",
) -> str:
    """The page of several models.

    Args:
        contents: of each model by its name: what its ``scores.json`` files hold, one a seed.
        rows: the tests, of the metric.
        metric: which number was tested.
        fine: of models trained on a known number of cases with subclass labels: the method's name and that number.  Models of one
            method become one curve.
        title: of the page.
    """
    heading, scale, digits = COLUMNS[metric]
    tables = {model: mean_over_files(found, metric) for model, found in contents.items()}
    nodes = list(dict.fromkeys(node for one in tables.values() for node in one))
    nodes.sort(key=lambda node: node != MEAN)
    sections = [
        Section(heading, _mean_table(tables, nodes, metric), _MEANS),
        Section(
            "Differences", _test_table(rows, scale, digits + 1), _TESTS.format(rows[0].baseline, len(rows), heading)
        ),
    ]
    if fine and metric in METRICS:
        curves: dict[str, dict[float, list[float]]] = {}
        for model, (method, number) in fine.items():
            curves.setdefault(method, {})[number] = list(tables[model].get(MEAN, {}).values())
        sections.append(
            Section(
                "Number of fine labels",
                curve_plot(
                    [Curve(name, points) for name, points in curves.items()],
                    "training cases with subclass labels",
                    f"{heading}, {MEAN}",
                    scale=scale,
                    highest=_highest(metric),
                ),
                "Mean over the cases with its 95 % interval (bootstrap over cases).",
            )
        )
    sections.append(_boxes({node: {model: tables[model].get(node, {}) for model in tables} for node in nodes}, metric))
    errors = {
        model: [_mistakes(case) for content in found for case in content["cases"].values()]
        for model, found in contents.items()
    }
    labelled = {
        model: [int(case.get("labelled") or 0) for content in found for case in content["cases"].values()]
        for model, found in contents.items()
    }
    sections += _errors(errors, labelled)
    return page(title, sections, f"{', '.join(contents)}.")


_HOW = (
    "Mean ± standard deviation over the cases that show the structure [95 % interval of the mean, bootstrap over cases]. Missed: in "
    "the reference, nowhere predicted (Dice 0, no distance). Invented: predicted, not in the reference (no Dice). Surface Dice: within "
    "{0:g} mm. Distances and volumes: only where the reference is complete."
)
_MEANS = (
    "Mean ± standard deviation over cases, the mean over seeds first [95 % interval of the mean, bootstrap over cases]."
)
_TESTS = (
    "{2}: difference from {0}, case by case, mean over seeds first [95 % interval, bootstrap over cases]; p of Wilcoxon's signed-rank test "
    "and of the permutation test, two-sided, with Holm's correction over the {1} rows. *: both below 0.05."
)


def _facts(found: Evaluation) -> list[tuple[str, str]]:
    tree = found.tree
    leaves = [leaf.name for leaf in tree.leaves if leaf != tree.background]
    dice = [values.mean for leaf in leaves if (values := found.summary(leaf, "dice")) is not None]
    facts = [("mean Dice of the subclasses", f"{100 * np.mean(dice):.1f} %")] if dice else []
    missed = sum(found.states(leaf)["missed"] for leaf in leaves)
    facts += [("structures missed", str(missed))] if dice else []
    for name, label, factor, unit in (
        ("wrong", "labelled voxels wrong", 100, " %"),
        ("error_distance", "tree distance where wrong", 1, ""),
    ):
        whole = found.whole(name)
        if whole is not None:
            facts.append((label, f"{factor * whole.mean:.2f}{unit}"))
    return facts


def _node_table(found: Evaluation) -> str:
    shown = [metric for metric in METRICS if any(found.values(node.name, metric) for node in found.tree.nodes)]
    head = ["structure", "cases", "missed", "invented", *(COLUMNS[metric][0] for metric in shown)]
    rows = [
        [
            "  " * (node.depth - 1) + node.name,
            *found.counts(node.name),
            *(cell(found.summary(node.name, metric), metric).replace(" [", "\n[") for metric in shown),
        ]
        for node in found.tree.nodes
    ]
    return table(head, rows)


def _boxes(groups: Mapping[str, Mapping[str, Mapping[str, float]]], metric: str) -> Section:
    heading, scale, _digits = COLUMNS[metric]
    return Section(
        f"{heading.removesuffix(' %').removesuffix(' mm')} by structure",
        box_plot(groups, heading, scale=scale, highest=_highest(metric)),
        _BOX,
    )


def _notice(notice: Notice) -> Section:
    """Unknown voxels: what was found, and the area under the curve of every case."""
    areas = {name: case.separation.auroc for name, case in notice.cases.items() if case.separation.auroc is not None}
    rates = {name: case.separation.fpr95 for name, case in notice.cases.items() if case.separation.fpr95 is not None}
    rows = {"area under the curve": areas, "false positives": rates}
    plot = box_plot(
        {name: {"": values} for name, values in rows.items() if values}, "%, of each case", scale=100, highest=100
    )
    return Section("Out of distribution", plot if areas else "", " ".join(notice.sentences()))


def _highest(metric: str) -> float | None:
    """The end of an axis of this metric in the units of its column."""
    return 100.0 if metric in SHARES else None


def _errors(errors: Mapping[str, Sequence[Sequence[Mistake]]], labelled: Mapping[str, Sequence[int]]) -> list[Section]:
    """Errors by tree distance, and the most frequent ones; nothing where the scores do not say."""
    if not any(sum(counts) for counts in labelled.values()):
        return []
    every = sorted({one.distance for cases in errors.values() for case in cases for one in case})
    if not every:
        return []
    edges = every if len(every) <= _BINS else np.linspace(0, every[-1], _BINS + 1)[1:].tolist()
    shares: dict[str, dict[str, float]] = {}
    for place, edge in enumerate(edges):
        name = f"{edge:.2f}" if edges is every else f"{edges[place - 1] if place else 0:.2f} to {edge:.2f}"
        shares[name] = {}
        for model, cases in errors.items():
            found = [
                sum(one.voxels for one in case if _bin(one.distance, edges) == place) / total
                for case, total in zip(cases, labelled[model], strict=True)
                if total
            ]
            shares[name][model] = float(np.mean(found)) if found else 0.0
    sections = [
        Section(
            "Errors by tree distance",
            bar_plot(shares, "labelled voxels % at this tree distance", scale=100.0, digits=3),
            _BY_DISTANCE,
        )
    ]
    if len(errors) == 1:
        sections.append(Section("Most frequent errors", _pair_table(next(iter(errors.values())))))
    return sections


def _bin(distance: float, edges: Sequence[float]) -> int:
    return next((place for place, edge in enumerate(edges) if distance <= edge + 1e-9), len(edges) - 1)


def _pair_table(cases: Sequence[Sequence[Mistake]]) -> str:
    voxels: Counter[tuple[str, str, float]] = Counter()
    shown_in: Counter[tuple[str, str, float]] = Counter()
    for case in cases:
        for one in case:
            key = (one.reference, one.predicted, one.distance)
            voxels[key] += one.voxels
            shown_in[key] += 1
    total = sum(voxels.values())
    rows = [
        [key[0], key[1], f"{key[2]:.2f}", f"{number}", f"{100 * number / total:.1f}", str(shown_in[key])]
        for key, number in voxels.most_common(_PAIRS)
    ]
    return table(["reference", "predicted", "tree distance", "voxels", "% of all errors", "cases"], rows, left=(1,))


def _mean_table(tables: Mapping[str, Mapping[str, Mapping[str, float]]], nodes: Sequence[str], metric: str) -> str:
    """Models down, structures across, as the papers have it; the other way round where there are more structures."""
    cells = {
        (model, node): cell(summarize(list(found.get(node, {}).values())), metric).replace(" [", "\n[")
        for model, found in tables.items()
        for node in nodes
    }
    if len(nodes) > 8:
        return table(["structure", *tables], [[node, *(cells[model, node] for model in tables)] for node in nodes])
    return table(["model", *nodes], [[model, *(cells[model, node] for node in nodes)] for model in tables])


def _test_table(rows: Sequence[Row], scale: float, digits: int) -> str:
    lines = []
    for row in rows:
        test = row.test
        interval = (
            ""
            if test.low is None or test.high is None
            else f" [{scale * test.low:+.{digits}f}, {scale * test.high:+.{digits}f}]"
        )
        lines.append(
            [
                row.model,
                row.node,
                str(test.number),
                f"{scale * test.difference:+.{digits}f}{interval}".replace("-", "−"),
                f"{row.wilcoxon_holm:.4f}",
                f"{row.permutation_holm:.4f}",
                "*" if is_significant(row) else "",
            ]
        )
    return table(["model", "structure", "cases", "difference", "Wilcoxon p", "permutation p", ""], lines, left=(1,))


def _caption(case: CaseScores, shown: Picture) -> str:
    worst = min(
        ((scores.dice, name) for name, scores in case.nodes.items() if scores.dice is not None), default=(None, "")
    )
    text = f"{shown.wrong} voxels of the slice are wrong."
    if worst[0] is not None:
        text += f" Worst in this case: {worst[1]}, Dice {100 * worst[0]:.1f} %."
    return text


def _mistakes(case: Mapping[str, Any]) -> list[Mistake]:
    return [Mistake(*one) for one in case.get("errors") or []]
