"""Files: ``.seg.nrrd`` and ``.mrb``, with the tree, the tags and the branches' state in them.

Slicer writes them; what is ours is what must happen before (the tree gets a home again, the state is mirrored into a
tag, because ``.seg.nrrd`` knows no attributes) and after (saving packs the live segmentation's layers anew, so the
layout that painting needs is restored).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import slicer

from hierseg.atomic import replacing
from HierSubclassSegLib.scene import layers, refine, tags, tree_store
from HierSubclassSegLib.scene.undo import unseen_by_undo


def save_segmentation(segmentation_node: slicer.vtkMRMLSegmentationNode, path: str | Path) -> None:
    """Write a segmentation as ``.seg.nrrd``, atomically.

    Raises:
        SceneError: the name does not end in ``.seg.nrrd``, or Slicer could not write the file.
    """
    path = Path(path)
    if not path.name.lower().endswith(".seg.nrrd"):
        raise tags.SceneError(f"{path}: segment tags are kept in .seg.nrrd files only; give the file that ending.")
    with _being_saved([segmentation_node]), replacing(path) as temporary:
        storage = slicer.vtkMRMLSegmentationStorageNode()
        storage.SetFileName(str(temporary))
        storage.SetUseCompression(1)
        if not storage.WriteData(segmentation_node):
            raise tags.SceneError(
                f"{path}: the segmentation '{segmentation_node.GetName()}' could not be written; check the folder and its space."
            )


def load_segmentation(
    scene: slicer.vtkMRMLScene, path: str | Path, volume_node: slicer.vtkMRMLVolumeNode | None = None
) -> slicer.vtkMRMLSegmentationNode:
    """Read a segmentation file into a new node.

    Args:
        scene: gets the node.
        path: a ``.seg.nrrd`` file (or any other that Slicer reads as a segmentation).
        volume_node: the volume that it belongs to; the node comes under its parent transform.

    Raises:
        SceneError: the file is missing or cannot be read.
    """
    path = Path(path)
    if not path.is_file():
        raise tags.SceneError(f"{path}: there is no such segmentation file; give the path of a .seg.nrrd.")
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", path.name.split(".")[0])
    storage = slicer.vtkMRMLSegmentationStorageNode()
    storage.SetFileName(str(path))
    if not storage.ReadData(node):
        scene.RemoveNode(node)
        raise tags.SceneError(
            f"{path}: this file cannot be read as a segmentation; open it in Slicer's Add Data to see what it is."
        )
    node.CreateDefaultDisplayNodes()
    if volume_node is not None:
        _refer(node, volume_node)
    after_loading(node)
    return node


def _refer(node: slicer.vtkMRMLSegmentationNode, volume_node: slicer.vtkMRMLVolumeNode) -> None:
    node.SetAndObserveTransformNodeID(volume_node.GetTransformNodeID())
    converter = slicer.vtkSegmentationConverter
    if node.GetSegmentation().GetConversionParameter(converter.GetReferenceImageGeometryParameterName()):
        # The file brought the reference grid, along whose axes complete slices are counted: it stays.
        node.SetNodeReferenceID(
            slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole(), volume_node.GetID()
        )
    else:
        node.SetReferenceImageGeometryParameterFromVolumeNode(volume_node)


def save_scene(scene: slicer.vtkMRMLScene, path: str | Path) -> None:
    """Write the whole scene as ``.mrb``, atomically.

    Raises:
        SceneError: Slicer could not write the file.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Slicer's core defines these events but does not send them: a session that is refining makes room for the save.
    scene.StartState(slicer.vtkMRMLScene.SaveState)
    try:
        # Slicer names the folder inside the archive after the file: a temporary name would show there.
        with (
            _being_saved(list(hierarchical_segmentations(scene))),
            tempfile.TemporaryDirectory(prefix=".tmp-", dir=path.parent) as folder,
        ):
            written = Path(folder) / path.name
            if not scene.WriteToMRB(str(written)) or not written.is_file():
                raise tags.SceneError(
                    f"{path}: the scene could not be written; give a name that ends in .mrb in a folder with free space."
                )
            written.replace(path)
    finally:
        scene.EndState(slicer.vtkMRMLScene.SaveState)


def load_scene(scene: slicer.vtkMRMLScene, path: str | Path) -> None:
    """Read a ``.mrb`` into the scene, whose nodes stay.

    Raises:
        SceneError: the file is missing or is no scene.
    """
    path = Path(path)
    if not path.is_file():
        raise tags.SceneError(f"{path}: there is no such scene file; give the path of a .mrb.")
    if not scene.ReadFromMRB(str(path), False):
        raise tags.SceneError(f"{path}: this file cannot be read as a scene; open it in Slicer to see why.")
    for node in hierarchical_segmentations(scene):
        after_loading(node)


@contextmanager
def _being_saved(nodes: list[slicer.vtkMRMLSegmentationNode]) -> Iterator[None]:
    """Before and after; the undo history notices nothing, as no voxel changes: what could be redone still can."""
    with ExitStack() as stack:
        for node in nodes:
            stack.enter_context(unseen_by_undo(node.GetSegmentation()))
            prepare_for_saving(node)
            stack.callback(after_saving, node)
        yield


def prepare_for_saving(segmentation_node: slicer.vtkMRMLSegmentationNode) -> None:
    """Before anybody writes the node: re-home the tree and mirror the state into a tag."""
    with unseen_by_undo(segmentation_node.GetSegmentation()):
        tree_store.mirror_state(segmentation_node)


def after_saving(segmentation_node: slicer.vtkMRMLSegmentationNode) -> None:
    """After anybody wrote the node: Slicer has packed its layers anew, so restore the layout."""
    if segmentation_node.GetSegmentation().GetNumberOfSegments():
        layers.ensure_layout(segmentation_node)


def after_loading(segmentation_node: slicer.vtkMRMLSegmentationNode) -> None:
    """After anybody read the node: the mirrored state counts again, unless the scene brought one.

    A scene that was saved past us while a node was refined has a second display node: it is an ordinary one again.
    """
    refine.recover(segmentation_node)
    tree_store.unmirror_state(segmentation_node)


def hierarchical_segmentations(scene: slicer.vtkMRMLScene) -> Iterator[slicer.vtkMRMLSegmentationNode]:
    """The scene's segmentation nodes that carry a label tree; one whose tree is damaged is saved as any other."""
    nodes = scene.GetNodesByClass("vtkMRMLSegmentationNode")
    for index in range(nodes.GetNumberOfItems()):
        node = nodes.GetItemAsObject(index)
        tree = None
        with suppress(tags.SceneError):
            tree = tree_store.read_tree(node)
        if tree is not None:
            yield node
