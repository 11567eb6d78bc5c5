"""Somebody retrains from annotations: the third journey's first part, click by click.  Runs inside Slicer.

The annotations are a phantom's, small and soon learned from; the model is the shipped one, and what it says of a
phantom is not to be read as a result.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import slicer
from hands import choose, click, type_text, wait, wait_until
from journey import Journey, leave, settings, window

TRAIN_SECONDS = 420


def panel() -> Any:
    """The panel, also after the module was reloaded."""
    return slicer.modules.HierSubclassSegWidget.panel


def page() -> Any:
    """The Train tab."""
    return panel().train.page


def a_dataset(journey: Journey) -> dict[str, Any]:
    """A dataset folder of one annotated case"""
    window()
    folder = Path(os.environ["HIERSEG_HOME"]) / "phantom"
    words = ["-m", "hierseg", "phantom", "brain", "--cases", "1", "--size", "64", "--out", str(folder)]
    from HierSubclassSegLib.gui import worker

    environment = worker.startup_environment()
    made = subprocess.run(
        [worker.python(), *words], env=environment, capture_output=True, encoding="utf-8", check=False, timeout=120
    )
    assert made.returncode == 0, made.stderr[-500:]
    journey.kept["dataset"] = str(folder)
    return {"folder": folder.name}


def open_the_tab(journey: Journey) -> dict[str, Any]:
    """Open HierSubclassSeg, click Train"""
    slicer.util.selectModule("HierSubclassSeg")
    window()
    bar = panel().widget.tabBar()
    index = panel().pages.index(panel().train)
    click(bar, bar.tabRect(index).center())
    wait(0.5)
    assert not page().setup.button.enabled, "there is nothing to train on yet"
    return {"said": page().setup.facts.text}


def a_folder_that_is_not_there(journey: Journey) -> dict[str, Any]:
    """Type the path of a folder that is not there: one sentence says so"""
    _type_path("/no/such/dataset")
    wait_until(lambda: page().setup.message.text, 5, "a sentence")
    return {"said": page().setup.message.text}


def choose_the_dataset(journey: Journey) -> dict[str, Any]:
    """Type the path of the dataset"""
    _type_path(journey.kept["dataset"])
    wait_until(lambda: page().setup.button.enabled, 5, page().setup.message.text)
    choose(page().setup.presets, "Quick")
    return {"said": page().setup.facts.text, "time": page().setup.time.text}


def start(journey: Journey) -> dict[str, Any]:
    """Press Start fine-tuning: a run is followed"""
    click(page().setup.button)
    run = page().runs
    assert run.run is not None, page().setup.message.text
    journey.kept["run"] = run.run.folder
    seconds = wait_until(lambda: run.history is not None and len(run.history.losses) > 2, TRAIN_SECONDS, "a curve")
    wait(1.5)
    assert run.status.state == "running", run.message.text
    return {"seconds until the curve": round(seconds, 1), "said": run.stage.text}


def look_elsewhere(journey: Journey) -> dict[str, Any]:
    """Open another module and come back: the run goes on, and the scene was left without the curve"""
    slicer.util.selectModule("Data")
    wait(0.5)
    charts = slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLPlotChartNode")
    assert charts == 0, f"{charts} charts are left in the scene"
    slicer.util.selectModule("HierSubclassSeg")
    wait(1.5)
    assert page().runs.status.state == "running", page().runs.message.text
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLPlotChartNode") == 1
    return {"said": page().runs.stage.text}


def find_it_again(journey: Journey) -> dict[str, Any]:
    """Reload the module: the run is found again"""
    slicer.modules.HierSubclassSegWidget.onReload()
    wait(1.0)
    slicer.util.selectModule("HierSubclassSeg")
    open_the_tab_again()
    assert page().runs.run is not None, "no run is found"
    assert page().runs.run.folder == journey.kept["run"]
    assert page().setup.folder.currentPath == journey.kept["dataset"], "the dataset is not chosen"
    return {"run": page().runs.choice.currentText}


def open_the_tab_again() -> None:
    """The Train tab after a reload."""
    panel().show(panel().train)
    wait(1.0)


def stop_and_keep_the_best(journey: Journey) -> dict[str, Any]:
    """Press Stop and keep the best: each structure is shown before and after"""
    run = page().runs
    click(run.stop_button)
    seconds = wait_until(lambda: run.status.ended, TRAIN_SECONDS, "the run ends")
    wait(1.0)
    assert run.status.state == "stopped", run.message.text
    assert run.scores.view.isVisible(), "there is no table"
    assert run.use_button.isVisible(), "there is no model"
    return {
        "seconds until stopped": round(seconds, 1),
        "said": run.message.text,
        "rows": run.scores.view.topLevelItemCount,
        "measured on": run.scores.about.text,
        "warning": run.scores.warning.text,
    }


def use_the_model(journey: Journey) -> dict[str, Any]:
    """Press Use this model: it is chosen for segmenting"""
    click(page().runs.use_button)
    wait(0.5)
    chosen = panel().segment_page.model.bundle
    assert chosen is not None
    assert "phantom" in chosen.id or chosen.id.startswith("brain-start-"), chosen.id
    assert panel().widget.currentIndex == 0, "the Segment tab is not shown"
    return {"model": chosen.id}


def _type_path(path: str) -> None:
    edit = page().setup.folder.findChildren("QLineEdit")[0]
    edit.selectAll()
    type_text(edit, path)
    wait(0.6)


if __name__ == "__main__":
    settings()
    journey = Journey("train")
    leave(
        journey.run(
            [
                a_dataset,
                open_the_tab,
                a_folder_that_is_not_there,
                choose_the_dataset,
                start,
                look_elsewhere,
                find_it_again,
                stop_and_keep_the_best,
                use_the_model,
            ]
        )
    )
