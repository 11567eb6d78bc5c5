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
import json
import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hierseg import transaction
from hierseg.atomic import write_json
from hierseg.errors import DatasetError, LabelTreeError
from hierseg.labeltree import LabelTree

FORMAT_VERSION = 1
SPLITS = ("training", "validation", "test")
DATASET_NAME = "dataset.json"
TREE_NAME = "label_tree.json"
_ID = re.compile(r"[A-Za-z0-9_-]+")
_CASE_KEYS = ("id", "image", "label", "group", "provenance", "slices_complete")
Writer = Callable[[Path], object]


@dataclass(frozen=True)
class Case:
    """One case of a dataset folder.

    Attributes:
        id: letters, digits, ``_`` and ``-``; nothing of a patient.
        image: one relative path a channel, in the order of :attr:`Dataset.channels`.
        label: relative path of the map of node values, or None for an image without annotation.
        split: ``training``, ``validation`` or ``test``.
        group: cases of one group never lie on both sides of a split; None means the case stands for itself.
        provenance: when, with what tool and model, and by whom (if entered) the label map was made.
        slices_complete: ``{"axis": 0|1|2 of the stored array, "indices": [...], "node": path or None}`` each.
        extra: keys of other programs, kept.
    """

    id: str
    image: tuple[str, ...]
    label: str | None = None
    split: str = "training"
    group: str | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict, hash=False)
    slices_complete: Sequence[Mapping[str, Any]] = field(default_factory=list, hash=False)
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def effective_group(self) -> str:
        """The group, or the id of a case without one."""
        return self.group or self.id

    def to_dict(self) -> dict[str, Any]:
        """The case as it stands in ``dataset.json``; empty keys are left out."""
        row: dict[str, Any] = {"id": self.id, "image": list(self.image)}
        for key in ("label", "group", "provenance", "slices_complete"):
            value = getattr(self, key)
            if value:
                row[key] = [dict(entry) for entry in value] if key == "slices_complete" else value
        return {**row, **self.extra}


class Dataset:
    """A dataset folder.  Build it with :meth:`open` or :meth:`create`."""

    def __init__(self, folder: Path, content: dict[str, Any], tree: LabelTree) -> None:
        self.folder = folder
        self.tree = tree
        self._content = content
        self._cases = _parse_cases(content, folder, tree)

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
        return cls(folder, _read_content(folder), LabelTree.load(folder / TREE_NAME))

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
        _check_head(content, folder / DATASET_NAME)
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
        self.tree, self._content, self._cases = fresh.tree, fresh._content, fresh._cases

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Keep writers out while several files of one case are read."""
        with transaction.locked(self.folder, shared=True):
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
            for relative in [*case.image, *([case.label] if case.label else [])]:
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
        write_image: Sequence[Writer],
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
            write_image: one function a channel; it is called with a path that ends in ``.nii.gz`` and writes there.
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
                image=tuple(f"images/{case_id}_{file_part(channel)}.nii.gz" for channel in self.channels),
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
                staged = change.stage(relative)
                write(staged)
                if not staged.is_file() or staged.stat().st_size == 0:
                    raise DatasetError(
                        f"{self.folder / relative}: nothing was written for case '{case_id}'; check the image and save the case again."
                    )
            kept = {*case.image, case.label}
            for relative in [*old.image, *([old.label] if old.label else [])] if old else []:
                if relative not in kept:
                    change.delete(relative)
            self._stage_content(
                change, [case if other.id == case_id else other for other in self._cases] + ([] if old else [case])
            )
        return self.case(case_id)

    def remove_case(self, case_id: str) -> None:
        """Remove a case and its files.

        Raises:
            DatasetError: there is none of that id.
        """
        with self._changing() as change:
            case = self.case(case_id)
            self._stage_content(change, [other for other in self._cases if other.id != case_id])
            still_used = {path for other in self._cases if other.id != case_id for path in (*other.image, other.label)}
            for relative in {*case.image, *([case.label] if case.label else [])} - still_used:
                change.delete(relative)

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

    @contextlib.contextmanager
    def _changing(self) -> Iterator[transaction.Transaction]:
        with _reporting(self.folder), transaction.locked(self.folder):
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
        content = dict(self._content)
        for split in SPLITS:
            content[split] = [case.to_dict() for case in cases if case.split == split]
        try:
            write_json(change.stage(DATASET_NAME), content)
        except (TypeError, ValueError) as error:
            raise DatasetError(
                f"{self.folder / DATASET_NAME}: a case's provenance or extra keys do not fit into JSON ({error}); give texts, numbers, lists and dictionaries."
            ) from error

    def _check_new(self, case: Case) -> None:
        where = self.folder / DATASET_NAME
        for folder in {(self.folder / relative).parent for relative in (*case.image, "labels/")}:
            if folder.exists() and not folder.resolve().is_relative_to(self.folder.resolve()):
                raise DatasetError(f"{folder}: leads out of the dataset folder by a link; make it a folder of its own.")
        _parse_case(case.to_dict(), case.split, where, self.channels, self.tree)
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


def file_part(channel: str) -> str:
    """A channel's name as it stands in file names: ``T1 post`` becomes ``T1-post``."""
    return re.sub(r"[^A-Za-z0-9]+", "-", channel).strip("-")


