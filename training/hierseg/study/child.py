"""One run of a study in a process of its own: train, or go on training, then measure.

The job comes as one line of JSON on standard input, which then stays open: when it ends, whoever started this process is
gone, and the training saves its checkpoint and ends, too.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hierseg import transaction
from hierseg.atomic import write_json
from hierseg.errors import HiersegError
from hierseg.study.runs import RECORD, is_trained, read_record, scores_folder

PATIENCE = 60.0
"""Seconds to wait for a process of an earlier study that is still saving its checkpoint."""


def main() -> int:
    """Do the job that standard input describes."""
    job: dict[str, Any] = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        with transaction.locked(Path(job["folder"]), seconds=PATIENCE):
            _do(job)
    except HiersegError as error:
        sys.stderr.write(f"hierseg: {error.sentence}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("hierseg: interrupted\n")
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
        with _timed(folder, "training"):
            train(
                job["dataset"], folder, job["settings"], resume=(folder / "last.pt").exists(),
                device=job["device"], threads=job["threads"], name=job["name"],
            )  # fmt: skip
    score = job["score"]
    place = scores_folder(folder, score["split"])
    with _timed(folder, f"scoring {score['split']}"):
        dataset = Dataset.open(score["dataset"])
        cases = [dataset.case(case) for case in score["cases"]]
        score_run(folder / "bundle", dataset, cases, place, score["sha256"], job["device"], score["hidden"])


@contextlib.contextmanager
def _timed(folder: Path, what: str) -> Iterator[None]:
    """Add to the seconds in the run's record, however the work ends: by the clock, and of the processor."""
    began = {"seconds": time.monotonic(), "processor_seconds": time.process_time()}
    try:
        yield
    finally:
        ended = {"seconds": time.monotonic(), "processor_seconds": time.process_time()}
        record = read_record(folder)
        for clock, end in ended.items():
            before = record.get(clock, {})
            record[clock] = {**before, what: round(before.get(what, 0.0) + end - began[clock], 1)}
        write_json(folder / RECORD, record)


def _end_with_parent() -> None:
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
