"""What leaving tiles out gains and costs: the start bundle on real heads, exhaustively and as it is by default.

    python Testing/benchmarks/bench_skipping.py --runs 3

The heads are the demo's scans, as they are and in the middle of a cube of ``--field`` mm filled with the scan's least
value, as a scanner with a large field of view gives them.  Both runs alternate on the same machine; the reference is
the demo's (samseg's label map).  Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hierseg.cli.predict import open_bundle, set_threads
from hierseg.evaluation.metrics import node_scores
from hierseg.imageio import Volume, read_volume, spacing_of
from hierseg.inference import Predictor
from hierseg.inference.benchmark import environment, spread
from hierseg.labeltree import LabelTree
from hierseg.recipes.brain_start_evaluate import fold

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from demo import scans


def main() -> None:
    """Run all cases and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--field", type=float, default=420.0, help="edge of the large field of view, mm")
    parser.add_argument("--size", type=int, help="cut the scans to so many voxels: whether it works at all")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    set_threads(1)
    bundle = open_bundle("brain-start")
    predictor = Predictor(bundle, device="cpu")
    tree = LabelTree.load(scans.REFERENCES / "label_tree.json")
    cases: dict[str, Any] = {}
    for scan in (scans.A, scans.B):
        volume = read_volume(scan.fetch())
        reference = fold(scan.reference_map(tree), tree, bundle.tree)
        if arguments.size:
            cut = tuple(slice(0, arguments.size) for _ in range(3))
            volume, reference = Volume(volume.array[cut], volume.affine), reference[cut]
            arguments.field = 0.0
        for name, case in {
            scan.name: (volume, reference),
            f"{scan.name}, large": _large(volume, reference, arguments.field),
        }.items():
            print(f"{name} ...", file=sys.stderr)
            cases[name] = _case(predictor, bundle.tree, *case, arguments.runs)
            print(f"  {cases[name]}", file=sys.stderr)
    settings = {"bundle": bundle.id, "coarse_pass": bundle.config.get("coarse_pass"), "field_mm": arguments.field}
    machine = environment(torch.device("cpu"), arguments.seed)
    print(json.dumps({"benchmark": "skipping", **machine, **settings, "runs": arguments.runs, "cases": cases}))


def _case(predictor: Predictor, tree: LabelTree, volume: Volume, reference: np.ndarray, runs: int) -> dict[str, Any]:
    predictor.predict([volume])  # gets warm
    results: dict[bool, Any] = {}
    seconds: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(runs):
        for exhaustive in (True, False):
            result = predictor.predict([volume], exhaustive=exhaustive)
            seconds[exhaustive].append(sum(result.stages.values()))
            results[exhaustive] = result
    full, less = results[True], results[False]
    scores = [node_scores(result.labels, reference, tree) for result in (full, less)]
    both = {
        node.name: (scores[0][node.name], scores[1][node.name])
        for node in tree.leaves
        if node != tree.background and scores[0][node.name] is not None and scores[1][node.name] is not None
    }
    change = {name: float(after or 0.0) - float(before or 0.0) for name, (before, after) in both.items()}
    worst = min(change, key=lambda name: change[name]) if change else None
    return {
        "shape": list(volume.shape),
        "tiles": full.work["tiles"],
        "computed": less.work["computed"],
        "backend": less.work["backend"],
        "exhaustive_s": spread(seconds[True]),
        "default_s": spread(seconds[False]),
        "ratio": round(float(np.median(np.array(seconds[True]) / np.array(seconds[False]))), 3),
        "mean_leaf_dice": round(float(np.mean([before for before, _ in both.values()])), 5) if both else None,
        "change": round(float(np.mean(list(change.values()))), 6) if change else None,
        "worst": None if worst is None else {worst: round(change[worst], 6)},
        "differing_voxels": int((full.labels != less.labels).sum()),
    }


def _large(volume: Volume, reference: np.ndarray, field: float) -> tuple[Volume, np.ndarray]:
    """A scan and its reference in the middle of a cube of that many mm."""
    shape = np.maximum(volume.shape, np.round(field / np.array(spacing_of(volume.affine))).astype(int))
    lead = (shape - volume.shape) // 2
    here = tuple(slice(first, first + extent) for first, extent in zip(lead, volume.shape, strict=True))
    array = np.full(shape, volume.array.min(), volume.array.dtype)
    labels = np.zeros(shape, reference.dtype)
    array[here], labels[here] = volume.array, reference
    affine = volume.affine.copy()
    affine[:3, 3] -= affine[:3, :3] @ lead
    return Volume(array, affine, volume.path), labels


if __name__ == "__main__":
    main()
