"""A study's results as text: Markdown in the layout of paper A's Tables 1 and 2, and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hierseg.evaluation.statistics import Summary
from hierseg.study.config import Study
from hierseg.study.held_out import NUMBERS, over_classes
from hierseg.study.results import RowResult

RESULTS = "Results"
MOST_LEAVES = 6
"""With more leaves than this a table shows their means alone."""
COLUMNS = {
    "dice": ("Dice %", 100.0, 1),
    "hausdorff95": ("HD95 mm", 1.0, 2),
    "tree_distance": ("tree distance %", 100.0, 2),
    "error_distance": ("tree distance of the errors %", 100.0, 1),
    "sensitivity": ("true-positive rate %", 100.0, 1),
    "balanced_accuracy": ("balanced accuracy %", 100.0, 1),
    "auroc": ("AUROC %", 100.0, 1),
    "known_accepted": ("known that passes %", 100.0, 1),
    "unknown_accepted": ("unknown that passes %", 100.0, 1),
    "fpr95": ("false positives at 95 % TPR, %", 100.0, 1),
}


@dataclass(frozen=True)
class Table:
    """A table as texts.

    Attributes:
        title: above it.
        head: of its columns.
        rows: as many texts each.
        about: sentences below it.
    """

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    about: tuple[str, ...] = ()


def tables_of(study: Study, results: Sequence[RowResult]) -> list[Table]:
    """All tables of a study; those without rows are left out."""
    found = (
        _main(study, results), _components(results), _tests(study, results), _held_out(results), _failed(results),
    )  # fmt: skip
    return [table for table in found if table.rows]


def to_markdown(study: Study, results: Sequence[RowResult], story: Sequence[str]) -> str:
    """All tables of a study.

    Args:
        study: what was asked for.
        results: one a line.
        story: sentences on data, machine and settings, above the tables.
    """
    parts = [f"# {study.title}", "", *story]
    for table in tables_of(study, results):
        parts += ["", f"## {table.title}", "", _line(table.head), "|---" * len(table.head) + "|"]
        for row in table.rows:
            # The default's row is set off.
            bold = table.title == RESULTS and row[0] in study.default
            parts.append(_line([f"**{row[0]}**", *row[1:]] if bold else row))
        for sentence in table.about:
            parts += ["", sentence]
    return "\n".join(parts) + "\n"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def to_csv(results: Sequence[RowResult]) -> str:
    """One line a row, structure and metric; the structure ``mean`` is the mean over the leaves."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    head = "row method fine labels seeds wanted structure metric mean std low high cases"
    writer.writerow(head.split())
    for one in results:
        start = [one.row.name, one.row.method, one.fine, one.row.labels, len(one.seeds), len(one.wanted)]
        found: list[tuple[str, str, Summary | None]] = [
            (leaf, metric, summary) for leaf, metrics in one.leaf.items() for metric, summary in metrics.items()
        ]
        found += [("mean", metric, summary) for metric, summary in one.mean.items()]
        found.append(("mean", "dice consistent", one.consistent))
        for structure, metric, summary in found:
            if summary is not None:
                numbers = (summary.mean, summary.std, summary.low, summary.high, summary.number)
                writer.writerow([*start, structure, metric, *("" if value is None else value for value in numbers)])
    return text.getvalue()


