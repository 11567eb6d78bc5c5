"""An annotator refines a superclass, with real mouse strokes.  Runs inside Slicer."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np
import qt
import slicer
from hands import choose, click, shortcut, stroke, wait, wait_until
from journey import Journey, leave, settings, window

REFINED = "deep gray matter"
SUBCLASSES = ("thalamus", "caudate")


def page() -> Any:
    """The Annotate tab."""
    return slicer.modules.HierSubclassSegWidget.panel.annotate.page


def session() -> Any:
    """The painting session."""
    return page().refine.session


def paint_with(effect: str, millimeters: float = 6.0) -> None:
    """Take an effect of the embedded editor, with a brush of a size."""
    editor = page().refine.editor.widget
    editor.setActiveEffectByName(effect)
    active = editor.activeEffect()
    assert active is not None, f"{effect} is not offered"
    active.setCommonParameter("BrushSizeIsRelative", 0)
    active.setCommonParameter("BrushAbsoluteDiameter", millimeters)
    active.setCommonParameter("BrushSphere", 0)
    wait(0.05)


def count(name: str) -> int:
    """How many voxels a node has."""
    return int(session().voxels(name).sum())


def everything() -> dict[str, np.ndarray]:
    """The voxels of every node that has a segment."""
    from HierSubclassSegLib.scene import layers

    return layers.read_nodes(page().annotation, session().tree)


def check_invariants(locked: dict[str, np.ndarray] | None = None) -> None:
    """Siblings exclude one another, children lie in their parents, locked nodes are what they were."""
    tree, masks = session().tree, everything()
    for parent in (None, *(node for node in tree.nodes if not tree.is_leaf(node))):
        children = [child.name for child in tree.children(parent) if child.name in masks]
        total = sum(masks[name].astype(np.uint8) for name in children) if children else None
        if total is not None:
            assert int(total.max()) <= 1, f"siblings below {parent and parent.name} overlap"
            if parent is not None and parent.name in masks:
                assert not ((total > 0) & ~masks[parent.name]).any(), f"a child leaves {parent.name}"
    for name, before in (locked or {}).items():
        assert np.array_equal(masks[name], before), f"{name} was changed, though it must not be"


def a_prediction(journey: Journey) -> dict[str, Any]:
    """Load a head MRI; a prediction of known shapes is on it"""
    window()
    volume = slicer.util.loadVolume(os.environ["HIERSEG_TEST_SAMPLE"])
    slicer.util.selectModule("HierSubclassSeg")
    from hierseg.bundle import Bundle
    from hierseg.resources import path
    from HierSubclassSegLib.scene import geometry, prediction

    grid = geometry.volume_grid(volume)
    middle = np.array(grid.shape) / 2
    mm = np.abs(np.linalg.norm(grid.affine[:3, :3], axis=0))
    axes = np.meshgrid(*(np.arange(n) for n in grid.shape), indexing="ij", sparse=True)

    def ball(away: tuple[float, float, float], radius: float) -> np.ndarray:
        return sum(((a - m) * s - d) ** 2 for a, m, s, d in zip(axes, middle, mm, away, strict=True)) < radius**2

    tree = Bundle.open(path("models", "brain-start"), verify=False).tree
    labels = np.full(grid.shape, tree.unlabelled, tree.dtype)
    labels[ball((0, 0, 0), 55)] = tree.node("cerebral white matter").value
    labels[ball((0, 0, 0), 30)] = tree.node(REFINED).value
    labels[ball((-12, 0, 0), 12)] = tree.node("thalamus").value
    labels[ball((14, 0, 0), 10)] = tree.node("caudate").value
    sure = np.where(ball((-12, 0, 0), 8), 0.95, 0.6).astype(np.float32)
    node = prediction.create_prediction([volume], tree, labels, confidence=sure, bundle_id="tour@1.0.0")
    journey.kept |= {"volume": volume, "prediction": node, "labels": labels, "tree": tree}
    place = grid.affine @ [*middle, 1.0]
    journey.kept["middle"] = place[:3]
    for name in slicer.app.layoutManager().sliceViewNames():
        slice_node = slicer.app.layoutManager().sliceWidget(name).mrmlSliceNode()
        slice_node.RotateToVolumePlane(volume)
        slice_node.JumpSliceByOffsetting(*place[:3])
    window()
    panel = slicer.modules.HierSubclassSegWidget.panel
    panel.segment_page.result.setCurrentNode(node)
    wait(0.5)
    return {"voxels": list(grid.shape)}


def edit(journey: Journey) -> dict[str, Any]:
    """Edit the prediction: the Annotate tab asks how to begin"""
    panel = slicer.modules.HierSubclassSegWidget.panel
    panel.edit(journey.kept["prediction"])
    wait(0.5)
    assert page().begin.widget.isVisible()
    return {}


def begin(journey: Journey) -> dict[str, Any]:
    """Begin with its superclasses alone; the prediction is hidden"""
    choose(page().begin.content, "Only the superclasses")
    click(page().begin.button)
    wait_until(lambda: page().annotation is not None, 30, page().begin.message.text)
    wait(0.3)
    assert not journey.kept["prediction"].GetDisplayNode().GetVisibility()
    return {"annotation": page().annotation.GetName()}


def refine(journey: Journey) -> dict[str, Any]:
    """Refine the deep gray matter: its subclasses can be painted, it is an outline"""
    choose(page().refine.combo, REFINED)
    click(page().refine.button)
    wait(0.5)
    assert page().refine.refining, page().refine.message.text
    assert page().annotation.GetNumberOfDisplayNodes() == 2
    return {"selected": session().selected.name}


def paint(journey: Journey) -> dict[str, Any]:
    """Paint the thalamus across the border: only what lies inside is painted"""
    session().select("thalamus")
    paint_with("Paint", 10)
    middle = journey.kept["middle"]
    before = count(REFINED)
    stroke("Red", [middle + [x, 0, 0] for x in np.linspace(-45, 0, 12)])
    wait(0.3)
    gained = count("thalamus")
    assert gained > 0, "nothing was painted"
    assert count(REFINED) == before, "the superclass was changed"
    check_invariants()
    return {"voxels": gained}


def overlap(journey: Journey) -> dict[str, Any]:
    """Select the next subclass by Slicer's own key, paint over the thalamus: they exclude one another"""
    before = count("thalamus")
    shortcut("W")
    assert session().selected.name == "caudate", session().selected.name
    middle = journey.kept["middle"]
    stroke("Red", [middle + [-10, y, 0] for y in np.linspace(-12, 12, 12)])
    wait(0.3)
    assert 0 < count("thalamus") < before
    check_invariants()
    return {"thalamus before": before, "after": count("thalamus"), "caudate": count("caudate")}


