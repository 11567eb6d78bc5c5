"""Lines with intervals over a number, for example Dice over the number of cases with subclass labels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from hierseg.evaluation.html.page import color
from hierseg.evaluation.html.plots import BOTTOM, TOP, WIDTH, number, short, svg, ticks
from hierseg.evaluation.statistics import Summary, summarize

_HEIGHT, _LEFT, _RIGHT = 340.0, 64.0, WIDTH - 170.0
_Label = tuple[float, str, str]
"""Where a label beside the plot would like to be, its text and its color."""


@dataclass(frozen=True)
class Curve:
    """A line of :func:`curve_plot`.

    Attributes:
        name: of the model.
        points: numbers over cases by the place on the horizontal axis, for example Dice by number of fine labels.
    """

    name: str
    points: Mapping[float, Sequence[float]]


def curve_plot(
    curves: Sequence[Curve],
    across: str,
    label: str,
    *,
    scale: float = 1.0,
    lines: Mapping[str, float] | None = None,
    highest: float | None = None,
) -> str:
    """Means with their 95 % interval (bootstrap over cases) along a number, one line a curve.

    Args:
        curves: at least one; a curve of a single point is a point.
        across: what the horizontal axis is, for example the number of cases with subclass labels.
        label: of the vertical axis.
        scale: values are multiplied by it.
        lines: values of bounds, drawn as dashed lines across.
        highest: the vertical axis does not go beyond it.
    """
    found = [
        {x: summary for x, values in sorted(one.points.items()) if (summary := summarize(values)) is not None}
        for one in curves
    ]
    places = sorted({x for points in found for x in points})
    if not places:
        return '<p class="soft">There is no such number.</p>'
    values = [
        value
        for points in found
        for one in points.values()
        for value in (one.low, one.mean, one.high)
        if value is not None
    ]
    frame = _Frame(places, [scale * value for value in (*values, *(lines or {}).values())], highest)
    parts = [frame.draw(across, label)]
    beside: list[_Label] = []
    for name, value in (lines or {}).items():
        y = frame.down(scale * value)
        parts.append(
            f'<line x1="{_LEFT:g}" x2="{_RIGHT:g}" y1="{y:.1f}" y2="{y:.1f}" stroke="var(--soft)" stroke-dasharray="5 4">'
            f"<title>{escape(name)}: {scale * value:.3g}</title></line>"
        )
        beside.append((y, name, "var(--soft)"))
    for place, (curve, points) in enumerate(zip(curves, found, strict=True)):
        if points:
            shift = 3.0 * (place - (len(curves) - 1) / 2) if len(curves) <= 12 else 0.0  # intervals beside each other
            parts.append(_draw(curve.name, points, frame, scale, shift, color(place)))
            beside.append((frame.down(scale * points[max(points)].mean), curve.name, color(place)))
    parts += [
        f'<text x="{_RIGHT + 10:g}" y="{y + 4:.1f}" style="fill:{fill}">{escape(short(name))}</text>'
        for y, name, fill in _apart(beside, TOP + 4, _HEIGHT - BOTTOM)
    ]
    return svg("".join(parts), _HEIGHT, f"{label} by {across}")


class _Frame:
    """Both axes; the horizontal one is logarithmic where its numbers differ much."""

    def __init__(self, places: Sequence[float], values: Sequence[float], highest: float | None) -> None:
        low, high = min(values), max(values)
        room = (high - low or abs(high) or 1.0) * 0.08
        self.ticks = ticks(low - room, high + room if highest is None else min(high + room, highest), highest)
        logarithmic = places[0] > 0 and places[-1] / places[0] > 8
        scaled = [math.log(x) if logarithmic else x for x in places]
        spread = scaled[-1] - scaled[0]
        self._along = {
            x: _LEFT + 30 + (_RIGHT - _LEFT - 60) * ((one - scaled[0]) / spread if spread else 0.5)
            for x, one in zip(places, scaled, strict=True)
        }

    def along(self, x: float) -> float:
        """Where a number lies from left to right."""
        return self._along[x]

    def down(self, value: float) -> float:
        """Where a value lies from top to bottom."""
        first, last = self.ticks[0], self.ticks[-1]
        return TOP + (_HEIGHT - BOTTOM - TOP) * (1 - (value - first) / (last - first))

    def draw(self, across: str, label: str) -> str:
        """Grid, ticks and labels."""
        parts = []
        for tick in self.ticks:
            y = self.down(tick)
            parts.append(
                f'<line class="grid" x1="{_LEFT:g}" x2="{_RIGHT:g}" y1="{y:.1f}" y2="{y:.1f}"/>'
                f'<text class="soft" x="{_LEFT - 8:g}" y="{y + 4:.1f}" text-anchor="end">{number(tick)}</text>'
            )
        parts += [
            f'<text class="soft" x="{place:.1f}" y="{_HEIGHT - 22:g}" text-anchor="middle">{number(x)}</text>'
            for x, place in self._along.items()
        ]
        parts.append(
            f'<text x="{(_LEFT + _RIGHT) / 2:.1f}" y="{_HEIGHT - 4:g}" text-anchor="middle">{escape(across)}</text>'
            f'<text transform="translate(14 {(_HEIGHT - BOTTOM) / 2:.1f}) rotate(-90)" text-anchor="middle">{escape(label)}</text>'
        )
        return "".join(parts)


def _draw(name: str, points: Mapping[float, Summary], frame: _Frame, scale: float, shift: float, ink: str) -> str:
    """One curve: a line, intervals and dots."""
    path = " ".join(f"{frame.along(x) + shift:.1f},{frame.down(scale * one.mean):.1f}" for x, one in points.items())
    parts = [f'<polyline points="{path}" fill="none" stroke="{ink}" stroke-width="2"/>']
    for x, one in points.items():
        place = frame.along(x) + shift
        if one.low is not None and one.high is not None:
            low, high = frame.down(scale * one.low), frame.down(scale * one.high)
            parts.append(f'<line x1="{place:.1f}" x2="{place:.1f}" y1="{low:.1f}" y2="{high:.1f}" stroke="{ink}"/>')
        parts.append(
            f'<circle cx="{place:.1f}" cy="{frame.down(scale * one.mean):.1f}" r="4" fill="{ink}">'
            f"<title>{escape(name)}, {number(x)}: {scale * one.mean:.2f} ({one.number} cases)</title></circle>"
        )
    return "".join(parts)


def _apart(ends: list[_Label], top: float, bottom: float) -> list[_Label]:
    """Labels moved so that none covers another, as long as there is room."""
    step = min(15.0, (bottom - top) / max(1, len(ends)))
    placed: list[_Label] = []
    for y, name, fill in sorted(ends):
        placed.append((max(y, top, placed[-1][0] + step if placed else top), name, fill))
    over = placed[-1][0] - bottom if placed else 0.0
    if over > 0:
        limit = bottom
        for index in range(len(placed) - 1, -1, -1):
            y, name, fill = placed[index]
            placed[index] = (min(y, limit), name, fill)
            limit = placed[index][0] - step
    return placed
