"""Plots as SVG that takes its colors from the page, so that one file suits light and dark.

Every mark carries a ``<title>``: the browser shows case and value where the pointer rests.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape

import numpy as np

from hierseg.evaluation.html.page import color, legend

WIDTH, _LEFT, _RIGHT, TOP, BOTTOM = 860.0, 190.0, 24.0, 8.0, 40.0
_ROW, _GAP = 20.0, 8.0
_LONGEST = 27  # letters of a label
_MOST_DOTS = 100  # cases that a box plot shows one by one


def box_plot(
    groups: Mapping[str, Mapping[str, Mapping[str, float]]],
    label: str,
    *,
    scale: float = 1.0,
    highest: float | None = None,
) -> str:
    """Box plots from left to right, one row for each series of a group.

    The box goes from the first to the third quartile with a line at the median and a diamond at the mean; whiskers reach the
    farthest value within 1.5 box lengths; every case is a dot, up to 100, beyond that the outliers are.

    Args:
        groups: group (a structure) → series (a model) → case → value.  Where every group has one and the same series, no legend is drawn.
        label: of the axis.
        scale: values are multiplied by it, for example 100 for percent.
        highest: no axis needs to go beyond it, for example 100 for a share in percent.
    """
    names = list(dict.fromkeys(name for series in groups.values() for name in series))
    every = [scale * value for series in groups.values() for cases in series.values() for value in cases.values()]
    if not every:
        return '<p class="soft">There is no such number.</p>'
    axis = _Axis(min(every), max(every), highest)
    single = len(names) == 1
    parts: list[str] = []
    bands, tops, bottom = _bands(groups)
    for (group, series), top in zip(groups.items(), tops, strict=True):
        for row, (name, cases) in enumerate(series.items()):
            middle = top + _GAP / 2 + _ROW * (row + 0.5)
            title = group.strip() if single else f"{group.strip()}, {name}"
            parts.append(_box(cases, axis, middle, scale, names.index(name), title))
    drawn = "".join([bands, _horizontal(axis, bottom, label), *parts])
    head = "" if single else legend(names, [color(index) for index in range(len(names))])
    return head + svg(drawn, bottom + BOTTOM, f"Box plots: {label}")


def bar_plot(groups: Mapping[str, Mapping[str, float]], label: str, *, scale: float = 1.0, digits: int = 2) -> str:
    """Bars from left to right, one for each series of a group, with their value.

    Args:
        groups: group → series → value.
        label: of the axis.
        scale: values are multiplied by it.
        digits: of the values that are written.
    """
    names = list(dict.fromkeys(name for series in groups.values() for name in series))
    largest = max((scale * value for series in groups.values() for value in series.values()), default=0.0)
    axis = _Axis(0.0, largest, room=60.0)
    parts: list[str] = []
    bands, tops, bottom = _bands(groups)
    for (group, series), top in zip(groups.items(), tops, strict=True):
        for row, (name, value) in enumerate(series.items()):
            y, end = top + _GAP / 2 + _ROW * row, axis.place(scale * value)
            text = f"{scale * value:.{digits}f}"
            parts.append(
                f'<rect x="{_LEFT:g}" y="{y + 3:.1f}" width="{max(end - _LEFT, 0.5):.1f}" height="{_ROW - 6:g}" '
                f'fill="{color(names.index(name))}"><title>{escape(", ".join(filter(None, (group.strip(), name))))}: {text}</title></rect>'
                f'<text class="soft" x="{end + 5:.1f}" y="{y + _ROW / 2 + 4:.1f}">{text}</text>'
            )
    drawn = "".join([bands, _horizontal(axis, bottom, label), *parts])
    head = "" if len(names) < 2 else legend(names, [color(index) for index in range(len(names))])
    return head + svg(drawn, bottom + BOTTOM, f"Bars: {label}")


def _bands(groups: Mapping[str, Mapping[str, object]]) -> tuple[str, list[float], float]:
    """Every second group on a band, each with its name: the drawing, where each group begins, and where the last one ends."""
    parts: list[str] = []
    tops: list[float] = []
    top = TOP
    for place, (group, series) in enumerate(groups.items()):
        height = _ROW * len(series) + _GAP
        if place % 2:
            parts.append(f'<rect class="band" x="0" y="{top:.1f}" width="{WIDTH:g}" height="{height:.1f}"/>')
        parts.append(_label(group, 4, top + height / 2))
        tops.append(top)
        top += height
    return "".join(parts), tops, top


class _Axis:
    """A horizontal axis of round ticks around ``low`` and ``high``; ``room`` is kept free at its end."""

    def __init__(self, low: float, high: float, highest: float | None = None, room: float = 0.0) -> None:
        self.ticks = ticks(low, high, highest)
        self.low, self.high = self.ticks[0], self.ticks[-1]
        self.end = WIDTH - _RIGHT - room

    def place(self, value: float) -> float:
        """Where a value lies, in the plot's units."""
        return _LEFT + (self.end - _LEFT) * (value - self.low) / (self.high - self.low)


