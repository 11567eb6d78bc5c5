"""Colors: a tree's own where it gives them; else top-level nodes spread over the hues, children shade their parent's.

A viewer then sees at a glance which subclasses belong together.  Colors are red, green, blue in 0..1.
"""

from __future__ import annotations

import colorsys
from functools import lru_cache

from hierseg.labeltree import LabelTree, Node

# Turning by the golden ratio keeps any number of hues apart, and adding a node does not recolor the others.
_GOLDEN = 0.61803398875
_FIRST_HUE = 0.05


@lru_cache(maxsize=32)
def tree_colors(tree: LabelTree) -> dict[str, tuple[float, float, float]]:
    """The color of every node, by name."""
    colors: dict[str, tuple[float, float, float]] = {}
    for index, node in enumerate(tree.top_level):
        hue = (_FIRST_HUE + index * _GOLDEN) % 1.0
        colors[node.name] = _own(node) or colorsys.hsv_to_rgb(hue, 0.65, 0.9)
        _color_children(tree, node, colors)
    return colors


def node_color(tree: LabelTree, node: Node) -> tuple[float, float, float]:
    """The color of one node."""
    return tree_colors(tree)[node.name]


def shades(tree: LabelTree, node: Node, color: tuple[float, float, float]) -> dict[str, tuple[float, float, float]]:
    """The node in a color and all that is below it in shades of it, by name; the tree's own colors do not count."""
    found = {node.name: color}
    _color_children(tree, node, found, own=False)
    return found


def _color_children(
    tree: LabelTree, parent: Node, colors: dict[str, tuple[float, float, float]], own: bool = True
) -> None:
    children = tree.children(parent)
    hue, saturation, value = colorsys.rgb_to_hsv(*colors[parent.name])
    spread = 0.12 if parent.depth == 1 else 0.05
    for index, child in enumerate(children):
        # From -1 to 1 over the children: darker and more saturated to lighter and paler, the hue within a narrow band.
        place = 0.0 if len(children) == 1 else 2.0 * index / (len(children) - 1) - 1.0
        shade = colorsys.hsv_to_rgb(
            (hue + 0.5 * spread * place) % 1.0,
            min(1.0, max(0.12 if saturation > 0 else 0.0, saturation * (1.0 - 0.35 * place))),
            min(1.0, max(0.25, (value or 0.5) * (0.85 + 0.2 * place))),
        )
        colors[child.name] = (_own(child) if own else None) or shade
        _color_children(tree, child, colors, own)


def _own(node: Node) -> tuple[float, float, float] | None:
    if node.color is None:
        return None
    red, green, blue = node.color
    return red / 255.0, green / 255.0, blue / 255.0
