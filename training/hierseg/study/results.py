"""What a study came to: means over cases, how much of the gap a row closes, and whether it differs from the default."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from hierseg.evaluation.statistics import RESAMPLES, PairedTest, Summary, holm, paired_test, summarize
from hierseg.study.collecting import ACCEPTED, Collected
from hierseg.study.config import RowSpec, Study
from hierseg.study.held_out import HeldOut


@dataclass(frozen=True)
class Failure:
    """A run that could not be done: its seed, the exit code, and the last line that it wrote."""

    seed: int
    code: int
    said: str


@dataclass(frozen=True)
class Gap:
    """(row − lower) / (upper − lower) in mean leaf Dice, with its 95 % interval by bootstrap over cases."""

    closed: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Tested:
    """A row against the default, in one metric; p-values corrected by Holm's method over the rows that are compared with it."""

    default: str
    test: PairedTest
    wilcoxon_holm: float
    permutation_holm: float


@dataclass
class RowResult:
    """A line of the table: a row and a number of subjects with subclass labels.

    Attributes:
        seeds: those that are done.
        wanted: those that the study wants.
        leaf: summaries over cases by leaf and metric.
        mean: of the mean over leaves, by metric.
        by_seed: the mean of each seed by itself, by metric.
        by_case: mean over leaves and seeds of each case, by metric.
        consistent: mean leaf Dice of the level-by-level decoding.
        missed: leaves that were nowhere predicted though there, mean over seeds.
        minutes: that a run took, median.
        held_out: what was seen of each class that was hidden from the row in turn.
        missing: of these classes those that are not done.
    """

    row: RowSpec
    fine: int | str
    seeds: tuple[int, ...]
    wanted: tuple[int, ...]
    failed: tuple[Failure, ...] = ()
    leaf: dict[str, dict[str, Summary | None]] = field(default_factory=dict)
    mean: dict[str, Summary | None] = field(default_factory=dict)
    by_seed: dict[str, list[float]] = field(default_factory=dict)
    by_case: dict[str, dict[str, float]] = field(default_factory=dict)
    consistent: Summary | None = None
    missed: float | None = None
    minutes: float | None = None
    gap: Gap | None = None
    tests: dict[str, Tested] = field(default_factory=dict)
    held_out: list[HeldOut] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether every seed is done, and every class that is to be hidden."""
        return set(self.seeds) == set(self.wanted) and not self.missing

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        given = asdict(self)
        row = given.pop("row")
        chosen = {"row": row["name"], "method": self.row.method, "settings": row["given"]}
        return {**chosen, "only_fine": row["only_fine"], "labels": row["labels"], **given, "complete": self.complete}


def summarized(
    row: RowSpec, fine: int | str, wanted: Sequence[int], scores: Mapping[int, tuple[Any, Any]], metrics: Sequence[str],
    failed: Sequence[Failure] = (), minutes: float | None = None,
) -> RowResult:  # fmt: skip
    """Put a row's runs together.

    Args:
        row: which one.
        fine: number of subjects with subclass labels.
        wanted: the study's seeds.
        scores: by seed: content of the scores of the leaf argmax, and of the consistent decoding.
        metrics: to summarize.
        failed: runs that could not be done.
        minutes: that a run took.
    """
    seeds = tuple(seed for seed in wanted if seed in scores)
    result = RowResult(row, fine, seeds, tuple(wanted), tuple(failed), minutes=minutes)
    if not seeds:
        return result
    found = Collected([scores[seed][0] for seed in seeds])
    consistent = Collected([scores[seed][1] for seed in seeds])
    for metric in metrics:
        source = consistent if metric in ACCEPTED else found
        result.by_case[metric] = source.by_case(metric)
        result.by_seed[metric] = source.by_seed(metric)
        result.mean[metric] = summarize(list(result.by_case[metric].values()))
    for leaf in found.leaves:
        result.leaf[leaf] = {metric: summarize(list(found.leaf_by_case(leaf, metric).values())) for metric in metrics}
    result.consistent = summarize(list(consistent.by_case("dice").values()))
    result.missed = found.missed
    return result


def compare_rows(study: Study, results: Sequence[RowResult]) -> None:
    """Fill in how much of the gap each row closes, and the tests against the default."""
    lower = next((one for one in results if one.row.name == study.lower and one.seeds), None)
    upper = next((one for one in results if one.row.name == study.upper and one.seeds), None)
    for one in results:
        if one.seeds and lower is not None and upper is not None:
            one.gap = gap_closed(one.by_case["dice"], lower.by_case["dice"], upper.by_case["dice"])
    for metric in study.metrics:
        _test(study, results, metric)


def gap_closed(row: Mapping[str, float], lower: Mapping[str, float], upper: Mapping[str, float]) -> Gap | None:
    """The share of the way from ``lower`` to ``upper``; None without a gap.

    Args:
        row: a number by case.
        lower: the same of the row that is 0.
        upper: the same of the row that is 1.
    """
    cases = sorted(set(row) & set(lower) & set(upper))
    if not cases:
        return None
    table = np.array([[one[case] for case in cases] for one in (row, lower, upper)])

    def share(means: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            found: np.ndarray = (means[0] - means[1]) / (means[2] - means[1])
        return found

    closed = float(share(table.mean(axis=1)))
    if not np.isfinite(closed):
        return None
    if len(cases) < 2:
        return Gap(closed, None, None)
    drawn = np.random.default_rng(0).integers(0, len(cases), (RESAMPLES, len(cases)))
    shares = share(table[:, drawn].mean(axis=2))
    low, high = np.quantile(shares[np.isfinite(shares)], [0.025, 0.975])
    return Gap(closed, float(low), float(high))


def default_of(study: Study, results: Sequence[RowResult], one: RowResult) -> RowResult | None:
    """The result that a row is tested against: of the first default with the same kind of labels and as many fine subjects.

    Rows that see another number of fine subjects than the default's first one are not tested.
    """
    for name in study.default:
        row = study.row(name)
        if row.labels == one.row.labels and one.fine == row.fine[0] and name != one.row.name:
            return next((other for other in results if other.row.name == name and other.fine == one.fine), None)
        if name == one.row.name:
            return None
    return None


def _test(study: Study, results: Sequence[RowResult], metric: str) -> None:
    families: dict[str, list[tuple[RowResult, PairedTest]]] = {}
    for one in results:
        default = default_of(study, results, one)
        if default is None or metric not in one.by_case or metric not in default.by_case:
            continue
        first, second = default.by_case[metric], one.by_case[metric]
        cases = sorted(set(first) & set(second))
        test = paired_test([first[case] for case in cases], [second[case] for case in cases])
        if test is not None:
            families.setdefault(default.row.name, []).append((one, test))
    for name, found in families.items():
        ranked = holm([test.wilcoxon for _, test in found])
        permuted = holm([test.permutation for _, test in found])
        for (one, test), by_rank, by_sign in zip(found, ranked, permuted, strict=True):
            one.tests[metric] = Tested(name, test, by_rank, by_sign)
