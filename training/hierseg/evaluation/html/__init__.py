"""Scores as a page that opens in any browser: one file, no network, light or dark as the reader's system is.

``plots`` and ``curves`` draw SVG, ``page`` has the frame, tables and figures of a page, ``pictures`` shows slices, and ``reports`` puts the
pages of ``hierseg evaluate`` and ``hierseg compare`` together.  All take plain values, so that other commands can make pages of
the same parts.
"""

from hierseg.evaluation.html.curves import Curve, curve_plot
from hierseg.evaluation.html.page import Section, page, table
from hierseg.evaluation.html.plots import bar_plot, box_plot

__all__ = ["Curve", "Section", "bar_plot", "box_plot", "curve_plot", "page", "table"]
