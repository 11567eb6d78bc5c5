"""Surface models of a segmentation, in one subject-hierarchy folder a superclass."""

from __future__ import annotations

from typing import Any

import slicer
import vtk

from HierSubclassSegLib.scene import annotation, layers, tags, tree_store
from HierSubclassSegLib.ticks import Steps


def model_steps(segmentation_node: slicer.vtkMRMLSegmentationNode) -> Steps[list[Any]]:
    """Make models of all segments that have voxels, one superclass a step; the background gets none.

    Making a surface is Slicer's own and takes seconds for a large structure.

    Returns:
        The models.  Their folders lie in one folder, beside the segmentation.

    Raises:
        SceneError: the segmentation has no label tree, nothing in it, or Slicer cannot make a surface.
    """
    tree = annotation.tree_of(segmentation_node)
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(segmentation_node.GetScene())
    ids = tree_store.segments_by_path(segmentation_node, tree)
    background = tree.background
    wanted = []
    for top in tree.top_level:
        branch = [ids[node.path] for node in (top, *tree.descendants(top)) if node.path in ids and node != background]
        branch = [segment_id for segment_id in branch if layers.has_voxels(segmentation_node, segment_id)]
        if branch:
            wanted.append((top, branch))
        yield 0.0
    if not wanted:
        raise tags.SceneError(f"'{segmentation_node.GetName()}' has nothing to make models of; paint something first.")
    item = hierarchy.GetItemByDataNode(segmentation_node)
    above = hierarchy.GetItemParent(item) if item else hierarchy.GetSceneItemID()
    folder = hierarchy.CreateFolderItem(above, f"{segmentation_node.GetName()} models")
    models: list[Any] = []
    for index, (top, branch) in enumerate(wanted):
        inner = hierarchy.CreateFolderItem(folder, top.name)
        names = vtk.vtkStringArray()
        for segment_id in branch:
            names.InsertNextValue(segment_id)
        logic = slicer.vtkSlicerSegmentationsModuleLogic
        if not logic.ExportSegmentsToModels(segmentation_node, names, inner):
            raise tags.SceneError(
                f"'{segmentation_node.GetName()}': Slicer cannot make the models of '{top.name}'; its log says why."
            )
        # Slicer moves the folder beside the segmentation.
        hierarchy.SetItemParent(inner, folder)
        found = vtk.vtkIdList()
        hierarchy.GetItemChildren(inner, found)
        made = [hierarchy.GetItemDataNode(found.GetId(number)) for number in range(found.GetNumberOfIds())]
        names_of = {tree.node(name).name for name in (node.GetName() for node in made) if name in tree}
        for model in made:
            # A superclass around its subclasses: they are seen through it.
            inside = {child.name for child in tree.descendants(model.GetName())} if model.GetName() in tree else set()
            if inside & names_of and model.GetDisplayNode() is not None:
                model.GetDisplayNode().SetOpacity(0.3)
        models += made
        yield (index + 1) / len(wanted)
    return models
