"""What the slice views show when a scene is opened."""

from __future__ import annotations

import slicer

#: the layout names of Slicer's three standard slice views
SLICE_VIEWS = ("Red", "Green", "Yellow")


def show_only(
    scene: slicer.vtkMRMLScene,
    volume_node: slicer.vtkMRMLScalarVolumeNode,
    segmentation_node: slicer.vtkMRMLSegmentationNode,
) -> None:
    """Put a volume behind the standard slice views and hide every segmentation but one.

    A scene that was made without views opens on black otherwise, with all its segmentations on top of one another.

    Args:
        scene: the scene; the views' nodes are made in it if they are not there.
        volume_node: the volume in the background.
        segmentation_node: what is seen on it.
    """
    for name in SLICE_VIEWS:
        composite = scene.GetSingletonNode(name, "vtkMRMLSliceCompositeNode")
        if composite is None:
            composite = slicer.vtkMRMLSliceCompositeNode()
            composite.SetLayoutName(name)
            composite.SetName(f"{name}Composite")
            composite = scene.AddNode(composite)
        composite.SetBackgroundVolumeID(volume_node.GetID())
    selection = scene.GetFirstNodeByClass("vtkMRMLSelectionNode")
    if selection is not None:
        selection.SetActiveVolumeID(volume_node.GetID())
    for index in range(scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode")):
        node = scene.GetNthNodeByClass(index, "vtkMRMLSegmentationNode")
        node.CreateDefaultDisplayNodes()
        node.SetDisplayVisibility(node is segmentation_node)
