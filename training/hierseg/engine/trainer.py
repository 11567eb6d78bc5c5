"""The training loop."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hierseg.bundle import Bundle
from hierseg.courtesy import somebody_predicts, terminable
from hierseg.data.batches import Batch, iterate
from hierseg.dataset import Dataset
from hierseg.engine.checkpoints import seed_iteration
from hierseg.engine.config import TrainConfig
from hierseg.engine.optimization import clip_gradients, set_learning_rate, set_training_mode
from hierseg.engine.run import Run
from hierseg.engine.runfolder import RunFolder
from hierseg.engine.setup import thread_count
from hierseg.engine.validation import Measurement
from hierseg.errors import HiersegError, TrainingError, is_out_of_memory
from hierseg.evaluation.out_of_distribution import Separation
from hierseg.inference import resolve_device

Progress = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class RunResult:
    """What a run came to.

    Attributes:
        folder: of the run.
        state: ``finished`` or ``stopped``.
        iterations: done.
        bundle: the model.
        measurement: of the published weights; None without validation cases.
        best: its summary, one number.
        seconds: this call took.
        notes: sentences that were said.
        out_of_distribution: how well classes hidden by ``hold_out`` are noticed; None without.
    """

    folder: Path
    state: str
    iterations: int
    bundle: Path
    measurement: Measurement | None
    best: float | None
    seconds: float
    notes: tuple[str, ...]
    out_of_distribution: Separation | None = None


def train(
    dataset: Dataset | str | Path,
    out: str | Path,
    config: TrainConfig | Mapping[str, Any] | str | Path | None = None,
    *,
    init: Bundle | str | Path | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    device: str | torch.device = "auto",
    threads: int | None = None,
    name: str | None = None,
    background: bool = False,
) -> RunResult:
    """Train a model and write its bundle.

    Args:
        dataset: a dataset folder, or its path.
        out: the run folder.
        config: all settings, or those that differ from the defaults, or a YAML file of those.
        init: a bundle to start from; its label tree may differ from the dataset's.
        resume: go on with the run in ``out``.
        progress: called with the run's status (see :mod:`hierseg.engine.runfolder`) whenever it changes.
        device: ``auto``, ``cpu``, ``cuda``, ...
        threads: for computing on the CPU; one less than there are cores if None.
        name: of the bundle.
        background: wait while a worker predicts on this computer (see :mod:`hierseg.courtesy`).

    Raises:
        HiersegError: the data, the settings or the folder cannot be used, or the training cannot go on.
        KeyboardInterrupt: Ctrl-C; ``last.pt`` was saved.
    """
    began = time.monotonic()
    opened = dataset if isinstance(dataset, Dataset) else Dataset.open(dataset)
    start = Bundle.open(init) if isinstance(init, str | Path) else init
    target = resolve_device(device)
    with (
        terminable(),
        RunFolder(out, resume=resume, on_status=progress) as folder,
        _threads(thread_count(threads)),
    ):
        try:
            run = Run.prepare(folder, opened, config, start=start, resume=resume, device=target, name=name)
            state = loop(run, background)
            return _finish(run, state, began)
        except HiersegError as error:
            _fail(folder, "failed", error.sentence)
            raise
        except KeyboardInterrupt:
            again = (
                "go on with --resume" if folder.last.exists() else "nothing was learned yet; start the training again"
            )
            _fail(folder, "stopped", f"Interrupted; {again}.")
            raise
        except OSError as error:
            again = (
                "go on with --resume (the last checkpoint is kept)"
                if folder.last.exists()
                else "start the training again"
            )
            sentence = f"{error.filename or folder.folder}: {error.strerror or error}; mend that and {again}."
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                sentence = f"{folder.folder}: the disk is full; free some space and {again}."
            _fail(folder, "failed", sentence)
            raise TrainingError(sentence) from error
        except BaseException as error:
            if is_out_of_memory(error):
                sentence = f"the memory of {target} is too small for one patch at a time; lower 'patch_size' or 'width', and start a new run."
                _fail(folder, "failed", sentence)
                raise TrainingError(sentence) from error
            _fail(folder, "failed", f"{type(error).__name__}: {error}")
            raise


def _give_way(run: Run, interrupted: threading.Event) -> None:
    """Wait while a worker predicts on this computer: somebody is waiting for that."""
    if run.device.type != "cpu" or not somebody_predicts():
        return
    run.folder.update(stage="waiting")
    while somebody_predicts() and not interrupted.is_set() and not run.folder.stop_file.exists():
        time.sleep(0.2)
    run.folder.update(stage="training")


def loop(run: Run, background: bool = False) -> str:
    """Train until the last iteration or until asked to stop; returns the state to end in."""
    config, folder = run.config, run.folder
    folder.update(state="running", stage="training", message="", write=True)
    watch = _LossWatch(run)
    with _interruptible() as interrupted:
        if run.iteration == 0:
            run.measure_start()
            run.save_last()
        pace = _Pace(config.iterations - run.iteration)
        for loaded in iterate(run.batches, run.iteration):
            run.tick("loading")
            batch = loaded.to(run.device)
            run.tick("transfer")
            if background:
                _give_way(run, interrupted)
            rate = _step(run, batch, watch)
            run.iteration = batch.iteration + 1
            last = run.iteration == config.iterations
            if last or run.iteration % config.log_interval == 0:
                run.log(watch.means(), rate)
            folder.update(iteration=run.iteration, seconds_left=pace.tick())
            run.tick("logging")
            stopping = folder.stop_file.exists() and not last
            if stopping:
                folder.update(state="stopping", message="Stopping as asked.", write=True)
            if interrupted.is_set():
                watch.check()
                run.save_last()
                raise KeyboardInterrupt
            if last or stopping or (config.validation.interval and run.iteration % config.validation.interval == 0):
                watch.check()
                run.validate(cancelled=interrupted.is_set)
                folder.update(stage="training")
            if last or stopping or run.iteration % config.checkpoint_interval == 0:
                watch.check()
                run.save_last()
            if stopping:
                return "stopped"
    return "finished"


def _step(run: Run, batch: Batch, watch: _LossWatch) -> float:
    """One optimizer step; returns the learning rate."""
    config, model = run.config, run.model
    rate = set_learning_rate(run.optimizer, config, batch.iteration)
    for network in (model, *run.helpers):
        set_training_mode(network, config)
    terms, total = _gradients(run, batch)
    watch.note(batch, terms, total)
    run.tick("logging")
    run.scaler.unscale_(run.optimizer)
    for network in (model, *run.method.learners):
        clip_gradients(network.parameters(), config.gradient_clip)
    run.scaler.step(run.optimizer)
    run.scaler.update()
    run.method.after_step(model, batch.iteration)
    if run.average is not None:
        run.average.update(model, batch.iteration)
    run.tick("optimizer")
    return rate


def _gradients(run: Run, batch: Batch) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Fill in the gradients of a batch; its terms (those that are only observed, too) and their total.

    Where the memory is too small, the batch is divided: the gradients of the parts are added up.
    """
    while True:
        try:
            return _of_parts(run, batch)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or run.divided >= len(batch.cases):
                raise
        # After the except clause, which would keep the failed attempt's arrays alive.
        run.divide_batch()


