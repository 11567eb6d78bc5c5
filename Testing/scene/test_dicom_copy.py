"""What of an annotation is given to Slicer's DICOM SEG exporter."""

from __future__ import annotations

import numpy as np

from HierSubclassSegLib.scene import layers, tags
from HierSubclassSegLib.scene.dicom_copy import copy_without_empty, remove_copy
from HierSubclassSegLib.scene.painting import RefineSession
from scene.painting_support import box, state, uniform_tree, workplace


def test_what_is_empty_stays_behind_and_nothing_is_changed() -> None:
    place = workplace(uniform_tree(2, children=3))
    try:
        with RefineSession(place.annotation, place.volume) as session:
            session.paint("a", box((1, 7), (1, 7), (1, 6)))
            session.provide(["aa", "ab", "ac", "b"])
            # Two that share a label map.
            session.paint("aa", box((4, 6), (4, 6), (2, 4)))
            session.paint("ab", box((2, 4), (2, 4), (2, 4)), source="model:m@1")
            before, nodes = state(place.annotation), place.scene.GetNumberOfNodes()
            copy = copy_without_empty(place.annotation)
            segmentation = copy.GetSegmentation()
            names = [segmentation.GetNthSegment(index).GetName() for index in range(segmentation.GetNumberOfSegments())]
            assert names == ["a", "aa", "ab"]
            for name in names:
                theirs = segmentation.GetSegment(segmentation.GetSegmentIdBySegmentName(name))
                ours = place.annotation.GetSegmentation()
                original = ours.GetSegment(ours.GetSegmentIdBySegmentName(name))
                for tag in (tags.TERMINOLOGY, tags.ALGORITHM_TYPE, tags.ALGORITHM_NAME):
                    assert tags.get_tag(theirs, tag) == tags.get_tag(original, tag)
                assert theirs.GetColor() == original.GetColor()
                # What Slicer's exporter looks for in a label map that is not empty.
                scalars = layers.label_map(theirs).GetPointData().GetArray("ImageScalars")
                assert scalars.GetValueRange()[1] > 0
                assert np.array_equal(
                    layers.read_segment(copy, segmentation.GetSegmentIdBySegmentName(name), session.grid),
                    session.voxels(name),
                )
            assert copy.GetName() == place.annotation.GetName()
            # What Slicer does with the segments of a node that goes: their voxels are erased where they were shared.
            for name in names:
                segmentation.RemoveSegment(segmentation.GetSegmentIdBySegmentName(name))
            remove_copy(copy)
            assert state(place.annotation) == before
            assert place.scene.GetNumberOfNodes() == nodes
    finally:
        place.session.close()


def test_where_nothing_is_painted_there_is_nothing_to_export() -> None:
    place = workplace(uniform_tree(2))
    try:
        with RefineSession(place.annotation, place.volume) as session:
            session.provide(["a", "aa"])
            assert copy_without_empty(place.annotation) is None
    finally:
        place.session.close()
