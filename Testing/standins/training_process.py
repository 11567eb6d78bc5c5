"""A process that leaves the files of a training run, as fast or as badly as a test wants it.

``python training_process.py MODE DATASET --out RUN ...``; the files are those of ``docs/training-run.md``.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from hierseg.atomic import write_json

TREE = {
    "format_version": 1,
    "name": "tiny",
    "unlabelled": 255,
    "nodes": [
        {"name": "background", "value": 0},
        {"name": "tumor", "value": 5},
        {"name": "core", "parent": "tumor", "value": 1},
        {"name": "edema", "parent": "tumor", "value": 2},
    ],
}


def main() -> int:
    mode, out = sys.argv[1], Path(sys.argv[sys.argv.index("--out") + 1])
    print("arguments:", *sys.argv[1:], flush=True)
    if mode == "refuses":
        print("hierseg: the dataset has no case with a label; annotate one.", file=sys.stderr)
        return 2
    if mode == "silent":
        time.sleep(600)
    out.mkdir(exist_ok=True)
    (out / "stop").unlink(missing_ok=True)
    status = {"pid": os.getpid(), "iterations": 1000, "best": None, "message": "", "started": time.time()}

    def tell(state: str, iteration: int, **more: object) -> None:
        with open(out / "events.jsonl", "a", encoding="utf-8") as events:
            events.write(json.dumps({"event": "iteration", "iteration": iteration}) + "\n")
        # After the event, so that a reader who sees the end in the status finds all events.
        now = {"state": state, "iteration": iteration, "seconds_left": 3.0, "updated": time.time()}
        write_json(out / "status.json", {**status, **now, **more})

    def happened(kind: str, **content: object) -> None:
        with open(out / "events.jsonl", "a", encoding="utf-8") as events:
            events.write(json.dumps({"time": time.time(), "event": kind, **content}) + "\n")

    if mode == "learns":
        write_json(out / "label_tree.json", TREE)
        happened("start", iteration=0, iterations=1000, device="cpu", training=3, validation=0, held="slices")
        happened("baseline", score=0.5, scores={"background": 0.9, "tumor": 0.8, "core": 0.5, "edema": None})
    if mode == "slow":
        tell("starting", 0)
        time.sleep(0.5)
    # Long enough for a test on a loaded machine, and not for ever if a test forgets it.
    for iteration in range(6000):
        if mode == "learns":
            happened("losses", iteration=iteration, total=1.0 / (1 + iteration), learning_rate=0.1)
            scores = {"background": 0.9, "tumor": 0.75, "core": 0.6, "edema": 0.4}
            happened(
                "validation",
                iteration=iteration,
                score=0.5,
                known=0.55,
                what="mean Dice",
                scores=scores,
                best=iteration == 0,
            )
        tell("running", iteration)
        if mode == "dies" and iteration == 3:
            print("RuntimeError: the graphics card is gone", file=sys.stderr, flush=True)
            os._exit(1)
        if (out / "stop").exists():
            tell("stopped", iteration, message="Stopped; the best model is kept.")
            return 0
        if mode == "finishes" and iteration == 5:
            tell("finished", 1000, message="Done.", seconds_left=0)
            return 0
        time.sleep(0.05)
    return 0


if __name__ == "__main__":
    sys.exit(main())
