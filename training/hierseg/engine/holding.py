"""What a run trains on and what it measures on: whole cases, or slices where no case can be spared."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hierseg.data.caching import CaseCache
from hierseg.data.heldout import HeldSlices, choose_slices
from hierseg.dataset import Case, Dataset
from hierseg.engine.config import TrainConfig
from hierseg.engine.held_cases import NOTHING_LEFT, node_values, split_cases
from hierseg.engine.hidden import hidden_values, hide
from hierseg.errors import TrainingError

Tell = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Split:
    """Cases by what they are for.

    Attributes:
        training: cases that are trained on.
        validation: whole cases that are held out.
        slices: held-out slices by case id, of training cases; empty where whole cases are held out.
        notes: sentences on what was decided.
    """

    training: list[Case]
    validation: list[Case]
    slices: dict[str, HeldSlices]
    notes: list[str]

    @property
    def held(self) -> str:
        """``cases``, ``slices``, or empty if nothing is held out."""
        return "cases" if self.validation else "slices" if self.slices else ""

    def record(self) -> dict[str, Any]:
        """For the run folder's ``dataset.json``."""
        return {
            "training": [case.id for case in self.training],
            "validation": [case.id for case in self.validation],
            "held_slices": {case: held.to_dict() for case, held in self.slices.items()},
        }


def split(dataset: Dataset, config: TrainConfig, before: Mapping[str, Any] | None = None) -> Split:
    """Decide what is trained on.

    Args:
        dataset: the folder.
        config: shares to hold out.
        before: the :meth:`Split.record` of the run that is resumed: annotation that came since must not lead to
            measuring on slices that were trained on.

    Raises:
        TrainingError: a label map cannot be read.
    """
    training, held, notes = split_cases(
        dataset, config.validation.fraction, config.validation.least_groups, (before or {}).get("validation") or ()
    )
    slices: dict[str, HeldSlices] = {}
    if not held and config.validation.slices > 0:
        kept = (before or {}).get("held_slices") or {}
        slices = {case.id: HeldSlices.from_dict(kept[case.id]) for case in training if case.id in kept}
        slices = slices or _slices(dataset, training, config.validation.slices)
    if slices:
        notes = [note for note in notes if not note.endswith(NOTHING_LEFT)]
        count = sum(len(found.indices) for found in slices.values())
        notes.append(
            f"No case can be held out: {count} annotated slice{'s' if count > 1 else ''} of {len(slices)} "
            f"case{'s' if len(slices) > 1 else ''} {'are' if count > 1 else 'is'} kept for measuring."
        )
    return Split(training, held, slices, notes)


def fill_caches(
    dataset: Dataset,
    parts: Split,
    preprocessing: Mapping[str, Any],
    config: TrainConfig,
    place: Path,
    tell: Tell,
) -> tuple[CaseCache, CaseCache | None]:
    """Prepare the cases for training and for measuring; the second is None if nothing is held out.

    Args:
        dataset: the folder.
        parts: of :func:`split`.
        preprocessing: what ``hierseg.json`` says.
        config: how cases are kept.
        place: for the cache on disk.
        tell: called with the kind of cases, how many are ready and how many there are.
    """
    if config.hold_out:
        # Whole cases or none: hiding slices and classes of one case at a time would be two changes of one map.
        if parts.slices:
            raise TrainingError("'hold_out' needs whole cases to measure on; set 'validation.slices' to 0.")
        changes = dict.fromkeys(
            (case.id for case in (*parts.training, *parts.validation)),
            hide(hidden_values(dataset.tree, config.hold_out)),
        )
        more_: dict[str, Any] = {"change_label": changes, "need_label": False}
    else:
        more_ = {}

    def fill(cases: Sequence[Case], stage: str, **more: Any) -> CaseCache:
        cache = CaseCache(dataset, cases, preprocessing, mode=config.cache, folder=place, **(more | more_))
        cache.fill(lambda done, total: tell(stage, done, total))
        return cache

    training = fill(parts.training, "training", change_label={case: held.hide for case, held in parts.slices.items()})
    if parts.validation:
        return training, fill(parts.validation, "validation")
    measured = [case for case in parts.training if case.id in parts.slices]
    if not measured:
        return training, None
    hidden = {case: held.only for case, held in parts.slices.items()}
    # A slice may be lost on the network's grid; then there is nothing to measure in it, which is no mistake.
    return training, fill(measured, "validation", change_label=hidden, need_label=False)


def _slices(dataset: Dataset, cases: Sequence[Case], share: float) -> dict[str, HeldSlices]:
    found = {}
    for case in cases:
        label = node_values(dataset, case)
        held = choose_slices(label, dataset.tree, share)
        if held is not None:
            found[case.id] = held
    return found
