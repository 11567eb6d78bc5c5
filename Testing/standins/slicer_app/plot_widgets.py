"""The plot view that a panel may hold: ``qMRMLPlotWidget``.

Imitates ``Libs/MRML/Widgets/qMRMLPlotWidget.cxx`` and, for which chart is shown and when it is looked at again,
``qMRMLPlotView.cxx`` of Slicer.  Left out: the drawing (there is a count of the points that would be drawn), the controller's
menus, selecting points, saving as a picture.
"""

from __future__ import annotations

from typing import Any

import vtk
from PySide6.QtGui import QPainter, QPaintEvent
from PySide6.QtWidgets import QVBoxLayout, QWidget

from standins.slicer_app.mrml_widgets import qMRMLWidget
from standins.slicer_app.pythonqt_style import cplusplus


class _PlotView:
    """``qMRMLPlotView``'s ``scene()``."""

    def __init__(self) -> None:
        self._scene = vtk.vtkContextScene()
        # The scene keeps no reference of its own.
        self._renderer = vtk.vtkRenderer()
        self._scene.SetRenderer(self._renderer)

    def scene(self) -> Any:
        return self._scene


@cplusplus
class qMRMLPlotWidget(qMRMLWidget):
    """A plot view with its controller bar; shows the chart that its view node names."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._standin["controller"] = QWidget(self)
        self._standin["controller"].setMinimumHeight(20)
        layout.addWidget(self._standin["controller"])
        layout.addStretch(1)
        self._standin |= {"view": None, "tag": None, "plot": _PlotView()}

    def setMRMLPlotViewNode(self, node: Any) -> None:
        """Observes the view node, as Slicer's does: a widget that is not let go of goes on with a node that was removed."""
        if node is self._standin["view"]:
            return
        if self._standin["view"] is not None:
            self._standin["view"].RemoveObserver(self._standin["tag"])
        self._standin["view"] = node
        self._standin["tag"] = node.AddObserver("ModifiedEvent", self._modified) if node is not None else None
        self.update()

    def mrmlPlotViewNode(self) -> Any:
        return self._standin["view"]

    def plotController(self) -> QWidget:
        return self._standin["controller"]

    def controllerWidget(self) -> QWidget:
        return self._standin["controller"]

    def plotView(self) -> Any:
        """As much of ``ctkVTKChartView`` as there is without drawing: its scene's renderer."""
        return self._standin["plot"]

    def drawn(self) -> dict[str, int]:
        """Not in Slicer: how many points of each series are to be seen, by the series' name."""
        scene, view = self._standin["scene"], self._standin["view"]
        chart_id = view.GetPlotChartNodeID() if view is not None else None
        chart = scene.GetNodeByID(chart_id) if scene is not None and chart_id else None
        if chart is None:
            return {}
        series = [chart.GetNthPlotSeriesNode(index) for index in range(chart.GetNumberOfPlotSeriesNodes())]
        return {one.GetName(): one.GetTableNode().GetTable().GetNumberOfRows() for one in series}

    def paintEvent(self, _event: QPaintEvent) -> None:
        text = ", ".join(f"{name}: {count} points" for name, count in self.drawn().items())
        frame = self.rect.adjusted(0, 0, -1, -1)
        painter = QPainter(self)
        painter.drawRect(frame)
        painter.drawText(12, 40, text)
        painter.end()

    def _modified(self, *_arguments: Any) -> None:
        self.update()
