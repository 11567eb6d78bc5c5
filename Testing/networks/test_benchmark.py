"""The benchmark of separate normalization runs and prints what the documentation's table is made of."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def test_prints_one_row_for_each_number_of_top_level_nodes() -> None:
    done = subprocess.run(
        [
            sys.executable,
            str(REPOSITORY / "Testing" / "benchmarks" / "bench_separate_normalization.py"),
            *["--pairs", "2", "--dims", "2", "--top-level", "2", "4"],
        ],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY / "training")},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["rows"]
    assert [(row["top_level_nodes"], row["leaves"]) for row in rows] == [(2, 3), (4, 7)]
    for row in rows:
        ratio = row["time_ratio"]
        assert 0 < ratio["quartile_1"] <= ratio["median"] <= ratio["quartile_3"]
        # One more branch for each further top-level node, and nothing else.
        assert row["parameters_on"] > row["parameters_off"]
    added = [row["parameters_on"] - row["parameters_off"] for row in rows]
    assert added[1] > 2.5 * added[0]