def erase(journey: Journey) -> dict[str, Any]:
    """Erase some of the caudate: the superclass stays whole"""
    whole, before = count(REFINED), count("caudate")
    paint_with("Erase", 6)
    middle = journey.kept["middle"]
    stroke("Red", [middle + [-10, y, 0] for y in np.linspace(-3, 3, 4)])
    wait(0.3)
    assert count("caudate") < before
    assert count(REFINED) == whole, "erasing touched the superclass"
    check_invariants()
    return {"before": before, "after": count("caudate")}


def no_intensity_mask(journey: Journey) -> dict[str, Any]:
    """Slicer's key for the intensity mask does nothing here"""
    shortcut("I")
    assert not page().refine.editor.node.GetSourceVolumeIntensityMask()
    return {}


def undo_everything(journey: Journey) -> dict[str, Any]:
    """Undo all strokes by Slicer's own key, and redo them"""
    after = everything()
    for _ in range(3):
        shortcut("Z")
    assert count("thalamus") == count("caudate") == 0, (count("thalamus"), count("caudate"))
    for _ in range(3):
        shortcut("Y")
    again = everything()
    assert all(np.array_equal(after[name], again[name]) for name in after), "redo is not what was undone"
    return {"nodes": len(after)}


def locked(journey: Journey) -> dict[str, Any]:
    """Lock the thalamus and paint over it: it stays"""
    session().set_locked("thalamus")
    before = everything()["thalamus"]
    session().select("putamen")
    paint_with("Paint", 12)
    middle = journey.kept["middle"]
    stroke("Red", [middle + [x, 0, 0] for x in np.linspace(-28, 10, 12)])
    wait(0.3)
    assert count("putamen") > 0
    check_invariants({"thalamus": before})
    session().set_locked("thalamus", False)
    return {"thalamus": int(before.sum()), "putamen": count("putamen")}


