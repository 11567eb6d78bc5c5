"""How fast a training is, and where its time goes: the real loop, with its batches loaded and with the same ones kept in memory.

Rounds with and without loading take turns, so that whatever else the machine does meets both.  The first round and the first
iterations of each are not counted.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from hierseg.data.batches import Batch, Batches
from hierseg.data.transforms import PatchTransform
from hierseg.dataset import Dataset
from hierseg.engine.run import Run
from hierseg.engine.runfolder import RunFolder
from hierseg.engine.trainer import loop
from hierseg.errors import ConfigError
from hierseg.inference.benchmark import environment, spread
from hierseg.inference.predictor import resolve_device

STAGES = ("loading", "augmentation", "transfer", "forward", "backward", "optimizer", "logging")
COMPUTING = ("forward", "backward", "optimizer")
WARM = 2
"""Iterations at the begin of each round that are not counted."""
KEPT = 8
"""Different batches that rounds without loading go through."""


def bench_training(
    dataset: str | Path,
    settings: Mapping[str, Any],
    *,
    iterations: int = 30,
    rounds: int = 3,
    device: str = "auto",
    say: Callable[[str], None] = lambda _text: None,
) -> dict[str, Any]:
    """Time trainings of some iterations.

    Args:
        dataset: a dataset folder.
        settings: of the training; how long it is, and how often it measures, is decided here.
        iterations: counted ones, in each round.
        rounds: counted ones, of each kind.
        device: ``auto``, ``cpu``, ``cuda``, ...
        say: told what is being done.

    Returns:
        Machine, versions, settings; samples (patches) a second with and without loading, as median and spread over the rounds;
        how much of the rate without loading is left with it; the share of the time that the device computes; and the shares of
        the stages.  On a GPU the stages and the device's share come from rounds of their own, since measuring them slows it down.

    Raises:
        HiersegError: data or settings cannot be used.
    """
    if iterations < 1 or rounds < 1:
        raise ConfigError(f"{rounds} rounds of {iterations} iterations were asked for; give at least 1 of both.")
    target = resolve_device(device)
    length = iterations + WARM
    given = {**settings, "iterations": length, "checkpoint_interval": length}
    given["validation"] = {**settings.get("validation", {}), "interval": 0}
    opened = Dataset.open(dataset)
    with tempfile.TemporaryDirectory() as place, RunFolder(Path(place) / "run") as folder:
        say("preparing the cases")
        run = Run.prepare(folder, opened, given, start=None, resume=False, device=target)
        run.validation = None
        try:
            return _measured(run, opened, rounds, target, say)
        finally:
            run.close()


def _measured(
    run: Run, dataset: Dataset, rounds: int, device: torch.device, say: Callable[[str], None]
) -> dict[str, Any]:
    loaded = _Timed(run.batches)
    kept = _Kept(run.batches, device)
    on_gpu, length = device.type == "cuda", run.config.iterations
    rates: dict[str, list[float]] = {"with_loading": [], "without_loading": []}
    clocks: list[_Clock] = []
    say("warming up")
    _round(run, kept, _Clock(device, length))
    for number in range(rounds):
        for name, batches in (("with_loading", loaded), ("without_loading", kept)):
            say(f"round {number + 1} of {rounds}, {name.replace('_', ' ')}")
            clock = _Clock(device, length, not on_gpu, loaded if batches is loaded else None)
            _round(run, batches, clock)
            rates[name].append(run.config.batch_size * clock.counted / clock.seconds)
            if batches is loaded and not on_gpu:
                clocks.append(clock)
    busy = None
    if on_gpu:
        for _ in range(rounds):
            clocks.append(_Clock(device, length, True, loaded))
            _round(run, loaded, clocks[-1])
        busy = _kernels(run, loaded, device)
    shares = {stage: spread([clock.share(stage) for clock in clocks]) for stage in STAGES}
    if run.config.num_workers:
        shares.pop("augmentation")  # part of what other processes do meanwhile
    medians = {name: spread(found) for name, found in rates.items()}
    config = run.config.to_dict()
    return {
        "benchmark": "training",
        **environment(device, run.config.seed),
        "dataset": {"name": dataset.name, "training": len(run.training), "channels": len(dataset.channels)},
        "settings": {
            key: config[key]
            for key in ("method", "batch_size", "patch_size", "trunk", "width", "amp", "num_workers", "cache")
        },
        "iterations": run.config.iterations - WARM,
        "rounds": rounds,
        "samples_per_second": medians,
        "loading_keeps": round(medians["with_loading"]["median"] / medians["without_loading"]["median"], 4),
        "device_busy": busy if on_gpu else spread([sum(map(clock.share, COMPUTING)) for clock in clocks]),
        "share_of_time": shares,
    }


def _round(run: Run, batches: Batches, clock: _Clock) -> None:
    run.iteration, run.batches, run.tick = 0, batches, clock
    loop(run)


class _Clock:
    """Told the end of every stage; what lies between two ends is the stage's.

    Args:
        device: whose work is waited for before a look at the time.
        length: iterations of the round.
        each: wait at the end of each stage, or else only where the counted iterations begin and end.
        augmenting: where the seconds of the augmentation are added up, which is a part of loading.
    """

    def __init__(self, device: torch.device, length: int, each: bool = False, augmenting: _Timed | None = None) -> None:
        self._device, self._length, self._each, self._augmenting = device, length, each, augmenting
        self._loggings = 0
        self._last = self._began = self._augmented = 0.0
        self.stages = dict.fromkeys(STAGES, 0.0)
        self.counted = 0
        self.seconds = 0.0

    def __call__(self, stage: str) -> None:
        # An iteration logs twice: it looks at the losses, and at its end writes them.
        self._loggings += stage == "logging"
        done, ends = self._loggings // 2, stage == "logging" and self._loggings % 2 == 0
        if self._each or (ends and done in (WARM, self._length)):
            self._wait()
        now = time.perf_counter()
        if ends and done == WARM:
            self._began, self._augmented = now, self._augmenting_seconds
        elif done >= WARM:
            self._count(stage, now - self._last)
        if ends:
            self.counted, self.seconds = done - WARM, now - self._began
        self._last = now

    def share(self, stage: str) -> float:
        """Of a stage in the time that was counted."""
        return self.stages[stage] / self.seconds

    def _count(self, stage: str, seconds: float) -> None:
        if stage == "loading":
            inside = self._augmenting_seconds - self._augmented
            self._augmented += inside
            self.stages["augmentation"] += inside
            seconds -= inside
        self.stages[stage] += seconds

    @property
    def _augmenting_seconds(self) -> float:
        return self._augmenting.seconds if self._augmenting is not None else 0.0

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        elif self._device.type == "mps":
            torch.mps.synchronize()


class _Timed(Batches):
    """The batches of a run, with the seconds that their augmentation takes in this process."""

    def __init__(self, batches: Batches) -> None:
        super().__init__(batches.cache, batches.sampler, batches.config, batches.tree)
        self.seconds = 0.0
        self._plain = self._timed(self._plain)
        self._mixed = self._timed(self._mixed)

    def _timed(self, transform: PatchTransform) -> Any:
        def changed(*arguments: Any) -> dict[str, torch.Tensor]:
            began = time.perf_counter()
            found: dict[str, torch.Tensor] = transform(*arguments)
            self.seconds += time.perf_counter() - began
            return found

        return changed


class _Kept(Batches):
    """A few batches of a run, made once and kept on the device."""

    def __init__(self, batches: Batches, device: torch.device) -> None:
        super().__init__(batches.cache, batches.sampler, batches.config, batches.tree)
        # Nothing is left to be done by other processes.
        self.config = dataclasses.replace(batches.config, num_workers=0)
        self._batches = [batches[number].to(device) for number in range(min(KEPT, batches.config.iterations))]

    def __getitem__(self, iteration: int) -> Batch:
        return dataclasses.replace(self._batches[iteration % len(self._batches)], iteration=iteration)


def _kernels(run: Run, batches: Batches, device: torch.device) -> dict[str, float]:
    """The share of a round in which the GPU worked, from torch's profiler."""
    clock = _Clock(device, run.config.iterations)
    activities = [torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profiler:
        began = time.perf_counter()
        _round(run, batches, clock)
        torch.cuda.synchronize(device)
        seconds = time.perf_counter() - began
    worked = sum(event.self_device_time_total for event in profiler.key_averages()) / 1e6
    return spread([min(1.0, worked / seconds)])
