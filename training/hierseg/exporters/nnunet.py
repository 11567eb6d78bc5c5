"""A dataset folder as a raw data set of nnU-Net (version 2).

Leaf values are numbered without gaps, background first.  An inner node becomes a region, the list of its leaves'
numbers, unless flat labels are asked for.  nnU-Net's ``ignore`` is one mask for all regions: a voxel of which only the
superclass is known has to become ``ignore`` (documentation/ignore_label.md, region_based_training.md,
dataset_format.md and utilities/label_handling/label_handling.py of github.com/MIC-DKFZ/nnUNet).
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from hierseg.atomic import write_json, write_text
from hierseg.dataset import Case, Dataset
from hierseg.errors import ConfigError, LabelTreeError
from hierseg.exporters.label_trees import to_nnunet
from hierseg.exporters.losses import Losses, cases, voxels
from hierseg.imageio import write_volume
from hierseg.importers.reading import CaseData
from hierseg.labeltree import FORMAT_VERSION, LabelTree, Node

_FOLDER = re.compile(r"Dataset\d{3}_\w[\w-]*")
_FOLDS, _FOLD_SEED = 5, 12345  # as nnU-Net itself draws them


class NnunetExporter:
    """Writes a raw data set.

    Args:
        dataset: what will be exported.
        flat: leaves as plain labels, no regions.
    """

    kind = "nnunet"
    title = "nnU-Net's data set"

    def __init__(self, dataset: Dataset, flat: bool = False) -> None:
        self.tree = dataset.label_tree
        self.flat = flat
        self.numbers = numbers_of(self.tree)
        self.ignore = max(self.numbers.values()) + 1
        self.table = self.tree.lookup(self.numbers, self.ignore)
        self.training: dict[str, str] = {}
        self.validation: list[str] = []
        self.tests = 0

    def check(self, dataset: Dataset, out: Path) -> None:
        """Refuse names that nnU-Net gives another meaning.

        Raises:
            ConfigError: the folder's name.
            LabelTreeError: a node's.
        """
        if not _FOLDER.fullmatch(out.name):
            raise ConfigError(
                f"{out}: nnU-Net finds a data set by a folder name like Dataset137_Name (three digits); name the new folder so."
            )
        background = self.tree.background
        for node in self.tree.nodes:
            if node.name == "ignore" or (node.name == "background" and node != background):
                raise LabelTreeError(
                    f"the node '{node.name}' of the label tree '{self.tree.name}' has a name that means something else to nnU-Net; rename it."
                )

    def left_out(self, case: Case) -> str | None:
        """Cases for training need a label map."""
        return (
            None
            if case.label or case.split == "test"
            else "It has no label map, and nnU-Net trains with none only on test images."
        )

    def write(self, folder: Path, case: Case, data: CaseData) -> None:
        """Write images and label map of a case."""
        part = "Ts" if case.split == "test" else "Tr"
        affine = data.images[0].affine
        for channel, image in enumerate(data.images):
            write_volume(folder / f"images{part}" / f"{case.id}_{channel:04d}.nii.gz", image.array, affine)
        if data.label is not None:
            kind = np.uint8 if self.ignore < 256 else np.uint16
            write_volume(folder / f"labels{part}" / f"{case.id}.nii.gz", self.table[data.label].astype(kind), affine)
        if case.split == "test":
            self.tests += 1
            return
        self.training[case.id] = case.effective_group
        if case.split == "validation":
            self.validation.append(case.id)

    def finish(self, folder: Path, dataset: Dataset, losses: Losses) -> list[str]:
        """Write ``dataset.json`` and, where it matters, the folds."""
        tree = self._tree()
        described = json.loads(to_nnunet(tree))
        labels = {"background": 0, **described["labels"]}
        if not losses.coarse[0] and not losses.unlabelled[0]:
            labels.pop("ignore")
        content = {
            "channel_names": {str(index): name for index, name in enumerate(dataset.channels)},
            "labels": labels,
            "numTraining": len(self.training),
            "file_ending": ".nii.gz",
            "name": dataset.name,
        }
        regions = "regions_class_order" in described
        if regions:
            content["regions_class_order"] = described["regions_class_order"]
        write_json(folder / "dataset.json", content)
        folds = self._folds(losses)
        if folds:
            write_text(folder / "splits_final.json", json.dumps(folds, indent=1) + "\n")
        return self._lost(losses, regions, bool(folds))

    def _tree(self) -> LabelTree:
        """The tree with nnU-Net's numbers; inner nodes that say nothing more than their only child are left out."""
        background = self.tree.background
        free = iter(range(self.ignore + 1, 65535))
        rows: list[dict[str, Any]] = []
        for node in self.tree.nodes:
            if not _is_kept(self.tree, node, self.flat):
                continue
            name = "background" if node == background else node.name
            above = next(
                (other.name for other in self.tree.ancestors(node) if _is_kept(self.tree, other, self.flat)), None
            )
            value = self.numbers[node.value] if self.tree.is_leaf(node) else next(free)
            rows.append({"name": name, "value": value, **({"parent": above} if above else {})})
        return LabelTree.from_dict(
            {
                "format_version": FORMAT_VERSION,
                "name": self.tree.name,
                "unlabelled": 65535 if max(r["value"] for r in rows) >= 255 else 255,
                "nodes": rows,
            }
        )

    def _folds(self, losses: Losses) -> list[dict[str, list[str]]]:
        """One fold with the dataset's own validation cases; else five by groups; none where nnU-Net's own do as well."""
        held = [set(self.validation)] if self.validation else []
        groups = sorted(set(self.training.values()))
        if not held and losses.grouped and 1 < len(groups) < len(self.training):
            drawn = np.random.default_rng(_FOLD_SEED).permutation(len(groups))
            number = min(_FOLDS, len(groups))
            parts = [{groups[index] for index in drawn[fold::number]} for fold in range(number)]
            held = [{case for case, group in self.training.items() if group in part} for part in parts]
        return [{"train": sorted(set(self.training) - fold), "val": sorted(fold)} for fold in held]

    def _lost(self, losses: Losses, regions: bool, folds: bool) -> list[str]:
        said = []
        if losses.coarse[0]:
            said.append(
                f"Superclass labels: {voxels(losses.coarse)} are known by an inner node of the tree only; nnU-Net has one ignore mask for all regions, so they became 'ignore' and teach nothing."
            )
        if losses.unlabelled[0]:
            said.append(f"Sparse annotation: {voxels(losses.unlabelled)} that are unlabelled became 'ignore'.")
        if losses.sliced:
            said.append(
                f"Complete slices: that {cases(losses.sliced)} have slices marked as completely annotated is not stored."
            )
        shape = (
            "became nnU-Net's regions"
            if regions
            else "became a flat list of labels"
            if len(self.tree.leaves) < len(self.tree.nodes)
            else "is a flat list"
        )
        said.append(
            f"Label tree: it {shape}; colors, terminology, other names, opposite sides and edge weights are in label_tree.json alone, which nnU-Net does not read."
        )
        changed = {value: number for value, number in self.numbers.items() if value != number}
        if changed:
            rows = ", ".join(f"{value} → {number}" for value, number in sorted(changed.items()))
            said.append(f"Label values: nnU-Net needs them without gaps, so they were numbered anew: {rows}.")
        background = self.tree.background
        if background is None:
            said.append(
                "Background: the label tree has none, nnU-Net demands one; 'background' is listed and no voxel has it."
            )
        if losses.grouped or self.validation:
            where = (
                "splits_final.json keeps them; copy it into the data set's folder in nnUNet_preprocessed."
                if folds
                else "nnU-Net draws its folds by case."
            )
            said.append(
                f"Groups and splits: a data set does not store which cases belong to one patient or to the validation; {where}"
            )
        if self.tests:
            said.append(
                f"Test cases: {cases(self.tests)} are in imagesTs, their label maps in labelsTs, which nnU-Net does not read."
            )
        if losses.made:
            said.append(f"Provenance: when, with what and by whom {cases(losses.made)} were annotated is not stored.")
        return said


def numbers_of(tree: LabelTree) -> dict[int, int]:
    """nnU-Net's number of each leaf's value: 0 for the background, then 1, 2, ... in the order of the values."""
    background = tree.background
    others = sorted(leaf.value for leaf in tree.leaves if leaf != background)
    return {
        **({background.value: 0} if background is not None else {}),
        **{value: number for number, value in enumerate(others, start=1)},
    }


def _is_kept(tree: LabelTree, node: Node, flat: bool) -> bool:
    return tree.is_leaf(node) or (not flat and len(tree.children(node)) > 1)
