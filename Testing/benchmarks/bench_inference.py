"""The inference engine beside MONAI's sliding window: same network, same weights, same image, one process a row.

    python Testing/benchmarks/bench_inference.py --size 160 --leaves 61 --runs 3

The network is random (``unet`` in 3D, width 16, tiles of 96³): its time does not depend on its weights.  Rows:

``monai``         ``monai.inferers.sliding_window_inference`` with its defaults (overlap 0.25, constant weights), its
                  probabilities brought back to the input's grid by ``monai.transforms.SpatialResample``, then argmax
``monai-best``    the same with Gaussian weights and two tiles at a time
``exhaustive``    this engine with every tile and MONAI's overlap: the same number of tiles
``engine``        this engine as it is by default
``tiles``         the network alone on as many tiles as ``exhaustive`` has, nothing kept: the floor

Each row's process reports the median of its runs after a first one, and its peak memory above that before the first.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from typing import Any

import numpy as np
import torch

from hierseg.data.preprocess import Preprocessor
from hierseg.imageio import Volume
from hierseg.inference import Predictor
from hierseg.inference.benchmark import environment, generated_image, random_tree, spread
from hierseg.inference.tiles import tile_starts
from hierseg.networks import HierarchicalSegmenter

ROWS = ("monai", "monai-best", "exhaustive", "engine", "tiles")
MONAI_OVERLAP = 0.25


def main() -> None:
    """Run all rows and print one JSON object, or one row and print its numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=160, help="edge of the image in voxels of 1 mm")
    parser.add_argument("--spacing", type=float, default=1.0, help="of the network's grid, mm")
    parser.add_argument("--patch", type=int, default=96)
    parser.add_argument("--leaves", type=int, default=61)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--row", choices=ROWS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.row:
        print(json.dumps(_row(arguments)))
        return
    found = {}
    for row in arguments.rows:
        print(f"{row} ...", file=sys.stderr)
        command = [sys.executable, __file__, "--row", row, "--rows", row]
        for name in ("size", "spacing", "patch", "leaves", "runs", "seed"):
            command += [f"--{name}", str(getattr(arguments, name))]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        # A process that the system ends for its memory is a result, too.
        found[row] = json.loads(done.stdout) if done.returncode == 0 else {"ended_with": done.returncode}
        print(f"  {found[row]}", file=sys.stderr)
    settings = {name: getattr(arguments, name) for name in ("size", "spacing", "patch", "leaves", "runs")}
    print(
        json.dumps(
            {"benchmark": "inference", **environment(torch.device("cpu"), arguments.seed), **settings, "rows": found}
        )
    )


def _row(arguments: argparse.Namespace) -> dict[str, Any]:
    tree = random_tree(arguments.leaves)
    torch.manual_seed(arguments.seed)
    network = HierarchicalSegmenter(tree, 1, 3, width=16).eval()
    config: dict[str, Any] = {
        "channels": [{"name": "image", "normalization": {"type": "percentile", "lower": 0.5, "upper": 99.5}}],
        "orientation": "RAS",
        "spacing": [arguments.spacing] * 3,
        "patch_size": [arguments.patch] * 3,
        "spatial_dims": 3,
    }
    volume = generated_image(arguments.size, arguments.seed)
    run = {
        "monai": lambda: _monai(network, config, volume, best=False),
        "monai-best": lambda: _monai(network, config, volume, best=True),
        "exhaustive": lambda: _ours(network, {**config, "overlap": MONAI_OVERLAP}, volume),
        "engine": lambda: _ours(network, config, volume),
        "tiles": lambda: _tiles(network, config, volume),
    }[arguments.row]
    before = _peak()
    rows = [run() for _ in range(arguments.runs + 1)]
    after = _peak()
    stages = {name: spread([row[name] for row in rows[1:]]) for name in rows[0]}
    total = [sum(row.values()) for row in rows[1:]]
    return {
        "total_s": spread(total),
        "stages_s": stages,
        "first_s": round(sum(rows[0].values()), 3),
        "peak_mb": round((after - before) / 1e6),
        "median_s": round(statistics.median(total), 3),
    }


def _ours(network: HierarchicalSegmenter, config: dict[str, Any], volume: Volume) -> dict[str, float]:
    return dict(Predictor(network, config, device="cpu").predict([volume]).stages)


def _tiles(network: HierarchicalSegmenter, config: dict[str, Any], volume: Volume) -> dict[str, float]:
    shape, _affine = Preprocessor(config).grid(volume.shape, volume.affine)
    count = int(np.prod([len(tile_starts(size, min(size, arguments_patch(config)), MONAI_OVERLAP)) for size in shape]))
    tile = torch.rand(1, 1, *[arguments_patch(config)] * 3)
    began = time.perf_counter()
    with torch.inference_mode():
        for _ in range(count):
            network(tile)
    return {"network": time.perf_counter() - began}


def arguments_patch(config: dict[str, Any]) -> int:
    """The edge of a tile."""
    return int(config["patch_size"][0])


def _monai(network: HierarchicalSegmenter, config: dict[str, Any], volume: Volume, *, best: bool) -> dict[str, float]:
    from monai.data import MetaTensor
    from monai.inferers import sliding_window_inference
    from monai.transforms import SpatialResample

    began = time.perf_counter()
    prepared = Preprocessor(config).image([volume])
    image = torch.from_numpy(prepared.array)[None]
    prepared_at = time.perf_counter()
    with torch.inference_mode():
        probabilities = sliding_window_inference(
            image,
            [arguments_patch(config)] * 3,
            2 if best else 1,
            lambda part: torch.softmax(network(part).leaf_logits, dim=1),
            mode="gaussian" if best else "constant",
            overlap=MONAI_OVERLAP,
        )
        network_at = time.perf_counter()
        back = SpatialResample(mode="bilinear", padding_mode="border")(
            MetaTensor(probabilities[0], affine=prepared.affine),
            dst_affine=torch.from_numpy(volume.affine),
            spatial_size=volume.shape,
        )
        labels = back.argmax(dim=0)
        confidence = back.amax(dim=0)
    assert labels.shape == confidence.shape == volume.shape
    end = time.perf_counter()
    return {"preprocess": prepared_at - began, "network": network_at - prepared_at, "restore": end - network_at}


def _peak() -> int:
    scale = 1 if sys.platform == "darwin" else 1024
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * scale


if __name__ == "__main__":
    from hierseg.allocation import reuse_memory

    reuse_memory()
    torch.set_num_threads(1)
    main()
