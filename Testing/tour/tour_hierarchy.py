"""The hierarchy on a segmentation that another program made, and its quality bars, measured.  Runs inside Slicer.

117 structures with TotalSegmentator's names in 256 x 256 x 256 voxels, on no tree of ours, as it comes from that
program: grouped by a click, shown, hidden, painted, in 3D, saved and opened.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np
import slicer
from hands import choose, click, click_row, type_text, wait, wait_until
from journey import Journey, leave, settings, window

SHAPE = (256, 256, 256)
STRUCTURES = 117


def page() -> Any:
    """The Segment tab."""
    return slicer.modules.HierSubclassSegWidget.panel.segment_page


def row_of(name: str) -> Any:
    """The row of a node."""
    return page().hierarchy.rows.items[name]


def numbers_are_in() -> bool:
    """Whether all voxels have been counted."""
    measures = page().hierarchy._measures
    return measures is not None and not measures.pending


def seconds_of(action: Callable[[], Any], runs: int = 5) -> float:
    """The median, in time of the GUI's thread: what other programs take of the computer does not count."""
    found = []
    for _ in range(runs):
        begin = time.thread_time()
        action()
        found.append(time.thread_time() - begin)
    return statistics.median(found)


def longest_count(section: Any) -> float:
    """Count everything as the section's timer does: the longest time that one of its calls held the GUI.

    What Slicer itself does between two calls (drawing 117 segments, say) is not in it.
    """
    longest = 0.0
    while not numbers_are_in():
        begin = time.thread_time()
        section._count()
        longest = max(longest, time.thread_time() - begin)
        slicer.app.processEvents()
    return longest


def make_a_foreign_result(journey: Journey) -> dict[str, Any]:
    """A segmentation with TotalSegmentator's names, and no label tree"""
    import vtk
    from vtk.util.numpy_support import vtk_to_numpy

    from hierseg.labeltree import LabelTree
    from hierseg.resources import path

    window()
    tree = LabelTree.load(path("label_trees", "totalsegmentator_ct"))
    names = [node.aliases[0] if node.aliases else node.name for node in tree.leaves if node.name != "background"]
    labels = np.zeros(SHAPE, np.uint8)
    for index in range(STRUCTURES):
        i, j, k = index % 5, index // 5 % 5, index // 25
        labels[20 + 40 * k : 55 + 40 * k, 20 + 40 * j : 55 + 40 * j, 20 + 40 * i : 55 + 40 * i] = index + 1
    image = slicer.vtkOrientedImageData()
    image.SetDimensions(*SHAPE[::-1])
    image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
    vtk_to_numpy(image.GetPointData().GetScalars())[:] = labels.ravel()
    # Filled before it is in the scene: Slicer's views look at every segment that is added to one they show.
    node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLSegmentationNode")
    node.UnRegister(None)
    node.SetName("total")
    for index in range(STRUCTURES):
        segment = slicer.vtkSegment()
        segment.SetName(names[index])
        segment.SetLabelValue(index + 1)
        segment.AddRepresentation("Binary labelmap", image)
        node.GetSegmentation().AddSegment(segment)
    slicer.mrmlScene.AddNode(node)
    node.CreateDefaultDisplayNodes()
    journey.kept["node"] = node
    slicer.util.selectModule("HierSubclassSeg")
    begin = time.perf_counter()
    page().result.setCurrentNode(node)
    offered = time.perf_counter() - begin
    assert page().hierarchy.grouping.group_button.isVisible(), page().hierarchy.message.text
    return {"offered in": offered, "said": str(page().hierarchy.grouping.label.text)}


def group_it(journey: Journey) -> dict[str, Any]:
    """One click groups it: no question is asked"""
    section = page().hierarchy
    begin = time.perf_counter()
    click(section.grouping.group_button)
    grouped = time.perf_counter() - begin
    assert len(section.rows.items) > STRUCTURES, len(section.rows.items)
    held = longest_count(section)
    assert held < 0.1, f"counting held the GUI for {held:.3f} s"
    return {"rows": len(section.rows.items), "grouped in": grouped, "longest hold while counting": held}


def measure_it(journey: Journey) -> dict[str, Any]:
    """Build the tree, update its rows, paint: within the bars"""
    section, node = page().hierarchy, journey.kept["node"]
    built = seconds_of(lambda: section.set_node(node))
    longest_count(section)
    idle = seconds_of(section.follow)
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    segment_id = node.GetSegmentation().GetNthSegmentID(7)
    image = slicer.vtkOrientedImageData()
    node.GetBinaryLabelmapRepresentation(segment_id, image)
    found = []
    for _ in range(5):
        logic.SetBinaryLabelmapToSegment(image, node, segment_id, logic.MODE_REPLACE)
        begin = time.thread_time()
        section.follow()
        found.append(time.thread_time() - begin)
    painted = statistics.median(found)
    held = longest_count(section)
    eye = seconds_of(lambda: section.toggle("skeleton"), 4)
    assert built < 0.1, f"the tree was built in {built:.3f} s"
    assert painted < 0.02, f"the rows were updated in {painted:.3f} s after a stroke"
    assert held < 0.1, f"counting held the GUI for {held:.3f} s"
    return {
        "tree built in": built,
        "rows looked at in": idle,
        "rows updated after a stroke in": painted,
        "eye of a branch in": eye,
        "longest hold while counting": held,
    }


