"""The second display node of a refinement lives as long as its segmentation.

Slicer's views keep bare pointers to all display nodes that a segmentation has had, and follow them when it changes: a view
that is gone after Refine was left made Slicer crash at the next change (seen in the application).
"""

from __future__ import annotations

import gc

from HierSubclassSegLib.scene.painting import RefineSession
from scene.painting_support import uniform_tree, workplace


def test_the_view_outlives_refine_and_goes_with_its_segmentation() -> None:
    place = workplace(uniform_tree(2))
    deleted: list[str] = []
    with RefineSession(place.annotation, place.volume) as session:
        session.enter("a")
        view = place.annotation.GetNthDisplayNode(1)
        view.AddObserver("DeleteEvent", lambda *_: deleted.append("view"))
        del view
    gc.collect()
    assert place.annotation.GetNumberOfDisplayNodes() == 1
    assert deleted == []
    scene = place.annotation.GetScene()
    scene.RemoveNode(place.annotation)
    del session
    place.annotation = None
    gc.collect()
    assert "view" in deleted
