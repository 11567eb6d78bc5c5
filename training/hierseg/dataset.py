"""The dataset folder: images, label maps of tree nodes, and a datalist that MONAI reads.

::

    dataset.json      "format_version", "name", "channels", and the cases under "training", "validation", "test"
    label_tree.json
    images/<id>_<channel>.nii.gz
    labels/<id>.nii.gz            node values, on the first channel's grid

Annotations leave Slicer in such a folder and training reads it, so a save may be interrupted by anything and read
by anyone: a case is staged and put in place as a whole (:mod:`hierseg.transaction`), only one writer works at a
time, and the keys that other programs put into ``dataset.json`` are kept.

Only the standard library and numpy are imported.  How a voxel file is written is the caller's business: ``save_case``
takes functions that write to a path.
"""

from __future__ import annotations

import contextlib
import copy
import json
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from hierseg import transaction
from hierseg.atomic import write_json
from hierseg.dataset_format import (
    DATASET_NAME,
    FORMAT_VERSION,
    SPLITS,
    Case,
    check_head,
    file_part,
    parse_case,
    parse_cases,
    read_content,
)
from hierseg.errors import DatasetError, HiersegError
from hierseg.labeltree import LabelTree

TREE_NAME = "label_tree.json"
__all__ = ["SPLITS", "Case", "Dataset", "file_part", "generate_id"]

Writer = Callable[[Path], object]