def _main(study: Study, results: Sequence[RowResult]) -> Table:
    leaves = next((list(one.leaf) for one in results if one.leaf), [])
    shown = leaves if len(leaves) <= MOST_LEAVES else []
    gap = any(one.gap for one in results)
    tested = any("dice" in one.tests for one in results)
    head = ["method", "fine", *(f"{leaf} Dice %" for leaf in shown)]
    head += [f"mean {COLUMNS[metric][0]}" for metric in study.metrics]
    head += ["seeds: mean Dice %", "consistent: mean Dice %", *(["gap closed %"] if gap else [])]
    head += ["p (Holm)"] if tested else []
    rows = []
    for one in results:
        cells = [one.row.name + _unfinished(one), str(one.fine)]
        cells += [_cell(one.leaf.get(leaf, {}).get("dice"), "dice") for leaf in shown]
        cells += [_cell(one.mean.get(metric), metric) for metric in study.metrics]
        cells += [_spread(one.by_seed.get("dice", [])), _cell(one.consistent, "dice")]
        cells += [_gap(one)] if gap else []
        cells += [_p(one, "dice")] if tested else []
        rows.append(tuple(cells))
    about = [
        (
            "Mean ± standard deviation over cases, each the mean over seeds; every voxel gets its most probable leaf. "
            '"Consistent" decides level by level instead. HD95 is measured where a leaf was found.'
        )
    ]
    if tested:
        about.append(f"p: Dice against {' and '.join(study.default)}, the larger one of both tests below.")
    missed = [f"{_name(one)} {one.missed:.1f}" for one in results if one.missed]
    if missed:
        about.append(f"Leaves in the reference that were nowhere predicted (mean over seeds): {', '.join(missed)}.")
    return Table(RESULTS, tuple(head), tuple(rows), tuple(about))


def _components(results: Sequence[RowResult]) -> Table:
    head = ("method", "fine", "mixed images", "pseudo labels", "PC", "SN", "mean Dice %", "mean HD95 mm")
    rows = []
    for one in results:
        settings = one.row.settings
        if one.row.method not in ("ess", "two_head") or settings["head"] not in ("auto", "two_heads"):
            continue
        mode = settings["mix"]["mode"] if one.row.method == "ess" and settings["losses"]["mix"] > 0 else "off"
        ticks = (
            mode in ("full", "mixup"),
            mode in ("full", "pseudo"),
            settings["prior_concatenation"],
            settings["separate_normalization"],
        )
        numbers = (_cell(one.mean.get(metric), metric) for metric in ("dice", "hausdorff95"))
        rows.append((one.row.name, str(one.fine), *("✓" if tick else "" for tick in ticks), *numbers))
    about = "PC: prior concatenation. SN: separate normalization. Mixed images and pseudo labels together are HierarchicalMix."
    return Table("Components", head, tuple(rows), (about,))


def _tests(study: Study, results: Sequence[RowResult]) -> Table:
    head = ("method", "default", "metric", "cases", "difference", "Wilcoxon p", "permutation p")
    rows = []
    for metric in study.metrics:
        name, scale, digits = COLUMNS[metric]
        for one in results:
            if metric not in one.tests:
                continue
            found = one.tests[metric]
            test = found.test
            difference = f"{scale * test.difference:+.{digits}f}"
            if test.low is not None and test.high is not None:
                difference += f" [{scale * test.low:+.{digits}f}, {scale * test.high:+.{digits}f}]"
            values = (f"{value:.4f}" for value in (found.wilcoxon_holm, found.permutation_holm))
            rows.append((_name(one), found.default, name, str(test.number), difference, *values))
    about = (
        "Row − default, case by case [95 % interval, bootstrap over cases]; p of Wilcoxon's signed-rank test and of the permutation "
        "test, two-sided, each with Holm's correction over the rows that are compared with the same default in the same number."
    )
    return Table("Tests", head, tuple(rows), (about,))


def _held_out(results: Sequence[RowResult]) -> Table:
    head = ["method", "fine", "classes", *(COLUMNS[number][0] for number in NUMBERS), "hardest class"]
    rows = []
    for one in results:
        if not one.held_out:
            continue
        cells = []
        for number in NUMBERS:
            found, (_, scale, digits) = over_classes(one.held_out, number), COLUMNS[number]
            spread = "" if found is None or found[1] is None else f" ± {scale * found[1]:.{digits}f}"
            cells.append("–" if found is None else f"{scale * found[0]:.{digits}f}{spread}")
        seen = [each for each in one.held_out if each.auroc is not None]
        hardest = min(seen, key=lambda each: each.auroc or 0.0, default=None)
        worst = "–" if hardest is None else f"{hardest.name} ({100 * (hardest.auroc or 0.0):.1f})"
        missing = f" of {len(one.held_out) + len(one.missing)}" if one.missing else ""
        rows.append((one.row.name, str(one.fine), f"{len(seen)}{missing}", *cells, worst))
    about = (
        "One training for each class, hidden from it: how well the largest leaf probability tells the class's voxels from the others', "
        "one threshold for all cases, and what the model's own thresholds let pass. Mean ± standard deviation over the classes that the "
        "cases show; in brackets the hardest one's AUROC %."
    )
    return Table("Held-out classes", tuple(head), tuple(rows), (about,))


