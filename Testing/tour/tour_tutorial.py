"""docs/tutorial.md, followed literally: a step for each numbered line, by the name that stands there.  Runs in Slicer."""

from __future__ import annotations

import os
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np
import slicer
import tour_segment
import tour_train
from hands import choose, click, dialog_button, shortcut, stroke, wait, wait_until
from journey import OUT, Journey, UntriedError, leave, settings, window

REFINED, SUBCLASSES = "hindbrain", ("brainstem", "cerebellum")
FOLDER = Path(tempfile.mkdtemp(prefix="tutorial-", dir=os.environ.get("HIERSEG_HOME"))) / "cases"


def panel() -> Any:
    """The panel."""
    return slicer.modules.HierSubclassSegWidget.panel


def page() -> Any:
    """The Annotate tab."""
    return panel().annotate.page


def count(name: str) -> int:
    """How many voxels a node has."""
    return int(page().refine.session.voxels(name).sum())


def sample(journey: Journey) -> dict[str, Any]:
    """Sample Data: Head MRI (MRHead)"""
    window()
    from HierSubclassSegLib import sample_data

    where = f"{slicer.util.TESTING_DATA_URL}SHA256/{sample_data.SHA256}"
    volume = None
    try:
        with urllib.request.urlopen(where, timeout=10):
            volume = sample_data.load()
    except (urllib.error.URLError, OSError) as error:
        journey.kept["offline"] = f"the sample cannot be downloaded here ({error})"
    if volume is None:
        journey.kept["volume"] = slicer.util.loadVolume(os.environ["HIERSEG_TEST_SAMPLE"])
        raise UntriedError(f"{journey.kept.get('offline', 'the sample was not loaded')}; another head is taken")
    journey.kept["volume"] = volume
    return {"voxels": list(volume.GetImageData().GetDimensions())}


def open(journey: Journey) -> dict[str, Any]:  # noqa: A001 - the tutorial's word
    """Open the module"""
    return tour_segment.open_the_module(journey)


def apply(journey: Journey) -> dict[str, Any]:
    """Press Apply"""
    return tour_segment.press_apply(journey)


def level_1(journey: Journey) -> dict[str, Any]:
    """Choose Level 1"""
    return tour_segment.fold_to_depth_1(journey)


def all_levels(journey: Journey) -> dict[str, Any]:
    """Choose All levels"""
    facts = tour_segment.show_everything(journey)
    journey.picture("screenshot-segment")
    return facts


def eye(journey: Journey) -> dict[str, Any]:
    """Click the eye of the cerebrum, twice"""
    facts = tour_segment.hide_a_branch(journey)
    assert facts["branch"] == "cerebrum", facts
    return facts


def edit(_journey: Journey) -> None:
    """Press Edit: the tab Annotate asks how to begin"""
    button = next(one for one in panel().segment_page.widget.findChildren("QPushButton") if str(one.text) == "Edit")
    click(button)
    wait_until(lambda: bool(page().begin.widget.isVisible()), 10, "it is asked how to begin")


def create(journey: Journey) -> dict[str, Any]:
    """Take Only the superclasses, Create"""
    choose(page().begin.content, "Only the superclasses")
    click(page().begin.button)
    wait_until(lambda: page().annotation is not None, 60, "the annotation is there")
    wait(0.5)
    assert not journey.kept["result"].GetDisplayNode().GetVisibility(), "the prediction is still seen"
    return {"annotation": page().annotation.GetName()}


def refine(_journey: Journey) -> None:
    """Subclasses of hindbrain, Refine"""
    choose(page().refine.combo, REFINED)
    click(page().refine.button)
    wait_until(lambda: page().refine.refining, 30, "it is refined")
    wait(0.5)


def paint(journey: Journey) -> dict[str, Any]:
    """Brainstem, Paint: a stroke in the red view"""
    import tour_refine

    from HierSubclassSegLib.scene import annotation, reading

    session = page().refine.session
    grid = session.grid
    # Where the model has found them: so a user sees them in the image.
    labels = reading.read(
        journey.kept["result"], annotation.tree_of(page().annotation), annotation.reference_grid(page().annotation)
    )
    places = {}
    for name in SUBCLASSES:
        inside = labels == session.tree.node(name).value
        places[name] = grid.to_ras @ [*np.median(np.argwhere(inside), axis=0), 1.0]
    journey.kept["places"] = {name: place[:3] for name, place in places.items()}
    _look_at(journey.kept["places"]["brainstem"])
    session.select("brainstem")
    tour_refine.paint_with("Paint", 6)
    middle = journey.kept["places"]["brainstem"]
    before = count(REFINED)
    stroke("Red", [middle + [x, 0, 0] for x in np.linspace(-6, 6, 6)])
    wait(0.3)
    assert count("brainstem") > 0, "nothing was painted"
    assert count(REFINED) == before, "the region was changed"
    return {"voxels": count("brainstem")}


