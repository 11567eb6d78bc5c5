"""What runs in the process of one measurement: prints one JSON object."""

from __future__ import annotations

import gc
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hierseg.imageio import Volume, read_volume, write_volume
from hierseg.inference.openvino_forward import is_installed

from . import cases, floor, measure, nnunet, resident, rows, series
from .cases import Case


def main(task: dict[str, Any]) -> None:
    """Do what the task says.

    Args:
        task: ``do`` (``prepare``, ``row``, ``floor`` or ``resident``), ``case``, ``seed``, ``folder``, ``device``,
            ``threads``, for a row also ``row``, ``keep`` (the label map is written) and ``by_leaf`` (a second one, too).
    """
    measure.offer_to_be_ended()
    measure.end_with_parent()
    torch.set_num_threads(task["threads"])
    if task["do"] == "resident":
        print(json.dumps(resident.measured(task["seed"])))
        return
    case, folder = Case.from_json(task["case"]), Path(task["folder"])
    if task["do"] == "prepare":
        result = _prepare(case, task["seed"], folder)
    else:
        result = _row(case, task, folder) if task["do"] == "row" else _floor(case, task, folder)
    print(json.dumps(result))


def _network_file(case: Case, seed: int, folder: Path) -> Path:
    patch = "x".join(map(str, case.patch))
    return folder / "networks" / f"{case.channels}-{case.leaves}-{patch}-{seed}.pt"


def _prepare(case: Case, seed: int, folder: Path) -> dict[str, Any]:
    """Write the image and the calibrated network, where they are not there yet."""
    paths = cases.files(case, folder / "images")
    for channel, path in enumerate(paths):
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            volume = cases.image(case, seed, channel)
            write_volume(path, volume.array, volume.affine)
    target = _network_file(case, seed, folder)
    if not target.exists():
        network = cases.network(case, seed)
        cases.calibrate(network, cases.calibration_tile(case, [read_volume(path) for path in paths]))
        target.parent.mkdir(parents=True, exist_ok=True)
        torch.save(network.state_dict(), target)
    return {"prepared": case.name}


def _row(case: Case, task: dict[str, Any], folder: Path) -> dict[str, Any]:
    if (task["row"].startswith("nnunet") and nnunet.version() is None) or (
        task["row"] == "openvino" and not is_installed()
    ):
        return {"ended": "not installed"}
    began = time.perf_counter()
    volumes = [read_volume(path) for path in cases.files(case, folder / "images")]
    load = time.perf_counter() - began
    setup = _setup(case, task, folder, volumes)
    gpu = task["device"].startswith("cuda")
    run = rows.ROWS[task["row"]]
    before = measure.resident()
    run(_small(setup))
    gc.collect()
    measure.forget_highest()
    if gpu:
        torch.cuda.reset_peak_memory_stats()
    stages: list[dict[str, float]] = []
    for _ in range(case.repeats):
        done = None  # the last run's label map is not held during the next
        gc.collect()
        done = run(setup)
        stages.append({"load": load, **done.stages})
    result: dict[str, Any] = {"stages_s": stages, "peak_mb": round((measure.highest() - before) / 1e6)}
    if done is not None and done.work:
        result["work"] = done.work
    if gpu:
        result["peak_gpu_mb"] = round(torch.cuda.max_memory_allocated() / 1e6)
    if task["keep"] and done is not None and done.labels is not None:
        _keep(folder, case, task["row"], done.labels)
        if task["row"] == series.REFERENCE and task["by_leaf"]:
            done = None
            _keep(folder, case, series.REFERENCE_BY_LEAF, rows.by_leaf(setup))
    return result


def _setup(case: Case, task: dict[str, Any], folder: Path, volumes: list[Volume]) -> rows.Setup:
    network = cases.network(case, task["seed"])
    network.load_state_dict(torch.load(_network_file(case, task["seed"], folder), weights_only=True))
    return rows.Setup(case, network.eval(), volumes, task["device"])


def _floor(case: Case, task: dict[str, Any], folder: Path) -> dict[str, Any]:
    volumes = [read_volume(path) for path in cases.files(case, folder / "images")]
    return floor.measured(_setup(case, task, folder, volumes))


def _keep(folder: Path, case: Case, name: str, labels: np.ndarray) -> None:
    target = series.map_file(folder, case, name)
    target.parent.mkdir(parents=True, exist_ok=True)
    np.save(target, labels.astype(np.uint16))


def _small(setup: rows.Setup) -> rows.Setup:
    """About one tile of the image: a first run makes what later ones find ready (kernels, caches, imports)."""
    case = setup.case
    reach = [
        min(size, int(np.ceil(edge * grid / own)))
        for size, edge, grid, own in zip(case.shape, (*case.patch, 2)[:3], case.grid, case.spacing, strict=True)
    ]
    cut = tuple(slice(0, end) for end in reach)
    volumes = [Volume(np.ascontiguousarray(volume.array[cut]), volume.affine) for volume in setup.volumes]
    return setup._replace(case=replace(case, shape=(reach[0], reach[1], reach[2])), volumes=volumes)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