def _failed(results: Sequence[RowResult]) -> Table:
    rows = tuple(
        (_name(one), str(failure.seed), str(failure.code), failure.said) for one in results for failure in one.failed
    )
    return Table("Runs that failed", ("method", "seed", "exit code", "last line"), rows)


def _name(one: RowResult) -> str:
    return f"{one.row.name} (fine {one.fine})" if len(one.row.fine) > 1 else one.row.name


def _unfinished(one: RowResult) -> str:
    failed = f", {len(one.failed)} failed" if one.failed else ""
    return "" if one.complete else f" (not complete: {len(one.seeds)} of {len(one.wanted)} seeds{failed})"


def _cell(summary: Summary | None, metric: str) -> str:
    if summary is None:
        return "–"
    _, scale, digits = COLUMNS[metric]
    mean = f"{scale * summary.mean:.{digits}f}"
    spread = "" if summary.std is None else f" ± {scale * summary.std:.{digits}f}"
    return mean + spread


def _spread(values: Sequence[float]) -> str:
    return ", ".join(f"{100 * value:.1f}" for value in values) or "–"


def _gap(one: RowResult) -> str:
    if one.gap is None:
        return "–"
    text = f"{100 * one.gap.closed:.0f}"
    if one.gap.low is None or one.gap.high is None:
        return text
    return f"{text} [{100 * one.gap.low:.0f}, {100 * one.gap.high:.0f}]"


def _p(one: RowResult, metric: str) -> str:
    if metric not in one.tests:
        return "–"
    worst = max(one.tests[metric].wilcoxon_holm, one.tests[metric].permutation_holm)
    return "<0.001" if worst < 0.001 else f"{worst:.3f}"


def story_of(content: Mapping[str, Any]) -> list[str]:
    """Sentences on what a result stands on, from the content of ``study.json``."""
    data, machine, place = content["data"], content["environment"]["machine"], content["environment"]
    hashes = ", ".join(f"{part} {value[:12]}…" for part, value in data["sha256"].items())
    where = f"{machine['processor']}, {machine['cores']} cores" + (f", {machine['gpu']}" if machine["gpu"] else "")
    lines = [
        (
            f"Study file `{content['file']}`, SHA-256 {content['study_sha256'][:12]}…. Data: {hashes}"
            f"{'' if data['frozen'] else ' (not frozen)'}. Split: {content['split']}, {content['cases']} cases."
        ),
        (
            f"Machine: {where}; torch {place['versions']['torch']}, hierseg {place['versions']['hierseg']}; "
            f"{content['threads']} thread{'' if content['threads'] == 1 else 's'} a run. Seeds {', '.join(map(str, content['seeds']))}."
        ),
    ]
    if content["tuning"] is not None:
        lines.append(_tuning(content["tuning"]))
    if content["minutes"] is not None:
        lines.append(f"A run took {content['minutes']:.1f} minutes (median).")
    if content["attempts"]:
        lines.append(f"Looks at test data: {len(content['attempts'])}. {_attempts(content['attempts'])}.")
    return lines


def _tuning(tuning: Mapping[str, Any]) -> str:
    """What every row could choose from, and what was chosen."""
    grid = "; ".join(f"{key} {', '.join(map(str, values))}" for key, values in tuning["grid"].items())
    chosen = "; ".join(
        f"{row}: {', '.join(f'{key} {value}' for key, value in settings.items())}"
        for row, settings in tuning["chosen"].items()
    )
    return f"Tuned on validation with seed {tuning['seed']}, the same candidates for every row ({grid}). Chosen: {chosen or 'nothing yet'}."


def _attempts(attempts: Sequence[Mapping[str, Any]]) -> str:
    return "; ".join(
        f"{one['date'][:16]} (study {one['study_sha256'][:8]}…, test seed {one['test_seed']})" for one in attempts
    )
