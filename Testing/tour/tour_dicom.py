"""A segmentation of a DICOM series leaves as DICOM SEG, through Slicer's own dialog, without typing.  Runs inside Slicer."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import dicom_series
import numpy as np
import slicer
from hands import choose, click, click_menu, dialog_button, stroke, wait, wait_until, when_dialog
from journey import Journey, UntriedError, leave, settings, window

REFINED = "deep gray matter"
FOLDER = Path(tempfile.mkdtemp(prefix="tour-dicom-"))
OUT = Path(os.environ.get("HIERSEG_TEST_OUT", "."))


def segment_page() -> Any:
    """The Segment tab."""
    return slicer.modules.HierSubclassSegWidget.panel.segment_page


def page() -> Any:
    """The Annotate tab."""
    return slicer.modules.HierSubclassSegWidget.panel.annotate.page


def need_dicom() -> None:
    """Leave a step out where this Slicer cannot do it."""
    from HierSubclassSegLib.gui import dicom_seg

    sentence = dicom_seg.missing()
    if sentence:
        raise UntriedError(sentence)


def voxels(node: Any) -> dict[str, int]:
    """How many voxels each segment has, by name; empty ones are left out."""
    from vtk.util.numpy_support import vtk_to_numpy

    segmentation = node.GetSegmentation()
    counts = {}
    for number in range(segmentation.GetNumberOfSegments()):
        name = segmentation.GetNthSegmentID(number)
        image = slicer.vtkOrientedImageData()
        node.GetBinaryLabelmapRepresentation(name, image)
        scalars = image.GetPointData().GetScalars()
        if scalars is not None and image.GetNumberOfPoints():
            counts[segmentation.GetSegment(name).GetName()] = int(np.count_nonzero(vtk_to_numpy(scalars)))
    return {name: count for name, count in counts.items() if count}


def import_series(journey: Journey) -> dict[str, Any]:
    """A head MRI as DICOM series, imported into Slicer's database and loaded from it"""
    window()
    need_dicom()
    from DICOMLib import DICOMUtils

    if not hasattr(slicer.modules, "createdicomseries"):
        # Without Slicer's command line modules this one fails at each export of anything.
        slicer.modules.dicomPlugins.pop("DICOMVolumeSequencePlugin", None)
    files = FOLDER / "series"
    files.mkdir()
    volume = slicer.util.loadVolume(os.environ["HIERSEG_TEST_SAMPLE"])
    series = dicom_series.write_series(volume, files)
    slicer.mrmlScene.Clear(0)
    DICOMUtils.openTemporaryDatabase(str(FOLDER / "database"))
    DICOMUtils.importDicom(str(files))
    loaded = DICOMUtils.loadSeriesByUID([series])
    assert len(loaded) == 1, loaded
    journey.kept["volume"] = slicer.mrmlScene.GetNodeByID(loaded[0])
    return {"files": len(list(files.iterdir())), "volume": journey.kept["volume"].GetName()}


def segment(_journey: Journey) -> dict[str, Any]:
    """Apply, and Edit: an annotation of the prediction"""
    need_dicom()
    slicer.util.selectModule("HierSubclassSeg")
    window()
    wait_until(lambda: segment_page().segment.button.enabled, 10, "Apply can be pressed")
    click(segment_page().segment.button)
    wait_until(lambda: segment_page().hierarchy.node is not None, 900, segment_page().segment.message.text)
    wait(0.5)
    click(segment_page().edit_button)
    click(page().begin.button)
    wait_until(lambda: page().annotation is not None, 60, "the annotation")
    wait(1)
    return {"annotation": page().annotation.GetName(), "voxels": voxels(page().annotation)}


def export(journey: Journey) -> dict[str, Any]:
    """Export → DICOM SEG…: Slicer's dialog has all it needs; Export is pressed without typing"""
    need_dicom()
    return _export(journey, "whole")


def _export(journey: Journey, name: str) -> dict[str, Any]:
    import qt

    folder = FOLDER / name
    folder.mkdir()
    said: list[str] = []

    def press(box: Any) -> None:
        # The dialog fills itself in a moment later.
        wait(0.5)
        box.grab().save(str(OUT / f"dicom-dialog-{name}.png"))
        exports = box.findChild("QListWidget", "ExportablesListWidget")
        said.extend(str(exports.item(row).text()) for row in range(exports.count))
        # Into a folder: the database's own window would be shown after the other kind.
        into_folder = box.findChild("QCheckBox", "ExportToFolderCheckBox")
        if not into_folder.checked:
            # Slicer remembers it.
            into_folder.click()
        path = next(one for one in box.findChildren("QWidget") if one.objectName == "PathLineEdit_OutputFolder")
        path.currentPath = str(folder)
        confirm = qt.QTimer()
        confirm.setInterval(100)

        def close_what_came() -> None:
            top = qt.QApplication.activeModalWidget()
            if top is not None and top.className() == "QMessageBox":
                said.append(str(top.text))
                confirm.stop()
                dialog_button(top, "OK", "Yes").click()

        confirm.timeout.connect(close_what_came)
        confirm.start()
        dialog_button(box, "Export").click()
        confirm.stop()
        if box.isVisible():
            said.append("refused: " + str(box.findChild("QLabel", "ErrorLabel").text))
            box.grab().save(str(OUT / f"dicom-refused-{name}.png"))
            box.reject()

    timer = when_dialog(press, 30)
    click_menu(page().export.more, "DICOM")
    timer.stop()
    wait(1)
    assert not page().export.message.text, page().export.message.text
    assert not any(one.startswith("refused") for one in said), said
    (file,) = folder.iterdir()
    journey.kept["file"] = file
    return {"said": said}