def hide_by_eye(journey: Journey) -> dict[str, Any]:
    """Hide the thalamus by Slicer's own eye while painting: masking is as before, the view hides it"""
    from HierSubclassSegLib.scene import tree_store
    from HierSubclassSegLib.scene.refine import seen_display

    annotation = page().annotation
    thalamus = tree_store.segment_id_of(annotation, session().tree.node("thalamus"))
    first = annotation.GetDisplayNode()
    first.SetSegmentVisibility(thalamus, not first.GetSegmentVisibility(thalamus))
    wait(0.1)
    hidden = not seen_display(annotation).GetSegmentVisibility(thalamus)
    assert hidden, "the click on the eye was not carried over"
    assert first.GetSegmentVisibility(thalamus), "masking was changed by the eye"
    session().set_seen("thalamus", True)
    return {}


def take_over_component(journey: Journey) -> dict[str, Any]:
    """Take over one connected component by a click on it, where the model was sure"""
    row = page().refine.take_over
    before = everything()
    row.confidence.value = 90
    choose(row.scope, "one component")
    click(row.button)
    assert row.picker.waiting
    stroke("Red", [journey.kept["middle"] + [12, 0, 0]])
    wait(0.3)
    assert not row.picker.waiting
    gained = count("thalamus") - int(before["thalamus"].sum())
    assert gained > 0, page().refine.message.text
    assert not (before["putamen"] & ~everything()["putamen"]).any(), "what was painted by hand was overwritten"
    check_invariants()
    said = page().refine.message.text
    shortcut("Z")
    after = everything()
    assert all(np.array_equal(before[name], after[name]) for name in before), "undo of taking over is not exact"
    shortcut("Y")
    return {"voxels": gained, "said": said}


def take_over_rest(journey: Journey) -> dict[str, Any]:
    """Take over this slice, then all of it"""
    row = page().refine.take_over
    row.confidence.value = 0
    found = {}
    for scope in ("this slice", "everywhere"):
        before = sum(count(name) for name in SUBCLASSES)
        choose(row.scope, scope)
        click(row.button)
        wait(0.2)
        found[scope] = sum(count(name) for name in SUBCLASSES) - before
        check_invariants()
    assert 0 < found["this slice"] < found["everywhere"], found
    return found


def complete_a_slice(journey: Journey) -> dict[str, Any]:
    """Mark this slice complete, go to the next unfinished one by key; undo leaves the mark"""
    slices = page().refine.slices
    choose(slices.view, "Red")
    here = slices.here()
    click(slices.box)
    assert slices.box.checked
    assert REFINED in str(marks()), marks()
    shortcut("N")
    there = slices.here()
    assert there != here, slices.message.text
    assert not slices.box.checked
    shortcut("Shift+N")
    shortcut("Z")
    assert REFINED in str(marks()), "undo took the mark back"
    shortcut("Y")
    return {"from": here, "to": there, "said": slices.message.text}


def oblique(journey: Journey) -> dict[str, Any]:
    """In an oblique view no slice can be complete: it offers to turn the view along the volume"""
    slices = page().refine.slices
    node = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceNode()
    matrix = node.GetSliceToRAS()
    import vtk

    turn = vtk.vtkTransform()
    turn.SetMatrix(matrix)
    turn.RotateX(20)
    matrix.DeepCopy(turn.GetMatrix())
    node.UpdateMatrices()
    wait(0.3)
    assert slices.turn.isVisible()
    assert not slices.box.isVisible()
    journey.picture(f"{journey.name}-oblique")
    click(slices.turn)
    assert slices.box.isVisible()
    return {"slice": slices.here()}


