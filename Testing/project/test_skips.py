"""In continuous integration a skipped test is a failed test: the rule in Testing/conftest.py, tried on a suite of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

SUITE = """
import pytest

def test_passes():
    assert True

@pytest.mark.skip(reason="no such program")
def test_skips():
    assert False

@pytest.mark.may_skip("only where there is a GPU")
def test_may_skip():
    pytest.skip("no GPU")

@pytest.mark.xfail(reason="known", strict=True)
def test_expected_failure():
    assert False
"""


@pytest.mark.parametrize(("ci", "failed"), [("true", 2), ("", 0)])
def test_skips_fail_in_ci_only(ci: str, failed: int, tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text((ROOT / "Testing/conftest.py").read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "test_suite.py").write_text(SUITE, encoding="utf-8")
    (tmp_path / "test_absent.py").write_text(
        "import pytest\n\npytest.importorskip('no_such_package')\n", encoding="utf-8"
    )
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    may_skip(reason): allowed\n", encoding="utf-8")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:xdist",
            "--continue-on-collection-errors",
            ".",
        ],
        cwd=tmp_path,
        env={**os.environ, "CI": ci},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    summary = done.stdout.strip().splitlines()[-1]
    counts = {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|skipped|error|xfailed)", summary)}
    assert counts["passed"] == 1
    assert counts["xfailed"] == 1
    assert counts.get("failed", 0) + counts.get("error", 0) == failed, done.stdout
    assert counts.get("skipped", 0) == (1 if ci else 3), done.stdout
    assert (done.returncode == 0) == (failed == 0)
