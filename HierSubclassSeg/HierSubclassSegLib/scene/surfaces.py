"""Branches in 3D: closed surfaces for what is asked for, and for nothing else.

``CreateClosedSurfaceRepresentation`` makes the surfaces of all segments, and so does Slicer's 3D display as soon as one
segment has a surface and another has none (``vtkSegmentation::CreateRepresentation``): minutes for a whole brain.
Segments that are not asked for therefore get a *placeholder*, a surface without points.  Slicer itself renews a
segment's surface after a stroke and drops all after some other changes: :func:`missing` says what is to be made again.

Undo is not told: surfaces are no part of what it brings back.
"""

from __future__ import annotations

from collections.abc import Collection

import slicer
import vtk

from hierseg.labeltree import LabelTree
from HierSubclassSegLib.scene import tree_store
from HierSubclassSegLib.scene.refine import seen_display
from HierSubclassSegLib.scene.undo import unseen_by_undo
from HierSubclassSegLib.ticks import Steps

_SURFACE = "Closed surface"
_PLACEHOLDER = "HierSubclassSeg.Placeholder"


def missing(segmentation_node: slicer.vtkMRMLSegmentationNode, tree: LabelTree, branches: Collection[str]) -> list[str]:
    """The IDs of the segments that should be seen in 3D and have no surface: those of the branches that are visible
    and have nothing visible below them.

    Args:
        segmentation_node: carries the tree.
        tree: its tree.
        branches: the names of the branches' topmost nodes; names that the tree does not have are ignored.
    """
    ids = tree_store.segments_by_path(segmentation_node, tree)
    display = seen_display(segmentation_node)
    visible = {path for path, segment_id in ids.items() if display.GetSegmentVisibility(segment_id)}
    covered = {other.path for path in visible for other in tree.ancestors(path)}
    wanted = {node.name for name in branches if name in tree for node in (tree.node(name), *tree.descendants(name))}
    return [
        segment_id
        for path, segment_id in ids.items()
        if path in visible - covered
        and tree.node(path).name in wanted
        and not _has_surface(segmentation_node, segment_id)
    ]


def show_steps(segmentation_node: slicer.vtkMRMLSegmentationNode, segment_ids: Collection[str]) -> Steps[None]:
    """Make the surfaces of segments, one a step; a step takes as long as Slicer needs for one surface."""
    segmentation = segmentation_node.GetSegmentation()
    for done, segment_id in enumerate(segment_ids):
        segment = segmentation.GetSegment(segment_id)
        if segment is not None:
            with unseen_by_undo(segmentation):
                _fill_up(segmentation_node)
                segment.RemoveRepresentation(_SURFACE)
                # Converts the segments that have no surface: this one.
                segmentation.CreateRepresentation(_SURFACE)
                if segment.GetRepresentation(_SURFACE) is None:
                    # Slicer has no way to make one; a surface without points says that it was tried.
                    segment.AddRepresentation(_SURFACE, vtk.vtkPolyData())
        yield (done + 1) / len(segment_ids)


def hide(segmentation_node: slicer.vtkMRMLSegmentationNode, tree: LabelTree, branch: str | None = None) -> None:
    """Take the surfaces of a branch (None: of everything) away."""
    segmentation = segmentation_node.GetSegmentation()
    if not any(segment.GetRepresentation(_SURFACE) for _, segment in tree_store.segments(segmentation_node)):
        return
    node = None if branch is None else tree.node(branch)
    gone = set() if node is None else {node.path, *(other.path for other in tree.descendants(node))}
    ids = tree_store.segments_by_path(segmentation_node, tree)
    with unseen_by_undo(segmentation):
        for segment_id, segment in tree_store.segments(segmentation_node):
            if node is None or any(ids.get(path) == segment_id for path in gone):
                segment.RemoveRepresentation(_SURFACE)
        if any(_has_surface(segmentation_node, segment_id) for segment_id, _ in tree_store.segments(segmentation_node)):
            _fill_up(segmentation_node)
        else:
            segmentation.RemoveRepresentation(_SURFACE)


def in_3d(segmentation_node: slicer.vtkMRMLSegmentationNode) -> bool:
    """Whether any segment has a surface."""
    return any(_has_surface(segmentation_node, segment_id) for segment_id, _ in tree_store.segments(segmentation_node))


def _has_surface(segmentation_node: slicer.vtkMRMLSegmentationNode, segment_id: str) -> bool:
    surface = segmentation_node.GetSegmentation().GetSegment(segment_id).GetRepresentation(_SURFACE)
    return surface is not None and surface.GetFieldData().GetAbstractArray(_PLACEHOLDER) is None


def _fill_up(segmentation_node: slicer.vtkMRMLSegmentationNode) -> None:
    for _, segment in tree_store.segments(segmentation_node):
        if segment.GetRepresentation(_SURFACE) is None:
            placeholder, mark = vtk.vtkPolyData(), vtk.vtkStringArray()
            mark.SetName(_PLACEHOLDER)
            placeholder.GetFieldData().AddArray(mark)
            segment.AddRepresentation(_SURFACE, placeholder)
