"""A run's parts, put together once and saved together: data, network, method, optimizer, averages, best so far."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from hierseg.bundle import Bundle
from hierseg.data.batches import Batches
from hierseg.data.caching import CaseCache
from hierseg.data.sampling import TwoStreamSampler
from hierseg.dataset import Dataset
from hierseg.engine.checkpoints import load_checkpoint, save_checkpoint
from hierseg.engine.config import TrainConfig
from hierseg.engine.hidden import notice_hidden
from hierseg.engine.holding import Split, fill_caches, split
from hierseg.engine.one_piece import choose_one_piece
from hierseg.engine.optimization import AveragedWeights, build_optimizer
from hierseg.engine.preparing import (
    check_same,
    choose_algorithms,
    common_geometry,
    first_weights,
    tree_that_is_learned,
)
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
)
from hierseg.engine.thresholds import choose_thresholds
from hierseg.engine.validation import Measurement, measure
from hierseg.evaluation.out_of_distribution import Separation
from hierseg.inference import Cancelled
from hierseg.inference.coarse import OVERLAP
from hierseg.inference.coarse_check import allowed
from hierseg.methods import Method, build_method
from hierseg.networks import HierarchicalSegmenter

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
    divided: int = 1
    out_of_distribution: Separation | None = None
    notes: list[str] = field(default_factory=list)
    tick: Callable[[str], None] = lambda _stage: None
    """Called at the end of each stage of an iteration, for whoever measures where the time goes."""

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
        dataset = tree_that_is_learned(dataset, config, start, saved)
        if saved is not None:
            check_same(folder, dataset, config, saved)
        folder.update(iterations=config.iterations, iteration=0 if saved is None else int(saved["iteration"]))
        choose_algorithms(device, config)

        parts = split(dataset, config, None if saved is None else saved.get("split"))
        preprocessing = bundle_config(config, dataset.channels, None, start)
        place = Path(config.cache_folder) if config.cache_folder else folder.folder / "cache"

        def tell(stage: str, done: int, total: int) -> None:
            folder.update(stage=f"preparing {stage} cases", message=f"{done} of {total} {stage} cases are prepared.")

        training, validation = fill_caches(dataset, parts, preprocessing, config, place, tell)
        sampler = TwoStreamSampler(
            training.indices, training.shapes, dataset.tree, config.batch_size, config.seed, config.patch_share
        )
        notes = [*parts.notes, *sampler.usable_by(config.method), *sampler.notes, *training.notes]
        notes += [] if validation is None else validation.notes

        model = build_model(config, dataset.tree, len(dataset.channels))
        start_model, start_id, said = first_weights(folder, model, start, saved, config)
        notes += said
        layout = memory_format(device, config.spatial_dims)
        model.to(device, memory_format=layout)  # type: ignore[call-overload]
        method = build_method(dataset.tree, config, start_model, common_geometry(training, config))
        method.attach(model)
        method.to(device, memory_format=layout)  # type: ignore[call-overload]
        notes += method.notes
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
            optimizer=build_optimizer(
                model, config, None if start_model is None else start_model.tree, sampler.taught, method.learners
            ),
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

    def divide_batch(self) -> None:
        """Compute batches in twice as many parts from now on, and say so: the memory is too small for larger ones."""
        self.divided = min(2 * self.divided, self.config.batch_size)
        self.model.zero_grad(set_to_none=True)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        note = (
            f"The memory of {self.device} is too small for {self.config.batch_size} patches at once: from iteration {self.iteration + 1} on "
            f"each step adds up {self.divided} smaller batches, over which batch normalization takes its statistics one by one."
        )
        self.notes.append(note)
        self.folder.event("note", message=note)
        self.folder.update(message=note)

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
                "helpers": self.method.helpers.state_dict(),
                "average": None if self.average is None else self.average.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(),
                "best": None if self.best is None else self.best.to_dict(),
                "best_score": self.best_score,
                "start_id": self.start_id,
                "divided": self.divided,
                "split": self.parts.record(),
                "baseline": None if self.baseline is None else self.baseline.to_dict(),
            },
        )

    def _restore(self, saved: Mapping[str, Any]) -> None:
        self.iteration = int(saved["iteration"])
        self.model.load_state_dict(saved["model"])
        self.method.helpers.load_state_dict(saved.get("helpers", {}))
        if self.average is not None:
            self.average.model.load_state_dict(saved["average"] or saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.scaler.load_state_dict(saved["scaler"])
        self.divided = int(saved.get("divided", 1))
        self.best = None if saved["best"] is None else Measurement.from_dict(saved["best"])
        self.best_score = saved["best_score"]
        before = saved.get("baseline")
        self.baseline = None if before is None else Measurement.from_dict(before)

    @property
    def helpers(self) -> list[HierarchicalSegmenter]:
        """The networks of the method beside the one that is published."""
        return list(self.method.helpers.values())  # type: ignore[arg-type]

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
        model, iterations = copy.deepcopy(self.published), self.iteration
        if self.best is not None and self.folder.best.exists():
            kept = load_checkpoint(self.folder.best)
            model.load_state_dict(kept["model"])
            iterations = int(kept["iteration"])
        found = self._choose_thresholds(model)
        self._notice_hidden(model)
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
        content = {
            **self.bundle_config,
            "thresholds": found,
            "one_piece": self._choose_one_piece(model),
            "coarse_pass": self._coarse_pass(model),
        }
        return publish(self.folder.bundle, self.dataset, model.state_dict(), content, story, name=self.name)

    def _coarse_pass(self, model: HierarchicalSegmenter) -> dict[str, Any] | None:
        """What a coarse pass may leave out with these weights, as far as a validation case tells."""
        if self.validation is None:
            return None
        self.folder.update(stage="measuring what may be left out")
        config = {**self.bundle_config, "overlap": OVERLAP}
        return allowed(model, [self.validation[0].image], config, self.dataset.tree)

    def _choose_thresholds(self, model: HierarchicalSegmenter) -> dict[str, float]:
        """Thresholds on the validation cases, where the configuration wants any."""
        wish, rate = self.config.validation.thresholds, self.config.validation.true_positive_rate
        if wish == "never" or (wish == "auto" and self.dataset.tree.background is not None):
            return {}
        if self.validation is None:
            self.notes.append("No thresholds were chosen, as nothing is held out: every voxel gets a leaf.")
            return {}
        self.folder.update(stage="choosing thresholds")
        found = choose_thresholds(model, self.validation, self.bundle_config, rate)
        self.notes.append(
            f"A node is accepted from the probability on that {100 * rate:g} % of its validation voxels reach; "
            "what reaches none of them is out of distribution and stays unlabelled."
        )
        self.folder.event("thresholds", rate=rate, thresholds=found)
        return found

    def _choose_one_piece(self, model: HierarchicalSegmenter) -> list[str]:
        """The nodes that are one piece, where the configuration wants to know and whole cases are held out."""
        if self.config.validation.one_piece == "never" or self.validation is None or self.parts.held == "slices":
            return []
        self.folder.update(stage="looking for structures in one piece")
        found = choose_one_piece(model, self.validation, self.bundle_config)
        if found:
            self.notes.append(
                f"Each of these is one piece ({', '.join(found)}): what is predicted apart from the largest goes to what surrounds it. "
                "The table's scores are without that."
            )
        self.folder.event("one_piece", nodes=found)
        return found

    def _notice_hidden(self, model: HierarchicalSegmenter) -> None:
        """Whether hidden classes can be told from known ones; nothing without ``hold_out``."""
        if not self.config.hold_out or not self.parts.validation:
            return
        self.folder.update(stage="looking at hidden classes")
        names = self.config.hold_out
        found = notice_hidden(model, self.dataset, self.parts.validation, self.bundle_config, names)
        self.out_of_distribution = found
        self.folder.event("out_of_distribution", hidden=list(names), **found.to_dict())
        if found.auroc is not None and found.fpr95 is not None:
            self.notes.append(
                f"Hidden from the training: {', '.join(names)}. Of their validation voxels {100 * found.fpr95:.1f} % pass where 95 % of "
                f"the others do (area under the curve {found.auroc:.3f})."
            )

    def close(self) -> None:
        """Close the curves' file."""
        self.scalars.close()
