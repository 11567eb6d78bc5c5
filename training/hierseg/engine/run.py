"""A run's parts, put together once and saved together: data, network, method, optimizer, averages, best so far."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hierseg.bundle import Bundle
from hierseg.data.batches import Batches
from hierseg.data.caching import CaseCache
from hierseg.data.sampling import TwoStreamSampler
from hierseg.data.transforms import side_axis
from hierseg.dataset import Dataset
from hierseg.engine.checkpoints import load_checkpoint, save_checkpoint
from hierseg.engine.config import TrainConfig
from hierseg.engine.holding import Split, fill_caches, split
from hierseg.engine.optimization import AveragedWeights, build_optimizer
from hierseg.engine.publish import Story, publish
from hierseg.engine.runfolder import RunFolder
from hierseg.engine.scalars import Scalars
from hierseg.engine.setup import (
    build_model,
    bundle_config,
    fingerprint,
    is_alike,
    memory_format,
    mixed_precision,
    resolve_config,
    start_from,
)
from hierseg.engine.validation import Measurement, measure
from hierseg.errors import ConfigError, TrainingError
from hierseg.imageio import spacing_of
from hierseg.inference import Cancelled
from hierseg.inference.coarse import OVERLAP
from hierseg.inference.coarse_check import allowed
from hierseg.labeltree import LabelTree
from hierseg.methods import Geometry, Method, build_method
from hierseg.networks import HierarchicalSegmenter
from hierseg.networks.segmenter import build_network

SLICES_SLACK = 0.05
"""How much worse later weights may score on held-out slices and still be kept.

