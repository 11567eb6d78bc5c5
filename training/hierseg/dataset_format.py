"""What ``dataset.json`` contains: cases, and the checks of everything that a person or a program may have written."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hierseg.errors import DatasetError, LabelTreeError
from hierseg.labeltree import LabelTree
from hierseg.transaction import is_inside

FORMAT_VERSION = 1
SPLITS = ("training", "validation", "test")
DATASET_NAME = "dataset.json"
_ID = re.compile(r"[A-Za-z0-9_-]+")
_CASE_KEYS = ("id", "image", "label", "group", "provenance", "slices_complete")


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

    @property
    def files(self) -> tuple[str, ...]:
        """All files of the case, images first."""
        return (*self.image, self.label) if self.label else self.image

    def to_dict(self) -> dict[str, Any]:
        """The case as it stands in ``dataset.json``; empty keys are left out."""
        row: dict[str, Any] = {"id": self.id, "image": list(self.image)}
        for key in ("label", "group", "provenance", "slices_complete"):
            value = getattr(self, key)
            if value:
                row[key] = [dict(entry) for entry in value] if key == "slices_complete" else value
        return {**row, **self.extra}


def file_part(channel: str) -> str:
    """A channel's name as it stands in file names: ``T1 post`` becomes ``T1-post``."""
    return re.sub(r"[^A-Za-z0-9]+", "-", channel).strip("-")


def read_content(folder: Path) -> dict[str, Any]:
    """Read ``dataset.json``; its cases are not checked yet.

    Raises:
        DatasetError: names the file, what was found and what to do.
    """
    path = folder / DATASET_NAME
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DatasetError(
            f"{folder}: there is no {DATASET_NAME} in this folder; give a dataset folder, or make one by saving an annotation in Slicer."
        ) from None
    except json.JSONDecodeError as error:
        raise DatasetError(f"{path}: not valid JSON (line {error.lineno}: {error.msg}); correct that line.") from error
    except (OSError, UnicodeDecodeError, RecursionError) as error:
        raise DatasetError(f"{path}: cannot be read ({error}); it must be a UTF-8 file that you may read.") from error
    if not isinstance(content, dict):
        raise DatasetError(f"{path}: must be a JSON object with 'name', 'channels' and 'training'.")
    check_head(content, path)
    return content


def check_head(content: Mapping[str, Any], path: Path) -> None:
    """Check format, name and channels.

    Raises:
        DatasetError: names ``path`` and the key.
    """
    version = content.get("format_version")
    if version != FORMAT_VERSION:
        raise DatasetError(
            f"{path}: format_version is {version!r}, this program reads {FORMAT_VERSION}; update this program, or export the cases again."
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


def parse_cases(content: Mapping[str, Any], folder: Path, tree: LabelTree) -> list[Case]:
    """The cases of all splits, in file order.

    Raises:
        DatasetError: names the case.
    """
    path = folder / DATASET_NAME
    cases: dict[str, Case] = {}
    for split in SPLITS:
        rows = content.get(split, [])
        if not isinstance(rows, list):
            raise DatasetError(f"{path}: '{split}' is not a list of cases; correct it.")
        for row in rows:
            case = parse_case(row, split, path, content["channels"], tree)
            if case.id in cases:
                raise DatasetError(
                    f"{path}: case '{case.id}' is listed twice ({cases[case.id].split}, {split}); remove one or change its id."
                )
            cases[case.id] = case
    return list(cases.values())


def parse_case(row: Any, split: str, path: Path, channels: Sequence[str], tree: LabelTree) -> Case:
    """One case, checked.

    Raises:
        DatasetError: names ``path``, the case, what was found and what to do.
    """
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
        if not is_inside(relative):
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
