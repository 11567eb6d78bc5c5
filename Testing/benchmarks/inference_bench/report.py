"""Tables of ``docs/results/inference.md``, between its markers, from what was measured."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hierseg.atomic import write_json, write_text

from .cases import CASES
from .rows import PEERS
from .series import REFERENCE

NAMES = {
    "monai": "MONAI, default",
    "monai-best": "MONAI, best",
    "nnunet": "nnU-Net v2",
    "nnunet-best": "nnU-Net v2, best",
    "exhaustive": "**this engine**, every tile",
    "openvino": "**this engine**, every tile, OpenVINO",
    "skipping": "**this engine**, empty tiles left out",
    "tiles": "the network alone",
}
NOTHING = "Nothing has been measured yet."


def renew(result: dict[str, Any], folder: Path) -> None:
    """Write ``inference.json``, the tables in ``inference.md`` and the plots.

    Cases, curves and floors that this call did not measure stay as they were, with the setting that they were measured
    in.

    Args:
        result: what ``bench_inference.py`` prints.
        folder: ``docs/results``.
    """
    from . import plots

    record = folder / "inference.json"
    known = json.loads(record.read_text(encoding="utf-8")) if record.exists() else {}
    whole = merged(known, result)
    write_json(record, whole)
    page = folder / "inference.md"
    text = page.read_text(encoding="utf-8")
    for name, make in TABLES.items():
        text = between(text, name, make(whole))
    write_text(page, text)
    plots.draw(whole, folder)


def merged(known: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
    """What was known, with what is new in its place; each part carries the setting that it was measured in."""
    parts = ("cases", "curves", "floor", "resident")
    setting = {key: value for key, value in result.items() if key not in (*parts, "benchmark")}
    whole: dict[str, Any] = {"benchmark": "inference", **{part: dict(known.get(part, {})) for part in parts}}
    for part in parts:
        for name, found in result.get(part, {}).items():
            if found.get("ended") == "not measured":
                continue
            # A part of the rows is no table: rows are compared with those measured beside them.
            whole[part][name] = {**found, "setting": setting}
    return whole


def between(text: str, name: str, content: str) -> str:
    """A text with new content between ``<!-- name -->`` and ``<!-- end of name -->``.

    Raises:
        ValueError: the markers are not there.
    """
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end of {name} -->)", re.DOTALL)
    if not pattern.search(text):
        raise ValueError(
            f"there is no place for '{name}' in the text: it needs <!-- {name} --> and <!-- end of {name} -->"
        )
    return pattern.sub(lambda found: f"{found[1]}\n{content.strip()}\n\n{found[2]}", text)


def number(value: float) -> str:
    """About three figures, thousands apart."""
    if 0 < value < 0.1:
        return f"{value:.3f}"
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def spread_of(values: dict[str, float]) -> str:
    """Median, and the least and the most if there are several."""
    if values["min"] == values["max"]:
        return number(values["median"])
    return f"{number(values['median'])} ({number(values['min'])} to {number(values['max'])})"


def cases_table(whole: dict[str, Any]) -> str:
    """One table a case, in the order of the list."""
    names = [*CASES, *sorted(set(whole["cases"]) - set(CASES))]
    parts = [_case(whole["cases"][name]) for name in names if name in whole["cases"]]
    if not parts:
        return NOTHING
    return "\n\n".join([*parts, "![Rows side by side: seconds by stage, and peak memory](inference-cases.png)"])


def _case(case: dict[str, Any]) -> str:
    setting = case["setting"]
    grid = " × ".join(map(str, case["network_grid"]))
    spacing = " × ".join(f"{edge:g}" for edge in case["network_spacing_mm"])
    grids = f"Network's grid {grid} at {spacing} mm, {case['tiles']} tiles"
    load = max((row.get("load", 0.0) for row in case["rows"].values()), default=0.0)
    loaded = f"; load of the machine up to {load:g}" if load else ""
    limit = min(
        (row["limit_mb"] / 1000 for row in case["rows"].values() if "limit_mb" in row), default=setting["limit_gb"]
    )
    lines = [
        f"**{case['title']}.** {grids}; a row's process may take {limit or 0:.1f} GB{loaded}.",
        "",
        "| row | total, s | × engine | preprocess, s | network, s | decide and restore, s | peak, MB | × engine | Dice with the engine |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [_row(NAMES.get(name, name) + _work(row), row) for name, row in case["rows"].items()]
    return "\n".join(lines)


def _work(row: dict[str, Any]) -> str:
    """How the engine ran the network, and how many tiles it computed."""
    work = row.get("work", {})
    if not work:
        return ""
    return f" ({work['backend'].replace('_', ' ')}, {work['computed']} of {work['tiles']} tiles)"


def _row(title: str, row: dict[str, Any]) -> str:
    if "ended" in row:
        return f"| {title} | {_ended(row)} | | | | | {_over(row)} | | |"
    stage = {name: values["median"] for name, values in row["stages_s"].items()}
    after = stage.get("decode", 0.0) + stage.get("restore", 0.0)
    own = "1" if title.startswith(NAMES[REFERENCE]) else ""
    time_ratio = spread_of(row["time_ratio"]) if "time_ratio" in row else own
    memory_ratio = number(row["memory_ratio"]["median"]) if "memory_ratio" in row else own
    cells = [
        title,
        spread_of(row["total_s"]),
        time_ratio,
        number(stage["preprocess"]) if "preprocess" in stage else "",
        number(stage["network"]),
        number(after) if after else "",
        number(row["peak_mb"]["median"]),
        memory_ratio,
        f"{row['dice']:.4f}" if "dice" in row else "",
    ]
    return f"| {' | '.join(cells)} |"


def _ended(row: dict[str, Any]) -> str:
    if row["ended"] == "memory":
        return f"ended for its memory after {number(row['after_s'])} s"
    return str(row["ended"]) if row["ended"] == "not installed" else "failed"


def _over(row: dict[str, Any]) -> str:
    return f"over {number(row.get('limit_mb', row.get('peak_mb', 0)))}" if row["ended"] == "memory" else ""


def targets_table(whole: dict[str, Any]) -> str:
    """What the engine promises against what was seen, a case a row."""
    heads = (
        "case",
        "total, × the network's own tiles in the same run (≤ 1.1)",
        "total, × the network alone in a run of its own",
        "outside the network (< 10 %)",
        "MONAI's default, × the time (≥ 3 with skipping)",
        "every tile, × the time with empty tiles left out",
        "the best peer, × the time (≥ 1.5)",
        "the engine's peak, × MONAI's (≤ 0.25 from 60 leaves on)",
    )
    lines = [f"| {' | '.join(heads)} |", "|---|---:|---:|---:|---:|---:|---:|---:|"]
    for name in CASES:
        rows = whole["cases"].get(name, {}).get("rows", {})
        engine = rows.get("exhaustive", {"ended": "not measured"})
        if "ended" in engine:
            continue
        total, network = engine["total_s"]["median"], engine["stages_s"]["network"]["median"]
        alive = {row: rows[row] for row in PEERS if row in rows and "ended" not in rows[row]}
        dead = [row for row in PEERS if rows.get(row, {}).get("ended") == "memory"]
        best = min((row["time_ratio"]["median"] for row in alive.values()), default=None)
        floor, skipped = (rows.get(row, {}).get("time_ratio") for row in ("tiles", "skipping"))
        cells = [
            whole["cases"][name]["title"],
            number(engine["over_forward"]["median"]) if "over_forward" in engine else "",
            number(1 / floor["median"]) if floor else "",
            f"{100 * (1 - network / total):.0f} %",
            _peer(alive, dead, "monai", "time_ratio"),
            number(1 / skipped["median"]) if skipped else "",
            (number(best) if best is not None else "none survives"),
            _peer(alive, dead, "monai", "memory_ratio", lambda ratio: 1 / ratio),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _peer(
    alive: dict[str, Any], dead: Sequence[str], row: str, key: str, turn: Callable[[float], float] = lambda ratio: ratio
) -> str:
    if row in alive:
        return number(turn(alive[row][key]["median"]))
    # Where the better settings run out of memory, the usual ones were not even tried.
    return "ended for its memory" if {row, f"{row}-best"} & set(dead) else ""


def curves_table(whole: dict[str, Any]) -> str:
    """Points of the curves, the lines through them, and what memory is made of."""
    curves = whole.get("curves")
    if not curves:
        return NOTHING
    lines = [
        "| curve | leaves | voxels, 10⁶ | seen by the network, 10⁶ | tiles | total, s | peak, MB |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name in ("network", "output", "leaves"):
        for point in curves[name]["points"]:
            sizes = [point["voxels"] / 1e6, point["network_voxels"] / 1e6]
            start = f"| {name} | {point['leaves']} | {number(sizes[0])} | {number(sizes[1])} | {point['tiles']} |"
            if "ended" in point:
                lines.append(f"{start} {_ended(point)} | {_over(point)} |")
            else:
                lines.append(f"{start} {number(point['total_s']['median'])} | {number(point['peak_mb']['median'])} |")
    lines += [
        "",
        "| straight line by least squares | start, s | slope | most off | exponent, upper half |",
        "|---|---:|---:|---:|---:|",
    ]
    for name in ("network", "output", "leaves"):
        line = curves[name].get("line")
        if line:
            unit = {"leaves": "s a leaf", "network": "s a tile"}.get(name, "s for 10⁶ voxels")
            cells = [
                name,
                number(line["start_s"]),
                f"{line['slope_s']:.3g} {unit}",
                f"{line['most_off']:.0%}",
                f"{line['exponent']:.2f}",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    memory = curves.get("memory", {})
    if "c" in memory:
        lines += [
            "",
            (
                f"Memory, by least squares over {memory['points']} points: {memory['fixed_mb']} MB "
                f"+ {memory['bytes_per_voxel']:.1f} bytes × voxels of the image + **{memory['c']:.2f}** × leaves × one slab; "
                f"no point is further off than {memory['most_off']:.0%}."
            ),
        ]
    lines += ["", "![Seconds and peak memory against voxels and leaves](inference-curves.png)"]
    return "\n".join(lines)


def _finished(whole: dict[str, Any], part: str) -> list[dict[str, Any]]:
    return [found for found in whole.get(part, {}).values() if "ended" not in found]


def floor_table(whole: dict[str, Any]) -> str:
    """Arithmetic and rates, and the operators that take the time."""
    parts = []
    for found in _finished(whole, "floor"):
        lines = [
            f"{found['title']}:",
            "",
            "| what | seen |",
            "|---|---:|",
            f"| the network's convolutions on one tile | {number(found['gflop_a_tile'])} Gflop |",
            f"| this machine's rate, product of matrices | {number(found['gemm_gflops'])} Gflop/s |",
            f"| this machine's rate, one 3 × 3 × 3 convolution of full size | {number(found['convolution_gflops'])} Gflop/s |",
            f"| floor: arithmetic over the rate of products | {number(found['floor_s'])} s a tile |",
            f"| seen | {number(found['tile_s'])} s a tile: {found['share_of_gemm']:.0%} of that rate |",
            "",
            "| operator | share of the engine's time | calls |",
            "|---|---:|---:|",
        ]
        lines += [f"| `{one['name']}` | {one['share']:.1%} | {one['calls']} |" for one in found["profile"]["operators"]]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) or NOTHING


def resident_table(whole: dict[str, Any]) -> str:
    """Cold and warm predictions through the worker."""
    parts = []
    for found in _finished(whole, "resident"):
        warm = {name: spread_of(values) for name, values in found["warm"].items()}
        lines = [
            f"{found['title']}:",
            "",
            "| prediction | total, s | loading the model, s | outside the worker's stages, s |",
            "|---|---:|---:|---:|",
            *(
                f"| {title} | {number(row['total_s'])} | {number(row['load_model_s'])} | {number(row['overhead_s'])} |"
                for title, row in (
                    ("first, the worker's start included", found["first"]),
                    ("another image", found["another_image"]),
                )
            ),
            f"| the same image again | {warm['total_s']} | {warm['load_model_s']} | {warm['overhead_s']} |",
        ]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) or NOTHING


TABLES: dict[str, Callable[[dict[str, Any]], str]] = {
    "cases": cases_table,
    "targets": targets_table,
    "curves": curves_table,
    "floor": floor_table,
    "resident": resident_table,
}
"""Marker → what stands there."""
