"""What holds for every test: one thread a process, reproducible hypothesis, no hidden skips, no trace in the home folder."""

from __future__ import annotations

import locale
import os

# Read by OpenMP, MKL and ITK when they are first imported, so this stands above every other import.
for _variable in (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
):
    os.environ.setdefault(_variable, "1")
os.environ.setdefault("MPLBACKEND", "Agg")

from collections.abc import Iterator  # noqa: E402
from pathlib import Path  # noqa: E402

import pytest  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402

REPOSITORY = Path(__file__).resolve().parents[1]

# "fast" always tries the same examples: a failure in continuous integration can be repeated at a desk.
settings.register_profile(
    "fast",
    derandomize=True,
    deadline=None,
    max_examples=30,
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
# "thorough" searches anew each time: HYPOTHESIS_PROFILE=thorough make test
settings.register_profile("thorough", deadline=None, max_examples=500, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))


def in_ci() -> bool:
    """Whether this is a continuous integration run, where a skipped test counts as a failed one."""
    return os.environ.get("CI", "").lower() not in ("", "0", "false")


def _refuse_skip(report: pytest.TestReport | pytest.CollectReport, reason: str) -> None:
    report.outcome = "failed"
    report.longrepr = (
        f"{report.nodeid} was skipped ({reason}), and a skip in continuous integration is a failure: "
        "install what is missing, or mark the test with may_skip(reason)."
    )


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    return str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else str(report.longrepr)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Turn a skip into a failure in continuous integration, unless the test is marked ``may_skip``."""
    report = yield
    expected_failure = hasattr(report, "wasxfail")
    if report.skipped and not expected_failure and in_ci() and item.get_closest_marker("may_skip") is None:
        _refuse_skip(report, _reason(report))
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Iterator[None]:
    """The same for a whole file that skips itself, as ``pytest.importorskip`` at its top does."""
    report = yield
    if report.skipped and in_ci():
        _refuse_skip(report, _reason(report))
    return report


@pytest.fixture(autouse=True)
def _same_locale() -> Iterator[None]:
    """What a library does to the locale in one test, and with it to text files in the tests after it, is told here."""
    before = locale.setlocale(locale.LC_CTYPE)
    yield
    after = locale.setlocale(locale.LC_CTYPE)
    locale.setlocale(locale.LC_CTYPE, before)
    assert after == before, f"the test left the locale {after} behind"


@pytest.fixture(scope="session", autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Models and settings of the tests go to a temporary folder, never to the user's own."""
    folder = tmp_path_factory.mktemp("hierseg-home")
    before = os.environ.get("HIERSEG_HOME")
    os.environ["HIERSEG_HOME"] = str(folder)
    yield folder
    if before is None:
        del os.environ["HIERSEG_HOME"]
    else:
        os.environ["HIERSEG_HOME"] = before


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root folder of the checkout."""
    return REPOSITORY