def by_the_tree(journey: Journey) -> dict[str, Any]:
    """Pick a subclass in the tree: it is painted next"""
    hierarchy = page().hierarchy
    hierarchy.select("pallidum")
    page().refine.pick("pallidum")
    wait(0.1)
    assert session().selected.name == "pallidum"
    editor = page().refine.editor.node
    tree = session().tree
    from HierSubclassSegLib.scene import tree_store

    assert editor.GetMaskSegmentID() == tree_store.segment_id_of(page().annotation, tree.node(REFINED))
    return {}


def another_tab(journey: Journey) -> dict[str, Any]:
    """Another tab with an effect active: one display node, nothing can be painted; back: it goes on"""
    panel = slicer.modules.HierSubclassSegWidget.panel
    paint_with("Paint", 8)
    panel.show(panel.segment_page)
    wait(0.2)
    ordinary()
    panel.show(panel.annotate)
    wait(0.3)
    assert page().refine.refining
    return {"refined": session().refined.name}


def another_module(journey: Journey) -> dict[str, Any]:
    """Another module with an effect active: the same"""
    paint_with("Paint", 8)
    slicer.util.selectModule("Data")
    wait(0.3)
    ordinary()
    journey.picture(f"{journey.name}-left")
    slicer.util.selectModule("HierSubclassSeg")
    wait(0.3)
    assert page().refine.refining
    assert page().annotation.GetNumberOfDisplayNodes() == 2
    return {}


def save_dialog(journey: Journey) -> dict[str, Any]:
    """Slicer's Save dialog with an effect active: what it saves is an ordinary segmentation; then it goes on"""
    paint_with("Paint", 8)
    found: list[int] = []

    def look() -> None:
        found.append(page().annotation.GetNumberOfDisplayNodes())
        slicer.app.activeModalWidget().reject()

    # Without a window manager no window has the focus, which the dialog then takes, by itself.
    slicer.util.mainWindow().activateWindow()
    wait(0.3)
    qt.QTimer.singleShot(1500, look)
    slicer.app.ioManager().openSaveDataDialog()
    wait(0.3)
    assert found == [1], found
    assert page().annotation.GetNumberOfDisplayNodes() == 2
    assert page().refine.refining
    return {}


def done(journey: Journey) -> dict[str, Any]:
    """Done: an ordinary segmentation again"""
    click(page().refine.button)
    wait(0.2)
    ordinary()
    assert not page().refine.editor.widget.isVisible()
    return {"said": page().refine.message.text}


def close_the_scene(journey: Journey) -> dict[str, Any]:
    """Close the scene with an effect active"""
    click(page().refine.button)
    wait(0.3)
    assert page().refine.refining, page().refine.message.text
    paint_with("Paint", 8)
    slicer.mrmlScene.Clear(0)
    wait(0.5)
    assert page().annotation is None
    assert page().refine.session is None
    return {}


def marks() -> list[dict[str, Any]]:
    """The slices that are marked complete."""
    from HierSubclassSegLib.scene import marks as scene_marks

    return scene_marks.slices_complete(page().annotation, session().tree)


def ordinary() -> None:
    """The annotation is an ordinary segmentation, and no effect is active."""
    node = page().annotation
    assert node.GetNumberOfDisplayNodes() == 1, node.GetNumberOfDisplayNodes()
    assert node.GetDisplayNode().GetOpacity2DFill() > 0, "the display was left invisible"
    assert page().refine.editor.widget.activeEffect() is None, "an effect was left active"
    assert not page().refine.refining


STEPS = [
    a_prediction,
    edit,
    begin,
    refine,
    paint,
    overlap,
    erase,
    no_intensity_mask,
    undo_everything,
    locked,
    hide_by_eye,
    take_over_component,
    take_over_rest,
    complete_a_slice,
    oblique,
    by_the_tree,
    another_tab,
    another_module,
    save_dialog,
    done,
    close_the_scene,
]

if __name__ == "__main__":
    settings()
    journey = Journey("refine")
    leave(journey.run(STEPS))
