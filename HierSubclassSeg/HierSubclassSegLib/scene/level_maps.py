"""Label maps of each level of a tree, for programs that know nothing of trees."""

from __future__ import annotations

import slicer

from HierSubclassSegLib.scene import annotation, export, geometry, labelmaps, reading


def level_map_nodes(segmentation_node: slicer.vtkMRMLSegmentationNode) -> list[slicer.vtkMRMLLabelMapVolumeNode]:
    """One label map volume a level of the tree, on the first volume's grid: level 1 holds superclasses, and so on.

    Voxels without any node are 0 if the tree has no other node of that value, else ``unlabelled``.
    """
    tree = annotation.tree_of(segmentation_node)
    volume = export.volumes_for(segmentation_node, None)[0]
    grid = geometry.volume_grid(volume)
    labels = reading.read(segmentation_node, tree, grid)
    background = labelmaps.background_of(tree)
    empty = 0 if 0 not in tree.values or (background is not None and background.value == 0) else tree.unlabelled
    nodes = []
    for depth in range(1, max(node.depth for node in tree.nodes) + 1):
        level = labelmaps.level_map(tree, labels, depth)
        level[level == tree.unlabelled] = empty
        name = volume.GetScene().GenerateUniqueName(f"{segmentation_node.GetName()} level {depth}")
        node = geometry.make_volume(volume.GetScene(), level, grid.affine, name, "vtkMRMLLabelMapVolumeNode")
        geometry.place_beside(node, volume)
        nodes.append(node)
    return nodes
