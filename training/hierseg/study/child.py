"""One run of a study in a process of its own: train, or go on training, then measure.

The job comes as one line of JSON on standard input, which then stays open: when it ends, whoever started this process is
gone, and the training saves its checkpoint and ends, too.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hierseg import transaction
from hierseg.errors import HiersegError
from hierseg.study.runs import is_trained, read_record, scores_folder

PATIENCE = 60.0
"""Seconds to wait for a process of an earlier study that is still saving its checkpoint."""


def main() -> int:
    """Do the job that standard input describes."""
    job: dict[str, Any] = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        with transaction.locked(Path(job["folder"]), seconds=PATIENCE):
            _do(job)
    except HiersegError:
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _do(job: Mapping[str, Any]) -> None:
    from hierseg.cli.predict import set_threads
    from hierseg.dataset import Dataset
    from hierseg.engine import train
    from hierseg.study.scoring import score_run

    folder = Path(job["folder"])
    set_threads(job["threads"])
    if not is_trained(folder):
        began = time.monotonic()
        try:
            train(
                job["dataset"], folder, job["settings"], resume=(folder / "last.pt").exists(),
                device=job["device"], threads=job["threads"], name=job["name"],
            )  # fmt: skip
        finally:
            _took(folder, "training", time.monotonic() - began)
    score = job["score"]
    began = time.monotonic()
    dataset = Dataset.open(score["dataset"])
    cases = [dataset.case(case) for case in score["cases"]]
    score_run(folder / "bundle", dataset, cases, scores_folder(folder, score["split"]), score["sha256"], job["device"])
    _took(folder, f"scoring {score['split']}", time.monotonic() - began)


def _took(folder: Path, what: str, seconds: float) -> None:
    """Add to the seconds in the run's record."""
    from hierseg.atomic import write_json
    from hierseg.study.runs import RECORD

    record = read_record(folder)
    before = record.get("seconds", {})
    write_json(folder / RECORD, {**record, "seconds": {**before, what: round(before.get(what, 0.0) + seconds, 1)}})


def _end_with_parent() -> None:
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
