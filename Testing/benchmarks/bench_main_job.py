"""The main job by stage, file to scene: load, preprocess, network, decode, restore, scene, and saving.

    PYTHONPATH=training:HierSubclassSeg python Testing/benchmarks/bench_main_job.py [--bundle brain-start] [--image FILE]

The first five stages are those of ``hierseg bench predict``.  The scene stages put a label map into a Slicer scene as a
segmentation node, and save it.  A random network marks nothing, so without a bundle the label map is a generated one:
a ball cut into as many regions as the tree has leaves.  Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from hierseg.cli.predict import open_bundle, set_threads
from hierseg.imageio import Volume, read_volume
from hierseg.inference import Predictor
from hierseg.inference.benchmark import bench_predict, generated_image, spread
from hierseg.labeltree import LabelTree
from HierSubclassSegLib.scene import geometry
from HierSubclassSegLib.scene.prediction import create_prediction
from HierSubclassSegLib.scene.session import open_session
from HierSubclassSegLib.scene.storage import save_scene, save_segmentation


def generated_labels(image: Volume, tree: LabelTree, seed: int) -> np.ndarray:
    """Each voxel of the ball carries the leaf of the nearest of some random points."""
    rng = np.random.default_rng(seed)
    inside = image.array > 0
    points = rng.uniform(0.15, 0.85, (len(tree.leaves), 3)) * image.array.shape
    nearest = np.zeros(image.array.shape, np.int16)
    least = np.full(image.array.shape, np.inf, np.float32)
    axes = [np.arange(size, dtype=np.float32) for size in image.array.shape]
    for index, (x, y, z) in enumerate(points):
        distance = (
            (axes[0][:, None, None] - x) ** 2 + (axes[1][None, :, None] - y) ** 2 + (axes[2][None, None, :] - z) ** 2
        )
        closer = distance < least
        nearest[closer], least[closer] = index, distance[closer]
    values = tree.leaf_values.astype(tree.dtype)
    return np.where(inside, values[nearest], values[0])


def into_scene(volume: Volume, tree: LabelTree, labels: np.ndarray, confidence: np.ndarray) -> dict[str, float]:
    """Seconds of the scene's stages, in a new scene."""
    session = open_session()
    try:
        node = geometry.make_volume(session.scene, volume.array, volume.affine, "scan")
        began = time.perf_counter()
        prediction = create_prediction(
            [node], tree, labels, None, confidence, bundle_id="benchmark@1.0.0", affine=volume.affine
        )
        placed = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            save_segmentation(prediction, Path(folder) / "segmentation.seg.nrrd")
            saved = time.perf_counter()
            save_scene(session.scene, Path(folder) / "scene.mrb")
            done = time.perf_counter()
    finally:
        session.close()
    return {"scene": placed - began, "save segmentation": saved - placed, "save scene": done - saved}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", help="a bundle's folder or name (default: a random network)")
    parser.add_argument("--image", type=Path, help="an image file (default: a generated one)")
    parser.add_argument("--size", type=int, default=128, help="edge of the generated image (default: 128)")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    set_threads()
    bundle = open_bundle(arguments.bundle) if arguments.bundle else None

    def say(text: str) -> None:
        print(f"bench main job: {text}", file=sys.stderr)

    result: dict[str, Any] = bench_predict(
        bundle,
        arguments.image,
        size=arguments.size,
        runs=arguments.runs,
        device=arguments.device,
        seed=arguments.seed,
        say=say,
    )
    volume = read_volume(arguments.image) if arguments.image else generated_image(arguments.size, arguments.seed)
    if bundle is None:
        tree = LabelTree.from_dict(_tree(result["model"]["leaves"]))
        labels = generated_labels(volume, tree, arguments.seed)
        confidence = np.random.default_rng(arguments.seed).random(labels.shape).astype(np.float32)
    else:
        tree = bundle.tree
        prediction = Predictor(bundle, device=arguments.device).predict([volume])
        labels, confidence = prediction.labels, prediction.confidence
    rows = []
    for run in range(arguments.runs + 1):
        say(f"scene, run {run} of {arguments.runs}")
        rows.append(into_scene(volume, tree, labels, confidence))
    result["benchmark"] = "main job"
    result["segments"] = len(np.unique(labels))
    result["seconds"].update({stage: spread([row[stage] for row in rows[1:]]) for stage in rows[0]})
    print(json.dumps(result, indent=1))


def _tree(leaves: int) -> dict[str, Any]:
    rows: list[dict[str, Any]] = [{"name": "background", "value": 0}]
    rows += [{"name": f"superclass {index}", "value": 60000 + index} for index in range(4)]
    rows += [
        {"name": f"leaf {index}", "value": index, "parent": f"superclass {index % 4}"} for index in range(1, leaves)
    ]
    return {"format_version": 1, "name": "benchmark", "unlabelled": 65535, "nodes": rows}


if __name__ == "__main__":
    main()