def read_back(journey: Journey) -> dict[str, Any]:
    """Read without Slicer: each structure has its voxels, its terminology and its algorithm"""
    need_dicom()
    return _read_back(journey)


def _read_back(journey: Journey) -> dict[str, Any]:
    from HierSubclassSegLib.scene import annotation, tags, terminology

    node = page().annotation
    found = dicom_series.read_segments(journey.kept["file"])
    written = {one["label"]: one["voxels"] for one in found}
    assert written == voxels(node), (written, voxels(node))
    tree = annotation.tree_of(node)
    segmentation = node.GetSegmentation()
    for one in found:
        codes = terminology.codes_of(terminology.terminology_entry(tree, tree.node(one["label"])))
        assert one["category"] == codes["category"], one
        assert one["type"] == codes["type"], one
        assert one["modifier"] == codes.get("modifier", ()), one
        part = segmentation.GetSegment(segmentation.GetSegmentIdBySegmentName(one["label"]))
        algorithm = tags.get_tag(part, tags.ALGORITHM_TYPE), tags.get_tag(part, tags.ALGORITHM_NAME) or ""
        assert one["algorithm"] == algorithm, (one, algorithm)
    return {"segments": found}


def load_again(journey: Journey) -> dict[str, Any]:
    """Loaded by Slicer from its database: the same voxels, algorithm and meaning"""
    need_dicom()
    import pydicom
    from DICOMLib import DICOMUtils

    from HierSubclassSegLib.scene import tags, terminology

    mine = page().annotation
    uid = str(pydicom.dcmread(journey.kept["file"], stop_before_pixels=True).SeriesInstanceUID)
    loaded = [slicer.mrmlScene.GetNodeByID(one) for one in DICOMUtils.loadSeriesByUID([uid])]
    nodes = [one for one in slicer.util.getNodesByClass("vtkMRMLSegmentationNode") if one is not mine]
    node = nodes[-1]
    assert voxels(node) == voxels(mine)
    for number in range(node.GetSegmentation().GetNumberOfSegments()):
        theirs = node.GetSegmentation().GetNthSegment(number)
        segmentation = mine.GetSegmentation()
        ours = segmentation.GetSegment(segmentation.GetSegmentIdBySegmentName(theirs.GetName()))
        for tag in (tags.ALGORITHM_TYPE, tags.ALGORITHM_NAME):
            assert (tags.get_tag(theirs, tag) or "") == (tags.get_tag(ours, tag) or ""), theirs.GetName()
        entries = [terminology.codes_of(tags.get_tag(one, tags.TERMINOLOGY) or "") for one in (theirs, ours)]
        assert entries[0] == entries[1], entries
    return {"loaded": [str(one) if one is None else one.GetName() for one in loaded], "node": node.GetName()}


def half_painted(journey: Journey) -> dict[str, Any]:
    """Another annotation, of superclasses: one subclass is painted, the others are empty; exported and read"""
    need_dicom()
    import tour_refine

    slicer.util.selectModule("HierSubclassSeg")
    panel = slicer.modules.HierSubclassSegWidget.panel
    panel.show(panel.segment_page)
    wait(0.3)
    first = page().annotation
    click(segment_page().edit_button)
    choose(page().begin.content, "Only the superclasses")
    click(page().begin.button)
    wait_until(lambda: page().annotation is not first, 60, "the annotation")
    choose(page().refine.combo, REFINED)
    click(page().refine.button)
    wait_until(lambda: page().refine.refining, 30, "it is refined")
    wait(0.5)
    session = page().refine.session
    session.select("thalamus")
    tour_refine.paint_with("Paint", 8)
    inside = np.argwhere(session.voxels(REFINED))
    point = (session.grid.to_ras @ [*inside[len(inside) // 2], 1.0])[:3]
    slicer.vtkMRMLSliceNode.JumpAllSlices(slicer.mrmlScene, *point, 0)
    wait(0.3)
    stroke("Red", [point + [x, 0, 0] for x in np.linspace(-4, 4, 5)])
    click(page().refine.button)
    wait(0.5)
    assert "thalamus" in voxels(page().annotation), "nothing was painted"
    facts = _export(journey, "half")
    found = {one["label"]: one["algorithm"] for one in _read_back(journey)["segments"]}
    assert found["thalamus"] == ("MANUAL", ""), found
    return {**facts, "segments": found}


STEPS = [import_series, segment, export, read_back, load_again, half_painted]

if __name__ == "__main__":
    settings()
    leave(Journey("dicom").run(STEPS))
