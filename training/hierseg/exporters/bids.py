"""A dataset folder as BIDS: images as a raw data set, label maps as derivatives in it.

::

    dataset_description.json  participants.tsv  README.md
    sub-01/anat/sub-01_T1w.nii.gz
    derivatives/hierseg/  dataset_description.json  dseg.tsv
                          sub-01/anat/sub-01_dseg.nii.gz  sub-01_dseg.json

``dseg.tsv`` lists the nodes (index, name, color, and the parent in a column of our own, which BIDS allows); names of
files follow "Derivatives: imaging, segmentations" and ``rules/files/raw/anat.yaml`` of
github.com/bids-standard/bids-specification.  Subjects are groups; several cases of one are numbered as runs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import hierseg
from hierseg.atomic import write_json, write_text
from hierseg.dataset import Case, Dataset
from hierseg.errors import ConfigError
from hierseg.exporters.losses import FILE_NAME, Losses, cases
from hierseg.imageio import write_volume
from hierseg.importers.reading import CaseData

BIDS_VERSION = "1.10.0"
DERIVATIVES = "derivatives/hierseg"
SUFFIXES = ("T1w", "T2w", "PDw", "T2starw", "FLAIR", "inplaneT1", "inplaneT2", "PDT2", "angio")
_CONTRAST = "ce-gadolinium"
_KNOWN = {
    **{name.lower(): ("", name) for name in SUFFIXES},
    "t1": ("", "T1w"),
    "t2": ("", "T2w"),
    "pd": ("", "PDw"),
    "t2star": ("", "T2starw"),
    **dict.fromkeys(("t1ce", "t1c", "t1gd", "t1wce", "t1wgd", "t1post", "t1contrast"), (_CONTRAST, "T1w")),
}


class BidsExporter:
    """Writes a raw data set with derivatives.

    Args:
        dataset: what will be exported.
        suffixes: BIDS's suffix of a channel by its name, with ``ce-...`` before it if need be; empty: the channel is left out.

    Raises:
        ConfigError: a channel has no name in BIDS, or a suffix is none of BIDS's.
    """

    kind = "bids"
    title = "BIDS"

    def __init__(self, dataset: Dataset, suffixes: Mapping[str, str] | None = None) -> None:
        unknown = set(suffixes or {}) - set(dataset.channels)
        if unknown:
            raise ConfigError(
                f"--suffix names the channel '{min(unknown)}'; the dataset has {', '.join(dataset.channels)}."
            )
        self.channels = [_entity(name, suffixes or {}) for name in dataset.channels]
        used = [entity for entity in self.channels if entity is not None]
        if len(set(used)) < len(used):
            raise ConfigError(
                f"two of the channels {', '.join(dataset.channels)} have the same name in BIDS; tell them apart with '--suffix NAME=ce-LABEL_SUFFIX'."
            )
        self.names = _names(dataset)

    def check(self, dataset: Dataset, out: Path) -> None:
        """Everything that the channels did not refuse can be held."""

    def left_out(self, case: Case) -> str | None:
        """Every case goes."""
        return None

    def write(self, folder: Path, case: Case, data: CaseData) -> None:
        """Write images, label map and its description."""
        subject, run = self.names[case.id]
        place = f"{subject}/anat"
        affine = data.images[0].affine
        sources = []
        for entity, image in zip(self.channels, data.images, strict=True):
            if entity is not None:
                contrast, suffix = entity
                name = "_".join(part for part in (subject, contrast, run, suffix) if part)
                write_volume(folder / place / f"{name}.nii.gz", image.array, affine)
                sources.append(f"bids:raw:{place}/{name}.nii.gz")
        if data.label is None:
            return
        stem = "_".join(part for part in (subject, run, "dseg") if part)
        write_volume(folder / DERIVATIVES / place / f"{stem}.nii.gz", data.label, affine)
        about: dict[str, Any] = {"Sources": sources, "SpatialReference": "orig"}
        # Keys that BIDS does not know may stand in a sidecar.
        about["HierSubclassSeg"] = {
            key: value
            for key, value in {**case.to_dict(), "split": case.split}.items()
            if key not in ("image", "label")
        }
        write_json(folder / DERIVATIVES / place / f"{stem}.json", about)

    def finish(self, folder: Path, dataset: Dataset, losses: Losses) -> list[str]:
        """Write the descriptions, the table of labels and the list of participants."""
        tool = {"Name": "hierseg export bids", "Version": hierseg.__version__}
        described = {"Name": dataset.name, "BIDSVersion": BIDS_VERSION}
        write_json(folder / "dataset_description.json", {**described, "DatasetType": "raw", "GeneratedBy": [tool]})
        links = {"DatasetType": "derivative", "GeneratedBy": [tool], "DatasetLinks": {"raw": "../.."}}
        write_json(folder / DERIVATIVES / "dataset_description.json", {**described, **links})
        write_text(folder / DERIVATIVES / "dseg.tsv", _table(dataset))
        about = {"parent": {"Description": "The name of the structure that this one is a part of; n/a at the top."}}
        write_json(folder / DERIVATIVES / "dseg.json", about)
        subjects = sorted({subject for subject, _ in self.names.values() if (folder / subject).is_dir()})
        write_text(folder / "participants.tsv", "participant_id\n" + "".join(f"{subject}\n" for subject in subjects))
        write_text(
            folder / "README.md",
            f"# {dataset.name}\n\nImages, and label maps in {DERIVATIVES}. {FILE_NAME} says what BIDS does not hold.\n",
        )
        write_text(folder / ".bidsignore", f"{FILE_NAME}\n**/label_tree.json\n")
        write_text(folder / DERIVATIVES / ".bidsignore", "label_tree.json\n")
        return self._lost(dataset, losses)

    def _lost(self, dataset: Dataset, losses: Losses) -> list[str]:
        left_out = [name for name, entity in zip(dataset.channels, self.channels, strict=True) if entity is None]
        said = []
        if left_out:
            said.append(f"Channels: BIDS has no name for {', '.join(left_out)}, whose images were left out.")
        said.append(
            "Label tree: dseg.tsv has names, colors and parents; terminology, other names, opposite sides and edge weights are in label_tree.json alone, which BIDS does not know."
        )
        if losses.coarse[0] or losses.unlabelled[0]:
            said.append(
                f"Superclass labels and sparse annotation: inner nodes and 'unlabelled' ({dataset.label_tree.unlabelled}) are indices like all others in dseg.tsv; that they mean less is not said there."
            )
        kept = "the key 'HierSubclassSeg' of each dseg.json, which other programs do not read"
        said.append(f"Ids, splits, groups, complete slices and provenance: they are in {kept}.")
        if any(run for _, run in self.names.values()):
            number = sum(bool(run) for _, run in self.names.values())
            said.append(
                f"Names: {cases(number)} of subjects with several became runs of them, in the order of the dataset."
            )
        return said


def _entity(channel: str, suffixes: Mapping[str, str]) -> tuple[str, str] | None:
    """The contrast agent, or nothing, and the suffix of a channel; None if it is left out."""
    given = suffixes.get(channel)
    if given is None:
        plain = re.sub(r"[^a-z0-9]", "", channel.lower())
        if plain not in _KNOWN:
            raise ConfigError(
                f"BIDS has no name for the channel '{channel}'; give '--suffix {channel}=SUFFIX' with one of {', '.join(SUFFIXES)}, or '--suffix {channel}=' to leave its images out."
            )
        return _KNOWN[plain]
    if not given:
        return None
    contrast, _, suffix = given.rpartition("_")
    if suffix not in SUFFIXES or not re.fullmatch(r"(ce-[A-Za-z0-9]+)?", contrast):
        raise ConfigError(
            f"--suffix {channel}={given}: give one of {', '.join(SUFFIXES)}, with 'ce-LABEL_' before it if a contrast agent was used."
        )
    return contrast, suffix


def _names(dataset: Dataset) -> dict[str, tuple[str, str]]:
    """Subject and run of each case, by id; the run is empty where a subject has one case."""
    labels: dict[str, str] = {}
    members: dict[str, list[str]] = {}
    for case in dataset.cases():
        group = case.effective_group
        if group not in labels:
            plain = re.sub(r"[^A-Za-z0-9]", "", group) or "x"
            number, label = 2, plain
            while label.lower() in {other.lower() for other in labels.values()}:
                number, label = number + 1, f"{plain}x{number}"
            labels[group] = label
        members.setdefault(group, []).append(case.id)
    return {
        case: (f"sub-{labels[group]}", f"run-{number:02d}" if len(ids) > 1 else "")
        for group, ids in members.items()
        for number, case in enumerate(ids, start=1)
    }


def _table(dataset: Dataset) -> str:
    tree = dataset.label_tree
    rows = [("index", "name", "color", "parent")]
    for node in sorted(tree.nodes, key=lambda node: node.value):
        color = "#" + "".join(f"{part:02x}" for part in node.color) if node.color else "n/a"
        rows.append((str(node.value), node.name, color, node.parent or "n/a"))
    rows.append((str(tree.unlabelled), "unlabelled", "n/a", "n/a"))
    return "".join("\t".join(json.dumps(cell)[1:-1] if "\t" in cell else cell for cell in row) + "\n" for row in rows)
