"""A study from its description to its tables: data, runs, scores, results; what is done already is not done again."""

from __future__ import annotations

import dataclasses
import json
import shutil
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hierseg import transaction
from hierseg.atomic import write_json, write_text
from hierseg.errors import ConfigError, DatasetBusyError
from hierseg.evaluation.report import read_scores
from hierseg.study.attempts import add_attempt, read_attempts
from hierseg.study.config import RowSpec, Study
from hierseg.study.data import StudyData, frozen, opened_parts
from hierseg.study.held_out import held_out
from hierseg.study.page import to_page
from hierseg.study.results import Failure, RowResult, compare_rows, summarized
from hierseg.study.runs import (
    Run,
    is_scored,
    is_trained,
    read_record,
    refuse_changed,
    runs_of,
    scores_folder,
    write_record,
)
from hierseg.study.scheduling import INTERRUPTED, Ended, Job, run_jobs
from hierseg.study.scoring import CONSISTENT
from hierseg.study.tables import story_of, to_csv, to_markdown

FORMAT = "hierseg-study"
NAME = "study"
"""Of the results: ``study.json``, ``study.md``, ``study.csv``, ``study.html``."""
Say = Callable[[str], None]


@dataclass(frozen=True)
class Options:
    """How a study is performed.

    Attributes:
        split: what the models are measured on.
        rows: names of the rows to work on; empty: all.
        devices: dealt out to the runs.
        jobs: runs at a time; None: one a device.
        threads: of a run; None: the cores are shared out.
        redo: train runs anew whose settings have changed; else they are refused.
    """

    split: str = "validation"
    rows: tuple[str, ...] = ()
    devices: tuple[str, ...] = ("auto",)
    jobs: int | None = None
    threads: int | None = None
    redo: bool = False

    @property
    def side_by_side(self) -> int:
        """Runs at a time."""
        return self.jobs or len(self.devices)

    def threads_each(self) -> int:
        """Threads of a run."""
        from hierseg.courtesy import usable_cores

        return self.threads or max(1, usable_cores() // self.side_by_side)


@dataclass
class Watch:
    """What is told while a study goes on.

    Attributes:
        say: a sentence.
        begin: the number of runs to be done.
        ended: a run that has ended.
    """

    say: Say = lambda _text: None
    begin: Callable[[int], None] = lambda _count: None
    ended: Callable[[Ended], None] = lambda _ended: None


@dataclass
class _Work:
    study: Study
    out: Path
    options: Options
    data: StudyData
    failures: dict[str, Failure] = field(default_factory=dict)

    def folder(self, run: Run) -> Path:
        return self.out / "runs" / run.name

    @property
    def training_hashes(self) -> dict[str, str]:
        return {part: self.data.hash_of(part) for part in ("training", "validation")}

    @property
    def classes(self) -> list[str]:
        """Those that are hidden in turn."""
        from hierseg.engine.hold_out_each import class_names

        wish = self.study.hold_out_each
        return [] if wish is None else class_names(self.data.cases("training")[0].tree, wish.kind)

    def is_done(self, run: Run) -> bool:
        folder = self.folder(run)
        return is_trained(folder) and is_scored(folder, self.options.split, self.data.hash_of(self.options.split))


def perform(study: Study, out: Path, options: Options, watch: Watch | None = None) -> dict[str, Any]:
    """Do what is left of a study, and write its results.

    Returns:
        The content of ``study.json``; ``failed`` is the number of runs that failed just now.

    Raises:
        ConfigError: rows, data or runs are not what the study says, or another process is at work in the folder.
        KeyboardInterrupt: Ctrl-C; running the command again goes on.
    """
    watch = watch or Watch()
    rows = _chosen(study, options.rows)
    if options.split == "test" and not frozen(study.data):
        raise ConfigError(
            f"{study.path}: the data are not frozen, so that nobody could tell what the test was; put what 'hierseg study --freeze' "
            "prints into 'data.sha256' first."
        )
    out.mkdir(parents=True, exist_ok=True)
    try:
        with transaction.locked(out, seconds=2.0):
            return _perform(study, out, options, rows, watch)
    except DatasetBusyError as error:
        raise ConfigError(
            f"{out}: another study is at work in this folder; wait for it, or choose another one."
        ) from error


def _perform(study: Study, out: Path, options: Options, rows: tuple[RowSpec, ...], watch: Watch) -> dict[str, Any]:
    data = StudyData(study.data, out, watch.say)
    data.open(*opened_parts(options.split))
    work = _Work(study, out, options, data)
    runs = list(runs_of(study, rows, work.classes))
    for run in runs:
        _check(work, run)
    if options.split == "test":
        add_attempt(out, study, data.hash_of("test"))
    left = [run for run in runs if not work.is_done(run)]
    watch.say(
        f"{len(runs) - len(left)} of {len(runs)} runs are done already."
        if len(left) < len(runs)
        else f"{len(runs)} runs."
    )
    jobs = [_job(work, run) for run in left]
    watch.begin(len(jobs))
    named = {work.folder(run): run for run in left}

    def on_end(ended: Ended) -> None:
        run = named[ended.job.folder]
        if ended.code == INTERRUPTED:
            # Somebody ended this one process: nothing is wrong with it, and the next call goes on.
            work.failures[run.name] = Failure(run.seed, ended.code, "interrupted; give the command again to go on")
        elif ended.code or not work.is_done(run):
            work.failures[run.name] = Failure(run.seed, ended.code, ended.said)
        watch.ended(ended)

    try:
        run_jobs(jobs, options.devices, options.side_by_side, on_end, options.threads_each())
    finally:
        content = write_results(work)
    return content


def _chosen(study: Study, names: Sequence[str]) -> tuple[RowSpec, ...]:
    known = [row.name for row in study.rows]
    for name in names:
        if name not in known:
            raise ConfigError(f"the study has no row '{name}'; its rows are {', '.join(known)}.")
    return tuple(row for row in study.rows if not names or row.name in names)


def _check(work: _Work, run: Run) -> None:
    folder = work.folder(run)
    if not work.options.redo:
        refuse_changed(folder, run, work.training_hashes)
        return
    try:
        refuse_changed(folder, run, work.training_hashes)
    except ConfigError:
        shutil.rmtree(folder)


def _job(work: _Work, run: Run) -> Job:
    folder, split = work.folder(run), work.options.split
    folder.mkdir(parents=True, exist_ok=True)
    write_record(folder, run, work.training_hashes, work.options.threads_each())
    dataset, cases = work.data.cases(split)
    return Job(
        folder,
        {
            "folder": str(folder),
            "dataset": str(work.data.for_training(run.row, run.fine)),
            "settings": run.settings(),
            "name": f"{work.study.name} {run.name}",
            "score": {
                "split": split,
                "dataset": str(dataset.folder),
                "cases": [case.id for case in cases],
                "sha256": work.data.hash_of(split),
                "hidden": run.hidden,
            },
        },
    )


def write_results(work: _Work) -> dict[str, Any]:
    """Put together what is there, and write ``study.json``, ``study.md``, ``study.csv`` and ``study.html``."""
    from hierseg.inference.benchmark import environment

    study, split = work.study, work.options.split
    metrics = tuple(dict.fromkeys(("dice", "hausdorff95", "tree_distance", *study.metrics)))
    results = [_result(work, row, fine, metrics) for row in study.rows for fine in row.fine]
    for one in results:
        _add_held_out(work, one)
    compare_rows(study, results)
    attempts = read_attempts(work.out)
    minutes = [one.minutes for one in results if one.minutes is not None]
    content: dict[str, Any] = {
        "format": FORMAT,
        "format_version": 1,
        "name": study.name,
        "title": study.title,
        "file": study.path.name,
        "study_sha256": study.sha256,
        "split": split,
        "cases": len(work.data.cases(split)[1]),
        "data": {**dataclasses.asdict(study.data), "sha256": dict(work.data.sha256), "frozen": frozen(study.data)},
        "environment": environment(),
        "threads": work.options.threads_each(),
        "devices": list(work.options.devices),
        "seeds": list(study.seeds),
        "minutes": statistics.median(minutes) if minutes else None,
        "attempts": attempts,
        "tuning": None if study.tuning is None else dataclasses.asdict(study.tuning),
        "default": list(study.default),
        "lower": study.lower,
        "upper": study.upper,
        "rows": [one.to_dict() for one in results],
        "hold_out_each": None if study.hold_out_each is None else dataclasses.asdict(study.hold_out_each),
        "complete": all(one.complete for one in results),
        "failed": len(work.failures),
    }
    content = json.loads(json.dumps(content))
    places = [work.out / NAME]
    if split == "test":
        # A later look may be at other test data: what this one saw is kept.
        places.append(work.out / "attempts" / f"{len(attempts):02d}")
    for place in places:
        write_json(place.with_suffix(".json"), content)
        write_text(place.with_suffix(".md"), to_markdown(study, results, story_of(content)))
        write_text(place.with_suffix(".csv"), to_csv(results))
        write_text(place.with_suffix(".html"), to_page(study, results, story_of(content)))
    return content


def _result(work: _Work, row: RowSpec, fine: int | str, metrics: Sequence[str]) -> RowResult:
    scores: dict[int, tuple[Mapping[str, Any], Mapping[str, Any]]] = {}
    failed, minutes = [], []
    for seed in work.study.seeds:
        run = Run(row, fine, seed)
        folder = work.folder(run)
        if work.is_done(run):
            place = scores_folder(folder, work.options.split)
            scores[seed] = read_scores(place), read_scores(place / CONSISTENT)
            seconds = read_record(folder).get("seconds", {})
            minutes.append(seconds.get("training", 0.0) / 60.0)
        elif run.name in work.failures:
            failed.append(work.failures[run.name])
    return summarized(
        row, fine, work.study.seeds, scores, metrics, failed, statistics.median(minutes) if minutes else None
    )


def _add_held_out(work: _Work, one: RowResult) -> None:
    """What was seen of classes that were hidden from a row, as far as all seeds of a class are done."""
    wish = work.study.hold_out_each
    if wish is None or one.row.name not in wish.rows:
        return
    for name in work.classes:
        contents = []
        for seed in wish.seeds:
            run = Run(one.row, one.fine, seed, name)
            if work.is_done(run):
                place = scores_folder(work.folder(run), work.options.split)
                contents.append((read_scores(place), read_scores(place / CONSISTENT)))
            elif run.name in work.failures:
                one.failed = (*one.failed, work.failures[run.name])
        if len(contents) == len(wish.seeds):
            one.held_out.append(held_out(name, contents))
        else:
            one.missing.append(name)
