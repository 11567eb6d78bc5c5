"""What the painting tests share: a deep tree, an annotation, a stand-alone Segment Editor, exact states."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
import vtk

from hierseg.labeltree import LabelTree
from HierSubclassSegLib.scene import layers, tags, tree_store
from HierSubclassSegLib.scene.painting import RefineSession
from HierSubclassSegLib.scene.session import Session, open_session

# Images this small are not worth threads, and waiting for them on a busy machine costs ten times the work.
vtk.vtkMultiThreader.SetGlobalMaximumNumberOfThreads(1)
vtk.vtkSMPTools.SetBackend("Sequential")

SHAPE = (9, 8, 7)
ALL_TAGS = (
    tags.TREE,
    tags.PATH,
    tags.VALUE,
    tags.SOURCE,
    tags.TREE_JSON,
    tags.ALGORITHM_TYPE,
    tags.ALGORITHM_NAME,
    tags.TERMINOLOGY,
    "Segmentation.Status",
    "Test.Tag",
)


def uniform_tree(depth: int, children: int = 2) -> LabelTree:
    """A tree of the given depth: ``children`` top-level nodes a, b, ..., each inner node with as many children."""
    rows: list[dict[str, Any]] = []

    def grow(prefix: str, level: int) -> None:
        for letter in "abcdef"[:children]:
            row: dict[str, Any] = {"name": prefix + letter, "value": len(rows) + 1}
            if prefix:
                row["parent"] = prefix
            rows.append(row)
            if level < depth:
                grow(prefix + letter, level + 1)

    grow("", 1)
    return LabelTree.from_dict({"format_version": 1, "name": f"depth {depth}", "unlabelled": 255, "nodes": rows})


@dataclass
class Workplace:
    """A scene with a volume and an annotation."""

    session: Session
    volume: Any
    annotation: Any

    @property
    def scene(self) -> Any:
        return self.session.scene


def workplace(tree: LabelTree, shape: tuple[int, int, int] = SHAPE) -> Workplace:
    """An oblique, anisotropic volume and an empty annotation with the tree."""
    session = open_session()
    volume = session.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "scan")
    image = vtk.vtkImageData()
    image.SetDimensions(*shape)
    image.AllocateScalars(vtk.VTK_SHORT, 1)
    volume.SetAndObserveImageData(image)
    matrix = vtk.vtkMatrix4x4()
    turn = vtk.vtkTransform()
    turn.RotateZ(20)
    turn.RotateX(-15)
    turn.Scale(-1.0, 1.5, 2.0)
    matrix.DeepCopy(turn.GetMatrix())
    for row, value in enumerate((12.0, -7.0, 30.0)):
        matrix.SetElement(row, 3, value)
    volume.SetIJKToRASMatrix(matrix)
    annotation = session.scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "annotation")
    annotation.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    tree_store.write_tree(annotation, tree)
    return Workplace(session, volume, annotation)


class Editor:
    """The embedded Segment Editor as far as painting goes: it owns the undo history and makes strokes of its own."""

    def __init__(self, place: Workplace) -> None:
        self.place = place
        self.node = place.scene.AddNewNodeByClass("vtkMRMLSegmentEditorNode")
        self.logic = slicer.vtkSlicerSegmentEditorLogic()
        self.logic.SetMRMLScene(place.scene)
        self.attach(place.annotation)
        self.logic.SetMaximumNumberOfUndoStates(12)

    def attach(self, annotation: Any) -> None:
        self.node.SetAndObserveSegmentationNode(annotation)
        self.node.SetAndObserveSourceVolumeNode(self.place.volume)
        self.logic.SetSegmentEditorNode(self.node)
        self.logic.UpdateReferenceGeometryImage()

    def session(self) -> RefineSession:
        return RefineSession(
            self.node.GetSegmentationNode(),
            self.place.volume,
            save_state=self.logic.SaveStateForUndo,
            editor_node=self.node,
        )

    def stroke(self, mask: np.ndarray, adding: bool = True) -> None:
        """What Slicer's Paint and Erase do with the selected segment; the caller calls ``after_stroke``."""
        annotation = self.node.GetSegmentationNode()
        self.logic.SaveStateForUndo()
        image = layers.Grid.of(annotation).new_image(mask.astype(np.uint8), (0, 0, 0))
        kind = slicer.vtkSlicerSegmentEditorLogic
        mode = kind.ModificationModeAdd if adding else kind.ModificationModeRemove
        self.logic.ModifySegmentByLabelmap(annotation, self.node.GetSelectedSegmentID(), image, mode, False, False)


def state(annotation: Any) -> list[tuple[Any, ...]]:
    """Everything that undo must bring back: order, IDs, names, colors, tags and every voxel."""
    found = []
    for segment_id, segment in tree_store.segments(annotation):
        voxels = layers.read_segment(annotation, segment_id)
        known = {name: tags.get_tag(segment, name) for name in ALL_TAGS}
        found.append((segment_id, segment.GetName(), segment.GetColor(), known, np.packbits(voxels).tobytes()))
    return found


def masks(annotation: Any) -> dict[str, np.ndarray]:
    """Voxels by node name."""
    return layers.read_nodes(annotation, tree_store.read_tree(annotation))


def expected_layers(annotation: Any) -> int:
    """One layer a parent that has children with segments."""
    tree = tree_store.read_tree(annotation)
    return len({path.rpartition("/")[0] for path in tree_store.segments_by_path(annotation, tree)})


def box(*ranges: tuple[int, int], shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    """A mask of a box."""
    mask = np.zeros(shape, bool)
    mask[tuple(slice(*r) for r in ranges)] = True
    return mask


def check_hierarchy(annotation: Any) -> None:
    """Children lie inside their parent and exclude each other."""
    tree, found = tree_store.read_tree(annotation), masks(annotation)
    nothing = np.zeros(layers.Grid.of(annotation).shape, bool)

    def region(node: Any) -> np.ndarray:
        if node.name in found:
            return found[node.name]
        return np.logical_or.reduce([nothing, *(region(child) for child in tree.children(node))])

    for parent in (None, *tree.nodes):
        covered = nothing.copy()
        for child in tree.children(parent):
            inside = region(child)
            assert not (covered & inside).any(), f"'{child.name}' overlaps a sibling"
            covered |= inside
        if parent is not None:
            assert not (covered & ~region(parent)).any(), f"a child lies outside '{parent.name}'"
