"""nnU-Net's raw data sets (version 2).

::

    Dataset137_Name/  dataset.json
                      imagesTr/<case>_0000.nii.gz  <case>_0001.nii.gz ...   labelsTr/<case>.nii.gz
                      imagesTs/...                                          labelsTs/...        (both optional)

``dataset.json`` has ``channel_names``, ``labels`` (name: value, or a list of values for a region), ``file_ending``;
or a key ``dataset`` that lists each case's files (documentation/dataset_format.md and utilities/utils.py of
github.com/MIC-DKFZ/nnUNet).  Regions become inner nodes of the tree; the label ``ignore`` is our unlabelled.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hierseg.errors import DatasetError
from hierseg.imageio import ITK_ENDINGS, NIFTI_ENDINGS
from hierseg.importers.labels import read_json, tree_and_values
from hierseg.importers.source import LabelFile, Picture, Refused, Source, SourceCase, case_id, distinct, grouping
from hierseg.labeltree import LabelTree

_Found = tuple[str, list[Path], Path | None, str]
"""Name, images, label map and split of a case."""
_FOLDERS = (("imagesTr", "labelsTr", "training"), ("imagesTs", "labelsTs", "test"))


def nnunet_source(folder: str | Path, tree: LabelTree | None = None, group: str | None = None) -> Source:
    """Look through a raw data set of nnU-Net.

    Args:
        folder: ``DatasetXXX_Name``.
        tree: if given, the labels are its nodes, by name or else by value; otherwise made of the labels and regions.
        group: a regular expression that finds a case's group (patient) in its name; None: each case is its own.

    Raises:
        DatasetError: it is none, or its files are of a kind that cannot be read.
        LabelTreeError: the labels make no tree, or are not in the one given.
        ConfigError: ``group`` is no regular expression.
    """
    folder = Path(folder)
    path = folder / "dataset.json"
    content = read_json(path, "an nnU-Net data set has a dataset.json")
    channels, ending = _head(content, path)
    tree, values, notes = tree_and_values(path, content["labels"], tree, content.get("name") or folder.name)
    group_of = grouping(group)
    if isinstance(content.get("dataset"), Mapping):
        rows, refused = _listed(content["dataset"], folder, len(channels), path)
        found: list[_Found] = [(name, images, label, "training") for name, (images, label) in rows.items()]
    else:
        found, refused = _in_folders(folder, len(channels), ending)
    if not found and not refused:
        raise DatasetError(
            f"{folder}: there is no image *_0000{ending} in imagesTr; check the folder and 'file_ending'."
        )
    cases = _cases(found, values, group_of, refused)
    name = str(content.get("name") or folder.resolve().name)
    return Source("nnunet", name, folder, channels, tree, tuple(cases), tuple(refused), tuple(notes))


def _head(content: Mapping[str, Any], path: Path) -> tuple[tuple[str, ...], str]:
    names = content.get("channel_names")
    if not isinstance(names, Mapping) and "modality" in content:
        raise DatasetError(
            f"{path}: this is a Decathlon data set (it has 'modality', not 'channel_names'); use 'hierseg import decathlon'."
        )
    if not isinstance(names, Mapping) or not names or not all(str(key).isdigit() for key in names):
        raise DatasetError(f"{path}: 'channel_names' is {names!r}; an nnU-Net data set lists its channels there.")
    if not isinstance(content.get("labels"), Mapping):
        raise DatasetError(
            f"{path}: 'labels' is {content.get('labels')!r}; an nnU-Net data set lists its labels there."
        )
    ending = content.get("file_ending")
    if ending not in (*NIFTI_ENDINGS, *ITK_ENDINGS):
        raise DatasetError(
            f"{path}: 'file_ending' is {ending!r}; images of the kinds {', '.join(NIFTI_ENDINGS + ITK_ENDINGS)} can be read, convert the others."
        )
    return distinct(str(names[key]) for key in sorted(names, key=int)), str(ending)


def _in_folders(folder: Path, channels: int, ending: str) -> tuple[list[_Found], list[Refused]]:
    pattern = re.compile(rf"(.+)_(\d{{4}}){re.escape(ending)}")
    found: list[_Found] = []
    refused: list[Refused] = []
    for images, labels, split in _FOLDERS:
        names: dict[str, dict[int, Path]] = {}
        for path in sorted((folder / images).iterdir()) if (folder / images).is_dir() else ():
            match = pattern.fullmatch(path.name)
            if match and not path.name.startswith("."):
                names.setdefault(match.group(1), {})[int(match.group(2))] = path
        for name, files in names.items():
            label = folder / labels / f"{name}{ending}"
            missing = [index for index in range(channels) if index not in files]
            more = [index for index in files if index >= channels]
            if missing:
                path = folder / images / f"{name}_{missing[0]:04d}{ending}"
                refused.append(Refused(name, f"{path}: this channel is not there; restore it."))
            elif more:
                refused.append(
                    Refused(name, f"{files[more[0]]}: 'channel_names' does not list channel {more[0]}; add it there.")
                )
            elif not label.is_file() and split == "training":
                refused.append(Refused(name, f"{label}: the label map is not there; restore it."))
            else:
                found.append((name, [files[i] for i in range(channels)], label if label.is_file() else None, split))
        refused += [
            Refused(path.name[: -len(ending)], f"{path}: there is no image of this label map.")
            for path in sorted((folder / labels).glob(f"*{ending}"))
            if not path.name.startswith(".") and path.name[: -len(ending)] not in names
        ]
    return found, refused


def _listed(
    rows: Mapping[str, Any], folder: Path, channels: int, path: Path
) -> tuple[dict[str, tuple[list[Path], Path]], list[Refused]]:
    found: dict[str, tuple[list[Path], Path]] = {}
    refused: list[Refused] = []
    for name, row in rows.items():
        images = row.get("images") if isinstance(row, Mapping) else None
        label = row.get("label") if isinstance(row, Mapping) else None
        if not isinstance(images, list) or not isinstance(label, str) or not all(isinstance(i, str) for i in images):
            refused.append(Refused(name, f"{path}: the case '{name}' needs 'images', a list, and 'label'; correct it."))
        elif len(images) != channels:
            refused.append(
                Refused(
                    name, f"{path}: the case '{name}' lists {len(images)} images, the data set has {channels} channels."
                )
            )
        else:
            found[name] = ([folder / os.path.expandvars(image) for image in images], folder / os.path.expandvars(label))
    return found, refused


def _cases(
    found: list[_Found],
    values: Mapping[int, int],
    group_of: Callable[[str], str | None],
    refused: list[Refused],
) -> list[SourceCase]:
    cases: list[SourceCase] = []
    taken: set[str] = set()
    for name, images, label, split in found:
        new = case_id(name)
        if new.lower() in taken:
            refused.append(Refused(name, f"There is another case whose id is '{new}'; rename one of the two."))
            continue
        taken.add(new.lower())
        cases.append(
            SourceCase(
                new,
                tuple(Picture(image) for image in images),
                None if label is None else LabelFile(label, values),
                split,
                group_of(name),
            )
        )
    return cases
