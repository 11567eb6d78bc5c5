"""A prediction as a segmentation node: superclass and subclass segments, never edited, never exported.

The node refers to the volumes that were segmented and to a saved confidence volume (uint8, 0..255 for 0..1) by node
references, never by name.  Its segments carry the tags, colors, terminology and DICOM algorithm tags of their tree
nodes.  The background gets no segment, nor does a node that no voxel carries.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import slicer

from hierseg.labeltree import LabelTree
from HierSubclassSegLib.scene import geometry, labelmaps, tags, tree_store, visibility

#: node reference roles
VOLUMES = "HierSubclassSeg.Volumes"
CONFIDENCE = "HierSubclassSeg.Confidence"
PREDICTION = "HierSubclassSeg.Prediction"
#: attribute of a prediction: ``name@version`` of the bundle
MODEL = "HierSubclassSeg.Model"


def create_prediction(
    volume_nodes: Sequence[slicer.vtkMRMLVolumeNode],
    tree: LabelTree,
    labels: np.ndarray,
    superclass: np.ndarray | None = None,
    confidence: np.ndarray | None = None,
    *,
    bundle_id: str,
    affine: np.ndarray | None = None,
    name: str | None = None,
) -> slicer.vtkMRMLSegmentationNode:
    """Put what a model predicted into the scene, beside the volume that it was predicted on.

    Args:
        volume_nodes: the input volumes, the first channel first.
        tree: the model's label tree.
        labels: the deepest accepted node of each voxel ``(x, y, z)`` on the first volume's grid; ``unlabelled`` where
            the model accepted none.
        superclass: the top-level node of each voxel; default: the one above ``labels``.
        confidence: 0..1 for each voxel, or uint8 0..255; None: no confidence volume.
        bundle_id: ``name@version`` of the model bundle.
        affine: voxel to RAS matrix of the arrays, without parent transforms; default: the first volume's own.
        name: of the node; default: the first volume's name and the tree's.

    Returns:
        The new segmentation node, under the first volume's parent transform.

    Raises:
        SceneError: no volume was given, or the arrays' shapes do not fit the volume.
        LabelTreeError: a value is not in the tree.
    """
    if not volume_nodes:
        raise tags.SceneError("a prediction needs the volume that it was made on; none was given.")
    volume = volume_nodes[0]
    grid = geometry.volume_grid(volume)
    affine = grid.affine if affine is None else np.asarray(affine, dtype=np.float64)
    for what, array in (("labels", labels), ("superclass map", superclass), ("confidence", confidence)):
        if array is not None and tuple(array.shape) != grid.shape:
            raise tags.SceneError(
                f"the predicted {what} have the shape {tuple(array.shape)}, the volume '{volume.GetName()}' has {grid.shape}; predict that volume again."
            )
    if geometry.same_place(affine, grid.affine, grid.shape):
        # The same to rounding: take the volume's own numbers, so that the two stay on one lattice.
        affine = grid.affine
    scene = volume.GetScene()
    node = new_segmentation(scene, name or f"{volume.GetName()} {tree.name}", volume_nodes)
    node.SetAttribute(tree_store.ROLE, "prediction")
    node.SetAttribute(MODEL, bundle_id)
    background = labelmaps.background_of(tree)
    labelmaps.fill(
        node,
        tree,
        labels,
        affine,
        tags.model_source(bundle_id),
        superclass=superclass,
        leave_out=() if background is None else (background.name,),
    )
    if confidence is not None:
        node.SetNodeReferenceID(CONFIDENCE, _confidence_volume(volume, confidence, affine, node.GetName()).GetID())
    style(node, tree)
    return node


def new_segmentation(
    scene: slicer.vtkMRMLScene, name: str, volume_nodes: Sequence[slicer.vtkMRMLVolumeNode]
) -> slicer.vtkMRMLSegmentationNode:
    """An empty segmentation node on the first volume's grid, beside it, with references to all the volumes."""
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", scene.GenerateUniqueName(name))
    node.CreateDefaultDisplayNodes()
    # The transform first: Slicer takes the volume's grid as seen from the segmentation's own parent transform.
    geometry.place_beside(node, volume_nodes[0])
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume_nodes[0])
    for volume in volume_nodes:
        node.AddNodeReferenceID(VOLUMES, volume.GetID())
    return node


def volumes_of(segmentation_node: slicer.vtkMRMLSegmentationNode) -> list[slicer.vtkMRMLVolumeNode]:
    """The volumes that a prediction or annotation belongs to, the first channel first.

    A segmentation loaded from a file has lost these references; its reference volume, if any, is taken then.
    """
    count = segmentation_node.GetNumberOfNodeReferences(VOLUMES)
    found = [segmentation_node.GetNthNodeReference(VOLUMES, index) for index in range(count)]
    found = [node for node in found if node is not None]
    if not found:
        reference = segmentation_node.GetNodeReference(
            slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()
        )
        found = [reference] if reference is not None else []
    return found


def confidence_of(prediction_node: slicer.vtkMRMLSegmentationNode) -> slicer.vtkMRMLScalarVolumeNode | None:
    """The prediction's confidence volume (uint8, 255 = certain), or None."""
    return prediction_node.GetNodeReference(CONFIDENCE)


def style(segmentation_node: slicer.vtkMRMLSegmentationNode, tree: LabelTree) -> None:
    """Show leaves filled and inner nodes as outlines with a hint of fill, in 3D the leaves alone.

    Parent and children lie on top of each other: filled alike, their colors would mix.
    """
    visibility.restyle(segmentation_node, tree)


def _confidence_volume(
    volume: slicer.vtkMRMLVolumeNode, confidence: np.ndarray, affine: np.ndarray, name: str
) -> slicer.vtkMRMLScalarVolumeNode:
    if confidence.dtype != np.uint8:
        confidence = np.rint(np.clip(np.nan_to_num(confidence), 0.0, 1.0) * 255.0).astype(np.uint8)
    node = geometry.make_volume(
        volume.GetScene(), confidence, affine, volume.GetScene().GenerateUniqueName(f"{name} confidence")
    )
    geometry.place_beside(node, volume)
    return node