def next_subclass(journey: Journey) -> dict[str, Any]:
    """W, and a stroke in the cerebellum"""
    shortcut("W")
    session = page().refine.session
    assert session.selected.name == "cerebellum", session.selected.name
    middle = journey.kept["places"]["cerebellum"].copy()
    middle[2] = journey.kept["places"]["brainstem"][2]
    stroke("Red", [middle + [x, 0, 0] for x in np.linspace(-25, 25, 14)])
    wait(0.3)
    assert count("cerebellum") > 0, "nothing was painted"
    journey.picture("screenshot-refine")
    return {"voxels": count("cerebellum")}


def undo(_journey: Journey) -> None:
    """Z, and Y"""
    painted = count("cerebellum")
    shortcut("Z")
    assert count("cerebellum") == 0, count("cerebellum")
    shortcut("Y")
    assert count("cerebellum") == painted


def take_over(_journey: Journey) -> dict[str, Any]:
    """Everywhere, 90 %, Take over: the strokes stay"""
    row = page().refine.take_over
    strokes = {name: page().refine.session.voxels(name).copy() for name in SUBCLASSES}
    choose(row.scope, "everywhere")
    row.confidence.value = 90
    click(row.button)
    wait(1.0)
    after = {name: page().refine.session.voxels(name) for name in SUBCLASSES}
    for name in SUBCLASSES:
        assert not (strokes[name] & ~after[name]).any(), f"a stroke of {name} was overwritten"
    gained = sum(int(after[name].sum() - strokes[name].sum()) for name in SUBCLASSES)
    assert gained > 0, page().refine.message.text
    return {"voxels": gained}


def done(_journey: Journey) -> None:
    """Press Done"""
    click(page().refine.button)
    wait(0.3)
    assert not page().refine.refining
    assert page().annotation.GetNumberOfDisplayNodes() == 1


def save(journey: Journey) -> dict[str, Any]:
    """Save to dataset, in an empty folder"""
    FOLDER.mkdir(exist_ok=True)

    import qt

    seen: list[str] = []

    def answer() -> None:
        dialog = qt.QApplication.activeModalWidget()
        if dialog is None:
            return
        seen.append(str(dialog.windowTitle))
        dialog.grab().save(str(OUT / f"{journey.name}-dialog-{len(seen)}.png"))
        if dialog.inherits("QFileDialog"):
            dialog.findChild("QLineEdit").setText(str(FOLDER))
            dialog_button(dialog, "Choose", "Open").click()
        else:
            dialog_button(dialog, "OK", "Save", "Yes").click()

    timer = qt.QTimer()
    timer.timeout.connect(answer)
    timer.start(700)
    click(page().export.button)
    wait_until(lambda: page().annotation.GetAttribute("HierSubclassSeg.Case"), 60, page().export.message.text)
    wait(1.0)
    timer.stop()
    assert (FOLDER / "dataset.json").is_file()
    return {"said": page().export.message.text, "asked": seen}


def train_tab(journey: Journey) -> dict[str, Any]:
    """Train: the dataset, Quick"""
    bar = panel().widget.tabBar()
    click(bar, bar.tabRect(panel().pages.index(panel().train)).center())
    wait(0.5)
    journey.kept["dataset"] = str(FOLDER)
    return tour_train.choose_the_dataset(journey)


def start(journey: Journey) -> dict[str, Any]:
    """Press Start fine-tuning"""
    return tour_train.start(journey)


def stop(journey: Journey) -> dict[str, Any]:
    """Press Stop and keep the best"""
    facts = tour_train.stop_and_keep_the_best(journey)
    journey.picture("screenshot-train")
    return facts


def use(_journey: Journey) -> dict[str, Any]:
    """Press Use this model"""
    click(tour_train.page().runs.use_button)
    wait(0.5)
    chosen = panel().segment_page.model.bundle
    assert chosen is not None
    assert chosen.id.startswith("brain-start-"), chosen.id
    assert panel().widget.currentIndex == 0, "the Segment tab is not shown"
    return {"model": chosen.id}


def _look_at(place: np.ndarray) -> None:
    for name in slicer.app.layoutManager().sliceViewNames():
        slicer.app.layoutManager().sliceWidget(name).mrmlSliceNode().JumpSliceByOffsetting(*place)
    wait(0.3)


STEPS = [
    sample, open, apply, level_1, all_levels, eye,
    edit, create, refine, paint, next_subclass, undo, take_over, done,
    save,
    train_tab, start, stop, use,
]  # fmt: skip

if __name__ == "__main__":
    settings()
    journey = Journey("tutorial")
    leave(journey.run(STEPS))