class Dataset:
    """A dataset folder.  Build it with :meth:`open` or :meth:`create`.

    Attributes:
        tree: the label tree that the cases are seen under.
        label_tree: what the values in the stored label maps mean: the same one, except after :meth:`under`.
    """

    def __init__(self, folder: Path, content: dict[str, Any], tree: LabelTree) -> None:
        self.folder = folder
        self.tree = tree
        self.patience = transaction.LOCK_SECONDS
        self.label_tree = tree
        self._content = content
        self._cases = parse_cases(content, folder, tree)

    # -- opening ------------------------------------------------------------------------------------------------

    @classmethod
    def open(cls, folder: str | Path) -> Dataset:
        """Open a dataset folder; a save that was interrupted earlier is finished first.

        Raises:
            DatasetError: the folder, its ``dataset.json`` or a case is missing or wrong.
            LabelTreeError: its ``label_tree.json`` is.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise DatasetError(f"{folder}: there is no such dataset folder; give the folder that holds {DATASET_NAME}.")
        if transaction.is_interrupted(folder):
            with _reporting(folder), transaction.locked(folder):
                transaction.recover(folder)
        return cls(folder, read_content(folder), LabelTree.load(folder / TREE_NAME))

    @classmethod
    def create(cls, folder: str | Path, name: str, channels: Sequence[str], tree: LabelTree) -> Dataset:
        """Make an empty dataset folder.

        Args:
            folder: may exist, but may not hold a dataset.
            name: what the dataset is called.
            channels: names of the image channels, in order.
            tree: what the label maps' values mean.

        Raises:
            DatasetError: there is a dataset already, or two channels have names that give the same file name.
        """
        folder = Path(folder)
        content = {
            "format_version": FORMAT_VERSION,
            "name": name,
            "channels": list(channels),
            **{split: [] for split in SPLITS},
        }
        check_head(content, folder / DATASET_NAME)
        with _reporting(folder):
            folder.mkdir(parents=True, exist_ok=True)
            with transaction.locked(folder):
                if (folder / DATASET_NAME).exists():
                    raise DatasetError(f"{folder}: there is a dataset here already; open it, or choose another folder.")
                tree.save(folder / TREE_NAME)
                write_json(folder / DATASET_NAME, content)
        return cls.open(folder)

    def reload(self) -> None:
        """Read the folder again, to see what other programs saved."""
        fresh = Dataset.open(self.folder)
        self.tree = self.label_tree = fresh.tree
        self._content, self._cases = fresh._content, fresh._cases

    def under(self, tree: LabelTree) -> Dataset:
        """The same cases seen under another label tree, for reading only: see :mod:`hierseg.data.translation`."""
        view = copy.copy(self)
        view.tree = tree
        return view

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Keep writers out while several files of one case are read."""
        with transaction.locked(self.folder, shared=True, seconds=self.patience):
            if transaction.is_interrupted(self.folder):
                raise DatasetError(
                    f"{self.folder}: a save was interrupted here; open the dataset again, which finishes it."
                )
            yield

    # -- what is in it ------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """What the dataset is called."""
        return str(self._content["name"])

    @property
    def channels(self) -> list[str]:
        """The names of the image channels."""
        return list(self._content["channels"])

    def cases(self, split: str | None = None) -> list[Case]:
        """All cases, or those of one split, in file order.

        Raises:
            DatasetError: there is no such split.
        """
        if split is not None and split not in SPLITS:
            raise DatasetError(f"{self.folder}: there is no split {split!r}; splits are {', '.join(SPLITS)}.")
        return [case for case in self._cases if split is None or case.split == split]

    def case(self, case_id: str) -> Case:
        """The case of that id.

        Raises:
            DatasetError: there is none.
        """
        for case in self._cases:
            if case.id == case_id:
                return case
        raise DatasetError(
            f"{self.folder / DATASET_NAME}: there is no case '{case_id}'; the folder has {len(self._cases)} cases, look up their ids there."
        )

    def image_paths(self, case: Case) -> list[Path]:
        """The channels' files, checked to exist inside the folder.

        Raises:
            DatasetError: one is missing or leads out of the folder.
        """
        return [self._existing(case, relative) for relative in case.image]

    def label_path(self, case: Case) -> Path | None:
        """The label map's file, checked to exist inside the folder; None for a case without annotation.

        Raises:
            DatasetError: it is missing or leads out of the folder.
        """
        return None if case.label is None else self._existing(case, case.label)

    def check(self) -> list[str]:
        """Sentences on every missing or misplaced file; none if all is well."""
        problems = []
        for case in self._cases:
            for relative in case.files:
                try:
                    self._existing(case, relative)
                except DatasetError as error:
                    problems.append(error.sentence)
        return problems

    def _existing(self, case: Case, relative: str) -> Path:
        path = self.folder / relative
        if not path.is_file():
            raise DatasetError(
                f"{path}: case '{case.id}' lists this file, but it is not there; put it back or save the case again."
            )
        if not path.resolve().is_relative_to(self.folder.resolve()):
            raise DatasetError(
                f"{path}: case '{case.id}' leads out of the dataset folder by a link; copy the file into the folder."
            )
        return path

    # -- changing it --------------------------------------------------------------------------------------------

    def generate_id(self) -> str:
        """A new id that no case has."""
        taken = {case.id.lower() for case in self._cases}
        while (new := generate_id()).lower() in taken:
            pass
        return new

    def save_case(
        self,
        case_id: str | None,
        write_image: Sequence[Writer | None],
        write_label: Writer | None,
        *,
        split: str = "training",
        group: str | None = None,
        provenance: Mapping[str, Any] | None = None,
        slices_complete: Sequence[Mapping[str, Any]] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> Case:
        """Write a case, or replace it, as a whole.

        Args:
            case_id: letters, digits, ``_`` and ``-``; generated if None.
            write_image: one function a channel; it is called with a path that ends in ``.nii.gz`` and writes there; None
                keeps the file that the case has.
            write_label: the same for the map of node values on the first channel's grid; None if not annotated.
            split: ``training``, ``validation`` or ``test``.
            group: see :class:`Case`.
            provenance: see :class:`Case`; must fit into JSON.
            slices_complete: see :class:`Case`.
            extra: more keys of the case; those of a case that is replaced are kept unless given anew.

        Raises:
            DatasetError: bad arguments, a writer that wrote nothing, or a full disk; the folder is as before.
        """
        case_id = self.generate_id() if case_id is None else case_id
        if len(write_image) != len(self.channels):
            raise DatasetError(
                f"{self.folder}: case '{case_id}' has {len(write_image)} images, the dataset has {len(self.channels)} channels ({', '.join(self.channels)}); give one image a channel."
            )
        with self._changing() as change:
            old = next((case for case in self._cases if case.id == case_id), None)
            case = Case(
                id=case_id,
                image=tuple(
                    self._kept(old, index, case_id)
                    if write is None
                    else f"images/{case_id}_{file_part(channel)}.nii.gz"
                    for index, (channel, write) in enumerate(zip(self.channels, write_image, strict=True))
                ),
                label=None if write_label is None else f"labels/{case_id}.nii.gz",
                split=split,
                group=group,
                provenance=dict(provenance or {}),
                slices_complete=[dict(entry) for entry in slices_complete or []],
                extra={**(old.extra if old else {}), **(extra or {})},
            )
            self._check_new(case)
            for relative, write in zip(
                [*case.image, *([case.label] if case.label else [])],
                [*write_image, *([write_label] if write_label else [])],
                strict=True,
            ):
                if write is None:
                    continue
                staged = change.stage(relative)
                try:
                    write(staged)
                except HiersegError as error:
                    raise error.about(staged, self.folder / relative) from error
                if not staged.is_file() or staged.stat().st_size == 0:
                    raise DatasetError(
                        f"{self.folder / relative}: nothing was written for case '{case_id}'; check the image and save the case again."
                    )
            self._stage_content(
                change, [case if other.id == case_id else other for other in self._cases] + ([] if old else [case])
            )
        return self.case(case_id)

    def set_extra(self, case_id: str, key: str, value: Any) -> Case:
        """Set another program's key of a case, or remove it (None); no other file than ``dataset.json`` is written.

        Raises:
            DatasetError: there is no such case, or the value does not fit into JSON.
        """
        with self._changing() as change:
            old = self.case(case_id)
            extra = {name: kept for name, kept in old.extra.items() if name != key}
            new = replace(old, extra=extra if value is None else {**extra, key: value})
            self._stage_content(change, [new if other.id == case_id else other for other in self._cases])
        return self.case(case_id)

    def remove_case(self, case_id: str) -> None:
        """Remove a case and its files.

        Raises:
            DatasetError: there is none of that id.
        """
        with self._changing() as change:
            self.case(case_id)  # raises if there is none
            self._stage_content(change, [other for other in self._cases if other.id != case_id])

    def set_tree(self, tree: LabelTree) -> None:
        """Replace the label tree, for example after a node was split.

        Raises:
            DatasetError: the label maps in the folder would lose their meaning.
        """
        with self._changing() as change:
            labelled = [case for case in self._cases if case.label]
            lost = [node for node in self.tree.nodes if node.value not in set(tree.values.tolist())]
            if labelled and (lost or tree.unlabelled != self.tree.unlabelled):
                what = (
                    f"value {lost[0].value} ('{lost[0].name}')"
                    if lost
                    else f"the unlabelled value {self.tree.unlabelled}"
                )
                raise DatasetError(
                    f"{self.folder / TREE_NAME}: the new label tree '{tree.name}' does not have {what}, which the {len(labelled)} label maps here may carry; keep it, or make another dataset."
                )
            tree.save(change.stage(TREE_NAME))

    def _kept(self, old: Case | None, index: int, case_id: str) -> str:
        if old is None:
            raise DatasetError(
                f"{self.folder / DATASET_NAME}: the case '{case_id}' is gone, so its images cannot be kept; save the images too."
            )
        self._existing(old, old.image[index])
        return old.image[index]

    @contextlib.contextmanager
    def _changing(self) -> Iterator[transaction.Transaction]:
        with _reporting(self.folder), transaction.locked(self.folder, seconds=self.patience):
            transaction.recover(self.folder)
            self.reload()
            change = transaction.Transaction(self.folder)
            try:
                yield change
                change.commit()
            finally:
                change.abandon()
            self.reload()

    def _stage_content(self, change: transaction.Transaction, cases: Sequence[Case]) -> None:
        kept = {PurePosixPath(relative) for case in cases for relative in case.files}
        kept |= {PurePosixPath(DATASET_NAME), PurePosixPath(TREE_NAME)}
        for old in {PurePosixPath(relative) for case in self._cases for relative in case.files} - kept:
            change.delete(str(old))
        content = dict(self._content)
        for split in SPLITS:
            content[split] = [case.to_dict() for case in cases if case.split == split]
        try:
            json.dumps(content, allow_nan=False)
            write_json(change.stage(DATASET_NAME), content)
        except (TypeError, ValueError, RecursionError) as error:
            raise DatasetError(
                f"{self.folder / DATASET_NAME}: a case's provenance or extra keys do not fit into JSON ({error}); give texts, numbers, lists and dictionaries."
            ) from error

    def _check_new(self, case: Case) -> None:
        where = self.folder / DATASET_NAME
        for folder in {(self.folder / relative).parent for relative in (*case.image, "labels/")}:
            if folder.exists() and not folder.resolve().is_relative_to(self.folder.resolve()):
                raise DatasetError(f"{folder}: leads out of the dataset folder by a link; make it a folder of its own.")
        parse_case(case.to_dict(), case.split, where, self.channels, self.tree)
        clash = next(
            (other.id for other in self._cases if other.id.lower() == case.id.lower() and other.id != case.id), None
        )
        if clash:
            raise DatasetError(
                f"{where}: case '{case.id}' differs from '{clash}' in upper and lower case only, which some disks cannot tell apart; choose another id."
            )


def generate_id() -> str:
    """A new random id; it says nothing of a patient."""
    return f"case-{secrets.token_hex(5)}"


@contextlib.contextmanager
def _reporting(folder: Path) -> Iterator[None]:
    """Turn what the operating system says (disk full, no permission) into a sentence that names the folder."""
    try:
        yield
    except OSError as error:
        raise DatasetError(
            f"{error.filename or folder}: the dataset folder cannot be changed ({error.strerror or error}); free space or change permissions, and try again."
        ) from error