def _of_parts(run: Run, batch: Batch) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    run.optimizer.zero_grad(set_to_none=True)
    seed_iteration(run.config.seed, batch.iteration)
    sums: dict[str, torch.Tensor] = {}
    whole = torch.zeros((), device=run.device)
    for part in batch.split(run.divided):
        share = len(part.cases) / len(batch.cases)
        with torch.autocast(run.device.type, dtype=run.precision or torch.bfloat16, enabled=run.precision is not None):
            terms = run.method.step(run.model, part)
            total = torch.stack(list(terms.values())).sum() * share
        run.tick("forward")
        run.scaler.scale(total).backward()
        whole = whole + total.detach()
        for name, value in (terms | run.method.observed).items():
            sums[name] = sums.get(name, torch.zeros((), device=run.device)) + share * value.detach()
        run.tick("backward")
    return sums, whole


def _finish(run: Run, state: str, began: float) -> RunResult:
    run.folder.update(stage="writing the bundle", seconds_left=0.0)
    bundle = run.publish()
    done = (
        "The training is finished."
        if state == "finished"
        else f"Stopped as asked after {run.iteration} of {run.config.iterations} iterations."
    )
    run.folder.event(state, iteration=run.iteration, best=run.best_score, bundle=str(bundle.folder))
    run.close()
    run.folder.stop_file.unlink(missing_ok=True)
    run.folder.update(state=state, stage="done", seconds_left=0.0, message=done, write=True)
    return RunResult(
        folder=run.folder.folder,
        state=state,
        iterations=run.iteration,
        bundle=bundle.folder,
        measurement=run.best,
        best=run.best_score,
        seconds=time.monotonic() - began,
        notes=tuple(run.notes),
        out_of_distribution=run.out_of_distribution,
    )


