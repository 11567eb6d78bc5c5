"""Large arrays that come and go: no fresh page for each, and all of it given back when asked."""

from __future__ import annotations

import subprocess
import sys

import pytest

from hierseg import allocation

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator is what is steered")

FAULTS = """
import resource, sys
from hierseg.allocation import give_back_memory, reuse_memory
if {reuse}:
    reuse_memory()
import torch

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()

def work():
    first = torch.ones(9_000_000)
    second = first * 2
    del first
    return second + 1

work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
held = resident()
give_back_memory()
print(held - resident())
"""


def measured(reuse: bool) -> tuple[int, int]:
    done = subprocess.run(
        [sys.executable, "-c", FAULTS.format(reuse=reuse)], check=True, capture_output=True, encoding="utf-8"
    )
    faults, given_back = done.stdout.split()
    return int(faults), int(given_back)


def test_arrays_are_made_of_pages_that_are_there() -> None:
    fresh, _ = measured(reuse=False)
    kept, given_back = measured(reuse=True)
    assert fresh > 1000
    assert kept < fresh / 20
    assert given_back > 50e6


def test_elsewhere_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("THP_MEM_ALLOC_ENABLE", raising=False)
    monkeypatch.setattr(allocation, "_glibc", lambda: None)
    allocation.reuse_memory()
    allocation.give_back_memory()
    assert "THP_MEM_ALLOC_ENABLE" not in allocation.os.environ