def _box(cases: Mapping[str, float], axis: _Axis, y: float, scale: float, series: int, title: str) -> str:
    values = scale * np.array(list(cases.values()), dtype=np.float64)
    if not len(values):
        return f'<text class="soft" x="{_LEFT + 4:g}" y="{y + 4:.1f}">no case</text>'
    first, median, third = (float(part) for part in np.quantile(values, [0.25, 0.5, 0.75]))
    reach = 1.5 * (third - first)
    inside = values[(values >= first - reach) & (values <= third + reach)]
    ink, half = color(series), _ROW / 2 - 4
    places = {name: axis.place(value) for name, value in (("q1", first), ("q2", median), ("q3", third))}
    low, high = axis.place(float(inside.min())), axis.place(float(inside.max()))
    said = f"{title}: median {median:.3g}, quartiles {first:.3g} and {third:.3g}, mean {values.mean():.3g}, {len(values)} cases"
    box = (
        f"<g><title>{escape(said)}</title>"
        f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{y:.1f}" y2="{y:.1f}" stroke="{ink}"/>'
        f'<rect x="{places["q1"]:.1f}" y="{y - half:.1f}" width="{max(places["q3"] - places["q1"], 1):.1f}" height="{2 * half:g}" '
        f'fill="{ink}" fill-opacity="0.3" stroke="{ink}"/>'
        f'<line x1="{places["q2"]:.1f}" x2="{places["q2"]:.1f}" y1="{y - half:.1f}" y2="{y + half:.1f}" stroke="var(--ink)" stroke-width="2"/></g>'
    )
    parts = [box]
    for turn, (case, value) in enumerate(zip(cases, values.tolist(), strict=True)):
        if len(values) > _MOST_DOTS and first - reach <= value <= third + reach:
            continue
        jitter = half * 0.8 * (((turn * 0.618) % 1) * 2 - 1)
        parts.append(
            f'<circle cx="{axis.place(value):.1f}" cy="{y + jitter:.1f}" r="2" fill="{ink}"><title>{escape(title)}, {escape(case)}: {value:.3g}</title></circle>'
        )
    mean = axis.place(float(values.mean()))
    parts.append(
        f'<path d="M{mean - 4:.1f} {y:.1f}l4 -4 4 4 -4 4z" fill="var(--paper)" stroke="var(--ink)"><title>{escape(said)}</title></path>'
    )
    return "".join(parts)


def _horizontal(axis: _Axis, bottom: float, label: str) -> str:
    """Grid, ticks and label of a horizontal axis."""
    parts = [
        f'<line class="grid" x1="{axis.place(tick):.1f}" x2="{axis.place(tick):.1f}" y1="{TOP:g}" y2="{bottom:.1f}"/>'
        f'<text class="soft" x="{axis.place(tick):.1f}" y="{bottom + 16:.1f}" text-anchor="middle">{number(tick)}</text>'
        for tick in axis.ticks
    ]
    parts.append(
        f'<text x="{(_LEFT + axis.end) / 2:.1f}" y="{bottom + 34:.1f}" text-anchor="middle">{escape(label)}</text>'
    )
    return "".join(parts)


def _label(text: str, x: float, y: float) -> str:
    indent = 12.0 * (len(text) - len(text.lstrip(" ")))
    shown = text.strip()
    return f'<text x="{x + indent:g}" y="{y + 4:.1f}">{escape(short(shown))}<title>{escape(shown)}</title></text>'


def short(text: str) -> str:
    """A text that fits beside a plot."""
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def svg(drawn: str, height: float, title: str) -> str:
    """The frame of a plot, which scrolls where it is too wide."""
    return (
        f'<div class="wide"><svg class="plot" viewBox="0 0 {WIDTH:g} {height:.0f}" role="img" aria-label="{escape(title)}">'
        f"{drawn}</svg></div>"
    )


def ticks(low: float, high: float, highest: float | None = None, most: int = 7) -> list[float]:
    """Round numbers from at or below ``low`` to at or above ``high``: steps of 1, 2 or 5 times a power of ten.

    Args:
        low: the smallest number to show.
        high: the largest.
        highest: no tick lies above it, unless a number does.
        most: steps.
    """
    if high - low < 1e-9 * max(1.0, abs(high)):  # a single number, or rounding
        low, high = (low - 0.5, high + 0.5) if highest is None or high < highest else (low - 1.0, high)
    if highest is not None and high <= highest:
        low, high = min(low, highest), min(high, highest)
    span = high - low
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(factor * power for factor in (1, 2, 5, 10) if span / (factor * power) <= most)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 10) for index in range(first, last + 1)]


def number(value: float) -> str:
    """A number without zeros at its end."""
    return f"{value:g}".replace("-", "−")
