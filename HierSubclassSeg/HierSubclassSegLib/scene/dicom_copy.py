"""What of an annotation goes into DICOM SEG: its segments that have voxels."""

from __future__ import annotations

import slicer

from HierSubclassSegLib.scene import layers


def copy_without_empty(node: slicer.vtkMRMLSegmentationNode) -> slicer.vtkMRMLSegmentationNode | None:
    """A second segmentation node in the scene, not shown, with the segments of the first that have voxels.

    Slicer's exporter asks about segments without a label map and gives up on empty ones that share their siblings'
    (``DICOMSegmentationPlugin.py``, ``isSegmentEmpty``), which subclasses do that nobody has painted yet.

    The label maps are copies as well: Slicer erases the voxels of a segment that it removes from what the segment shared
    with others, in whatever node those are.

    Returns:
        the node, which is no annotation to anything here; None if no segment has a voxel.
    """
    segmentation = node.GetSegmentation()
    ids = [segmentation.GetNthSegmentID(index) for index in range(segmentation.GetNumberOfSegments())]
    empty = [segment_id for segment_id in ids if not layers.has_voxels(node, segment_id)]
    if len(empty) == len(ids):
        return None
    scene = node.GetScene()
    copy = scene.CreateNodeByClass("vtkMRMLSegmentationNode")
    copy.UnRegister(None)  # Python holds a reference of its own.
    copy.SetName(node.GetName())
    copy.GetSegmentation().DeepCopy(segmentation)
    for segment_id in empty:
        copy.GetSegmentation().RemoveSegment(segment_id)
    scene.AddNode(copy)
    copy.SetAndObserveTransformNodeID(node.GetTransformNodeID())
    role = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()
    volume = node.GetNodeReference(role)
    if volume is not None:
        copy.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    return copy


def remove_copy(copy: slicer.vtkMRMLSegmentationNode) -> None:
    """Take it out of the scene, with what Slicer has given it."""
    scene = copy.GetScene()
    for number in reversed(range(copy.GetNumberOfDisplayNodes())):
        scene.RemoveNode(copy.GetNthDisplayNode(number))
    scene.RemoveNode(copy)
