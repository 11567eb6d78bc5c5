"""Whether the phantoms can rank methods: four figures of each, on validation subjects, against the bars.

Intensity alone must not tell the subclasses apart, a U-Net with all subclass labels must, one with few must be in
between, and two heads must leave something to win.  Each row is a training by the ordinary trainer; what was tuned are
the phantoms, on these validation subjects, and never a method.  Trainings that were done are not repeated.

    python Testing/benchmarks/bench_phantoms.py --out build/phantoms --write
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from phantom_checks.report import write_report
from phantom_checks.specs import ROWS, SPECS, Spec
from phantom_checks.thresholds import threshold_dice

from hierseg.atomic import write_json
from hierseg.dataset import Dataset
from hierseg.engine import train
from hierseg.imageio import write_volume
from hierseg.phantoms.writing import draw_subject, make_phantom


def folder_of(spec: Spec, out: Path, fine: int | None) -> Path:
    """A dataset folder: the training subjects, ``fine`` of them with subclass labels, and the validation subjects."""
    folder = out / f"data_{'all' if fine is None else fine}"
    if folder.exists():
        return folder
    part = folder.with_name(f"{folder.name}_making")
    shutil.rmtree(part, ignore_errors=True)
    make_phantom(spec.request(fine=fine), part)
    dataset = Dataset.open(part)
    for seed in spec.validation_seeds:
        request = spec.request(seed=seed, cases=spec.validation)
        for index in range(spec.validation):
            for scan in draw_subject(request, index):
                dataset.save_case(
                    f"v{seed}-{scan.id}",
                    [partial(write_volume, array=image, affine=scan.affine) for image in scan.images],
                    partial(write_volume, array=scan.labels.astype(dataset.tree.dtype), affine=scan.affine),
                    split="validation",
                    group=f"v{seed}-{scan.group}",
                )
    part.rename(folder)
    return folder


def by_seed(spec: Spec, scores: dict[str, float]) -> dict[str, float]:
    """The mean of scores by case, over all validation subjects and over those of each seed."""
    found = {"all": float(np.mean(list(scores.values())))}
    for seed in spec.validation_seeds:
        found[str(seed)] = float(np.mean([score for case, score in scores.items() if case.startswith(f"v{seed}-")]))
    return found


def thresholds(spec: Spec, out: Path) -> dict[str, Any]:
    """What intensities alone can tell, measured once."""
    record = out / "thresholds.json"
    if not record.exists():
        found = threshold_dice(folder_of(spec, out, None))
        write_json(record, {rule: by_seed(spec, scores) for rule, scores in found.items()})
    content: dict[str, Any] = json.loads(record.read_text(encoding="utf-8"))
    return content


def train_one(spec: Spec, out: Path, row: str, seed: int) -> dict[str, Any]:
    """One training, and the mean Dice of the leaves over the validation scans; one that was done is read."""
    method, fine = ROWS[row][0], spec.fine if ROWS[row][1] else None
    run = out / f"{row}_seed{seed}"
    record = run.with_suffix(".json")
    if not record.exists():
        data = folder_of(spec, out, fine)
        shutil.rmtree(run, ignore_errors=True)
        began, used = time.perf_counter(), time.process_time()
        result = train(data, run, {**spec.settings, "method": method, "seed": seed}, device="cpu", threads=1)
        if result.measurement is None:
            raise RuntimeError(f"{run}: nothing was measured")
        leaves = [leaf.name for leaf in Dataset.open(data).tree.leaves if leaf.parent is not None]
        scores = {
            case: float(np.mean([value for name in leaves if (value := found.get(name)) is not None]))
            for case, found in result.measurement.scores.items()
        }
        content = {
            "row": row,
            "method": method,
            "fine": fine,
            "seed": seed,
            "iterations": result.iterations,
            "mean": by_seed(spec, scores),
            "leaves": {name: result.measurement.mean(name) for name in leaves},
            "seconds": round(time.perf_counter() - began, 1),
            "processor_seconds": round(time.process_time() - used, 1),
        }
        write_json(record, content)
    read: dict[str, Any] = json.loads(record.read_text(encoding="utf-8"))
    return read


def main() -> int:
    """Run the checks that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(SPECS)} (default: all)")
    parser.add_argument("--out", type=Path, required=True, help="folder of the data and the runs")
    parser.add_argument("--rows", nargs="*", default=list(ROWS), help=f"of {', '.join(ROWS)} (default: all)")
    parser.add_argument("--no-thresholds", action="store_true", help="only train")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1], help="of the trainings (default: 0 1)")
    parser.add_argument(
        "--write", action="store_true", help="write docs/results/phantoms.md and .json from all that was done"
    )
    arguments = parser.parse_args()
    for name in arguments.names or SPECS:
        spec, out = SPECS[name], arguments.out / name
        out.mkdir(parents=True, exist_ok=True)
        if not arguments.no_thresholds:
            print(name, "thresholds", json.dumps(thresholds(spec, out)), flush=True)
        for seed in arguments.seeds:
            for row in arguments.rows:
                found = train_one(spec, out, row, seed)
                print(name, json.dumps(found), flush=True)
    if arguments.write:
        write_report(arguments.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
