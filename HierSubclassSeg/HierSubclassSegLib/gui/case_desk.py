"""What the cases' and the export's section share: the open dataset, and the case that an annotation is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import slicer

from hierseg.dataset import Dataset
from HierSubclassSegLib.gui.job import Job
from HierSubclassSegLib.scene import open_case
from HierSubclassSegLib.scene.open_case import OpenCase
from HierSubclassSegLib.scene.work_list import WorkList

#: while another program writes into the dataset, ours tries again every half second for a minute
RETRIES = 120


class CaseDesk:
    """The open dataset and its cases in the scene.

    Attributes:
        work: the open dataset's cases; None without one.
        job: the one thing that is being loaded, checked or saved.
    """

    def __init__(self) -> None:
        self.work: WorkList | None = None
        self.job = Job(self._advanced)
        self._followers: list[Callable[[float | None], None]] = []
        self._cases: dict[str, OpenCase] = {}

    def follow(self, advanced: Callable[[float | None], None]) -> None:
        """Have a function called with how far the job is, 0..1; None when it has ended."""
        self._followers.append(advanced)

    def open(self, folder: str) -> Dataset:
        """Open a dataset folder.

        Raises:
            DatasetError, LabelTreeError: it is none, or is wrong.
            OSError: it cannot be read.
        """
        dataset = Dataset.open(folder)
        # The panel does not wait for other programs: its jobs try again.
        dataset.patience = 0.0
        self.work = WorkList(dataset)
        return dataset

    def case_of(self, annotation: Any) -> OpenCase:
        """The case that an annotation is."""
        return self._cases.setdefault(annotation.GetID(), OpenCase(annotation))

    def add(self, opened: OpenCase) -> None:
        """Remember a case that was loaded."""
        self._cases[opened.annotation.GetID()] = opened

    def loaded(self) -> list[OpenCase]:
        """The cases that were loaded into the scene and are still in it."""
        nodes = [node for node in open_case.loaded_nodes(slicer.mrmlScene) if node.IsA("vtkMRMLSegmentationNode")]
        return [self.case_of(node) for node in nodes]

    def forget_gone(self) -> None:
        """Forget the cases whose annotations have left the scene."""
        self._cases = {key: case for key, case in self._cases.items() if case.annotation.GetScene() is slicer.mrmlScene}

    def forget(self) -> None:
        """The scene is going, or the cases were removed."""
        self.job.cancel()
        self._cases = {}

    def _advanced(self, fraction: float | None) -> None:
        for follower in self._followers:
            follower(fraction)