A slice or two cannot tell weights apart that differ by a few points, and later ones were trained at a smaller learning rate.
On the demo's other scan, the weights that scored best on the one held-out slice lost up to 1.9 points of an untouched
structure, the last ones 0.6, and the new subclasses were better in the last ones.
"""


@dataclass
class Run:
    """Everything that a run consists of; build it with :meth:`prepare`."""

    folder: RunFolder
    dataset: Dataset
    config: TrainConfig
    bundle_config: dict[str, Any]
    device: torch.device
    parts: Split
    training: CaseCache
    validation: CaseCache | None
    batches: Batches
    model: HierarchicalSegmenter
    method: Method
    optimizer: torch.optim.SGD
    average: AveragedWeights | None
    scaler: torch.amp.GradScaler
    precision: torch.dtype | None
    scalars: Scalars
    start: HierarchicalSegmenter | None = None
    start_id: str | None = None
    name: str | None = None
    iteration: int = 0
    comparable: bool = False
    baseline: Measurement | None = None
    best: Measurement | None = None
    best_score: float | None = None
    measured_at: int = -1
    notes: list[str] = field(default_factory=list)

    @classmethod
    def prepare(
        cls,
        folder: RunFolder,
        dataset: Dataset,
        given: TrainConfig | Mapping[str, Any] | str | Path | None,
        *,
        start: Bundle | None,
        resume: bool,
        device: torch.device,
        name: str | None = None,
    ) -> Run:
        """Read settings, data and weights.

        Raises:
            HiersegError: something of it cannot be used.
        """
        saved = load_checkpoint(folder.last) if resume and folder.last.exists() else None
        config = resolve_config(given, start, None if saved is None else saved["config"], dataset.channels)
        dataset = _under(dataset, config, start, saved)
        if saved is not None and saved["tree"] != dataset.tree.canonical_json:
            raise TrainingError(
                f"{folder.folder}: the run was begun with another label tree than {dataset.folder} has now; start a new run with --init."
            )
        folder.update(iterations=config.iterations, iteration=0 if saved is None else int(saved["iteration"]))
        if device.type == "cuda":
            torch.backends.cudnn.benchmark = not config.deterministic
        if config.deterministic:
            # Where an operation has no deterministic form, torch says which one it is.
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(config.deterministic)

        parts = split(dataset, config, None if saved is None else saved.get("split"))
        preprocessing = bundle_config(config, dataset.channels, None, start)
        place = Path(config.cache_folder) if config.cache_folder else folder.folder / "cache"

        def tell(stage: str, done: int, total: int) -> None:
            folder.update(stage=f"preparing {stage} cases", message=f"{done} of {total} {stage} cases are prepared.")

        training, validation = fill_caches(dataset, parts, preprocessing, config, place, tell)
        sampler = TwoStreamSampler(
            training.indices, training.shapes, dataset.tree, config.batch_size, config.seed, config.fine_share
        )
        notes = parts.notes + sampler.notes + training.notes + ([] if validation is None else validation.notes)

        model = build_model(config, dataset.tree, len(dataset.channels))
        start_model, start_id, said = _start(folder, model, start, saved, config)
        notes += said
        layout = memory_format(device, config.spatial_dims)
        model.to(device, memory_format=layout)  # type: ignore[call-overload]
        method = build_method(dataset.tree, config, start_model, _geometry(training, config))
        method.to(device, memory_format=layout)  # type: ignore[call-overload]
        precision = mixed_precision(config.amp, device)
        run = cls(
            folder=folder,
            dataset=dataset,
            config=config,
            bundle_config=bundle_config(config, dataset.channels, model, start),
            device=device,
            parts=parts,
            training=training,
            validation=validation,
            batches=Batches(training, sampler, config, dataset.tree),
            model=model,
            method=method,
            optimizer=build_optimizer(model, config, None if start_model is None else start_model.tree, sampler.taught),
            average=None if config.ema is None else AveragedWeights(model, config.ema),
            scaler=torch.amp.GradScaler(device.type, enabled=precision == torch.float16),
            precision=precision,
            scalars=Scalars(folder.folder / "tensorboard", 0 if saved is None else int(saved["iteration"])),
            start=start_model,
            start_id=start_id,
            name=name,
        )
        if saved is not None:
            run._restore(saved)
        elif resume:
            notes.append("There is no checkpoint in the run folder: the training begins anew.")
        run.comparable = start is not None and is_alike(config, start, dataset.channels)
        run._announce(notes)
        return run

    def _announce(self, notes: list[str]) -> None:
        self.notes = list(dict.fromkeys(notes))
        print_ = fingerprint(self.dataset, [*self.parts.training, *self.parts.validation])
        self.folder.save_settings(
            self.config.to_dict(),
            {
                "folder": str(self.dataset.folder.resolve()), "name": self.dataset.name, "fingerprint": print_, "tree": self.dataset.tree.fingerprint,
                **self.parts.record(),
            },
            self.dataset.tree,
        )  # fmt: skip
        self.folder.event(
            "start", iteration=self.iteration, iterations=self.config.iterations, device=str(self.device), threads=torch.get_num_threads(),
            training=len(self.parts.training), validation=len(self.parts.validation), held=self.parts.held, start=self.start_id,
            fingerprint=print_,
        )  # fmt: skip
        for note in self.notes:
            self.folder.event("note", message=note)
        self.folder.update(stage="starting", message=" ".join(self.notes), best=self.best_score)

    # -- state --------------------------------------------------------------------------------------------------

    def save_last(self) -> None:
        """Write ``last.pt``."""
        save_checkpoint(
            self.folder.last,
            {
                "iteration": self.iteration,
                "config": self.config.to_dict(),
                "tree": self.dataset.tree.canonical_json,
                "model": self.model.state_dict(),
                "average": None if self.average is None else self.average.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(),
                "best": None if self.best is None else self.best.to_dict(),
                "best_score": self.best_score,
                "start_id": self.start_id,
                "split": self.parts.record(),
                "baseline": None if self.baseline is None else self.baseline.to_dict(),
            },
        )

    def _restore(self, saved: Mapping[str, Any]) -> None:
        self.iteration = int(saved["iteration"])
        self.model.load_state_dict(saved["model"])
        if self.average is not None:
            self.average.model.load_state_dict(saved["average"] or saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.scaler.load_state_dict(saved["scaler"])
        self.best = None if saved["best"] is None else Measurement.from_dict(saved["best"])
        self.best_score = saved["best_score"]
        before = saved.get("baseline")
        self.baseline = None if before is None else Measurement.from_dict(before)

    @property
    def published(self) -> HierarchicalSegmenter:
        """The model that is validated and published: the averaged one if there is one."""
        return self.model if self.average is None else self.average.model  # type: ignore[return-value]

    # -- measuring and publishing -------------------------------------------------------------------------------

    def log(self, losses: Mapping[str, float], rate: float) -> None:
        """Write losses to the events and the curves."""
        self.folder.event(
            "losses",
            iteration=self.iteration,
            learning_rate=rate,
            **{key: round(value, 6) for key, value in losses.items()},
        )
        self.scalars.add(
            {f"loss/{key}": value for key, value in losses.items()} | {"learning_rate": rate}, self.iteration
        )

    def measure_start(self) -> None:
        """Measure the model that training starts from on what is held out, to compare with later."""
        if self.start is None or not self.comparable or self.validation is None:
            return
        self.folder.update(stage="measuring the start model")
        self.start.to(self.device)
        found = measure(
            self.start,
            self.validation,
            range(len(self.validation)),
            self.bundle_config,
            0,
            tree=self.dataset.tree,
        )
        self.baseline = found
        score, what = found.summary(self.dataset.tree)
        means = {node.name: found.mean(node.name) for node in self.dataset.tree.nodes}
        self.folder.event("baseline", iteration=0, start=self.start_id, score=score, what=what, scores=means)
        self.folder.update(stage="training")

    def validate(self, cancelled: Callable[[], bool] | None = None) -> None:
        """Measure, and keep the weights if they are the best so far."""
        if self.validation is None or self.measured_at == self.iteration:
            return
        self.folder.update(stage="validating")
        try:
            found = measure(
                self.published,
                self.validation,
                range(len(self.validation)),
                self.bundle_config,
                self.iteration,
                cancelled=cancelled,
            )
        except Cancelled:
            return
        self.measured_at = self.iteration
        score, what = found.summary(self.dataset.tree)
        means = {node.name: found.mean(node.name) for node in self.dataset.tree.nodes}
        slack = SLICES_SLACK if self.parts.held == "slices" else 0.0
        better = self.best is None or (
            score is not None and (self.best_score is None or score >= self.best_score - slack)
        )
        if better:
            known_best = [one for one in (score, self.best_score) if one is not None]
            self.best, self.best_score = found, max(known_best, default=None)
            save_checkpoint(
                self.folder.best,
                {"iteration": self.iteration, "model": self.published.state_dict(), "measurement": found.to_dict()},
            )
        known = None if self.baseline is None else found.among(self.baseline).summary(self.dataset.tree)[0]
        self.folder.event(
            "validation", iteration=self.iteration, score=score, known=known, what=what, scores=means, best=better
        )
        self.scalars.add({f"dice/{key}": value for key, value in means.items() if value is not None}, self.iteration)
        self.folder.update(best=self.best_score)

    def publish(self) -> Bundle:
        """Write the bundle of the best weights, or of the last ones if nothing was measured."""
        state, iterations = self.published.state_dict(), self.iteration
        if self.best is not None and self.folder.best.exists():
            kept = load_checkpoint(self.folder.best)
            state, iterations = kept["model"], int(kept["iteration"])
        story = Story(
            self.config,
            iterations,
            [case.id for case in self.training.cases],
            self.best,
            self.start_id,
            self.notes,
            self.baseline,
            self.parts.held,
        )
        config = {**self.bundle_config, "coarse_pass": self._coarse_pass(state)}
        return publish(self.folder.bundle, self.dataset, state, config, story, name=self.name)

    def _coarse_pass(self, state: Mapping[str, torch.Tensor]) -> dict[str, Any] | None:
        """What a coarse pass may leave out with these weights, as far as a validation case tells."""
        if self.validation is None:
            return None
        self.folder.update(stage="measuring what may be left out")
        model = copy.deepcopy(self.published)
        model.load_state_dict(state)
        config = {**self.bundle_config, "overlap": OVERLAP}
        return allowed(model, [self.validation[0].image], config, self.dataset.tree)

    def close(self) -> None:
        """Close the curves' file."""
        self.scalars.close()


