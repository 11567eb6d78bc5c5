"""The slice views that are shown, by name."""

from __future__ import annotations

from typing import Any

import slicer


def names() -> list[str]:
    """The names of the slice views of the layout; without a main window, those that the scene knows of."""
    manager = slicer.app.layoutManager()
    if manager is not None:
        return [str(name) for name in manager.sliceViewNames()]
    return [node.GetLayoutName() for node in _nodes()]


def slice_node(name: str) -> Any:
    """The ``vtkMRMLSliceNode`` of a view, or None."""
    manager = slicer.app.layoutManager()
    if manager is None:
        return next((node for node in _nodes() if node.GetLayoutName() == name), None)
    widget = manager.sliceWidget(name) if name else None
    return widget.mrmlSliceNode() if widget is not None else None


def interactor(name: str) -> Any:
    """The interactor of a view, or None."""
    manager = slicer.app.layoutManager()
    widget = manager.sliceWidget(name) if manager is not None and name else None
    return widget.sliceView().interactorStyle().GetInteractor() if widget is not None else None


def _nodes() -> list[Any]:
    scene = slicer.mrmlScene
    count = scene.GetNumberOfNodesByClass("vtkMRMLSliceNode")
    return [scene.GetNthNodeByClass(index, "vtkMRMLSliceNode") for index in range(count)]
