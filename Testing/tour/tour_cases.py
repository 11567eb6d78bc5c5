"""An annotator works through a dataset: next case, a stroke, saved, reopened, identical.  Runs inside Slicer."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np
import slicer
from hands import choose, click, click_menu, click_row, dialog_button, shortcut, stroke, wait, wait_until, when_dialog
from journey import Journey, leave, settings, window

REFINED = "deep gray matter"
FOLDER = Path(tempfile.mkdtemp(prefix="tour-cases-"))


def page() -> Any:
    """The Annotate tab."""
    return slicer.modules.HierSubclassSegWidget.panel.annotate.page


def cases() -> Any:
    """The section of the cases."""
    return page().cases


def idle() -> float:
    """Let the jobs come to their end; gives how long Slicer did not react at most."""
    import time

    last, longest = time.perf_counter(), 0.0

    def done() -> bool:
        nonlocal last, longest
        now = time.perf_counter()
        longest, last = max(longest, now - last), now
        return not cases()._desk.job.busy and not cases()._counting.busy

    for _attempt in range(3):
        # One job begins the next: a case is saved, then another one is loaded.
        wait_until(done, 90, "the job")
        wait(0.05)
    return round(longest, 3)


def labels() -> np.ndarray:
    """What the annotation would be saved as."""
    from HierSubclassSegLib.scene import export

    return export.collect(page().annotation, page().volumes())[0]


def file_labels(case_id: str) -> np.ndarray:
    """What lies in the dataset."""
    from hierseg.dataset import Dataset
    from HierSubclassSegLib.scene import nifti

    dataset = Dataset.open(cases().folder)
    return nifti.read_nifti(dataset.label_path(dataset.case(case_id)))[0]


def answer(text: str, said: list[str] | None = None) -> Any:
    """Press a button of the next box, and keep a picture of it."""

    def press(box: Any) -> None:
        if said is not None:
            said.append(str(box.text))
        box.grab().save(str(Path(os.environ.get("HIERSEG_TEST_OUT", ".")) / f"cases-box-{text.replace(' ', '-')}.png"))
        dialog_button(box, text).click()

    return when_dialog(press)


def make_phantoms(_journey: Journey) -> dict[str, Any]:
    """The command hierseg phantom makes four heads: one with subclasses, three with superclasses"""
    environment = {
        key: value for key, value in slicer.util.startupEnvironment().items() if not key.startswith("PYTHON")
    }
    root = Path(__file__).resolve().parents[2]
    python = os.environ["HIERSEG_PYTHON"]
    command = [python, "-m", "hierseg", "phantom", "brain", "--cases", "4", "--fine", "1", "--size", "96"]
    subprocess.run(
        [*command, "--out", str(FOLDER / "heads")],
        env={**environment, "PYTHONPATH": str(root / "training")},
        check=True,
        capture_output=True,
    )
    window()
    slicer.util.selectModule("HierSubclassSeg")
    panel = slicer.modules.HierSubclassSegWidget.panel
    panel.show(panel.annotate)
    wait(0.3)
    return {}


def no_dataset(_journey: Journey) -> dict[str, Any]:
    """A folder that is no dataset: a sentence"""
    (FOLDER / "empty").mkdir()
    assert not cases().open_folder(str(FOLDER / "empty"))
    return {"said": cases().message.text}


def work_list(_journey: Journey) -> dict[str, Any]:
    """Open the dataset by the button: each case with its share and status"""

    def choose_folder(dialog: Any) -> None:
        dialog.findChild("QLineEdit").setText(str(FOLDER / "heads"))
        dialog_button(dialog, "Choose", "Open").click()

    timer = when_dialog(choose_folder)
    click(cases().choose)
    timer.stop()
    longest = idle()
    assert cases().folder == str(FOLDER / "heads"), cases().message.text
    assert cases().name.text == "Brain phantom: 4 cases, 3 unfinished", cases().name.text
    return {"said": cases().name.text, "no reaction for s": longest}


def next_by_key(journey: Journey) -> dict[str, Any]:
    """Open the next unfinished case by its key: image and superclasses appear"""
    mine = slicer.util.loadVolume(os.environ["HIERSEG_TEST_SAMPLE"])
    journey.kept["mine"] = mine
    shortcut("Ctrl+Shift+N")
    longest = idle()
    assert page().annotation.GetName() == "brain_0000 annotation"
    assert np.array_equal(labels(), file_labels("brain_0000"))
    wait_until(lambda: "coarse" in page().export.summary.text, 10)
    return {"will be saved": page().export.summary.text, "no reaction for s": longest}


def paint(journey: Journey) -> dict[str, Any]:
    """Refine: a stroke of thalamus; what will be saved follows"""
    choose(page().refine.combo, REFINED)
    click(page().refine.button)
    wait(0.5)
    session = page().refine.session
    session.select("thalamus")
    editor = page().refine.editor.widget
    editor.setActiveEffectByName("Paint")
    effect = editor.activeEffect()
    effect.setCommonParameter("BrushSizeIsRelative", 0)
    effect.setCommonParameter("BrushAbsoluteDiameter", 12)
    inside = np.argwhere(session.voxels(REFINED))
    middle = inside[len(inside) // 2]
    from HierSubclassSegLib.scene import annotation

    point = annotation.reference_grid(page().annotation).world @ [*middle, 1.0]
    slicer.modules.markups.logic().JumpSlicesToLocation(*point[:3], True) if hasattr(
        slicer.modules, "markups"
    ) else slicer.vtkMRMLSliceNode.JumpAllSlices(slicer.mrmlScene, *point[:3], 0)
    wait(0.3)
    stroke("Red", [point[:3] + [x, 0, 0] for x in np.linspace(-8, 8, 8)])
    wait(0.3)
    assert session.voxels("thalamus").any(), "nothing was painted"
    wait_until(lambda: "fine" in page().export.summary.text, 10, "the summary")
    journey.kept["painted"] = labels()
    return {"will be saved": page().export.summary.text}


def stay(_journey: Journey) -> dict[str, Any]:
    """Next with unsaved strokes: Save, Discard or Stay is asked; Stay stays"""
    said: list[str] = []
    timer = answer("Stay", said)
    shortcut("Ctrl+Shift+N")
    idle()
    timer.stop()
    assert page().annotation.GetName() == "brain_0000 annotation"
    assert said, "nothing was asked"
    return {"asked": said[0]}


def save_and_next(journey: Journey) -> dict[str, Any]:
    """Next again, Save: the case is saved and the next one is there"""
    timer = answer("Save")
    shortcut("Ctrl+Shift+N")
    longest = idle()
    timer.stop()
    assert page().annotation.GetName() == "brain_0001 annotation", page().annotation.GetName()
    assert np.array_equal(file_labels("brain_0000"), journey.kept["painted"])
    mine = journey.kept["mine"]
    assert slicer.mrmlScene.IsNodePresent(mine), "what the user had loaded is gone"
    names = [node.GetName() for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")]
    assert not any("brain_0000" in name for name in names), names
    return {"volumes": names, "no reaction for s": longest}


def reopen(journey: Journey) -> dict[str, Any]:
    """Open the first case again by a double click: every voxel is the same"""
    item = cases().table._items["brain_0000"]
    assert item.text(4) == "In progress", item.text(4)
    click_row(cases().table.widget, item, twice=True)
    idle()
    assert page().annotation.GetName() == "brain_0000 annotation", cases().message.text
    assert np.array_equal(labels(), journey.kept["painted"])
    assert page().export._desk.case_of(page().annotation).surely_clean()
    wait(1)
    return {"row": [item.text(column) for column in range(5)]}


def change_elsewhere(journey: Journey) -> dict[str, Any]:
    """Another program has changed the case: it is asked before it is overwritten"""
    from hierseg.dataset import Dataset
    from HierSubclassSegLib.scene import nifti

    dataset = Dataset.open(cases().folder)
    path = dataset.label_path(dataset.case("brain_0000"))
    array, affine = nifti.read_nifti(path)
    array = array.copy()
    array[0, 0, 0] = dataset.tree.node("thalamus").value
    nifti.write_nifti(path, array, affine)
    said: list[str] = []
    timer = answer("Save as new case", said)
    click(page().export.button)
    idle()
    timer.stop()
    assert "changed elsewhere" in said[0]
    assert np.array_equal(file_labels("brain_0000"), array), "the other's work was overwritten"
    new = page().annotation.GetAttribute("HierSubclassSeg.Case")
    assert np.array_equal(file_labels(new), journey.kept["painted"])
    return {"asked": said[0], "said": page().export.message.text}


def completed(_journey: Journey) -> dict[str, Any]:
    """Mark a case as completed: it is passed over"""
    from HierSubclassSegLib.scene.status import Status

    before = cases().name.text
    cases().set_status("brain_0001", Status.COMPLETED)
    wait(0.2)
    assert cases().table._items["brain_0001"].text(4) == "Completed"
    return {"before": before, "after": cases().name.text}


def level_maps(_journey: Journey) -> dict[str, Any]:
    """Label maps of each level, on the scan's grid"""
    folder = FOLDER / "levels"
    folder.mkdir()
    page().export.export_levels(str(folder))
    idle()
    written = sorted(path.name for path in folder.iterdir())
    assert len(written) == 3, written
    return {"files": written}


