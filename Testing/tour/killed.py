"""Slicer is killed while it saves: the dataset has the last saved state, whole.  Runs inside Slicer, and starts others."""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np
import slicer
from hands import wait
from journey import Journey, leave, settings

FOLDER = Path(tempfile.mkdtemp(prefix="tour-killed-")) / "data"
TIMES = 3
SHAPE = (64, 64, 64)


def make_dataset(_journey: Journey) -> dict[str, Any]:
    """A dataset of one case: a block of deep gray matter with one voxel of thalamus"""
    slicer.util.selectModule("HierSubclassSeg")
    from hierseg.bundle import Bundle
    from hierseg.dataset import Dataset
    from hierseg.resources import path
    from HierSubclassSegLib.scene import nifti

    tree = Bundle.open(path("models", "brain-start"), verify=False).tree
    labels = np.full(SHAPE, tree.unlabelled, tree.dtype)
    labels[4:60, 4:60, 4:60] = tree.node("deep gray matter").value
    # Corners of the layer of subclasses, which is cropped to its voxels.
    labels[4, 4, 4] = tree.node("thalamus").value
    labels[59, 59, 59] = tree.node("caudate").value
    image = np.random.default_rng(0).integers(0, 400, SHAPE).astype(np.int16)
    Dataset.create(FOLDER, "killed", ["MRI"], tree).save_case(
        "a",
        [partial(nifti.write_nifti, array=image, affine=np.eye(4))],
        partial(nifti.write_nifti, array=labels, affine=np.eye(4)),
    )
    return {}


def kill(_journey: Journey) -> dict[str, Any]:
    """Three times: another Slicer saves without pause and is killed; the case is what was saved last, or what was begun"""
    found = []
    root = Path(__file__).resolve().parents[2]
    for turn in range(TIMES):
        known = saved()
        command = [
            slicer.app.applicationFilePath(),
            *("--no-splash", "--testing", "--additional-module-paths", str(root / "HierSubclassSeg")),
            *("--python-script", str(Path(__file__).with_name("saver.py")), str(FOLDER)),
        ]
        with open(FOLDER.with_suffix(f".{turn}.out"), "w", encoding="utf-8") as said:
            child = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT)
            try:
                until = time.monotonic() + 180
                while saved() < known + 2:
                    assert child.poll() is None, FOLDER.with_suffix(f".{turn}.out").read_text(encoding="utf-8")[-800:]
                    assert time.monotonic() < until, "the other Slicer did not save"
                    wait(0.02)
                wait(random.Random(turn).uniform(0.0, 0.4))
            finally:
                child.kill()
                child.wait()
        found.append(check())
    return {"begun, saved, in the dataset": found}


def saved(word: str = "saved") -> int:
    """The last number that was saved, or begun."""
    log = Path(f"{FOLDER}.log")
    lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    return max((int(line.split()[1]) for line in lines if line.startswith(word)), default=0)


def check() -> tuple[int, int, int]:
    """The dataset opens, every file of it can be read, and it is the last state that was saved or begun."""
    from hierseg.dataset import Dataset
    from HierSubclassSegLib.scene import nifti

    dataset = Dataset.open(FOLDER)
    assert dataset.check() == []
    case = dataset.case("a")
    assert nifti.read_nifti(dataset.image_paths(case)[0])[0].shape == SHAPE
    labels = nifti.read_nifti(dataset.label_path(case))[0]
    count = int((labels == dataset.tree.node("thalamus").value).sum())
    assert saved() <= count <= saved("begun"), (saved(), count, saved("begun"))
    return saved("begun"), saved(), count


STEPS = [make_dataset, kill]

if __name__ == "__main__":
    settings()
    journey = Journey("killed")
    leave(journey.run(STEPS))
