"""The module's self test: the real thing, from a sample to a dataset folder and back.

``HierSubclassSegTest`` calls it, which ``ctest`` and "Reload and Test" start.  It needs Slicer, a Python that can run the
worker, and the sample: the file named by ``HIERSEG_TEST_SAMPLE``, else MRHead from Slicer's sample data.
"""

from __future__ import annotations

import os
import tempfile
import unittest
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import qt
import slicer

from hierseg.dataset import Dataset
from HierSubclassSegLib import sample_data
from HierSubclassSegLib.scene import annotation, export, load_case, prediction, tags, tree_store
from HierSubclassSegLib.scene.painting import RefineSession

SEGMENT_MS = 15 * 60 * 1000


class SelfTest:
    """The steps, in order; each raises AssertionError, or SkipTest where it cannot be tried.

    Args:
        panel: of the module.
    """

    def __init__(self, panel: Any) -> None:
        self.page = panel.segment_page
        self.volume: Any = None
        self.predicted: Any = None
        self.annotated: Any = None

    def run(self) -> None:
        """All steps."""
        self.load_sample()
        self.segment()
        self.check_tags()
        self.refine()
        self.export_and_read_back()

    def load_sample(self) -> None:
        """A head MRI is in the scene, and the panel has picked it with a model."""
        given = os.environ.get("HIERSEG_TEST_SAMPLE", "")
        self.volume = slicer.util.loadVolume(given) if given else sample_data.load()
        if self.volume is None:
            raise unittest.SkipTest("the sample could not be downloaded")
        _wait(lambda: self.page.inputs.volumes[:1] == [self.volume], 5000)
        assert self.page.model.bundle is not None, "no model is picked"
        assert self.page.inputs.volumes == [self.volume], "the volume is not picked"
        assert self.page.segment.button.enabled, "Apply is disabled"

    def segment(self) -> None:
        """Apply gives a prediction, and the event loop lives meanwhile."""
        section = self.page.segment
        section.button.click()
        _wait(lambda: self.page.hierarchy.node is not None or not section.running, SEGMENT_MS)
        # A result enters the scene in small steps after the run.
        _wait(lambda: self.page.hierarchy.node is not None, 30000)
        said = section.message.text
        problem = str(section.segmenter.worker.get("problem") or "")
        # A Slicer without torch (a build machine's) has no worker that answers: that is no fault of the module.
        if self.page.hierarchy.node is None and (problem or not section.segmenter.worker):
            raise unittest.SkipTest(f"this Slicer's Python cannot run a worker: {problem or said}")
        assert self.page.hierarchy.node is not None, f"no result: {said}"
        self.predicted = self.page.hierarchy.node

    def check_tags(self) -> None:
        """Every segment of the prediction says which node it is, who made it, and what DICOM calls it."""
        tree = tree_store.read_tree(self.predicted)
        assert tree == self.page.model.bundle.tree
        assert [node.GetID() for node in prediction.volumes_of(self.predicted)] == [self.volume.GetID()]
        paths = tree_store.segments_by_path(self.predicted, tree)
        assert len(paths) > 1
        for path, segment_id in paths.items():
            segment = self.predicted.GetSegmentation().GetSegment(segment_id)
            node = tree.node(path)
            assert tags.get_tag(segment, tags.TREE) == tree.fingerprint
            assert tags.get_tag(segment, tags.VALUE) == str(node.value)
            assert tags.get_tag(segment, tags.SOURCE) == f"model:{self.page.model.bundle.id}"
            assert tags.get_tag(segment, tags.ALGORITHM_TYPE) == "AUTOMATIC"
            assert "~" in (tags.get_tag(segment, tags.TERMINOLOGY) or "")

    def refine(self) -> None:
        """Painting two subclasses keeps them inside their parent and apart; undo takes a stroke back."""
        self.annotated = annotation.annotation_from_prediction(self.predicted, superclasses_only=True)
        tree = annotation.tree_of(self.annotated)
        parent = next(node for node in tree.top_level if len(tree.children(node)) > 1 and self._present(node))
        first, second = tree.children(parent)[:2]
        with RefineSession(self.annotated, self.volume) as session:
            session.enter(parent.name)
            inside = session.voxels(parent)
            others = {node.name: session.voxels(node) for node in tree.top_level if node is not parent}
            half = np.zeros_like(inside)
            half[: int(np.median(np.nonzero(inside)[0]))] = True
            session.paint(first.name, half)
            assert np.array_equal(session.voxels(first), half & inside)
            session.paint(second.name, np.ones_like(inside))
            session.undo()
            assert np.array_equal(session.voxels(first), half & inside), "undo is not exact"
            session.paint(second.name, ~half)
            assert np.array_equal(session.voxels(second), ~half & inside)
            assert np.array_equal(session.voxels(parent), inside), "the parent changed"
            for name, voxels in others.items():
                assert np.array_equal(session.voxels(name), voxels), f"{name} changed"

    def export_and_read_back(self) -> None:
        """What lies in the dataset folder is what was annotated."""
        tree = annotation.tree_of(self.annotated)
        before = export.collect(self.annotated, [self.volume])[0]
        with tempfile.TemporaryDirectory() as folder:
            dataset = Dataset.create(Path(folder) / "cases", "self test", ["MRI"], tree)
            case = export.export_case(self.annotated, dataset, group="sample")
            loaded = load_case.load_case(dataset, case.id, slicer.mrmlScene)
            after = export.collect(loaded.annotation, loaded.volumes)[0]
            assert np.array_equal(before, after), "the label map is another one"
            assert np.array_equal(
                slicer.util.arrayFromVolume(self.volume), slicer.util.arrayFromVolume(loaded.volumes[0])
            ), "the image is another one"

    def _present(self, node: Any) -> bool:
        return tree_store.segment_id_of(self.annotated, node) is not None


def _wait(condition: Callable[[], bool], milliseconds: int) -> None:
    """Let the event loop run until something is so, or the time is over."""
    loop, look, end = qt.QEventLoop(), qt.QTimer(), qt.QTimer()
    look.timeout.connect(lambda: loop.quit() if condition() else None)
    end.setSingleShot(True)
    end.timeout.connect(loop.quit)
    look.start(20)
    end.start(milliseconds)
    if not condition():
        loop.exec_()
    look.stop()
    end.stop()