def models(_journey: Journey) -> dict[str, Any]:
    """Models, in one folder of the subject hierarchy a superclass"""
    click_menu(page().export.more, "Models")
    longest = idle()
    wait(0.5)
    found = [
        node.GetName() for node in slicer.util.getNodesByClass("vtkMRMLModelNode") if not node.GetHideFromEditors()
    ]
    assert "thalamus" in found, found
    assert REFINED in found, found
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    folders = {}
    for name in ("thalamus", REFINED, "cerebrum"):
        model = next(node for node in slicer.util.getNodesByClass("vtkMRMLModelNode") if node.GetName() == name)
        inner = hierarchy.GetItemParent(hierarchy.GetItemByDataNode(model))
        folders[name] = hierarchy.GetItemName(inner), hierarchy.GetItemName(hierarchy.GetItemParent(inner))
    outer = f"{page().annotation.GetName()} models"
    assert folders == {"thalamus": (REFINED, outer), REFINED: (REFINED, outer), "cerebrum": ("cerebrum", outer)}, (
        folders
    )
    slicer.util.selectModule("Data")
    wait(0.5)
    return {"models": found, "no reaction for s (surfaces are Slicer's)": longest}


def dicom(_journey: Journey) -> dict[str, Any]:
    """DICOM SEG of an image that is not of DICOM: a sentence (the part dicom exports one that is)"""
    slicer.util.selectModule("HierSubclassSeg")
    wait(0.3)
    click_menu(page().export.more, "DICOM")
    wanted = "was not loaded from DICOM" if hasattr(slicer.modules, "dicom") else "no DICOM module"
    assert wanted in page().export.message.text, page().export.message.text
    return {"said": page().export.message.text}


