"""Tables from scores that were made by hand: means, gap closed, tests, and what is said of what is not there."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from hierseg.evaluation.statistics import paired_test
from hierseg.study.config import Study, read_study
from hierseg.study.held_out import held_out, over_classes
from hierseg.study.page import to_page
from hierseg.study.results import Failure, RowResult, compare_rows, gap_closed, summarized
from hierseg.study.tables import to_csv, to_markdown
from study.test_study_config import GOOD


def content(
    dice: dict[str, tuple[float | None, float | None]], missed: str = "", accepted: float = 0.5
) -> dict[str, Any]:
    """What ``scores.json`` says of two leaves below one superclass."""
    cases = {}
    for case, values in dice.items():
        nodes = {"background": {"state": "scored", "dice": 0.99}, "heart": {"state": "scored", "dice": 0.9}}
        for leaf, value in zip(("left", "right"), values, strict=True):
            state = "absent" if value is None else "missed" if case == missed else "scored"
            nodes[leaf] = {"state": state, "dice": value, "hausdorff95": None if value in (None, 0.0) else 10 * value}
        cases[case] = {"nodes": nodes, "tree_distance": 0.1}
    noticed = {case: {"auroc": 0.75, "fpr95": None, "unknown_accepted": accepted} for case in dice}
    return {
        "leaves": ["background", "left", "right"],
        "background": "background",
        "cases": cases,
        "out_of_distribution": {"cases": noticed},
    }


@pytest.fixture
def study(tmp_path: Path) -> Study:
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(GOOD), encoding="utf-8")
    return read_study(path)


def result(study: Study, row: str, fine: int | str, *seeds: dict[str, Any], **more: Any) -> RowResult:
    scores = {seed: (one, one) for seed, one in zip(study.seeds, seeds, strict=False)}
    return summarized(study.row(row), fine, study.seeds, scores, ("dice", "hausdorff95", "tree_distance"), **more)


def test_means_are_over_leaves_then_seeds_then_cases(study: Study) -> None:
    found = result(
        study, "ESS", 2,
        content({"a": (0.8, 0.6), "b": (0.4, None), "c": (0.5, 0.5)}),
        content({"a": (0.6, 0.4), "b": (0.6, None), "c": (None, None)}),
    )  # fmt: skip
    # By case: a: (0.7 + 0.5) / 2 = 0.6; b: (0.4 + 0.6) / 2 = 0.5; c has no number from the second seed.
    assert found.by_case["dice"] == {"a": pytest.approx(0.6), "b": pytest.approx(0.5)}
    summary = found.mean["dice"]
    assert summary is not None
    assert (summary.mean, summary.number) == (pytest.approx(0.55), 2)
    assert summary.std == pytest.approx(np.std([0.6, 0.5], ddof=1))
    assert found.by_seed["dice"] == [pytest.approx((0.7 + 0.4 + 0.5) / 3), pytest.approx((0.5 + 0.6) / 2)]
    left = found.leaf["left"]["dice"]
    assert left is not None
    assert left.mean == pytest.approx(((0.8 + 0.6) / 2 + (0.4 + 0.6) / 2) / 2)
    assert found.complete


def test_the_gap_that_is_closed() -> None:
    lower = {"a": 0.4, "b": 0.6, "c": 0.1}
    upper = {"a": 0.9, "b": 0.9}
    row = {"a": 0.8, "b": 0.8}
    found = gap_closed(row, lower, upper)
    assert found is not None
    # Over a and b alone: (0.8 − 0.5) / (0.9 − 0.5).
    assert found.closed == pytest.approx(0.75)
    # A resample has a twice (0.4 of 0.5), b twice (0.2 of 0.3), or one of each.
    assert found.low == pytest.approx(2 / 3)
    assert found.high == pytest.approx(0.8)
    assert gap_closed(row, upper, upper) is None
    assert gap_closed({}, lower, upper) is None


def table_of(study: Study) -> list[RowResult]:
    rng = np.random.default_rng(0)
    cases = [f"case{number}" for number in range(12)]
    base = rng.uniform(0.5, 0.6, (2, 12))

    def shifted(by: float) -> dict[str, Any]:
        values = base + by + rng.normal(0, 0.01, base.shape)
        return content({case: (float(one), float(two)) for case, one, two in zip(cases, *values, strict=True)})

    return [
        result(study, "U-Net(n)", 2, shifted(0.0), shifted(0.0)),
        result(study, "U-Net(N)", "all", shifted(0.4)),
        result(study, "ESS", 2, shifted(0.3), shifted(0.3)),
        result(study, "ESS", 3, failed=[Failure(0, 2, "hierseg: the loss became nan")]),
    ]


def test_rows_are_tested_against_the_default_where_they_see_as_much(study: Study) -> None:
    rows = table_of(study)
    compare_rows(study, rows)
    lower, upper, default, more = rows
    assert set(lower.tests) == {"dice", "hausdorff95"}
    assert not upper.tests
    assert not default.tests
    assert not more.tests
    cases = sorted(default.by_case["dice"])
    expected = paired_test(
        [default.by_case["dice"][case] for case in cases], [lower.by_case["dice"][case] for case in cases]
    )
    found = lower.tests["dice"]
    assert found.test == expected
    assert found.wilcoxon_holm == expected.wilcoxon  # one comparison: nothing to correct
    assert found.test.difference < -0.25
    assert default.gap is not None
    assert default.gap.closed == pytest.approx(0.75, abs=0.05)
    assert lower.gap is not None
    assert lower.gap.closed == pytest.approx(0.0)


def test_the_markdown_says_what_is_missing(study: Study) -> None:
    rows = table_of(study)
    compare_rows(study, rows)
    text = to_markdown(study, rows, ["About."])
    results = text.split("## ")[1]
    lines = {line.split("|")[1].strip(): line for line in results.splitlines() if line.startswith("| ")}
    assert "| method | fine | left Dice % | right Dice % | mean Dice % |" in text
    assert any(name.startswith("U-Net(N) (not complete: 1 of 2 seeds)") for name in lines)
    assert any("not complete: 0 of 2 seeds, 1 failed" in name for name in lines)
    assert "| ESS (fine 3) | 0 | 2 | hierseg: the loss became nan |" in text
    assert "| <0.001 |" in lines["U-Net(n)"]  # p of twelve cases that all lie lower
    # Every row of a table has as many cells as its head.
    for block in text.split("\n\n"):
        table = [line for line in block.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in table}) <= 1


def test_the_page_has_the_tables_and_plots(study: Study) -> None:
    rows = table_of(study)
    compare_rows(study, rows)
    text = to_page(study, rows, ["About."])
    for heading in ("Results", "Number of fine labels", "Cases: Dice %", "Components", "Tests", "Runs that failed"):
        assert f">{heading}</h2>" in text
    assert text.count("<svg") == 3
    # The bounds lie where the curves do: no axis goes below 0 or beyond 100.
    curves = text.split(">Number of fine labels</h2>")[1].split("</svg>")[0]
    ticks = [float(found) for found in re.findall(r">(−?-?[0-9.]+)</text>", curves.replace("−", "-"))]
    assert 0 <= min(ticks) < max(ticks) <= 100
    assert "U-Net(N)" in curves


def test_single_head_networks_have_no_components(study: Study) -> None:
    one = dataclasses.replace(
        study.row("ESS"), name="marginal CE", settings={**study.row("ESS").settings, "head": "leaf"}
    )
    found = dataclasses.replace(result(study, "ESS", 2, content({"a": (0.5, 0.5)})), row=one)
    assert "## Components" not in to_markdown(study, [found], [])


def test_the_csv_has_every_leaf_and_the_mean(study: Study) -> None:
    lines = to_csv(table_of(study)).splitlines()
    assert lines[0].startswith("row,method,fine,labels,seeds,wanted,structure,metric,mean")
    found = [line.split(",") for line in lines[1:]]
    assert {(line[6], line[7]) for line in found if line[0] == "U-Net(n)"} >= {
        ("left", "dice"),
        ("mean", "dice consistent"),
    }
    assert not [line for line in found if line[2] == "3"]


def test_missed_leaves_are_counted(study: Study) -> None:
    found = result(study, "ESS", 2, content({"a": (0.0, 0.0), "b": (0.5, 0.5)}, missed="a"), content({"a": (0.5, 0.5)}))
    assert found.missed == 1.0
    assert "nowhere predicted (mean over seeds): ESS (fine 2) 1.0" in to_markdown(study, [found], [])


def test_what_is_unknown_is_counted_by_case(study: Study) -> None:
    metrics = ("dice", "auroc", "fpr95", "unknown_accepted")
    of_leaves, consistent = content({"a": (0.5, 0.5)}, accepted=1.0), content({"a": (0.5, 0.5)}, accepted=0.2)
    found = summarized(study.row("ESS"), 2, (0,), {0: (of_leaves, consistent)}, metrics)
    assert found.by_case["auroc"] == {"a": 0.75}
    assert found.by_case["fpr95"] == {}
    assert found.by_seed["fpr95"] == []
    # By leaf every voxel passes; what counts is the decoding with thresholds.
    assert found.by_case["unknown_accepted"] == {"a": 0.2}
    study = dataclasses.replace(study, metrics=metrics)
    assert "mean unknown that passes %" in to_markdown(study, [found], [])


def noticed(auroc: float | None, passes: float | None) -> tuple[dict[str, Any], dict[str, Any]]:
    leaf = {"out_of_distribution": {"together": {"auroc": auroc, "fpr95": None if auroc is None else 1 - auroc}}}
    mean = None if passes is None else {"mean": passes}
    return leaf, {"out_of_distribution": {"known_accepted": {"mean": 0.9}, "unknown_accepted": mean}}


def test_hidden_classes_are_means_over_seeds_then_classes(study: Study) -> None:
    found = result(study, "ESS", 2, content({"a": (0.8, 0.6)}), content({"a": (0.6, 0.4)}))
    found.held_out = [
        held_out("left", [noticed(0.6, 0.5), noticed(0.8, 0.7)]),
        held_out("right", [noticed(0.9, None), noticed(None, None)]),
        held_out("nowhere", [noticed(None, None), noticed(None, None)]),
    ]
    left = found.held_out[0]
    assert (left.auroc, left.fpr95, left.unknown_accepted) == (
        pytest.approx(0.7),
        pytest.approx(0.3),
        pytest.approx(0.6),
    )
    assert over_classes(found.held_out, "auroc") == (pytest.approx(0.8), pytest.approx(np.std([0.7, 0.9], ddof=1)))
    assert over_classes(found.held_out, "unknown_accepted") == (pytest.approx(0.6), None)
    text = to_markdown(study, [found], [])
    assert "## Held-out classes" in text
    assert "| ESS | 2 | 2 | 80.0 ± 14.1 | 20.0 ± 14.1 | 90.0 ± 0.0 | 60.0 | left (70.0) |" in text
    assert "Held-out classes" in to_page(study, [found], [])
    assert found.complete
    found.missing = ["middle"]
    assert not found.complete
    assert "| 2 of 4 |" in to_markdown(study, [found], [])


def test_without_hidden_classes_there_is_no_such_table(study: Study) -> None:
    found = result(study, "ESS", 2, content({"a": (0.8, 0.6)}), content({"a": (0.6, 0.4)}))
    assert "Held-out classes" not in to_markdown(study, [found], [])
