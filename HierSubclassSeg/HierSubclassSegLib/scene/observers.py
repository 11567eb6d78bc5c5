"""Observers of a painting session, kept apart from what it does with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import slicer
import vtk


class SceneObserver:
    """Calls back when the editor node, the display or the scene changes, until :meth:`close`.

    Args:
        segmentation_node: the annotation, in a scene.
        editor_node: its segment editor node.
        editor_modified: selection or masking has changed.
        display_modified: how the annotation is displayed has changed; the Segment Editor's undo ends with it.
        save_starts: the scene is about to be saved.
        save_ends: the scene has been saved.
        node_goes: the annotation, or the whole scene, is about to go.
    """

    def __init__(
        self,
        segmentation_node: slicer.vtkMRMLSegmentationNode,
        editor_node: slicer.vtkMRMLSegmentEditorNode,
        *,
        editor_modified: Callable[[], None],
        display_modified: Callable[[], None],
        save_starts: Callable[[], None],
        save_ends: Callable[[], None],
        node_goes: Callable[[], None],
    ) -> None:
        self._observations: list[tuple[Any, int]] = []
        scene, kind = segmentation_node.GetScene(), slicer.vtkMRMLScene

        def about_to_be_removed(caller: Any, event: str, node: Any) -> None:
            if node is segmentation_node:
                node_goes()

        about_to_be_removed.CallDataType = vtk.VTK_OBJECT  # type: ignore[attr-defined]
        self._add(editor_node, "ModifiedEvent", editor_modified)
        self._add(segmentation_node, slicer.vtkMRMLDisplayableNode.DisplayModifiedEvent, display_modified)
        self._add(scene, kind.StartSaveEvent, save_starts)
        self._add(scene, kind.EndSaveEvent, save_ends)
        self._add(scene, kind.StartCloseEvent, node_goes)
        self._observations.append((scene, scene.AddObserver(kind.NodeAboutToBeRemovedEvent, about_to_be_removed)))

    def close(self) -> None:
        """Stop observing."""
        for source, observation in self._observations:
            source.RemoveObserver(observation)
        self._observations = []

    def _add(self, source: Any, event: Any, callback: Callable[[], None]) -> None:
        self._observations.append((source, source.AddObserver(event, lambda *_: callback())))