@contextlib.contextmanager
def _reporting(folder: Path) -> Iterator[None]:
    """Turn what the operating system says (disk full, no permission) into a sentence that names the folder."""
    try:
        yield
    except OSError as error:
        raise DatasetError(
            f"{error.filename or folder}: the dataset folder cannot be changed ({error.strerror or error}); free space or change permissions, and try again."
        ) from error


def _read_content(folder: Path) -> dict[str, Any]:
    path = folder / DATASET_NAME
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DatasetError(
            f"{folder}: there is no {DATASET_NAME} in this folder; give a dataset folder, or make one with 'hierseg import'."
        ) from None
    except json.JSONDecodeError as error:
        raise DatasetError(f"{path}: not valid JSON (line {error.lineno}: {error.msg}); correct that line.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: cannot be read ({error}); it must be a UTF-8 file that you may read.") from error
    if not isinstance(content, dict):
        raise DatasetError(f"{path}: must be a JSON object with 'name', 'channels' and 'training'.")
    _check_head(content, path)
    return content


def _check_head(content: Mapping[str, Any], path: Path) -> None:
    version = content.get("format_version")
    if version != FORMAT_VERSION:
        raise DatasetError(
            f"{path}: format_version is {version!r}, this program reads {FORMAT_VERSION}; convert the dataset with 'hierseg import', or update."
        )
    if not isinstance(content.get("name"), str) or not content["name"].strip():
        raise DatasetError(f"{path}: 'name' is {content.get('name')!r}; give the dataset a name.")
    channels = content.get("channels")
    if (
        not isinstance(channels, list)
        or not channels
        or not all(isinstance(channel, str) and file_part(channel) for channel in channels)
    ):
        raise DatasetError(
            f"{path}: 'channels' is {channels!r}; list the names of the image channels, with a letter or digit each."
        )
    if len({file_part(channel).lower() for channel in channels}) != len(channels):
        raise DatasetError(
            f"{path}: two of the channels {', '.join(channels)} give the same file name; give them distinct names."
        )


def _parse_cases(content: Mapping[str, Any], folder: Path, tree: LabelTree) -> list[Case]:
    path = folder / DATASET_NAME
    cases: dict[str, Case] = {}
    for split in SPLITS:
        rows = content.get(split, [])
        if not isinstance(rows, list):
            raise DatasetError(f"{path}: '{split}' is not a list of cases; correct it.")
        for row in rows:
            case = _parse_case(row, split, path, content["channels"], tree)
            if case.id in cases:
                raise DatasetError(
                    f"{path}: case '{case.id}' is listed twice ({cases[case.id].split}, {split}); remove one or change its id."
                )
            cases[case.id] = case
    return list(cases.values())


def _parse_case(row: Any, split: str, path: Path, channels: Sequence[str], tree: LabelTree) -> Case:
    if split not in SPLITS:
        raise DatasetError(f"{path}: the split is {split!r}; splits are {', '.join(SPLITS)}.")
    if not isinstance(row, Mapping) or not isinstance(row.get("id"), str) or not _ID.fullmatch(row["id"]):
        found = row.get("id") if isinstance(row, Mapping) else row
        raise DatasetError(
            f"{path}: a case in '{split}' has the id {found!r}; give each case an id of letters, digits, '_' and '-'."
        )
    case_id = row["id"]
    image = [row["image"]] if isinstance(row.get("image"), str) else row.get("image")
    if not isinstance(image, list) or len(image) != len(channels):
        raise DatasetError(
            f"{path}: case '{case_id}' lists the images {image!r}; the dataset has {len(channels)} channels ({', '.join(channels)}), list one path each."
        )
    label = row.get("label")
    for relative in [*image, *([] if label is None else [label])]:
        if not transaction.is_inside(relative):
            raise DatasetError(
                f"{path}: case '{case_id}' names the file {relative!r}, which is not a relative path inside the dataset folder; copy the file in and name it relative to the folder."
            )
    group, provenance = row.get("group"), row.get("provenance", {})
    if group is not None and not isinstance(group, str):
        raise DatasetError(f"{path}: case '{case_id}' has the group {group!r}; give a text, or leave it out.")
    if not isinstance(provenance, Mapping):
        raise DatasetError(
            f"{path}: case '{case_id}' has the provenance {provenance!r}; give an object, or leave it out."
        )
    slices = row.get("slices_complete", [])
    if not isinstance(slices, list):
        raise DatasetError(
            f"{path}: case '{case_id}' has the slices_complete {slices!r}; give a list, or leave it out."
        )
    for entry in slices:
        _check_slices(entry, case_id, path, tree)
    extra = {key: row[key] for key in row if key not in _CASE_KEYS}
    return Case(case_id, tuple(image), label, split, group, dict(provenance), [dict(entry) for entry in slices], extra)


def _check_slices(entry: Any, case_id: str, path: Path, tree: LabelTree) -> None:
    good = (
        isinstance(entry, Mapping)
        and type(entry.get("axis")) is int
        and entry["axis"] in (0, 1, 2)
        and isinstance(entry.get("indices"), list)
        and all(type(index) is int and index >= 0 for index in entry["indices"])
        and isinstance(entry.get("node"), str | None)
    )
    if not good:
        raise DatasetError(
            f"{path}: case '{case_id}' has the slices_complete entry {entry!r}; give 'axis' (0, 1 or 2), 'indices' (0 or more) and 'node' (a path or null)."
        )
    if entry.get("node") is not None:
        try:
            tree.node(entry["node"])
        except LabelTreeError as error:
            raise DatasetError(f"{path}: case '{case_id}', slices_complete: {error.sentence}") from error
