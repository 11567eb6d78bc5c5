"""The Medical Segmentation Decathlon, and the datalists of MONAI that are modeled on it.

::

    Task01_BrainTumour/  dataset.json  imagesTr/BRATS_001.nii.gz  labelsTr/BRATS_001.nii.gz  imagesTs/...

``dataset.json``: ``modality`` and ``labels`` by number, ``training`` with ``{"image", "label"}`` each, ``test`` with
images alone (or with labels), ``validation`` likewise.  Several channels are the frames of one 4D image, or a list of
files under "image", as MONAI allows (data/decathlon_datalist.py of github.com/Project-MONAI/MONAI).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hierseg.errors import DatasetError
from hierseg.imageio import image_stem
from hierseg.importers.labels import read_json, tree_and_values
from hierseg.importers.source import LabelFile, Picture, Refused, Source, SourceCase, case_id, distinct, grouping
from hierseg.labeltree import LabelTree

_SPLITS = ("training", "validation", "test")


def decathlon_source(path: str | Path, tree: LabelTree | None = None, group: str | None = None) -> Source:
    """Look through a data set of the Decathlon.

    Args:
        path: its folder, or the datalist itself.
        tree: if given, the labels are its nodes, by name or else by value; otherwise a flat tree is made of them.
        group: a regular expression that finds a case's group (patient) in its name; None: each case is its own.

    Raises:
        DatasetError: it is none.
        LabelTreeError: the labels make no tree, or are not in the one given.
        ConfigError: ``group`` is no regular expression.
    """
    path = Path(path)
    path = path / "dataset.json" if path.is_dir() else path
    content = read_json(path, "a Decathlon data set has a dataset.json")
    if "format_version" in content and "channels" in content:
        raise DatasetError(f"{path}: this is a dataset folder already; train on it as it is.")
    if not isinstance(content.get("training"), list):
        found = " but 'channel_names'; use 'hierseg import nnunet'" if "channel_names" in content else ""
        raise DatasetError(
            f"{path}: there is no list 'training'{found or '; give the dataset.json of a Decathlon task'}."
        )
    channels = _channels(content)
    labels = content.get("labels")
    if not isinstance(labels, Mapping) and tree is None and not (path.parent / "label_tree.json").is_file():
        raise DatasetError(f"{path}: there is no list of 'labels'; say what the values mean with '--tree'.")
    name = str(content.get("name") or path.resolve().parent.name)
    if isinstance(labels, Mapping):
        tree, values, notes = tree_and_values(path, labels, tree, name)
    else:
        tree = tree or LabelTree.load(path.parent / "label_tree.json")
        values, notes = None, []
    group_of = grouping(group)
    cases: list[SourceCase] = []
    refused: list[Refused] = []
    for split in _SPLITS:
        for row in content.get(split) or []:
            _add(row, split, path, channels, values, group_of, cases, refused)
    if not cases and not refused:
        raise DatasetError(f"{path}: it lists no case; check the file.")
    return Source("decathlon", name, path.parent, channels, tree, tuple(cases), tuple(refused), tuple(notes))


def _channels(content: Mapping[str, Any]) -> tuple[str, ...]:
    names = content.get("modality", content.get("channel_names"))
    if isinstance(names, Mapping) and names and all(str(key).isdigit() for key in names):
        return distinct(str(names[key]) for key in sorted(names, key=int))
    if isinstance(names, list) and names:
        return distinct(str(name) for name in names)
    first = content["training"][0] if content["training"] else None
    image = first.get("image") if isinstance(first, Mapping) else None
    return (
        tuple(f"channel {index}" for index in range(len(image)))
        if isinstance(image, list) and len(image) > 1
        else ("image",)
    )


def _add(
    row: Any,
    split: str,
    path: Path,
    channels: tuple[str, ...],
    values: Mapping[int, int] | None,
    group_of: Callable[[str], str | None],
    cases: list[SourceCase],
    refused: list[Refused],
) -> None:
    image = row if isinstance(row, str) else row.get("image") if isinstance(row, Mapping) else None
    label = row.get("label") if isinstance(row, Mapping) else None
    images = [image] if isinstance(image, str) else image
    if not isinstance(images, list) or not images or not all(isinstance(file, str) for file in images):
        refused.append(Refused(str(row)[:80], f"{path}: an entry of '{split}' has no 'image'; correct it."))
        return
    label = label[0] if isinstance(label, list) and len(label) == 1 else label
    name = image_stem(label) if isinstance(label, str) else image_stem(images[0])
    if not isinstance(label, str) and len(images) > 1:
        name = re.sub(r"_\d{4}$", "", name)
    if len(images) not in (1, len(channels)):
        refused.append(
            Refused(name, f"{path}: '{name}' lists {len(images)} images, the data set has {len(channels)} channels.")
        )
    elif label is not None and not isinstance(label, str):
        refused.append(Refused(name, f"{path}: '{name}' has the label {label!r}; give one file."))
    elif label is None and split != "test":
        refused.append(Refused(name, f"{path}: '{name}' of '{split}' has no label; only test cases may lack one."))
    elif any(case.id.lower() == case_id(name).lower() for case in cases):
        refused.append(
            Refused(name, f"{path}: there is another case whose id is '{case_id(name)}'; rename one of the two.")
        )
    else:
        files = [path.parent / file for file in images]
        pictures = (
            [Picture(files[0], index, len(channels)) for index in range(len(channels))]
            if len(files) == 1 and len(channels) > 1
            else [Picture(file) for file in files]
        )
        own = row.get("group") if isinstance(row, Mapping) else None
        cases.append(
            SourceCase(
                case_id(name),
                tuple(pictures),
                None if label is None else LabelFile(path.parent / label, values),
                split,
                own if isinstance(own, str) else group_of(name),
            )
        )
