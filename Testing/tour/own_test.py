"""Runs HierSubclassSegTest, which ``ctest`` and "Reload and Test" run, and reports its tests.  Runs inside Slicer."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import slicer
from journey import Journey, leave, settings


def run_it(_journey: Journey) -> None:
    """HierSubclassSegTest: load sample, segment, check tags, refine, export, read back"""
    import HierSubclassSeg

    slicer.util.selectModule("HierSubclassSeg")
    test = HierSubclassSeg.HierSubclassSegTest()
    test.messageDelay = 0
    test.runTest()


if __name__ == "__main__":
    settings()
    leave(Journey("selftest").run([run_it]))
