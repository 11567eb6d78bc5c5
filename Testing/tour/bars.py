"""The quality bars in the real application: entering, controls, and how long a call of ours holds the GUI.

    make test-slicer SLICER=... ARGS="bars-256 bars-512"

``256`` is 256³, ``512`` is 512×512×400; both with 5 superclasses of 12 subclasses.  The image goes to the real worker;
what a model would answer is made here.  Numbers are reported; only bars that this project has set itself fail.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import numpy as np
import slicer
from hands import choose, click, click_row, controls, shortcut, stroke, wait, wait_until
from journey import Journey, leave, settings, window
from watch import Heartbeat, Watch

LARGE = "512" in sys.argv[1:]
SHAPE = (512, 512, 400) if LARGE else (256, 256, 256)
BAR_MS = 300 if LARGE else 100
PARENT, CHILD = "superclass 2", "subclass 25"


def panel() -> Any:
    """The panel."""
    return slicer.modules.HierSubclassSegWidget.panel


def measured(journey: Journey, do: Any) -> dict[str, Any]:
    """Do something under watch."""
    with Watch() as watch, Heartbeat() as beat:
        do()
        wait(0.3)
    longest = watch.longest()
    journey.kept.setdefault("longest", []).extend(longest)
    return {"longest calls": longest[:3], "event loop ms": round(1000 * beat.longest)}


def enter(journey: Journey) -> dict[str, Any]:
    """Enter the module with a volume loaded: in 0.05 s, with at most 12 controls"""
    from HierSubclassSegLib.scene import geometry

    rng = np.random.default_rng(0)
    image = rng.integers(0, 200, SHAPE, dtype=np.int16)
    place = np.diag([0.7, 0.7, 1.0, 1.0])
    place[:3, 3] = [-0.35 * SHAPE[0], -0.35 * SHAPE[1], -0.5 * SHAPE[2]]
    journey.kept["volume"] = geometry.make_volume(slicer.mrmlScene, image, place, "scan")
    slicer.util.setSliceViewerLayers(background=journey.kept["volume"], fit=True)
    # Code is imported in idle moments after the start.
    wait(3.0)
    begin = time.perf_counter()
    cpu = time.thread_time()
    slicer.util.selectModule("HierSubclassSeg")
    first, first_cpu = time.perf_counter() - begin, time.thread_time() - cpu
    wait(0.5)
    again = []
    for _ in range(5):
        slicer.util.selectModule("Volumes")
        wait(0.2)
        begin = time.perf_counter()
        slicer.util.selectModule("HierSubclassSeg")
        again.append(time.perf_counter() - begin)
        wait(0.2)
    window()
    seen = controls(panel().widget)
    assert len(seen) <= 12, seen
    return {
        "first ms": round(1000 * first, 1),
        "first cpu ms": round(1000 * first_cpu, 1),
        "again ms": [round(1000 * one, 1) for one in again],
        "controls": len(seen),
    }


def send(journey: Journey) -> dict[str, Any]:
    """Press Apply: the image goes to the worker"""

    def do() -> None:
        click(panel().segment_page.segment.button)
        wait_until(lambda: panel().segment_page.segment.bar.value > 20, 120, "the worker has the image")

    return measured(journey, do)


def result(journey: Journey) -> dict[str, Any]:
    """A result with 60 leaves enters the scene"""
    from bench_scene import blocks, tree_of

    from HierSubclassSegLib.compute.jobs import PredictionResult
    from HierSubclassSegLib.scene import geometry

    tree = tree_of(5, 12)
    labels = blocks(tree, SHAPE)
    sure = np.full(SHAPE, 191, np.uint8)
    affine = geometry.volume_grid(journey.kept["volume"]).affine
    answer = PredictionResult(
        labels=labels,
        confidence=sure,
        affine=affine,
        tree=tree,
        bundle="benchmark@1",
        stages={"network": 1.0},
        warm=True,
    )
    section = panel().segment_page.segment
    # The model itself would take minutes here: the run goes on with an answer that was made.
    section.segmenter.discard()

    def do() -> None:
        section._answered(answer)
        wait_until(lambda: panel().segment_page.hierarchy.node is not None, 300, "the result is shown")
        wait(8.0 if LARGE else 3.0)

    return measured(journey, do)


def look(journey: Journey) -> dict[str, Any]:
    """Level 1, all levels, hide and show a branch"""
    hierarchy = panel().segment_page.hierarchy

    def do() -> None:
        choose(hierarchy.depths, "Level 1")
        choose(hierarchy.depths, "All levels")
        from HierSubclassSegLib.gui.hierarchy_columns import EYE

        for _ in range(2):
            click_row(hierarchy.view, hierarchy.view.topLevelItem(0), EYE)

    return measured(journey, do)


def annotate(journey: Journey) -> dict[str, Any]:
    """Edit: an annotation begins from the superclasses"""

    def do() -> None:
        panel().edit(panel().segment_page.hierarchy.node)
        wait(0.5)
        page = panel().annotate.page
        choose(page.begin.content, "Only the superclasses")
        click(page.begin.button)
        wait_until(lambda: page.annotation is not None, 300, "the annotation is there")
        wait(8.0 if LARGE else 3.0)

    return measured(journey, do)


def refine(journey: Journey) -> dict[str, Any]:
    """Refine a superclass"""
    page = panel().annotate.page

    def do() -> None:
        choose(page.refine.combo, PARENT)
        click(page.refine.button)
        wait_until(lambda: page.refine.refining, 60, "the superclass is refined")
        wait(2.0)

    return measured(journey, do)


def paint(journey: Journey) -> dict[str, Any]:
    """A stroke of 30 mm, undone and redone by key"""
    import tour_refine

    page = panel().annotate.page
    session = page.refine.session
    session.select(CHILD)
    tour_refine.paint_with("Paint", 30)
    inside = np.argwhere(session.voxels(PARENT))
    middle = session.grid.to_ras @ [*np.median(inside, axis=0), 1.0]
    for name in slicer.app.layoutManager().sliceViewNames():
        slicer.app.layoutManager().sliceWidget(name).mrmlSliceNode().JumpSliceByOffsetting(*middle[:3])
    wait(1.0)

    def do() -> None:
        for shift in (0, 12, -12):
            stroke("Red", [middle[:3] + [shift, y, 0] for y in np.linspace(-15, 15, 8)])
            wait(0.5)
        shortcut("Z")
        wait(0.5)
        shortcut("Y")

    return measured(journey, do)


def leave_refine(journey: Journey) -> dict[str, Any]:
    """Leave to another tab and to another module"""

    def do() -> None:
        panel().show(panel().segment_page)
        wait(0.5)
        panel().show(panel().annotate)
        wait(1.0)
        slicer.util.selectModule("Volumes")
        wait(0.5)

    return measured(journey, do)


def bar(journey: Journey) -> dict[str, Any]:
    """No call of ours held the GUI longer than the bar, Slicer's own long calls not counted"""
    calls = journey.kept.get("longest", [])
    over = [f"{one['call']}: {one['ours ms']} ms" for one in calls if one["ours ms"] > BAR_MS]
    assert not over, f"over {BAR_MS} ms: {'; '.join(over)}"
    # Slicer's scene and view calls are not among what the bar excepts: they are told.
    held = sorted((one for one in calls if one["own ms"] > BAR_MS), key=lambda one: -one["own ms"])
    return {"bar ms": BAR_MS, "held longer by Slicer's calls": held}


if __name__ == "__main__":
    settings()
    window()
    journey = Journey("bars-512" if LARGE else "bars-256")
    leave(journey.run([enter, send, result, look, annotate, refine, paint, leave_refine, bar]))
