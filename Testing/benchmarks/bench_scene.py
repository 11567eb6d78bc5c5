"""How long the scene half holds the GUI: a prediction imported in ticks, and what the rows of a tree need.

Prints one JSON object, times in seconds.  ``cells`` are the sizes of the quality bars: 256³, and 512×512×400 with 60
leaves; ``rows`` is a tree with 117 nodes.

    python Testing/benchmarks/bench_scene.py
    python Testing/benchmarks/bench_scene.py --size 48 --runs 1
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from hierseg.labeltree import LabelTree
from HierSubclassSegLib.scene import geometry, labelmaps, layers, measures, prediction, session, tree_store, visibility
from HierSubclassSegLib.ticks import Ticks

TICK = 0.02


def main() -> int:
    """Measure, and print.

    Returns:
        0.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, help="one cube of this edge instead of the two sizes")
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    shapes = [(arguments.size,) * 3] if arguments.size else [(256, 256, 256), (512, 512, 400)]
    cells = [_import_and_measure(shape, arguments.runs) for shape in shapes]
    print(
        json.dumps(
            {
                "benchmark": "scene",
                "machine": platform.processor() or platform.machine(),
                "runs": arguments.runs,
                "cells": cells,
                "rows": _rows(arguments.runs),
            },
            indent=1,
        )
    )
    return 0


def tree_of(superclasses: int, subclasses: int) -> LabelTree:
    """Background and some superclasses with as many subclasses each."""
    rows: list[dict[str, Any]] = [{"name": "background", "value": 0}]
    for index in range(superclasses):
        rows.append({"name": f"superclass {index}", "value": 200 + index})
        for child in range(subclasses):
            value = 1 + index * subclasses + child
            rows.append({"name": f"subclass {value}", "parent": f"superclass {index}", "value": value})
    return LabelTree.from_dict({"format_version": 1, "name": "benchmark", "unlabelled": 255, "nodes": rows})


def blocks(tree: LabelTree, shape: tuple[int, int, int]) -> np.ndarray:
    """A label map in C order, as a worker sends it: every leaf a slab within a body that leaves a margin."""
    labels = np.zeros(shape, tree.dtype)
    margin = [size // 10 for size in shape]
    leaves = [leaf.value for leaf in tree.leaves if leaf.value]
    inner = shape[0] - 2 * margin[0]
    along = np.array(leaves, tree.dtype)[np.arange(inner) * len(leaves) // inner]
    place = tuple(slice(m, size - m) for m, size in zip(margin, shape, strict=True))
    labels[place] = along[:, None, None]
    return labels


def _import_and_measure(shape: tuple[int, int, int], runs: int) -> dict[str, Any]:
    opened = session.open_session()
    tree = tree_of(5, 12)
    volume = geometry.make_volume(opened.scene, np.zeros(shape, np.int16), np.diag([0.7, 0.7, 1.0, 1.0]), "scan")
    labels, confidence = blocks(tree, shape), np.full(shape, 0.75, np.float32)
    imports, recounts, depths, idles = [], [], [], []
    for _ in range(runs):
        importing = Ticks(
            prediction.prediction_steps([volume], tree, labels, None, confidence, bundle_id="benchmark@1")
        )
        imports.append(_ticks(lambda importing=importing: importing.step(TICK)))
        node = importing.result
        assert node is not None
        measured = measures.Measures(node, tree)
        idles.append(_ticks(lambda measured=measured: (measured.step(TICK), measured.pending)[1] > 0))
        painted = tree_store.segments_by_path(node, tree)
        recounts += [
            _seconds(lambda m=measured, s=painted[path]: m.recount(s))
            for path in ("superclass 0", "superclass 0/subclass 1")
        ]
        depths += [
            _seconds(lambda node=node, depth=depth: visibility.show_depth(node, tree, depth)) for depth in (1, 2)
        ]
        assert layers.number_of_layers(node) == 6
        opened.scene.RemoveNode(prediction.confidence_of(node))
        opened.scene.RemoveNode(node)
    opened.close()
    return {
        "shape": shape,
        "leaves": 60,
        "import": {
            "ticks": statistics.median(len(run) for run in imports),
            "total": _round(statistics.median(sum(run) for run in imports)),
            "longest_tick": _round(max(max(run) for run in imports)),
            "last_ticks": [_round(value) for value in imports[-1][-3:]],
        },
        "measures_when_idle": {
            "total": _round(statistics.median(sum(run) for run in idles)),
            "longest_tick": _round(max(max(run) for run in idles)),
        },
        "recount": {"median": _round(statistics.median(recounts)), "longest": _round(max(recounts))},
        "show_depth": {"median": _round(statistics.median(depths)), "longest": _round(max(depths))},
    }


def _rows(runs: int) -> dict[str, Any]:
    """What 117 rows ask for: the nodes with their segments, the three states, ml, refined, confidence."""
    opened = session.open_session()
    tree = tree_of(9, 12)
    shape = (64, 64, 64)
    volume = geometry.make_volume(opened.scene, np.zeros(shape, np.int16), np.eye(4), "scan")
    labels = np.random.default_rng(0).choice(tree.leaf_values, shape).astype(tree.dtype)
    node = prediction.create_prediction([volume], tree, labels, None, np.ones(shape), bundle_id="benchmark@1")
    measured = measures.Measures(node, tree)
    measured.complete()
    entries = [entry for entry in labelmaps.depth_first(tree) if entry.name != "background"]

    def rows() -> None:
        tree_store.read_tree(node)
        visibility.states(node, tree)
        for entry in entries:
            measured.ml(entry), measured.refined(entry), measured.confidence(entry)

    found = [_seconds(rows) for _ in range(runs)]
    opened.close()
    return {"nodes": len(entries), "median": _round(statistics.median(found)), "longest": _round(max(found))}


def _ticks(step: Callable[[], bool]) -> list[float]:
    found: list[float] = []
    more = True
    while more:
        begin = time.perf_counter()
        more = step()
        found.append(time.perf_counter() - begin)
    return found


def _seconds(work: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def _round(seconds: float) -> float:
    return round(seconds, 4)


if __name__ == "__main__":
    raise SystemExit(main())
