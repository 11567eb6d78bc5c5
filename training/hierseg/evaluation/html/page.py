"""The frame of a page: style, sections, tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

COLORS = 8
"""Series that have a color of their own; later ones begin again, and are told apart by their place and label."""
_LIGHT = ("#1f6fb4", "#c8590b", "#16805a", "#a8327e", "#6a51c2", "#0d7f8c", "#8c6a00", "#5c6670")
_DARK = ("#6db3f2", "#f5a15c", "#5ccb9f", "#ee86c5", "#ae9bf5", "#55c8d4", "#d9b646", "#a9b4be")
_STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1b2026; --soft: #5a646e; --line: #d7dce1; --band: #f4f6f8; @LIGHT@ }
@media (prefers-color-scheme: dark) {
  :root { --paper: #14181c; --ink: #e6eaee; --soft: #a3adb7; --line: #39424b; --band: #1d2329; @DARK@ }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1.25rem 4rem; max-width: 66rem; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .25rem; }
h2 { font-size: 1.15rem; margin: 2.25rem 0 .25rem; }
p { margin: .25rem 0 .75rem; max-width: 46rem; }
.soft, figcaption { color: var(--soft); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .84rem; font-variant-numeric: tabular-nums; }
th, td { padding: .28rem .8rem .28rem 0; text-align: right; white-space: pre; vertical-align: top; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 600; vertical-align: bottom; white-space: normal; }
td span { display: block; color: var(--soft); font-size: .92em; }
td:first-child, th:first-child, td.left, th.left { text-align: left; }
.facts { display: flex; flex-wrap: wrap; gap: .5rem 2.25rem; margin: 1rem 0 0; padding: 0; }
.facts div { display: flex; flex-direction: column-reverse; }
.facts dt { color: var(--soft); font-size: .85rem; }
.facts dd { margin: 0; font-size: 1.35rem; font-variant-numeric: tabular-nums; }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; margin: .25rem 0 .5rem; padding: 0; list-style: none; font-size: .87rem; }
.legend i { display: inline-block; width: .8rem; height: .8rem; margin-right: .4rem; border-radius: 2px; vertical-align: -.08rem; }
svg.plot { display: block; width: 100%; min-width: 36rem; height: auto; }
svg.plot text { fill: var(--ink); font: 12px system-ui, "Segoe UI", Roboto, Arial, sans-serif; }
svg.plot text.soft { fill: var(--soft); }
svg.plot text.head { font-weight: 600; }
svg.plot .grid { stroke: var(--line); stroke-width: 1; }
svg.plot .band { fill: var(--band); }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(25rem, 1fr)); gap: 1.25rem 1.5rem; }
figure { margin: 0; min-width: 0; }
figure .pair { display: flex; gap: .5rem; }
figure .pair > div { flex: 1 1 0; min-width: 0; font-size: .8rem; color: var(--soft); }
figure .pair svg { display: block; width: 100%; height: auto; max-height: 20rem; background: #101418; border-radius: 3px; }
figcaption { font-size: .87rem; margin-top: .3rem; }
@media (max-width: 30rem) { .pictures { grid-template-columns: 1fr; } }
@media print { body { max-width: none; } h2, figure, svg.plot { break-inside: avoid; } }
"""


@dataclass(frozen=True)
class Section:
    """A part of a page.

    Attributes:
        title: its heading.
        body: HTML, for example of :func:`table` or of a plot.
        text: sentences that say how to read it.
    """

    title: str
    body: str
    text: str = ""


def page(title: str, sections: Sequence[Section], subtitle: str = "", facts: Sequence[tuple[str, str]] = ()) -> str:
    """A whole page.

    Args:
        title: shown on top and in the browser's tab.
        sections: from top to bottom.
        subtitle: a sentence below the title.
        facts: (name, value) of the few numbers to see first.
    """
    style = _STYLE.replace("@LIGHT@", _variables(_LIGHT)).replace("@DARK@", _variables(_DARK))
    parts = [
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title>\n<style>{style}</style>\n</head>\n<body>",
        f"<h1>{escape(title)}</h1>",
    ]
    if subtitle:
        parts.append(f'<p class="soft">{escape(subtitle)}</p>')
    if facts:
        shown = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts)
        parts.append(f'<dl class="facts">{shown}</dl>')
    for section in sections:
        text = f'\n<p class="soft">{escape(section.text)}</p>' if section.text else ""
        parts.append(f"<section>\n<h2>{escape(section.title)}</h2>{text}\n{section.body}\n</section>")
    return "\n".join(parts) + "\n</body>\n</html>\n"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[int] = ()) -> str:
    """A table that scrolls where it is too wide.

    Args:
        head: of the columns.
        rows: of plain text; what follows a line break is a second, softer line of the cell.
        left: columns of words, beside the first.
    """

    def line(cells: Sequence[str], tag: str) -> str:
        marks = [' class="left"' if index in left else "" for index in range(len(cells))]
        return "".join(f"<{tag}{mark}>{lines(cell)}</{tag}>" for cell, mark in zip(cells, marks, strict=True))

    def lines(cell: str) -> str:
        first, mark, second = escape(cell).partition("\n")
        return f"{first}<span>{second}</span>" if mark else first

    body = "\n".join(f"<tr>{line(row, 'td')}</tr>" for row in rows)
    return f'<div class="wide"><table>\n<thead><tr>{line(head, "th")}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div>'


def legend(names: Sequence[str], colors: Sequence[str]) -> str:
    """Names beside their colors (any CSS color)."""
    rows = (
        f'<li><i style="background:{color}"></i>{escape(name)}</li>' for name, color in zip(names, colors, strict=True)
    )
    return f'<ul class="legend">{"".join(rows)}</ul>'


def color(series: int) -> str:
    """The CSS color of a series."""
    return f"var(--s{series % COLORS})"


def _variables(colors: Sequence[str]) -> str:
    return " ".join(f"--s{index}: {value};" for index, value in enumerate(colors))