def own_head(journey: Journey) -> dict[str, Any]:
    """A real head: an annotation of it becomes the first case of a new dataset"""
    volume = journey.kept["mine"]
    from HierSubclassSegLib.scene import annotation, geometry, labelmaps

    tree = annotation.tree_of(page().annotation)
    node = annotation.create_annotation([volume], tree)
    array = np.full(geometry.volume_grid(volume).shape, tree.unlabelled, tree.dtype, order="F")
    inside = tuple(slice(size // 3, size // 2) for size in array.shape)
    array[inside] = tree.node(REFINED).value
    labelmaps.fill(node, tree, array, annotation.reference_grid(node).affine)
    page().set_annotation(node)
    assert page().export.button.text == "Save to dataset"
    (FOLDER / "own").mkdir()

    def name_channels(dialog: Any) -> None:
        dialog.grab().save(str(Path(os.environ.get("HIERSEG_TEST_OUT", ".")) / "cases-new-dataset.png"))
        dialog.setTextValue("T1")
        dialog_button(dialog, "OK").click()

    timer = when_dialog(name_channels)
    assert cases().offer_new(str(FOLDER / "own"), node), cases().message.text
    timer.stop()
    # Its tree came from another dataset's case, but the annotation is of none.
    click(page().export.button)
    longest = idle()
    case_id = node.GetAttribute("HierSubclassSeg.Case")
    assert case_id, page().export.message.text
    assert np.array_equal(file_labels(case_id), array)
    journey.kept["head"] = case_id, array
    return {"said": page().export.message.text, "no reaction for s": longest, "voxels": array.size}


def own_head_again(journey: Journey) -> dict[str, Any]:
    """Open it again from the dataset: identical; the user's own nodes stay"""
    case_id, array = journey.kept["head"]
    before = slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode")
    cases().open_case(case_id)
    longest = idle()
    assert page().annotation.GetName() == f"{case_id} annotation", cases().message.text
    assert np.array_equal(labels(), array)
    assert slicer.mrmlScene.IsNodePresent(journey.kept["mine"])
    image = slicer.util.arrayFromVolume(page().volumes()[0])
    assert np.array_equal(image, slicer.util.arrayFromVolume(journey.kept["mine"]))
    now = slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode")
    return {"segmentations before": before, "after": now, "no reaction for s": longest}


def close_while_loading(_journey: Journey) -> dict[str, Any]:
    """Close the scene while a case is being loaded: nothing of it appears in the next one"""
    from HierSubclassSegLib.scene import open_case

    cases().open_case(cases().table.selected)
    wait(0.02)
    slicer.mrmlScene.Clear(0)
    wait(1)
    assert not open_case.loaded_nodes(slicer.mrmlScene)
    assert page().annotation is None
    return {}


STEPS = [
    make_phantoms,
    no_dataset,
    work_list,
    next_by_key,
    paint,
    stay,
    save_and_next,
    reopen,
    change_elsewhere,
    completed,
    level_maps,
    models,
    dicom,
    own_head,
    own_head_again,
    close_while_loading,
]

if __name__ == "__main__":
    settings()
    journey = Journey("cases")
    leave(journey.run(STEPS))
