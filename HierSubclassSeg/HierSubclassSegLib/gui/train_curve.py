"""The live curve of a training: one of Slicer's plot views, its nodes made when it is seen and removed after."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import qt
import slicer
import vtk
from slicer.i18n import tr as _

from HierSubclassSegLib.compute.history import History

SCORE, LOSS = "score", "loss"
HEIGHT = 190
_LEAST = 2
"""A line through fewer points is nothing, and the plot view says so in the log each time."""


class TrainCurve:
    """Draws a run's score against the starting model's, or its loss; the nodes are changed in place."""

    def __init__(self) -> None:
        self.nodes: dict[str, Any] = {}
        self._drawn: tuple[Any, ...] = ()
        self._view: Any = None
        self.widget = qt.QWidget()
        layout = qt.QVBoxLayout(self.widget)
        layout.setContentsMargins(0, 0, 0, 0)
        self.choice = qt.QComboBox()
        self.choice.objectName = "curveCombo"
        self.choice.addItem(_("Score on what was held out"), SCORE)
        self.choice.addItem(_("Training loss"), LOSS)
        self.choice.currentIndex = 1
        self.choice.activated.connect(self._picked)
        self._by_hand = False
        self._history: History | None = None
        # A plot view takes a while to be made: the tab is seen first.
        self._later = qt.QTimer()
        self._later.setSingleShot(True)
        self._later.setInterval(0)
        self._later.timeout.connect(self._show)
        self._place = qt.QWidget()
        self._place.setFixedHeight(HEIGHT)
        inner = qt.QVBoxLayout(self._place)
        inner.setContentsMargins(0, 0, 0, 0)
        self._place_layout = inner
        layout.addWidget(self.choice)
        layout.addWidget(self._place)

    def show(self, history: History | None) -> None:
        """Draw what a run has come to; None empties the view."""
        if self._history is None or history is None or history.run is not self._history.run:
            self._by_hand = False
        self._history = history
        self.widget.visible = history is not None and max(len(history.losses), len(history.scores)) >= _LEAST
        if self.nodes:
            self._show()
        else:
            self._later.start()

    def _show(self) -> None:
        history = self._history
        if history is None or max(len(history.losses), len(history.scores)) < _LEAST:
            self._draw([], [], None)
            return
        if not self._by_hand:
            self.choice.currentIndex = 0 if len(history.scores) > 1 else 1
        if self.choice.itemData(self.choice.currentIndex) == SCORE:
            baseline = history.baseline.get("score") if history.baseline is not None else None
            points, known = ([(at, 100.0 * score) for at, score in found] for found in (history.scores, history.known))
            self._draw(points, [], None if baseline is None else 100.0 * float(baseline), known)
        else:
            self._draw([], history.losses, None)

    def remove(self) -> None:
        """Take the nodes out of the scene; the next :meth:`show` makes new ones."""
        self._later.stop()
        if self._view is not None:
            self._view.setMRMLPlotViewNode(None)
        for node in self.nodes.values():
            if node.GetScene() is not None:
                node.GetScene().RemoveNode(node)
        self.nodes, self._drawn = {}, ()

    def close(self) -> None:
        """Let go of the scene for good."""
        self.remove()
        if self._view is not None:
            self._view.setMRMLScene(None)
            self._view = None

    # -- inside -----------------------------------------------------------------------------------------------------

    def _picked(self, *_arguments: object) -> None:
        self._by_hand = True
        self._show()

    def _draw(
        self,
        scores: Sequence[tuple[int, float]],
        losses: Sequence[tuple[int, float]],
        baseline: float | None,
        known: Sequence[tuple[int, float]] = (),
    ) -> None:
        what = (tuple(scores), len(losses), losses[-1] if losses else None, baseline, tuple(known))
        if what == self._drawn or (not self.nodes and not scores and not losses):
            return
        self._drawn = what
        self._make_nodes()
        points = (scores or losses) if len(scores or losses) >= _LEAST else []
        # With new structures the mean of all cannot be compared with the starting model's, which lacks them.
        known = known if len(known) >= _LEAST and list(known) != list(points) else []
        self._fill("points", points)
        self._fill("known", known)
        ends = [points[0][0], points[-1][0]] if points else []
        self._fill("before", [(end, baseline) for end in ends] if baseline is not None else [])
        chart = self.nodes["chart"]
        # A line without points is left out: painting it would be complained of.
        wanted = ["pointsSeries"] if points else []
        wanted += ["knownSeries"] if known else []
        wanted += ["beforeSeries"] if points and baseline is not None else []
        present = [chart.GetNthPlotSeriesNodeID(index) for index in range(chart.GetNumberOfPlotSeriesNodes())]
        ids = [self.nodes[name].GetID() for name in wanted]
        if present != ids:
            chart.RemoveAllPlotSeriesNodeIDs()
            for node_id in ids:
                chart.AddAndObservePlotSeriesNodeID(node_id)
        all_scores = _("all structures") if known else _("fine-tuned")
        self.nodes["pointsSeries"].SetName(all_scores if scores else _("loss"))
        self._set_range([*points, *known], baseline, bool(scores))

    def _set_range(self, points: Sequence[tuple[int, float]], baseline: float | None, scored: bool) -> None:
        """The whole run's length and the values with some air: a plot view does not widen its axes for new points."""
        chart = self.nodes["chart"]
        values = [value for _iteration, value in points] + ([baseline] if baseline is not None else [])
        if not values:
            return
        planned = self._history.start.get("iterations") if self._history is not None else None
        low, high = min(values), max(values)
        # More above than below, where the legend is.
        air = max(1.0, 0.1 * (high - low)) if scored else 0.05 * high
        above = max(2.0, 0.5 * (high - low)) if scored else air
        was = chart.StartModify()
        chart.SetYAxisTitle(_("Dice, %") if scored else _("loss"))
        chart.SetXAxisRangeAuto(False)
        chart.SetYAxisRangeAuto(False)
        chart.SetXAxisRange(0.0, float(max(points[-1][0], planned if isinstance(planned, int) else 0, 1)))
        chart.SetYAxisRange(
            max(0.0, low - air) if scored else 0.0, min(110.0, high + above) if scored else high + above
        )
        chart.EndModify(was)

    def _fill(self, name: str, points: Sequence[tuple[int, float]]) -> None:
        """Write points into a table, in place, so that the plot view redraws and nothing else notices."""
        table = self.nodes[name].GetTable()
        columns = [table.GetColumn(0), table.GetColumn(1)]
        for index, column in enumerate(columns):
            column.SetNumberOfValues(len(points))
            for row, point in enumerate(points):
                column.SetValue(row, float(point[index]))
            column.Modified()
        table.Modified()
        self.nodes[name].Modified()

    def _make_nodes(self) -> None:
        if self.nodes:
            return
        scene = slicer.mrmlScene
        for name, series in (("points", "pointsSeries"), ("known", "knownSeries"), ("before", "beforeSeries")):
            table = self._add("vtkMRMLTableNode", name)
            for column in ("iteration", "value"):
                array = vtk.vtkFloatArray()
                array.SetName(column)
                table.AddColumn(array)
            node = self._add("vtkMRMLPlotSeriesNode", series)
            node.SetAndObserveTableNodeID(table.GetID())
            node.SetXColumnName("iteration")
            node.SetYColumnName("value")
            node.SetPlotType(slicer.vtkMRMLPlotSeriesNode.PlotTypeScatter)
            node.SetMarkerStyle(slicer.vtkMRMLPlotSeriesNode.MarkerStyleNone)
            node.SetLineWidth(2)
        self.nodes["pointsSeries"].SetColor(0.12, 0.47, 0.71)
        self.nodes["knownSeries"].SetColor(0.85, 0.45, 0.05)
        self.nodes["knownSeries"].SetName(_("known before"))
        self.nodes["beforeSeries"].SetColor(0.55, 0.55, 0.55)
        self.nodes["beforeSeries"].SetLineStyle(slicer.vtkMRMLPlotSeriesNode.LineStyleDash)
        self.nodes["beforeSeries"].SetName(_("starting model"))
        chart = self._add("vtkMRMLPlotChartNode", "chart")
        chart.SetXAxisTitle(_("iteration"))
        chart.SetTitleVisibility(False)
        chart.SetLegendVisibility(True)
        for size in ("SetAxisTitleFontSize", "SetAxisLabelFontSize", "SetLegendFontSize"):
            getattr(chart, size)(11)
        view = self._add("vtkMRMLPlotViewNode", "view", owner=chart)
        view.SetPlotChartNodeID(chart.GetID())
        self._make_view(scene)
        self._view.setMRMLPlotViewNode(view)

    def _make_view(self, scene: Any) -> None:
        """The plot view itself, when there is something to plot: it takes a moment to make."""
        if self._view is None:
            self._view = slicer.qMRMLPlotWidget()
            self._view.setMRMLScene(scene)
            # Fit to the panel's width; what its menus offer belongs to charts that are the user's own.
            self._view.plotController().visible = False
            # Slicer's plot view smooths its edges in a way that software rendering complains of at every frame.
            self._view.plotView().scene().GetRenderer().UseFXAAOff()
            self._place_layout.addWidget(self._view)

    def _add(self, kind: str, name: str, owner: Any = None) -> Any:
        """A node that is neither listed, nor saved, nor undone: it is a picture of files, not data of the user's."""
        scene = slicer.mrmlScene
        node = scene.CreateNodeByClass(kind)
        node.UnRegister(None)
        node.SetHideFromEditors(True)
        node.SetSaveWithScene(False)
        node.UndoEnabledOff()
        if owner is not None:
            # A view node that belongs to another node gets no view in the application's layout.
            node.SetLayoutName("HierSubclassSegTraining")
            node.SetAndObserveParentLayoutNodeID(owner.GetID())
        self.nodes[name] = scene.AddNode(node)
        return self.nodes[name]
