"""Time and memory as work grows, and what they are made of by least squares.

``leaves``   2 to 300 leaves on one image of 96 × 96 × 192 voxels: three tiles, two slabs
``network``  1 to 64 tiles: 10⁶ to 3 · 10⁷ voxels that the network sees, 16 leaves
``output``   10⁶ to 10⁹ voxels of the image, of which the network sees 96³ at 6 mm: one tile, 4 leaves
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import series
from .cases import Case, cube

LEAVES = (2, 4, 8, 16, 30, 61, 117, 200, 300)
EDGES = (96, 168, 240, 312)
"""1, 2, 3 and 4 tiles along each axis, without a voxel to spare."""
OUTPUTS = (100, 160, 256, 400, 640, 1000)
_FIELD_MM, _COARSE_MM = 576.0, 6.0


def points(*, full: bool) -> dict[str, list[Case]]:
    """The images of each curve; the largest of all take minutes or many GB and belong to the full set."""
    one = (1.0, 1.0, 1.0)
    curves = {
        "leaves": [Case(f"leaves-{count}", f"{count} leaves", (96, 96, 192), one, one, count) for count in LEAVES],
        "network": [cube(f"network-{edge}", edge, 16) for edge in EDGES],
        "output": [_fine(edge) for edge in OUTPUTS],
    }
    if full:
        return curves
    return {"leaves": curves["leaves"], "network": curves["network"][:3], "output": curves["output"][:4]}


def _fine(edge: int) -> Case:
    spacing, coarse = (_FIELD_MM / edge,) * 3, (_COARSE_MM,) * 3
    return Case(f"output-{edge}", f"output {edge}³", (edge, edge, edge), spacing, coarse, 4)


def measured(settings: series.Settings, *, full: bool) -> dict[str, Any]:
    """All points of all curves, and the fits."""
    found: dict[str, Any] = {}
    for name, cases in points(full=full).items():
        rows = []
        for case in cases:
            result = series.measured(case, settings, [series.REFERENCE], compare=False)
            if series.REFERENCE not in result["rows"]:
                continue
            rows.append({**_sizes(case), **result["rows"][series.REFERENCE]})
            for path in series.large_files(case, settings):
                path.unlink(missing_ok=True)
        found[name] = {"points": rows}
    for name, along in (("network", "tiles"), ("output", "voxels"), ("leaves", "leaves")):
        found[name]["line"] = line(found[name]["points"], along)
    found["memory"] = memory([point for name in points(full=full) for point in found[name]["points"]])
    return found


def _sizes(case: Case) -> dict[str, Any]:
    grid, edges = case.network_grid(), (*case.patch, 1)[:3]
    axis = int(np.argmax(grid))
    plane = int(np.prod([max(size, edge) for size, edge in zip(grid, edges, strict=True)])) // max(
        grid[axis], edges[axis]
    )
    return {
        "leaves": case.leaves,
        "voxels": case.voxels,
        "network_voxels": int(np.prod(grid)),
        "tiles": case.tiles(),
        "slab_mb": round(4e-6 * plane * edges[axis], 3),
    }


def line(points_: list[dict[str, Any]], along: str) -> dict[str, float] | None:
    """Seconds = ``start + slope × x`` by least squares with relative errors, and the exponent of the upper half.

    Returns:
        ``start_s``, ``slope_s`` (for 10⁶ voxels, one tile or one leaf), ``most_off`` (largest relative deviation) and
        ``exponent`` (of seconds as a power of x, between the middle point and the last); None for fewer than three.
    """
    alive = [point for point in points_ if "ended" not in point]
    if len(alive) < 3:
        return None
    unit = 1e6 if along == "voxels" else 1.0
    x = np.array([point[along] / unit for point in alive])
    y = np.array([point["total_s"]["median"] for point in alive])
    design = np.stack([np.ones_like(x), x], axis=1)
    start, slope = np.linalg.lstsq(design / y[:, None], np.ones_like(y), rcond=None)[0]
    middle = len(x) // 2
    exponent = np.log(y[-1] / y[middle]) / np.log(x[-1] / x[middle])
    return {
        "start_s": round(float(start), 3),
        "slope_s": round(float(slope), 4),
        "most_off": round(float(np.abs((start + slope * x) / y - 1).max()), 3),
        "exponent": round(float(exponent), 2),
    }


def memory(points_: list[dict[str, Any]]) -> dict[str, float]:
    """Peak = ``fixed + bytes a voxel × voxels + c × leaves × slab`` by least squares over all points.

    One slab is one class's float32 values on as many planes of the network's grid as a tile is thick.
    """
    alive = [point for point in points_ if "ended" not in point]
    if len(alive) < 5:
        return {}
    design = np.array([[1.0, point["voxels"] / 1e6, point["leaves"] * point["slab_mb"]] for point in alive])
    peak = np.array([point["peak_mb"]["median"] for point in alive])
    # Relative errors: the largest image would decide alone otherwise.
    fixed, per_voxel, c = np.linalg.lstsq(design / peak[:, None], np.ones_like(peak), rcond=None)[0]
    off = np.abs(design @ np.array([fixed, per_voxel, c]) / peak - 1)
    return {
        "fixed_mb": round(float(fixed)),
        "bytes_per_voxel": round(float(per_voxel), 2),
        "c": round(float(c), 2),
        "most_off": round(float(off.max()), 3),
        "points": len(alive),
    }
