"""An annotator refines a superclass, with real mouse strokes.  Runs inside Slicer."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np
import slicer
from hands import choose, click, stroke, wait
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
    wait(0.5)
    assert page().annotation is not None, page().begin.message.text
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


STEPS = [a_prediction, edit, begin, refine, paint]

if __name__ == "__main__":
    settings()
    journey = Journey("refine")
    leave(journey.run(STEPS))
