"""A scene that is opened while the module is shown brings its result and its choices back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import slicer

from hierseg.labeltree import LabelTree
from HierSubclassSegLib.scene import geometry, prediction, storage
from standins.panels import open_panel


def test_the_result_is_shown_after_the_scene_was_opened(app_scene: Any, tmp_path: Path) -> None:
    """Slicer puts the file's parameter node in place of the module's: the panel must look at it anew."""
    nodes = [{"name": "background", "value": 0}, {"name": "head", "value": 1}]
    tree = LabelTree.from_dict({"format_version": 1, "name": "small", "unlabelled": 255, "nodes": nodes})
    labels = np.zeros((8, 8, 8), np.uint8)
    labels[2:6, 2:6, 2:6] = 1
    volume = geometry.make_volume(app_scene, np.zeros(labels.shape, np.int16), np.eye(4), "scan")
    widget = open_panel()
    page = widget.panel.segment_page
    node = prediction.create_prediction([volume], tree, labels, None, np.ones(labels.shape), bundle_id="known@1")
    name = node.GetName()
    page.result.setCurrentNode(node)
    slicer.app.processEvents()
    storage.save_scene(app_scene, tmp_path / "scene.mrb")
    app_scene.Clear(0)
    slicer.app.processEvents()
    assert page.hierarchy.node is None
    storage.load_scene(app_scene, tmp_path / "scene.mrb")
    slicer.app.processEvents()
    assert page.hierarchy.node is not None
    assert page.hierarchy.node.GetName() == name
    widget.cleanup()
