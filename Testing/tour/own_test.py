"""Runs HierSubclassSegTest, which ``ctest`` and "Reload and Test" run, and reports its tests.  Runs inside Slicer."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import slicer
from journey import Journey, leave, settings


def see_the_sample(_journey: Journey) -> dict[str, str]:
    """The tutorial's sample is listed in Sample Data, with its checksum"""
    sources = slicer.modules.sampleDataSources["HierSubclassSeg"]
    assert len(sources) == 1, sources
    return {"sample": sources[0].sampleName, "checksum": sources[0].checksums[0]}


def run_it(_journey: Journey) -> None:
    """HierSubclassSegTest: load sample, segment, check tags, refine, export, read back"""
    import HierSubclassSeg

    test = HierSubclassSeg.HierSubclassSegTest()
    test.setUp()
    # Not runTest(), which says what cannot be tried in a window that no one sees here.
    test.test_from_a_sample_to_a_dataset_and_back()


if __name__ == "__main__":
    settings()
    leave(Journey("selftest").run([see_the_sample, run_it]))
