"""Timing a prediction by stage: load, preprocess, network, decode, restore.

The image is read from a file, as users do; without one given, a generated head-sized volume is written first.
Without a bundle, the network is random: its time does not depend on its weights.  The first run warms up
and is reported apart.
"""

from __future__ import annotations

import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hierseg import __version__
from hierseg.courtesy import usable_cores
from hierseg.imageio import Volume, read_volume, write_volume
from hierseg.inference.predictor import Predictor
from hierseg.labeltree import LabelTree
from hierseg.networks import HierarchicalSegmenter

if TYPE_CHECKING:
    from hierseg.bundle import Bundle

STAGES = ("load", "preprocess", "network", "decode", "restore")


def bench_predict(
    bundle: Bundle | None = None,
    image: Path | None = None,
    *,
    size: int = 128,
    leaves: int = 16,
    runs: int = 3,
    device: str = "auto",
    seed: int = 0,
    say: Callable[[str], None] = lambda _text: None,
) -> dict[str, Any]:
    """Time a prediction several times.

    Args:
        bundle: the model; None for a random network (3D ``unet``, width 16, tiles of 64, 2 mm).
        image: the image of a one-channel model; None for a generated one of ``size``³ voxels of 1 mm.
        size: edge of the generated image.
        leaves: leaves of the random network's tree, under up to 4 superclasses.
        runs: timed runs after the first.
        device: as for :class:`Predictor`.
        seed: of the random network and the generated image.
        say: told what is being done.

    Returns:
        Machine, versions, setting, and for each stage and the total the median and spread (least, most) in seconds.
    """
    say("loading the model")
    began = time.perf_counter()
    predictor = Predictor(bundle, device=device) if bundle is not None else _random_predictor(leaves, device, seed)
    model_seconds = time.perf_counter() - began
    channels = len(predictor.preprocessor.channels)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image.nii.gz"
        if image is None:
            volume = generated_image(size, seed)
            write_volume(path, volume.array, volume.affine)
        else:
            path = image
        rows = []
        for run in range(runs + 1):
            say(f"run {run} of {runs}" if run else "warming up")
            began = time.perf_counter()
            volumes = [read_volume(path)] * channels
            loaded = time.perf_counter() - began
            prediction = predictor.predict(volumes)
            rows.append({"load": loaded, **prediction.stages, "total": time.perf_counter() - began})
    return {
        "benchmark": "predict",
        **environment(predictor.device, seed),
        "model": {
            "bundle": predictor.id or None,
            "leaves": len(predictor.tree.leaves),
            "superclasses": len(predictor.tree.top_level),
            "parameters": sum(parameter.numel() for parameter in predictor.model.parameters()),
            "patch_size": list(predictor.config["patch_size"]),
            "overlap": predictor.config.get("overlap", 0.5),
            "spacing_mm": predictor.config.get("spacing"),
            "load_s": round(model_seconds, 4),
        },
        "image": {
            "file": None if image is None else image.name,
            "shape": list(volumes[0].array.shape),
            "spacing_mm": list(volumes[0].spacing),
        },
        "runs": runs,
        "first_run_s": {name: round(seconds, 4) for name, seconds in rows[0].items()},
        "seconds": {name: spread([row[name] for row in rows[1:] or rows]) for name in (*STAGES, "total")},
    }


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, least and most."""
    return {"median": round(statistics.median(values), 4), "min": round(min(values), 4), "max": round(max(values), 4)}


def environment(device: torch.device | None = None, seed: int | None = None) -> dict[str, Any]:
    """What a timing depends on: machine, versions, threads, seed."""
    cores = usable_cores()
    gpu = torch.cuda.get_device_name(device) if device is not None and device.type == "cuda" else None
    return {
        "machine": {"system": platform.system(), "processor": _processor(), "cores": cores, "gpu": gpu},
        "versions": {
            "hierseg": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
        "device": None if device is None else str(device),
        "threads": torch.get_num_threads(),
        "seed": seed,
    }


def generated_image(size: int, seed: int) -> Volume:
    """Smooth random intensities in a ball, ``size``³ voxels of 1 mm, left-handed as many NIfTI files are."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.random((1, 1, 8, 8, 8)).astype(np.float32))
    smooth = torch.nn.functional.interpolate(coarse, size=(size,) * 3, mode="trilinear", align_corners=True)[
        0, 0
    ].numpy()
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    inside = axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis[None, None, :] ** 2 < 0.8
    noise = rng.normal(0, 0.02, smooth.shape).astype(np.float32)
    array = np.where(inside, 200 + 800 * (smooth + noise), 0).astype(np.int16)
    return Volume(array, np.diag([-1.0, 1.0, 1.0, 1.0]))


def random_tree(leaves: int) -> LabelTree:
    """Background and up to 4 superclasses, among which the other leaves are shared out."""
    rows: list[dict[str, Any]] = [{"name": "background", "value": 0}]
    count = min(4, max(1, leaves - 1))
    rows += [{"name": f"superclass {index}", "value": 60000 + index} for index in range(count)]
    rows += [
        {"name": f"leaf {index}", "value": index, "parent": f"superclass {index % count}"} for index in range(1, leaves)
    ]
    return LabelTree.from_dict({"format_version": 1, "name": "benchmark", "unlabelled": 65535, "nodes": rows})


def _random_predictor(leaves: int, device: str, seed: int) -> Predictor:
    tree = random_tree(leaves)
    torch.manual_seed(seed)
    config = {
        "channels": [{"name": "image", "normalization": {"type": "percentile", "lower": 0.5, "upper": 99.5}}],
        "orientation": "RAS",
        "spacing": [2.0, 2.0, 2.0],
        "patch_size": [64, 64, 64],
        "overlap": 0.5,
        "spatial_dims": 3,
    }
    return Predictor(HierarchicalSegmenter(tree, 1, 3), config, device=device)


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
