"""A clinician segments a volume: the first journey, click by click.  Runs inside Slicer."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import slicer
from hands import choose, click, click_row, controls, wait, wait_until
from journey import Journey, leave, settings, window

SEGMENT_SECONDS = 900


def page() -> Any:
    """The Segment tab."""
    return slicer.modules.HierSubclassSegWidget.panel.segment_page


def row_of(name: str) -> Any:
    """The row of a tree node."""
    import qt

    found = page().hierarchy.view.findItems(name, qt.Qt.MatchExactly | qt.Qt.MatchRecursive, 0)
    assert found, f"the hierarchy has no row {name!r}"
    return found[0]


def shown_segments(node: Any) -> int:
    """How many segments are drawn."""
    display, segmentation = node.GetDisplayNode(), node.GetSegmentation()
    names = [segmentation.GetNthSegmentID(index) for index in range(segmentation.GetNumberOfSegments())]
    return sum(bool(display.GetSegmentVisibility(name)) for name in names) if display.GetVisibility() else 0


def load_the_sample(journey: Journey) -> dict[str, Any]:
    """Load a head MRI"""
    window()
    volume = slicer.util.loadVolume(os.environ["HIERSEG_TEST_SAMPLE"])
    journey.kept["volume"] = volume
    return {"voxels": list(volume.GetImageData().GetDimensions())}


def open_the_module(journey: Journey) -> dict[str, Any]:
    """Open HierSubclassSeg: model and volume are picked, Apply and the result are in sight"""
    slicer.util.selectModule("HierSubclassSeg")
    window()
    assert page().model.bundle is not None, "no model is picked"
    assert page().inputs.volumes[0] is journey.kept["volume"], "the volume is not picked"
    assert page().segment.button.enabled, "Apply is disabled"
    seen = controls(slicer.modules.HierSubclassSegWidget.panel.widget)
    for part in (page().segment.button, page().hierarchy.view):
        assert not part.visibleRegion().isEmpty(), f"{part.objectName} is not in sight"
    assert len(seen) <= 12, f"{len(seen)} controls: {seen}"
    return {"controls": len(seen), "which": seen}


def cancel_a_run(journey: Journey) -> dict[str, Any]:
    """Press Apply, and Cancel half way: nothing is changed"""
    before = slicer.mrmlScene.GetNumberOfNodes()
    click(page().segment.button)
    assert page().segment.running, "Apply started nothing"
    wait_until(lambda: page().segment.bar.value > 100, 600, "the bar passes 10 %")
    journey.picture(f"{journey.name}-while-running")
    click(page().segment.button)
    seconds = wait_until(lambda: not page().segment.running, 10, "the run ends")
    assert slicer.mrmlScene.GetNumberOfNodes() == before, "nodes were left behind"
    assert seconds < 3.5, f"Cancel took {seconds:.1f} s"
    return {"seconds until canceled": round(seconds, 2), "said": page().segment.message.text}


def press_apply(journey: Journey) -> dict[str, Any]:
    """Press Apply, and wait for the result"""
    click(page().segment.button)
    seconds = wait_until(lambda: page().hierarchy.node is not None, SEGMENT_SECONDS, page().segment.message.text)
    wait(1)
    result = page().hierarchy.node
    assert result.GetAttribute("HierSubclassSeg.Role") == "prediction"
    assert shown_segments(result) > 0, "nothing is shown"
    journey.kept["result"] = result
    return {"seconds": round(seconds, 1), "said": page().segment.message.text}


def fold_to_depth_1(journey: Journey) -> dict[str, Any]:
    """Show level 1: one color a superclass"""
    choose(page().hierarchy.depths, "Level 1")
    return {"segments drawn": shown_segments(journey.kept["result"])}


def show_everything(journey: Journey) -> dict[str, Any]:
    """Show all levels: subclasses as shades"""
    before = shown_segments(journey.kept["result"])
    choose(page().hierarchy.depths, "All levels")
    after = shown_segments(journey.kept["result"])
    assert after > before, f"{before} segments at level 1, {after} at all levels"
    return {"segments drawn": after}


def hide_a_branch(journey: Journey) -> dict[str, Any]:
    """Click the eye of a branch: all of it is hidden; click again: it is back"""
    from HierSubclassSegLib.gui.hierarchy_section import EYE

    result, view = journey.kept["result"], page().hierarchy.view
    top = view.topLevelItem(0)
    before = shown_segments(result)
    click_row(view, top, EYE)
    hidden = shown_segments(result)
    journey.picture(f"{journey.name}-branch-hidden")
    click_row(view, top, EYE)
    assert hidden < before == shown_segments(result), (before, hidden, shown_segments(result))
    return {"branch": str(top.text(0)), "drawn before": before, "while hidden": hidden}


def save_and_open(journey: Journey) -> dict[str, Any]:
    """Save the scene, close it, open it: the tree is back"""
    file = str(Path(slicer.app.temporaryPath) / "tour.mrb")
    rows = len(page().hierarchy.rows.items)
    assert slicer.util.saveScene(file), "the scene cannot be saved"
    slicer.mrmlScene.Clear()
    wait(0.5)
    assert page().hierarchy.node is None, "the closed scene's result is still shown"
    slicer.util.loadScene(file)
    wait(1.0)
    assert page().hierarchy.node is not None, "the result is not shown after the scene was opened"
    assert len(page().hierarchy.rows.items) == rows, f"{rows} rows before, {len(page().hierarchy.rows.items)} after"
    Path(file).unlink()
    return {"rows": rows}


if __name__ == "__main__":
    settings()
    journey = Journey("segment")
    leave(
        journey.run(
            [
                load_the_sample,
                open_the_module,
                cancel_a_run,
                press_apply,
                fold_to_depth_1,
                show_everything,
                hide_a_branch,
                save_and_open,
            ]
        )
    )
