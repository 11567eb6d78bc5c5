"""``hierseg study``: run a series of trainings from one description."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

from hierseg.errors import ConfigError

EXIT_FAILED_RUNS = 1


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser(
        "study",
        help="run a series of trainings from one description",
        description="Train every row of a study for every seed, measure the models on the same cases, and write tables "
        "(study.md, study.html, study.csv, study.json). What is done already is not done again; a stopped study goes on when the "
        "command is given again. The data are made from seeds and have to hash to what the study file says.",
        epilog="Study files are explained in docs/studies.md; a shipped one is named without its folder: hierseg study cardiac --out DIR",
    )
    parser.add_argument("study", help="study file, or the name of a shipped one")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder of the study: new, or to go on with"
    )
    parser.add_argument(
        "--split",
        choices=("validation", "test"),
        default="validation",
        help="what the models are measured on (default: validation); each look at the test data is remembered",
    )
    parser.add_argument("--rows", nargs="+", default=[], metavar="NAME", help="work on these rows only")
    parser.add_argument(
        "--devices",
        default="auto",
        metavar="A,B",
        help="dealt out to the runs, e.g. cuda:0,cuda:1 or cpu (default: auto)",
    )
    parser.add_argument("--jobs", type=int, metavar="N", help="runs at a time, a process each (default: one a device)")
    parser.add_argument(
        "--threads", type=int, metavar="N", help="CPU threads of a run (default: the cores, shared out)"
    )
    parser.add_argument("--redo", action="store_true", help="train anew what was trained with other settings")
    parser.add_argument(
        "--freeze", action="store_true", help="only make the data, and print their hashes for the study file"
    )
    parser.add_argument(
        "--tune",
        action="store_true",
        help="train every row with every candidate of 'tuning.grid', measure on validation, and print what is best for each row",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON on standard output")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command; 1 where a run failed."""
    from hierseg.courtesy import terminable
    from hierseg.study.config import read_study

    study = read_study(arguments.study)
    for name in ("jobs", "threads"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise ConfigError(f"--{name} is {value}; give 1 or more.")
    if arguments.freeze:
        return _freeze(study, arguments)

    from hierseg.inference import resolve_device
    from hierseg.study.perform import Options, perform
    from hierseg.study.tuning import FOLDER, chosen, tuning_study

    devices = tuple(name for name in arguments.devices.split(",") if name)
    if not devices:
        raise ConfigError("--devices names no device; give auto, cpu, or cuda:0,cuda:1.")
    for name in devices:
        resolve_device(name)
    options = Options(
        arguments.split, tuple(arguments.rows), devices, arguments.jobs, arguments.threads, arguments.redo
    )  # fmt: skip
    performed, out = study, arguments.out
    if arguments.tune:
        if arguments.split != "validation" or arguments.rows:
            raise ConfigError("--tune works on all rows and the validation cases; leave --rows and --split out.")
        performed, out = tuning_study(study), out / FOLDER
    bar = _Bar()
    try:
        with terminable():
            content = perform(performed, out, options, bar.watch())
    finally:
        bar.close()
    if arguments.tune:
        content = {**content, "chosen": chosen(study, content)}
    if arguments.json:
        print(json.dumps(content, ensure_ascii=False))
    else:
        print((out / "study.md").read_text(encoding="utf-8"), end="")
        print(f"\nWritten: {out / 'study.md'}, study.html, study.csv and study.json")
        if arguments.tune:
            print("  chosen:")
            for name, settings in content["chosen"].items():
                print(f"    {json.dumps(name)}: {json.dumps(settings)}")
    return EXIT_FAILED_RUNS if content["failed"] else 0


def _freeze(study: Any, arguments: argparse.Namespace) -> int:
    from hierseg.study.config import SPLITS
    from hierseg.study.data import StudyData

    # Whatever the file says of the hashes: they are to be replaced.
    data = StudyData(
        dataclasses.replace(study.data, sha256={}), arguments.out, lambda text: print(text, file=sys.stderr)
    )
    data.open("training", *SPLITS)
    if arguments.json:
        print(json.dumps({"sha256": data.sha256}))
        return 0
    print("  sha256:")
    for part, value in data.sha256.items():
        print(f"    {part}: {value}")
    return 0


class _Bar:
    """A progress bar on standard error: one step a run, and a line for each that ended."""

    def __init__(self) -> None:
        self._bar: Any = None

    def watch(self) -> Any:
        """What the study tells its news to."""
        from hierseg.study.perform import Watch

        return Watch(self._say, self._begin, self._ended)

    def _say(self, text: str) -> None:
        from tqdm import tqdm

        tqdm.write(text, file=sys.stderr)

    def _begin(self, count: int) -> None:
        from tqdm import tqdm

        if count:
            self._bar = tqdm(total=count, desc="study", unit="run", file=sys.stderr, dynamic_ncols=True)

    def _ended(self, ended: Any) -> None:
        how = f"failed with exit code {ended.code}: {ended.said}" if ended.code else f"done in {ended.seconds:.0f} s"
        self._say(f"{ended.job.folder.name}: {how}")
        self._bar.update(1)

    def close(self) -> None:
        """Leave the bar where it is."""
        if self._bar is not None:
            self._bar.close()
