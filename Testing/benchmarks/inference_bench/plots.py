"""The two pictures of ``docs/results``: rows side by side, and curves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .cases import CASES

_STAGES = {"preprocess": "#bbbbbb", "network": "#4477aa", "decode": "#ddaa33", "restore": "#ee8866"}
_SHORT = {
    "exhaustive": "this engine",
    "skipping": "this engine, skipping",
    "openvino": "this engine, OpenVINO",
    "tiles": "network alone",
}


def draw(whole: dict[str, Any], folder: Path) -> list[Path]:
    """Write ``inference-cases.png`` and ``inference-curves.png``, as far as there is something to draw.

    Returns:
        What was written.
    """
    try:
        import matplotlib as mpl
    except ImportError:
        return []
    mpl.use("Agg")
    written = []
    if whole.get("cases"):
        written.append(_cases(whole["cases"], folder / "inference-cases.png"))
    if whole.get("curves"):
        written.append(_curves(whole["curves"], folder / "inference-curves.png"))
    return written


def _cases(cases: dict[str, Any], target: Path) -> Path:
    import matplotlib.pyplot as plt

    names = [name for name in [*CASES, *cases] if name in cases]
    names = list(dict.fromkeys(names))
    counts = [len(cases[name]["rows"]) for name in names]
    figure, axes = plt.subplots(
        len(names), 2, figsize=(9, 0.8 * len(names) + 0.27 * sum(counts)), squeeze=False, height_ratios=counts,
        layout="constrained",
    )  # fmt: skip
    for (time_axis, memory_axis), name in zip(axes, names, strict=True):
        rows = cases[name]["rows"]
        titles = [_SHORT.get(row, row.replace("nnunet", "nnU-Net").replace("monai", "MONAI")) for row in rows]
        for place, row in enumerate(rows.values()):
            _bar(time_axis, memory_axis, place, row)
        for axis, label in ((time_axis, "seconds"), (memory_axis, "peak memory, GB")):
            axis.set_yticks(range(len(titles)), titles if axis is time_axis else [""] * len(titles), fontsize=8)
            axis.set_ylim(len(titles) - 0.4, -0.6)
            axis.set_xlabel(label, fontsize=8)
            axis.tick_params(labelsize=8)
            axis.spines[["top", "right"]].set_visible(False)
        time_axis.set_title(cases[name]["title"], fontsize=9, loc="left")
    handles = [plt.Rectangle((0, 0), 1, 1, color=color) for color in _STAGES.values()]
    figure.legend(handles, _STAGES, loc="outside lower center", ncols=len(_STAGES), fontsize=8, frameon=False)
    return _save(figure, target)


def _bar(time_axis: Any, memory_axis: Any, place: int, row: dict[str, Any]) -> None:
    if "ended" in row:
        limit = row.get("limit_mb", 0) / 1000
        memory_axis.barh(place, limit, color="none", edgecolor="#cc3311", hatch="///", height=0.7)
        said = {"memory": "ended for its memory"}.get(row["ended"], row["ended"])
        time_axis.text(0, place, f" {said}", va="center", fontsize=8, color="#cc3311")
        return
    left = 0.0
    for stage, color in _STAGES.items():
        seconds = row["stages_s"].get(stage, {"median": 0.0})["median"]
        time_axis.barh(place, seconds, left=left, color=color, height=0.7)
        left += seconds
    spread = row["total_s"]
    time_axis.plot([spread["min"], spread["max"]], [place, place], color="black", linewidth=1)
    memory_axis.barh(place, row["peak_mb"]["median"] / 1000, color="#228833", height=0.7)


def _curves(curves: dict[str, Any], target: Path) -> Path:
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogFormatter

    figure, axes = plt.subplots(2, 3, figsize=(10, 5.6), layout="constrained")
    titles = {
        "network": ("tiles", "tiles of 96³ (16 leaves)"),
        "output": ("voxels", "voxels of the image (network: 96³, 4 leaves)"),
        "leaves": ("leaves", "leaves (96 × 96 × 192 voxels)"),
    }
    for (name, (along, label)), (time_axis, memory_axis) in zip(titles.items(), axes.T, strict=True):
        points = [point for point in curves[name]["points"] if "ended" not in point]
        x = [point[along] for point in points]
        time_axis.plot(x, [point["total_s"]["median"] for point in points], "o-", color="#4477aa", markersize=4)
        memory_axis.plot(
            x, [point["peak_mb"]["median"] / 1000 for point in points], "o-", color="#228833", markersize=4
        )
        line = curves[name].get("line")
        if line:
            unit = 1e6 if along == "voxels" else 1.0
            fitted = [line["start_s"] + line["slope_s"] * value / unit for value in x]
            time_axis.plot(x, fitted, "--", color="#999999", linewidth=1, label="straight line")
            time_axis.legend(fontsize=7, frameon=False)
        for axis, what in ((time_axis, "seconds"), (memory_axis, "peak memory, GB")):
            if along != "leaves":
                axis.set_xscale("log")
                axis.set_yscale("log")
                axis.yaxis.set_major_formatter("{x:g}")
                axis.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1, 0.4)))
            axis.set_xlabel(label, fontsize=8)
            axis.set_ylabel(what, fontsize=8)
            axis.tick_params(labelsize=8, which="both")
            axis.spines[["top", "right"]].set_visible(False)
    return _save(figure, target)


def _save(figure: Any, target: Path) -> Path:
    import matplotlib.pyplot as plt

    figure.savefig(target, dpi=110, facecolor="white", metadata={"Software": None})
    plt.close(figure)
    return target
