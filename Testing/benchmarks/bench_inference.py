"""The inference engine beside MONAI's sliding window and nnU-Net's predictor: same network, same weights, same image.

    make bench ARGS=inference                       the default cases and a profile, about a quarter of an hour
    make bench ARGS="inference --full"              all cases and the curves: hours; --again measures anew
    make bench ARGS="inference --write"             also renews docs/results/inference.* (tables, plots, JSON)

What has been measured is kept in ``build/bench/inference``, so a call that was broken off goes on where it was.  Each
measurement has a process of its own, which is ended if it takes more than 70 % of the machine's memory.  The rows:

``monai``        ``monai.inferers.sliding_window_inference`` as it is by default, MONAI's transforms back, argmax
``monai-best``   the same with its better settings
``nnunet``       nnU-Net v2's ``nnUNetPredictor``, its resampling of logits, its argmax (``pip install hierseg[peers]``)
``nnunet-best``  the same with its faster resampling
``exhaustive``   this engine with every tile, and as many of them as the others, the network run by torch as for them
``openvino``     the same with the network run by OpenVINO
``skipping``     as ``exhaustive``, without the tiles in which a coarse pass finds nothing
``tiles``        the network alone on as many tiles, nothing kept: the floor
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]


def main() -> int:
    """Measure what was asked for and print one JSON object.

    Returns:
        0, or 1 if a row failed for another reason than its memory.
    """
    if sys.argv[1:2] == ["--child"]:
        from inference_bench.child import main as child

        from hierseg.allocation import reuse_memory

        task = json.loads(sys.argv[2])
        if not os.environ.get("HIERSEG_BENCH_PLAIN_MEMORY"):
            reuse_memory()
        child(task)
        return 0
    from inference_bench import report
    from inference_bench.cases import CASES, TINY
    from inference_bench.rows import ROWS

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="*", choices=list(CASES), metavar="CASE", help=f"of {', '.join(CASES)}")
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=[], metavar="ROW")
    parser.add_argument("--full", action="store_true", help="all cases")
    parser.add_argument("--curves", action="store_true", help="time and memory as work grows")
    parser.add_argument(
        "--floor", action="store_true", help="the network's arithmetic over the machine's rate; a profile"
    )
    parser.add_argument("--quick", action="store_true", help="one tiny case, one round: whether it works at all")
    parser.add_argument("--rounds", type=int, default=3, help="how often the rows take turns (default: 3)")
    parser.add_argument("--again", action="store_true", help="measure anew what is kept")
    parser.add_argument("--gather", action="store_true", help="measure nothing: tables of what is kept")
    parser.add_argument("--write", action="store_true", help="renew docs/results/inference.*")
    parser.add_argument("--limit-gb", type=float, help="memory of a row's process (default: 70 %% of the machine's)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=REPOSITORY / "build" / "bench" / "inference")
    arguments = parser.parse_args()
    if arguments.write and arguments.rows:
        parser.error("--write needs all rows: a table compares what was measured side by side")
    if arguments.quick:
        chosen, arguments.rounds = [TINY], 1
    elif arguments.cases is not None:
        chosen = [CASES[name] for name in arguments.cases]
    else:
        chosen = [case for case in CASES.values() if case.default or arguments.full]
    result = _measured(arguments, chosen)
    if arguments.write:
        report.renew(result, REPOSITORY / "docs" / "results")
    print(json.dumps(result))
    ends = [row.get("ended") for case in result["cases"].values() for row in case["rows"].values()]
    return int("error" in ends)


def _measured(arguments: argparse.Namespace, chosen: list[Any]) -> dict[str, Any]:
    import torch
    from inference_bench import curves, floor, measure, nnunet, series

    from hierseg.inference.benchmark import environment

    limit = measure.memory_limit() if arguments.limit_gb is None else int(arguments.limit_gb * 1e9)
    settings = series.Settings(
        arguments.folder, arguments.rounds, arguments.seed, arguments.device, arguments.threads, limit, arguments.again,
        arguments.gather,
    )  # fmt: skip
    torch.set_num_threads(arguments.threads)
    cases = {case.name: series.measured(case, settings, arguments.rows) for case in chosen}
    found: dict[str, Any] = {"cases": {name: case for name, case in cases.items() if case["rows"]}}
    if arguments.full or arguments.curves:
        found["curves"] = curves.measured(replace(settings, rounds=1), full=arguments.full)
    if not arguments.quick and arguments.cases is None:
        found["floor"] = {"network": series.once("floor", floor.CASE, settings)}
        found["resident"] = {"worker": series.once("resident", floor.CASE, settings)}
    setting = environment(torch.device(arguments.device), arguments.seed)
    setting["versions"].update({package: nnunet.version(package) for package in ("monai", "nnunetv2", "openvino")})
    setting["commit"] = _commit()
    return {
        "benchmark": "inference",
        **setting,
        "limit_gb": None if limit is None else round(limit / 1e9, 1),
        **found,
    }


def _commit() -> str | None:
    """Which state of the project was measured, where git knows."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            cwd=REPOSITORY,
            capture_output=True,
            encoding="utf-8",
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
