"""Means with their uncertainty over cases, and paired tests between two models on the same cases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 10_000
_EXACT = 14  # up to so many cases all 2^n changes of sign are counted


@dataclass(frozen=True)
class Summary:
    """Of one number over cases.

    Attributes:
        mean, std: over the cases that have it; ``std`` with n − 1, None for a single case.
        low, high: 95 % confidence interval of the mean by bootstrap over cases; None for a single case.
        number: of cases.
    """

    mean: float
    std: float | None
    low: float | None
    high: float | None
    number: int


@dataclass(frozen=True)
class PairedTest:
    """Two models on the same cases.

    Attributes:
        number: of cases that both have.
        difference: mean of second − first.
        low, high: its 95 % confidence interval by bootstrap over cases.
        wilcoxon: p of the signed-rank test, two-sided.
        permutation: p of the permutation test on the mean difference (signs changed), two-sided.
    """

    number: int
    difference: float
    low: float | None
    high: float | None
    wilcoxon: float
    permutation: float


def summarize(values: Sequence[float], seed: int = 0) -> Summary | None:
    """Mean, deviation and interval; None without values."""
    if not len(values):
        return None
    array = np.asarray(values, dtype=np.float64)
    low, high = bootstrap_interval(array, seed)
    return Summary(float(array.mean()), float(array.std(ddof=1)) if len(array) > 1 else None, low, high, len(array))


def bootstrap_interval(
    values: np.ndarray, seed: int = 0, level: float = 0.95, resamples: int = RESAMPLES
) -> tuple[float | None, float | None]:
    """Confidence interval of the mean by the percentile bootstrap; None for fewer than two values."""
    if len(values) < 2:
        return None, None
    drawn = np.random.default_rng(seed).integers(0, len(values), (resamples, len(values)))
    low, high = np.quantile(
        np.asarray(values, dtype=np.float64)[drawn].mean(axis=1), [(1 - level) / 2, (1 + level) / 2]
    )
    return float(low), float(high)


def paired_test(first: Sequence[float], second: Sequence[float], seed: int = 0) -> PairedTest | None:
    """Compare two models case by case; None for fewer than two cases.

    Args:
        first: one number a case.
        second: the same cases in the same order.
        seed: of bootstrap and permutations.
    """
    from scipy.stats import wilcoxon

    differences = np.asarray(second, dtype=np.float64) - np.asarray(first, dtype=np.float64)
    if len(differences) < 2:
        return None
    low, high = bootstrap_interval(differences, seed)
    # Without any difference there is nothing to rank.
    ranked = 1.0 if not differences.any() else float(wilcoxon(differences).pvalue)
    return PairedTest(
        len(differences), float(differences.mean()), low, high, ranked, sign_permutation(differences, seed)
    )


def sign_permutation(differences: np.ndarray, seed: int = 0, resamples: int = RESAMPLES) -> float:
    """P of the permutation test for paired values: how often a random change of signs gives as large a mean.

    Exact for up to 14 cases; for more, drawn, with the observed one among the draws so that p is never 0.
    """
    differences = np.asarray(differences, dtype=np.float64)
    number = len(differences)
    observed = abs(differences.sum()) * (1 - 1e-12)
    if number <= _EXACT:
        signs = 1 - 2 * ((np.arange(2**number)[:, None] >> np.arange(number)) & 1)
        return float((np.abs(signs @ differences) >= observed).mean())
    rng = np.random.default_rng(seed)
    signs = 1 - 2 * rng.integers(0, 2, (resamples, number))
    return float((1 + (np.abs(signs @ differences) >= observed).sum()) / (resamples + 1))


def holm(values: Sequence[float]) -> list[float]:
    """Holm's correction: adjusted p-values, in the order given.

    The i-th smallest of m is multiplied by m − i + 1, never less than the one before it, at most 1 (Holm, Scandinavian
    Journal of Statistics 1979).
    """
    order = np.argsort(values, kind="stable")
    adjusted = np.empty(len(values))
    largest = 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(values) - rank) * values[index]))
        adjusted[index] = largest
    return [float(value) for value in adjusted]
