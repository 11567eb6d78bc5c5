"""Which cases are held out: by a hash of their group, so that it is the same ones in every run.

Where few cases show subclasses, a hash alone may hold out none of them, and the best model would be chosen by its
superclasses; or all of them, and nothing would be left to learn subclasses from.  So at least one group that shows a subclass
is held out and at least one is trained on, if there are enough of them.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence

import numpy as np

from hierseg.data.translation import translate
from hierseg.dataset import Case, Dataset
from hierseg.errors import ImageError, LabelTreeError, TrainingError
from hierseg.imageio import read_label

NOTHING_LEFT = "nothing is left for validation."


def split_cases(
    dataset: Dataset, fraction: float, least_groups: int = 2, before: Sequence[str] = ()
) -> tuple[list[Case], list[Case], list[str]]:
    """Training cases, validation cases, and sentences on what was decided.

    Cases with a label map in the dataset's "validation" are taken as they are.  Otherwise the groups of "training"
    are sorted by a hash of their name and the first ``fraction`` (at least one group) are held out: the same case
    is held out in every run, and adding a case moves few others.

    Args:
        dataset: the folder.
        fraction: share of the groups to hold out; 0: none.
        least_groups: with fewer of them all are trained on; those that show subclasses are counted by themselves.
        before: ids of the cases that the run being resumed held out: subclasses that were drawn since must not change it.

    Raises:
        TrainingError: a label map cannot be read.
    """
    training = [case for case in dataset.cases("training") if case.label is not None]
    held = [case for case in dataset.cases("validation") if case.label is not None]
    notes = []
    without = len(dataset.cases("training")) - len(training)
    if without:
        notes.append(
            f"{without} training case{'s have' if without > 1 else ' has'} no label map and {'are' if without > 1 else 'is'} left out."
        )
    if held:
        return training, held, notes
    if fraction <= 0:
        return training, [], [*notes, "No validation: 'validation.fraction' is 0."]
    groups = sorted({case.effective_group for case in training}, key=hash_of)
    least = max(2, least_groups)
    if len(groups) < least:
        what = (
            "is one case"
            if len(training) == 1
            else f"{'is' if len(groups) == 1 else 'are'} {len(groups)} group{'' if len(groups) == 1 else 's'} of cases"
        )
        return training, [], [*notes, f"There {what} only: all of it is trained on, {NOTHING_LEFT}"]
    chosen = {case.effective_group for case in training if case.id in before}
    if not 0 < len(chosen) < len(groups):
        count = min(len(groups) - 1, max(1, round(fraction * len(groups))))
        shows = _subclasses(dataset, training)
        fine = [name for name in groups if shows(name)] if _few(groups, shows, count, least) else None
        chosen = set(_held(groups, fine, count, least))
        if fine and len(fine) < least:
            one = len(fine) == 1
            notes.append(
                f"Only {len(fine)} group{'' if one else 's'} of cases show{'s' if one else ''} subclasses: {'it is' if one else 'they are'} "
                "trained on, and the cases that are held out measure superclasses alone."
            )
    held = [case for case in training if case.effective_group in chosen]
    return [case for case in training if case.effective_group not in chosen], held, notes


def hash_of(group: str) -> str:
    """What groups are sorted by."""
    return hashlib.sha256(group.encode()).hexdigest()


def _few(groups: Sequence[str], shows: Callable[[str], bool], count: int, least: int) -> bool:
    """Whether who shows subclasses matters; where they are common, a few label maps tell, and the others are not read."""
    held = sum(map(shows, groups[:count]))
    left = 0
    for name in groups[count:]:
        left += shows(name)
        if held and left and held + left >= least:
            return False
    return True


def _held(groups: Sequence[str], fine: Sequence[str] | None, count: int, least: int) -> list[str]:
    """The groups to hold out: the first ones, but for those that show subclasses, if these are few."""
    if not fine:
        return list(groups[:count])
    coarse = [name for name in groups if name not in fine]
    spared = 0 if len(fine) < least else min(len(fine) - 1, max(1, math.floor(count * len(fine) / len(groups))))
    found = [*fine[:spared], *coarse[: count - spared]]
    # At least one group is held out, and one is trained on.
    return found or list(coarse[:1])


def _subclasses(dataset: Dataset, cases: Sequence[Case]) -> Callable[[str], bool]:
    """Whether a group shows a subclass anywhere; each group's label maps are read once at most."""
    tree = dataset.tree
    values = np.array([leaf.value for leaf in tree.leaves if leaf.parent is not None])
    known: dict[str, bool] = {}

    def shows(group: str) -> bool:
        if group not in known:
            known[group] = any(_has(case) for case in cases if case.effective_group == group)
        return known[group]

    def _has(case: Case) -> bool:
        return bool(len(values)) and bool(np.isin(node_values(dataset, case), values).any())

    return shows


def node_values(dataset: Dataset, case: Case) -> np.ndarray:
    """The label map of an annotated case, in the dataset's label tree.

    Raises:
        TrainingError: it cannot be read, or belongs to another tree.
    """
    path = dataset.label_path(case)
    assert path is not None  # annotated cases were chosen
    try:
        return translate(read_label(path, dataset.label_tree).array, dataset.label_tree, dataset.tree)
    except (ImageError, LabelTreeError) as error:
        raise TrainingError(f"case '{case.id}': {error.sentence}", hint=error.hint) from error