def _under(dataset: Dataset, config: TrainConfig, start: Bundle | None, saved: Mapping[str, Any] | None) -> Dataset:
    """The dataset seen under the tree that is learned."""
    if config.tree == "dataset":
        return dataset
    if saved is not None:
        return dataset.under(LabelTree.from_dict(json.loads(saved["tree"])))
    if start is None:
        raise ConfigError(
            "'tree: start' learns the start model's label tree; give one by --init, or set it to dataset."
        )
    return dataset.under(start.tree)


def _geometry(cache: CaseCache, config: TrainConfig) -> Geometry:
    """Spacing and sides of the patches, as far as all cases have them in common."""
    dims = config.spatial_dims
    spacings = np.array([spacing_of(affine)[:dims] for affine in cache.affines])
    alike = bool(np.allclose(spacings, spacings[0], rtol=0.01))
    return Geometry(tuple(spacings[0].tolist()) if alike else None, side_axis(cache.affines[0], dims))


def _start(
    folder: RunFolder,
    model: HierarchicalSegmenter,
    start: Bundle | None,
    saved: Mapping[str, Any] | None,
    config: TrainConfig,
) -> tuple[HierarchicalSegmenter | None, str | None, list[str]]:
    """The model that training starts from, its id, and what was matched.

    It is kept in the run folder where knowledge keeping or freezing needs it, so that a resumed run does not depend on the bundle.
    """
    kept = folder.folder / "start.pt"
    if saved is not None:
        if not config.needs_start or not kept.exists():
            return None, saved["start_id"], []
        content = load_checkpoint(kept)
        model_ = build_network(LabelTree.from_dict(json.loads(content["tree"])), content["network"])
        model_.load_state_dict(content["model"])
        return model_, saved["start_id"], []
    if start is None:
        return None, None, []
    found, said = start_from(model, start)
    if config.needs_start:
        save_checkpoint(
            kept,
            {"tree": start.tree.canonical_json, "network": dict(start.config["network"]), "model": found.state_dict()},
        )
    return found, start.id, said
