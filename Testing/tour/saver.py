"""Saves a case again and again until it is killed.  Runs inside a Slicer of its own, started by ``killed.py``."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import slicer
from hands import wait, wait_until


def main(folder: str) -> None:
    """Paint one voxel more at each save, and note in a file what was begun and what was saved."""
    from HierSubclassSegLib.scene import lattice, layers, tree_store

    slicer.util.selectModule("HierSubclassSeg")
    panel = slicer.modules.HierSubclassSegWidget.panel
    panel.show(panel.annotate)
    page = panel.annotate.page
    if not page.cases.open_folder(folder):
        raise RuntimeError(page.cases.message.text)
    page.cases.open_case("a")
    wait_until(lambda: page.annotation is not None and not page.cases._desk.job.busy, 150, "the case")
    segment_id = tree_store.segment_id_of(page.annotation, "deep gray matter/thalamus")
    with open(f"{folder}.log", "a", encoding="utf-8", buffering=1) as log:
        # What another Slicer has painted before it was killed, and saved, is here already.
        image = layers.label_map(page.annotation.GetSegmentation().GetSegment(segment_id))
        voxels, _lower = lattice.view(image)
        value = page.annotation.GetSegmentation().GetSegment(segment_id).GetLabelValue()
        for count in range(int((voxels == value).sum()) + 1, voxels.size):
            voxels.reshape(-1, order="A")[:count] = value
            image.Modified()
            log.write(f"begun {count}\n")
            page.export.save()
            wait_until(lambda: not page.cases._desk.job.busy, 60, "the save")
            if page.export.message.text != "Saved as a.":
                raise RuntimeError(page.export.message.text)
            log.write(f"saved {count}\n")
            wait(0.02)


main(sys.argv[-1])