def _fail(folder: RunFolder, state: str, sentence: str) -> None:
    with contextlib.suppress(OSError):
        folder.event(state, message=sentence)
    with contextlib.suppress(OSError):
        folder.update(state=state, message=sentence, seconds_left=None, write=True)


class _LossWatch:
    """Collects losses without asking the device for each, and stops the training when one is not a number."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._each = run.device.type == "cpu"
        self._seen: list[tuple[Batch, torch.Tensor]] = []
        self._sums: dict[str, torch.Tensor] = {}
        self._count = 0

    def note(self, batch: Batch, terms: Mapping[str, torch.Tensor], total: torch.Tensor) -> None:
        """Remember a step's losses; on the CPU they are looked at before the step is taken."""
        for key, value in (*terms.items(), ("total", total)):
            found = value.detach().float()
            self._sums[key] = self._sums[key] + found if key in self._sums else found
        self._count += 1
        self._seen.append(
            (dataclasses.replace(batch, image=batch.image[:0], mixed_image=batch.mixed_image[:0]), total.detach())
        )
        if self._each or len(self._seen) >= self._run.config.log_interval:
            self.check()

    def check(self) -> None:
        """Look at what was remembered.

        Raises:
            TrainingError: a loss is infinite or not a number.
        """
        if not self._seen:
            return
        good = torch.isfinite(torch.stack([total for _, total in self._seen])).tolist()
        for (batch, total), fine in zip(self._seen, good, strict=True):
            if not fine:
                cases = ", ".join(f"'{case}'" for case in dict.fromkeys(batch.cases))
                raise TrainingError(
                    f"the loss became {float(total)} in iteration {batch.iteration + 1}, on patches of {cases}; look at these images, "
                    "or lower 'learning_rate'. The last good checkpoint is kept."
                )
        self._seen = []

    def means(self) -> dict[str, float]:
        """The mean of each term since the last call."""
        self.check()
        names = list(self._sums)
        values = (torch.stack([self._sums[key] for key in names]) / max(1, self._count)).tolist() if names else []
        self._sums, self._count = {}, 0
        return dict(zip(names, values, strict=True))


class _Pace:
    """Estimates the seconds that are left, from those that recent iterations took, validation included."""

    def __init__(self, iterations: int) -> None:
        self._left = iterations
        self._last = time.monotonic()
        self._mean: float | None = None

    def tick(self) -> float:
        now = time.monotonic()
        took, self._last = now - self._last, now
        self._mean = took if self._mean is None else 0.95 * self._mean + 0.05 * took
        self._left -= 1
        return round(self._mean * self._left, 1)


@contextlib.contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """Turn Ctrl-C and SIGTERM into a flag, so that the iteration in progress is completed; a second one ends at once."""
    flag = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return

    def notice(number: int, frame: object) -> None:
        if flag.is_set():
            raise KeyboardInterrupt
        flag.set()

    before = {number: signal.signal(number, notice) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield flag
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
