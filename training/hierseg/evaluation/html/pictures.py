"""Slices with outlines, as SVG: the image as a picture inside, outlines along the edges of the voxels."""

from __future__ import annotations

import base64
import colorsys
import struct
import zlib
from collections.abc import Sequence
from html import escape

import numpy as np

from hierseg.evaluation.html.page import legend
from hierseg.evaluation.worst import Picture
from hierseg.labeltree import LabelTree, Node

_GOLDEN = 0.618034  # neighboring hues far apart


def pictures(found: Sequence[Picture], tree: LabelTree, captions: Sequence[str]) -> str:
    """Reference beside prediction, one figure a picture, with a legend of the structures that are seen."""
    seen = {int(value) for one in found for labels in (one.reference, one.predicted) for value in np.unique(labels)}
    nodes = [node for node in tree.nodes if node.value in seen and node != tree.background]
    figures = []
    for one, caption in zip(found, captions, strict=True):
        pair = "".join(
            f"<div>{name}{_slice(one, labels, tree, nodes)}</div>"
            for name, labels in (("Reference", one.reference), ("Prediction", one.predicted))
        )
        figures.append(
            f'<figure><div class="pair">{pair}</div><figcaption><b>{escape(one.case)}</b>, {escape(one.where)}. {escape(caption)}</figcaption></figure>'
        )
    head = legend([node.name for node in nodes], [_color(node, tree) for node in nodes])
    return head + f'<div class="pictures">{"".join(figures)}</div>'


def _slice(one: Picture, labels: np.ndarray, tree: LabelTree, nodes: Sequence[Node]) -> str:
    rows, columns = labels.shape
    height, width = one.size
    # The paths are in voxels; the picture is stretched to millimeters.
    scale = f"scale({width / columns:.6g} {height / rows:.6g})"
    parts = []
    if one.image is not None:
        parts.append(
            f'<image width="{columns}" height="{rows}" preserveAspectRatio="none" href="data:image/png;base64,{_png(one.image)}"/>'
        )
    for node in nodes:
        mask, ink = labels == node.value, _color(node, tree)
        if mask.any():
            parts.append(
                f'<path d="{area(mask)}" fill="{ink}" fill-opacity="0.15" shape-rendering="crispEdges"><title>{escape(node.name)}</title></path>'
                f'<path d="{outline(mask)}" fill="none" stroke="{ink}" stroke-width="1.5" stroke-linecap="square" vector-effect="non-scaling-stroke"/>'
            )
    return (
        f'<svg viewBox="0 0 {width:.6g} {height:.6g}" role="img" aria-label="{escape(one.case)}"><g transform="{scale}">'
        f"{''.join(parts)}</g></svg>"
    )


def outline(mask: np.ndarray) -> str:
    """The border of a mask along its voxels' edges, as straight lines of an SVG path, one unit a voxel; empty for none."""
    padded = np.pad(mask.astype(np.int8), 1)
    across = np.diff(padded, axis=0)[:, 1:-1] != 0  # row y: edges between the voxels above and below the line y
    down = np.diff(padded, axis=1)[1:-1] != 0
    return "".join(f"M{first} {y}h{length}" for y, first, length in _runs(across)) + "".join(
        f"M{x} {first}v{length}" for x, first, length in _runs(down.T)
    )


def area(mask: np.ndarray) -> str:
    """The voxels of a mask, as strips of an SVG path, one unit a voxel."""
    return "".join(f"M{first} {y}h{length}v1h-{length}z" for y, first, length in _runs(mask))


def _runs(mask: np.ndarray) -> list[tuple[int, int, int]]:
    """Where a mask is True: (row, first column, length) of every run."""
    steps = np.diff(np.pad(mask.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    starts, ends = np.argwhere(steps == 1), np.argwhere(steps == -1)
    return [(int(row), int(first), int(end - first)) for (row, first), (_, end) in zip(starts, ends, strict=True)]


def _color(node: Node, tree: LabelTree) -> str:
    """The tree's color, or one by the node's place."""
    if node.color is not None:
        return "#{:02x}{:02x}{:02x}".format(*node.color)
    rgb = colorsys.hls_to_rgb((tree.nodes.index(node) * _GOLDEN) % 1.0, 0.6, 0.75)
    return "#{:02x}{:02x}{:02x}".format(*(round(255 * part) for part in rgb))


def _png(gray: np.ndarray) -> str:
    """A gray picture as PNG in base64: header, rows without a filter, end (PNG specification, sections 5 and 11)."""
    rows, columns = gray.shape
    lines = np.concatenate([np.zeros((rows, 1), np.uint8), gray], axis=1).tobytes()

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", columns, rows, 8, 0, 0, 0, 0)
    content = (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines, 9)) + chunk(b"IEND", b"")
    )
    return base64.b64encode(content).decode("ascii")