def look_at_levels(journey: Journey) -> None:
    """Show level 1, then all levels; hide a branch by its eye"""
    from HierSubclassSegLib.gui.hierarchy_columns import EYE

    section = page().hierarchy
    choose(section.depths, "Level 1")
    journey.picture(f"{journey.name}-level-1")
    choose(section.depths, "All levels")
    click_row(section.view, row_of("skeleton"), EYE)
    assert section.rows.shown["skeleton"] == "off"
    click_row(section.view, row_of("skeleton"), EYE)
    assert section.rows.shown["skeleton"] == "on"


def search_for_it(_journey: Journey) -> dict[str, Any]:
    """Search: only what holds the word is left"""
    section = page().hierarchy
    type_text(section.filter, "kidney")
    seen = [name for name, row in section.rows.items.items() if not row.isHidden()]
    assert "left kidney" in seen, seen
    assert len(seen) < 12, seen
    return {"rows": seen}


def clear_the_search(_journey: Journey) -> None:
    """Clear the search: all rows are back"""
    page().hierarchy.filter.clear()
    wait(0.1)
    assert not any(row.isHidden() for row in page().hierarchy.rows.items.values())


def show_a_branch_in_3d(journey: Journey) -> dict[str, Any]:
    """Show a branch in 3D: only its surfaces are made"""
    section, node = page().hierarchy, journey.kept["node"]
    begin = time.perf_counter()
    section.surfaces.show("skeleton")
    wait_until(lambda: not section.surfaces.busy, 120, "the surfaces are made")
    seconds = time.perf_counter() - begin
    surfaces = [
        segment.GetRepresentation("Closed surface").GetNumberOfPoints() > 0
        for segment in (node.GetSegmentation().GetNthSegment(index) for index in range(STRUCTURES))
    ]
    assert 0 < sum(surfaces) < STRUCTURES, sum(surfaces)
    return {"surfaces": sum(surfaces), "of": STRUCTURES, "seconds": seconds}


def save_and_open(journey: Journey) -> dict[str, Any]:
    """Save it as .seg.nrrd and in the scene; each brings the tree, the lock and the status back"""
    section = page().hierarchy
    section.surfaces.hide(None)
    section.actions.set_locked("skeleton", True)
    section.actions.next_status("left kidney")
    longest_count(section)
    rows, locked, ml = set(section.rows.items), section.rows.locked, str(row_of("skeleton").text(1))
    folder = Path(slicer.app.temporaryPath)
    single, whole = folder / "total.seg.nrrd", folder / "total.mrb"
    assert slicer.util.saveNode(journey.kept["node"], str(single))
    assert slicer.util.saveScene(str(whole))
    facts = {}
    for file in (single, whole):
        slicer.mrmlScene.Clear()
        wait(0.3)
        assert section.node is None, "the closed scene's segmentation is still shown"
        if file is single:
            page().result.setCurrentNode(slicer.util.loadSegmentation(str(file)))
        else:
            slicer.util.loadScene(str(file))
        wait_until(lambda: bool(section.rows.items), 20, "the hierarchy is back")
        assert set(section.rows.items) == rows, f"{len(rows)} rows before, {len(section.rows.items)} after"
        assert section.rows.locked == locked
        assert section.rows.statuses["left kidney"].name == "IN_PROGRESS"
        longest_count(section)
        assert str(row_of("skeleton").text(1)) == ml, f"{ml} ml before, {row_of('skeleton').text(1)} after"
        facts[file.name] = len(section.rows.items)
        file.unlink()
    return facts


def edit_the_tree(_journey: Journey) -> dict[str, Any]:
    """On the Annotate tab: add a subclass, rename it; Slicer's undo takes both back, redo brings both"""
    from hierseg.labeltree import LabelTree
    from hierseg.resources import path
    from HierSubclassSegLib.scene import annotation, geometry
    from HierSubclassSegLib.scene.status import Status

    slicer.mrmlScene.Clear()
    wait(0.3)
    volume = geometry.make_volume(slicer.mrmlScene, np.zeros((64, 64, 64), np.int16), np.eye(4), "head")
    node = annotation.create_annotation([volume], LabelTree.load(path("label_trees", "brats2021")))
    panel = slicer.modules.HierSubclassSegWidget.panel
    panel.show(panel.annotate)
    wait(0.5)
    tab = panel.annotate.page
    tab.set_annotation(node)
    wait(0.5)
    section, editor = tab.hierarchy, tab.refine.editor.widget
    # A segment carries the tree: an annotation without any would not know of an older one.
    section.edits().set_status("tumor", Status.IN_PROGRESS)
    section.edits().add_subclass("tumor", "hemorrhage")
    wait(0.2)
    section.rows.items["hemorrhage"].setText(0, "old blood")
    wait(0.2)
    said = [sorted(section.rows.items)]
    for change in (editor.undo, editor.undo, editor.redo, editor.redo):
        change()
        wait(0.3)
        said.append(sorted(section.rows.items))
    names = [{"old blood", "hemorrhage"} & set(rows) for rows in said]
    assert names == [{"old blood"}, {"hemorrhage"}, set(), {"hemorrhage"}, {"old blood"}], names
    section.select("old blood")
    return {"rows": said[-1]}


if __name__ == "__main__":
    settings()
    journey = Journey("hierarchy")
    leave(
        journey.run(
            [
                make_a_foreign_result,
                group_it,
                measure_it,
                look_at_levels,
                search_for_it,
                clear_the_search,
                show_a_branch_in_3d,
                save_and_open,
                edit_the_tree,
            ]
        )
    )
