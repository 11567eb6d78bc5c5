"""Every way out while something is going on: no crash, no traceback, no warning, exit code 0, no process left.

The state is given as argument: ``effect`` (a Segment Editor effect is active while a superclass is refined), ``run`` (a
prediction is computed) or ``training`` (a training is attached).  In each state the other module is opened, the
module is reloaded, the scene is closed, and in the end Slicer is quit.  Runs inside Slicer.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import slicer
import tour_refine
from hands import click, stroke, wait, wait_until
from journey import Journey, leave, settings, window

STATE = next((name for name in ("effect", "run", "training") if name in sys.argv[1:]), "effect")


def panel() -> Any:
    """The panel, also after the module was reloaded."""
    return slicer.modules.HierSubclassSegWidget.panel


# -- states -----------------------------------------------------------------------------------------------------------


def an_effect_is_active(journey: Journey) -> Callable[[], bool]:
    """Paint in a superclass that is refined."""
    tour_refine.a_prediction(journey)
    for step in (tour_refine.edit, tour_refine.begin, tour_refine.refine):
        step(journey)
    tour_refine.paint_with("Paint", 10)
    middle = journey.kept["middle"]
    stroke("Red", [middle + [x, 0, 0] for x in (-10, -5, 0)])
    assert tour_refine.page().refine.refining
    return lambda: True


def a_run_goes_on(journey: Journey) -> Callable[[], bool]:
    """Segment a volume, and be half way."""
    slicer.util.loadVolume(os.environ["HIERSEG_TEST_SAMPLE"])
    slicer.util.selectModule("HierSubclassSeg")
    panel().widget.currentIndex = 0
    wait(0.3)
    click(panel().segment_page.segment.button)
    section = panel().segment_page.segment
    wait_until(lambda: section.bar.value > 200 or not section.running, 600, "the bar passes 20 %")
    assert section.running, section.message.text
    return lambda: True


def a_training_is_attached(journey: Journey) -> Callable[[], bool]:
    """Fine-tune on one case, and look at the curve."""
    if "dataset" not in journey.kept:
        journey.kept["dataset"] = _dataset(journey)
    slicer.util.selectModule("HierSubclassSeg")
    panel().show(panel().train)
    wait(0.5)
    page = panel().train.page
    if page.runs.run is None or page.runs.status is None or page.runs.status.ended:
        page.setup.set_dataset(journey.kept["dataset"])
        wait(0.3)
        assert page.setup.button.enabled, page.setup.message.text
        click(page.setup.button)
    wait_until(lambda: page.runs.status is not None and not page.runs.status.ended, 60, "the run is followed")
    journey.kept["run"] = page.runs.run.folder
    return lambda: _alive(journey.kept["run"])


STATES = {"effect": an_effect_is_active, "run": a_run_goes_on, "training": a_training_is_attached}


def _dataset(journey: Journey) -> str:
    """A dataset folder of one case, from a prediction of known shapes."""
    from hierseg.dataset import Dataset
    from HierSubclassSegLib.scene import annotation, export

    tour_refine.a_prediction(journey)
    annotated = annotation.annotation_from_prediction(journey.kept["prediction"], superclasses_only=False)
    folder = Path(tempfile.mkdtemp(prefix="cases-", dir=os.environ["HIERSEG_HOME"])) / "cases"
    dataset = Dataset.create(folder, "exits", ["MRI"], annotation.tree_of(annotated))
    export.export_case(annotated, dataset, group="sample")
    return str(folder)


def _alive(run: Path) -> bool:
    from HierSubclassSegLib.compute.training import TrainingRun

    return not TrainingRun(run).status().ended


# -- ways out ---------------------------------------------------------------------------------------------------------


def other_module(journey: Journey) -> None:
    """Open another module, and come back"""
    holds = STATES[STATE](journey)
    slicer.util.selectModule("Segmentations")
    wait(1.0)
    assert holds(), "what went on has ended"
    slicer.util.selectModule("HierSubclassSeg")
    wait(1.0)
    assert holds(), "what went on has ended"
    _finish()


def reload_module(journey: Journey) -> None:
    """Reload the module"""
    holds = STATES[STATE](journey)
    slicer.modules.HierSubclassSegWidget.onReload()
    wait(1.5)
    slicer.util.selectModule("HierSubclassSeg")
    wait(1.0)
    assert panel() is not None
    assert holds(), "what went on has ended"
    _finish()


def close_scene(journey: Journey) -> dict[str, Any]:
    """Close the scene: nothing appears from the dead"""
    holds = STATES[STATE](journey)
    slicer.mrmlScene.Clear()
    wait(6.0 if STATE == "run" else 1.5)
    left = slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode")
    assert left == 0, f"{left} segmentations after the scene was closed"
    assert holds(), "what went on has ended"
    return {}


def quit_slicer(journey: Journey) -> None:
    """Quit Slicer while it goes on"""
    STATES[STATE](journey)


def _finish() -> None:
    """An empty scene for the next way out."""
    slicer.mrmlScene.Clear()
    wait(0.5)


if __name__ == "__main__":
    settings()
    window()
    journey = Journey(f"exits-{STATE}")
    leave(journey.run([other_module, reload_module, close_scene, quit_slicer]))
