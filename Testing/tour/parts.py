"""The parts of ``make test-slicer``: which script, how long at most, and what it provokes on purpose."""

from __future__ import annotations

import os
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Part:
    """One run of Slicer.

    Attributes:
        script: in this folder; writes ``<part>.json``.
        seconds: at most.
        arguments: to the script.
        allowed: parts of messages in Slicer's log that belong to what is tried.
        outlives: a word of the command lines of processes that are meant to go on without Slicer (they are ended too).
        testing: Slicer's testing mode, in which its questions answer themselves and its installer does nothing.
        environment: what Slicer finds in its environment beside the usual.
    """

    script: str
    seconds: float = 900
    arguments: tuple[str, ...] = ()
    allowed: tuple[str, ...] = ()
    outlives: str = ""
    testing: bool = True
    environment: dict[str, str] = field(default_factory=dict)


# Slicer's own, where something was refined and an effect was active.
_REFINED = (
    # Its subject hierarchy, at each closing of a scene with a segmentation that was refined; from within
    # vtkMRMLScene::Clear, with none of our code on the stack.
    "so per-segment subject hierarchy node cannot be created",
    # The Paint effect's brush, where a scene is closed or a view changes under it.
    "vtkTransformPolyDataFilter",
)

PARTS: dict[str, Part] = {
    "selftest": Part("own_test.py"),
    "tutorial": Part("tour_tutorial.py"),
    "segment": Part("tour_segment.py"),
    "refine": Part("tour_refine.py", allowed=_REFINED),
    "refine-walk": Part("refine_walk.py", seconds=1800, allowed=_REFINED),
    "hierarchy": Part("tour_hierarchy.py"),
    "cases": Part("tour_cases.py", allowed=_REFINED),
    "dicom": Part("tour_dicom.py", seconds=1800, allowed=_REFINED),
    "killed": Part("killed.py", seconds=700),
    "train": Part("tour_train.py", seconds=900),
    # What pip asks for comes from the folder of wheels, or not at all.
    "setup": Part(
        "tour_setup.py",
        seconds=3600,
        testing=False,
        environment={"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": os.environ.get("HIERSEG_WHEELS", "")},
    ),
    "exits-effect": Part(
        "exits.py",
        arguments=("effect",),
        allowed=_REFINED,
    ),
    "exits-run": Part("exits.py", arguments=("run",)),
    "exits-training": Part("exits.py", arguments=("training",), outlives="hierseg train"),
    "bars-256": Part("bars.py", arguments=("256",)),
    "bars-512": Part("bars.py", arguments=("512",)),
}
