"""A prediction as a segmentation node: superclass and subclass segments, never edited, never exported.

The node refers to the volumes that were segmented and to a saved confidence volume (uint8, 0..255 for 0..1) by node
references, never by name.  Its segments carry the tags, colors, terminology and DICOM algorithm tags of their tree
nodes.  The background gets no segment, nor does a node that no voxel carries.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import slicer
import vtk

from hierseg.labeltree import LabelTree
from HierSubclassSegLib.scene import geometry, labelmaps, lattice, tags, tree_store, visibility
from HierSubclassSegLib.ticks import Steps, finish

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
    return finish(
        prediction_steps(
            volume_nodes, tree, labels, superclass, confidence, bundle_id=bundle_id, affine=affine, name=name
        )
    )


def prediction_steps(
    volume_nodes: Sequence[slicer.vtkMRMLVolumeNode],
    tree: LabelTree,
    labels: np.ndarray,
    superclass: np.ndarray | None = None,
    confidence: np.ndarray | None = None,
    *,
    bundle_id: str,
    affine: np.ndarray | None = None,
    name: str | None = None,
) -> Steps[slicer.vtkMRMLSegmentationNode]:
    """The steps of :func:`create_prediction`; what can be refused at once is refused before the first.

    The scene is touched by the last steps only; closed early, nothing of it stays.
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
    return _steps(volume_nodes, tree, labels, superclass, confidence, bundle_id, affine, name)


def _steps(
    volume_nodes: Sequence[slicer.vtkMRMLVolumeNode],
    tree: LabelTree,
    labels: np.ndarray,
    superclass: np.ndarray | None,
    confidence: np.ndarray | None,
    bundle_id: str,
    affine: np.ndarray,
    name: str | None,
) -> Steps[slicer.vtkMRMLSegmentationNode]:
    volume = volume_nodes[0]
    scene = volume.GetScene()
    background = tree.background
    leave_out = () if background is None else (background.name,)
    layers = yield from labelmaps.layer_steps(tree, labels, affine, superclass=superclass, leave_out=leave_out)
    image = None if confidence is None else (yield from _confidence_steps(confidence))
    # Made unique where the nodes are made: the scene counts up each time that it is asked.
    name = name or f"{volume.GetName()} {tree.name}"
    added: list[slicer.vtkMRMLNode] = []
    try:
        if image is not None:
            added.append(_confidence_volume(volume, image, affine, scene.GenerateUniqueName(f"{name} confidence")))
            yield 1.0
        # Segments first: a node that has them when it enters the scene costs Slicer's subject hierarchy one look, and
        # segments that come to a node in the scene one look at all of them for each.
        node = begin_segmentation(scene, name, volume_nodes)
        node.SetAttribute(tree_store.ROLE, "prediction")
        node.SetAttribute(MODEL, bundle_id)
        labelmaps.add_layers(node, tree, layers, tags.model_source(bundle_id))
        yield 1.0
        added.append(node)
        # In two steps: each takes Slicer some 0.1 s where a node has many segments.
        scene.AddNode(node)
        yield 1.0
        place(node, volume_nodes[0])
        yield 1.0
        if image is not None:
            node.SetNodeReferenceID(CONFIDENCE, added[0].GetID())
        style(node, tree)
        # Whoever shows it does so a tick later: each takes its time.
        yield 1.0
    except BaseException:
        # Cancelled (GeneratorExit) or failed: nothing half-made stays behind.
        for begun in added:
            if begun.GetScene() is not None:
                begun.GetScene().RemoveNode(begun)
        raise
    return node


def new_segmentation(
    scene: slicer.vtkMRMLScene, name: str, volume_nodes: Sequence[slicer.vtkMRMLVolumeNode]
) -> slicer.vtkMRMLSegmentationNode:
    """An empty segmentation node on the first volume's grid, beside it, with references to all the volumes."""
    node = begin_segmentation(scene, name, volume_nodes)
    scene.AddNode(node)
    place(node, volume_nodes[0])
    return node


def begin_segmentation(
    scene: slicer.vtkMRMLScene, name: str, volume_nodes: Sequence[slicer.vtkMRMLVolumeNode]
) -> slicer.vtkMRMLSegmentationNode:
    """A segmentation node that refers to volumes and is not in the scene yet; the name is made unique there."""
    node = scene.CreateNodeByClass("vtkMRMLSegmentationNode")
    # Python holds a reference of its own.
    node.UnRegister(None)
    node.SetName(scene.GenerateUniqueName(name))
    for volume in volume_nodes:
        node.AddNodeReferenceID(VOLUMES, volume.GetID())
    return node


def place(node: slicer.vtkMRMLSegmentationNode, volume_node: slicer.vtkMRMLVolumeNode) -> None:
    """Put a segmentation node of the scene on a volume's grid, beside it, and show it."""
    # The transform first: Slicer takes the volume's grid as seen from the segmentation's own parent transform.
    geometry.place_beside(node, volume_node)
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume_node)
    # Last: the views follow a node that is shown through each of its changes.
    node.CreateDefaultDisplayNodes()


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


def _confidence_steps(confidence: np.ndarray) -> Steps[vtk.vtkImageData]:
    """The confidence as an image of uint8."""
    image = geometry.image_like(np.uint8, confidence.shape, zeros=False)
    voxels = geometry.array_of(image)
    for tile in lattice.tiles(confidence):
        part = confidence[tile]
        if part.dtype != np.uint8:
            part = np.rint(np.clip(np.nan_to_num(part), 0.0, 1.0) * 255.0)
        voxels[tile] = part
        yield 1.0
    return image


def _confidence_volume(
    volume: slicer.vtkMRMLVolumeNode, image: vtk.vtkImageData, affine: np.ndarray, name: str
) -> slicer.vtkMRMLScalarVolumeNode:
    node = volume.GetScene().AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    node.SetIJKToRASMatrix(geometry.to_vtk(affine))
    node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    # What the values are is known: no histogram of the whole volume is needed to choose a window.
    display.SetAutoWindowLevel(False)
    display.SetWindowLevelMinMax(0.0, 255.0)
    node.SetAndObserveImageData(image)
    geometry.place_beside(node, volume)
    return node
