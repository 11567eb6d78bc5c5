"""Intervals, paired tests and Holm's correction, against SciPy and published numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import permutation_test, wilcoxon

from hierseg.evaluation.statistics import bootstrap_interval, holm, paired_test, sign_permutation, summarize


def test_bootstrap_covers_the_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    inside = 0
    for seed in range(200):
        low, high = bootstrap_interval(rng.normal(3.0, 2.0, size=40), seed, resamples=500)
        assert low is not None
        assert high is not None
        inside += low <= 3.0 <= high
    assert 0.88 <= inside / 200 <= 0.99


def test_a_summary_says_what_it_cannot_know() -> None:
    assert summarize([]) is None
    single = summarize([0.5])
    assert single is not None
    assert (single.mean, single.std, single.low, single.high, single.number) == (0.5, None, None, None, 1)
    same = summarize([0.5, 0.5, 0.5])
    assert same is not None
    assert (same.std, same.low, same.high) == (0.0, 0.5, 0.5)


@pytest.mark.parametrize("number", [3, 6, 9])
def test_the_permutation_test_is_scipy_s_where_it_is_exact(number: int) -> None:
    rng = np.random.default_rng(number)
    first, second = rng.normal(size=number), rng.normal(0.6, 1.0, size=number)
    expected = permutation_test(
        (first, second), lambda x, y, axis: np.mean(x - y, axis=axis), permutation_type="samples", vectorized=True
    )
    assert sign_permutation(second - first) == pytest.approx(expected.pvalue)


def test_drawn_permutations_come_near_the_exact_p() -> None:
    differences = np.random.default_rng(4).normal(0.5, 1.0, size=14)
    exact = sign_permutation(differences)
    drawn = sign_permutation(np.append(differences, 0.0))  # one case more, that changes nothing but the way of counting
    assert drawn == pytest.approx(exact, abs=0.02)
    assert sign_permutation(np.full(40, 1.0)) > 0


def test_paired_test() -> None:
    rng = np.random.default_rng(1)
    first = rng.uniform(0.5, 0.9, 20)
    second = first + rng.normal(0.05, 0.03, 20)
    found = paired_test(first.tolist(), second.tolist())
    assert found is not None
    assert found.difference == pytest.approx((second - first).mean())
    assert found.wilcoxon == pytest.approx(wilcoxon(second - first).pvalue)
    assert found.wilcoxon < 0.01
    assert found.permutation < 0.01
    assert found.low is not None
    assert found.low > 0
    same = paired_test([0.1, 0.2, 0.3], [0.1, 0.2, 0.3])
    assert same is not None
    assert (same.wilcoxon, same.permutation, same.difference) == (1.0, 1.0, 0.0)
    assert paired_test([0.1], [0.2]) is None


def test_holm_by_hand() -> None:
    # Four hypotheses: 0.01·4, 0.02·3, max(0.06, 0.03·2), max(0.06, 0.04·1)
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_keeps_the_order_and_only_raises(values: list[float]) -> None:
    adjusted = holm(values)
    assert all(value <= new <= 1 for value, new in zip(values, adjusted, strict=True))
    assert all(new <= min(1.0, value * len(values)) + 1e-12 for value, new in zip(values, adjusted, strict=True))
    order = np.argsort(values, kind="stable")
    assert (np.diff(np.array(adjusted)[order]) >= 0).all()
