"""A study's data: made once, hashed, and never changed; every training gets a dataset folder derived from them.

::

    data/training/  data/validation/                two draws, all with subclass labels
    data/test_seed3/                                the third, made when it is opened: each seed has a folder of its own
    data/<part>.json                                what was asked for, and the hash of what was made
    data/train_fine3/                               what a training sees: 3 subjects with subclass labels, the others with
                                                    superclass labels, and the validation cases
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hierseg.atomic import new_folder, write_json
from hierseg.data.translation import coarsened
from hierseg.dataset import Case, Dataset
from hierseg.errors import ConfigError
from hierseg.imageio import read_label, write_volume
from hierseg.phantoms import content_hash
from hierseg.phantoms.strokes import drawn
from hierseg.phantoms.writing import Request, fine_subjects, make_phantom
from hierseg.study.config import ALL, SPLITS, DataSpec, RowSpec

FOLDER = "folder"
SLICES = 4
"""Slices of a volume in which ``labels: strokes`` shows a structure."""
Say = Callable[[str], None]


class StudyData:
    """The data of a study in its folder.

    Args:
        spec: what the study says of them.
        out: the study's folder.
        say: told what takes time.

    Attributes:
        sha256: hashes of the parts that were opened so far.
    """

    def __init__(self, spec: DataSpec, out: Path, say: Say = lambda _text: None) -> None:
        self.spec, self.place, self.say = spec, out / "data", say
        self.sha256: dict[str, str] = {}
        self.place.mkdir(parents=True, exist_ok=True)

    # -- the frozen parts ---------------------------------------------------------------------------------------

    def open(self, *parts: str) -> None:
        """Make or read the parts (``training``, ``validation``, ``test``), and check their hashes.

        Raises:
            ConfigError: a part is not what the study file says, or not what it was when the study began.
        """
        for part in [FOLDER] if self.spec.folder is not None else parts:
            if part not in self.sha256:
                self.sha256[part] = self._checked(part)

    def dataset(self, part: str) -> Dataset:
        """A part that was opened, or the dataset folder."""
        return Dataset.open(self._folder(part))

    def cases(self, part: str) -> tuple[Dataset, list[Case]]:
        """The annotated cases of a part, with their dataset.

        Raises:
            ConfigError: there are none.
        """
        dataset = self.dataset(part)
        cases = dataset.cases(part) if self.spec.folder is not None else dataset.cases()
        cases = [case for case in cases if case.label is not None]
        if not cases:
            raise ConfigError(f"{dataset.folder}: there is no annotated case for '{part}'; the study needs some.")
        return dataset, cases

    def hash_of(self, part: str) -> str:
        """The hash of what holds a part."""
        return self.sha256[FOLDER if self.spec.folder is not None else part]

    def _folder(self, part: str) -> Path:
        if self.spec.folder is not None:
            return Path(self.spec.folder)
        return self.place / (f"test_seed{self.spec.test_seed}" if part == "test" else part)

    def _request(self, part: str) -> Request:
        spec = self.spec
        count = {"training": spec.cases, "validation": spec.validation, "test": spec.test}[part]
        seed = {"training": spec.seed, "validation": spec.validation_seed, "test": spec.test_seed}[part]
        if count < 1:
            raise ConfigError(f"'data.{part}' is {count}: the study has no {part} subjects; give a number.")
        # What models are measured on is never sparse.
        dense = part != "training"
        return Request(str(spec.kind), cases=count, seed=seed, size=spec.size, difficulty=spec.difficulty, dense=dense)

    def _checked(self, part: str) -> str:
        folder = self._folder(part)
        record = self.place / f"{FOLDER if part == FOLDER else folder.name}.json"
        before = json.loads(record.read_text(encoding="utf-8")) if record.exists() else None
        asked: dict[str, Any]
        if part == FOLDER:
            asked = {"folder": str(folder.resolve())}
        else:
            request = self._request(part)
            asked = dataclasses.asdict(request)
        if before is not None and before["asked"] != asked:
            raise ConfigError(
                f"{folder}: made for another description than the study's ({_difference(before['asked'], asked)}); "
                "choose another folder with --out."
            )
        if part != FOLDER and not folder.exists():
            self.say(f"Making the {part} data.")
            make_phantom(request, folder)
        found = content_hash(folder)
        wanted = self.spec.sha256.get(part)
        if wanted is not None and found != wanted:
            raise ConfigError(
                f"{folder}: the {part} data hash to {found[:12]}…, the study file wants {wanted[:12]}…; use the version of the "
                "program that made them, or freeze them anew (hierseg study --freeze) before any method is compared."
            )
        if before is not None and before["sha256"] != found:
            raise ConfigError(
                f"{folder}: the data are not what they were when the study began; choose another folder with --out."
            )
        write_json(record, {"asked": asked, "sha256": found})
        return found

    # -- what a training sees -----------------------------------------------------------------------------------

    def for_training(self, row: RowSpec, fine: int | str) -> Path:
        """The dataset folder for a row and a number of subjects with subclass labels; made if it is not there yet."""
        marks = [
            f"train_fine{fine}",
            *(["only"] if row.only_fine else []),
            *([row.labels] if row.labels != "dense" else []),
        ]
        folder = self.place / "_".join(marks)
        if not folder.exists():
            self.say(f"Preparing {folder.name}.")
            with new_folder(folder) as made:
                self._derive(made, row, fine)
        return folder

    def _derive(self, folder: Path, row: RowSpec, fine: int | str) -> None:
        source, training = self.cases("training")
        chosen = self._fine_groups(training, fine)
        made = Dataset.create(folder, source.name, source.channels, source.tree)
        for number, case in enumerate(training):
            is_fine = case.effective_group in chosen
            if row.only_fine and not is_fine:
                continue
            rng = np.random.default_rng([self.spec.seed, number]) if row.labels == "strokes" else None
            if is_fine and rng is None:
                _copy(source, case, made, "training")
            else:
                _copy(source, case, made, "training", partial(_less, is_fine=is_fine, dataset=source, rng=rng))
        held, validation = self.cases("validation")
        for case in validation:
            # The draws name their subjects alike.
            _copy(held, case, made, "validation", prefix="" if self.spec.folder is not None else "validation-")

    def _fine_groups(self, cases: Sequence[Case], fine: int | str) -> set[str]:
        groups = list(dict.fromkeys(case.effective_group for case in cases))
        if fine == ALL:
            return set(groups)
        if int(fine) > len(groups):
            raise ConfigError(f"'fine' is {fine}, but there are {len(groups)} training subjects; give fewer, or {ALL}.")
        if self.spec.folder is None:
            request = dataclasses.replace(self._request("training"), fine=int(fine))
            return {groups[index] for index in fine_subjects(request)}
        order = np.random.default_rng(self.spec.seed).permutation(len(groups))
        return {sorted(groups)[index] for index in order[: int(fine)]}


def opened_parts(split: str) -> tuple[str, ...]:
    """What a study needs to be measured on a split."""
    return ("training", "validation", *([split] if split not in ("training", "validation") else []))


def frozen(spec: DataSpec) -> bool:
    """Whether the study file says what all its data hash to."""
    return set(spec.sha256) == ({FOLDER} if spec.folder is not None else {"training", *SPLITS})


def _less(labels: np.ndarray, is_fine: bool, dataset: Dataset, rng: np.random.Generator | None) -> np.ndarray:
    """The labels that a training is shown: superclasses, strokes, or both."""
    if rng is not None:
        labels = drawn(_in_few_slices(labels, dataset.tree.unlabelled, rng), dataset.tree.unlabelled, rng, strokes=1)
    return labels if is_fine else coarsened(labels, dataset.tree)


def _in_few_slices(labels: np.ndarray, unlabelled: int, rng: np.random.Generator) -> np.ndarray:
    """Each structure in at most :data:`SLICES` of the slices along the last axis that show it, unlabelled elsewhere."""
    kept = np.full_like(labels, unlabelled)
    for value in np.unique(labels[labels != unlabelled]):
        shown = np.flatnonzero((labels == value).any(axis=(0, 1)))
        chosen = rng.choice(shown, min(SLICES, len(shown)), replace=False)
        kept[..., chosen] = np.where(labels[..., chosen] == value, value, kept[..., chosen])
    return kept


def _copy(
    source: Dataset,
    case: Case,
    target: Dataset,
    split: str,
    change: Callable[[np.ndarray], np.ndarray] | None = None,
    prefix: str = "",
) -> None:
    label = source.label_path(case)
    if label is None:
        return
    write = partial(_link, label)
    if change is not None:
        volume = read_label(label, source.tree)
        write = partial(write_volume, array=change(np.asarray(volume.array)), affine=volume.affine)
    target.save_case(
        f"{prefix}{case.id}", [partial(_link, path) for path in source.image_paths(case)], write,
        split=split, group=f"{prefix}{case.effective_group}", provenance={"tool": "hierseg study"},
    )  # fmt: skip


def _link(source: Path, path: Path) -> None:
    """The same file under a second name, which takes no space; a copy where the disk has no such links."""
    try:
        os.link(source, path)
    except OSError:
        shutil.copyfile(source, path)


def _difference(before: dict[str, Any], now: dict[str, Any]) -> str:
    changed = [key for key in now if before.get(key) != now[key]]
    return ", ".join(f"{key}: {before.get(key)}, now {now[key]}" for key in changed) or "no longer the same keys"
