"""A dataset folder as a task of the Medical Segmentation Decathlon, which MONAI reads as a datalist.

Label values stay as they are: every node of the tree, leaf or not, is listed with its value, and so is ``unlabelled``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from hierseg.atomic import write_json
from hierseg.dataset import Case, Dataset
from hierseg.exporters.losses import Losses, cases, voxels
from hierseg.imageio import write_volume
from hierseg.importers.reading import CaseData

_PARTS = {"training": "Tr", "validation": "Tr", "test": "Ts"}


class DecathlonExporter:
    """Writes a task: ``dataset.json``, ``imagesTr``, ``labelsTr``, ``imagesTs``."""

    kind = "decathlon"
    title = "a Decathlon task"

    def __init__(self) -> None:
        self.rows: dict[str, list[Any]] = {split: [] for split in _PARTS}

    def check(self, dataset: Dataset, out: Path) -> None:
        """Everything can be held."""

    def left_out(self, case: Case) -> str | None:
        """Cases for training need a label map."""
        return None if case.label or case.split == "test" else "It has no label map; only test images may lack one."

    def write(self, folder: Path, case: Case, data: CaseData) -> None:
        """Write a case: several channels become the frames of one 4D image."""
        part, name, affine = _PARTS[case.split], f"{case.id}.nii.gz", data.images[0].affine
        arrays = [image.array for image in data.images]
        array = arrays[0] if len(arrays) == 1 else np.stack(arrays, axis=-1)
        write_volume(folder / f"images{part}" / name, array, affine)
        row: dict[str, Any] = {"image": f"./images{part}/{name}"}
        if data.label is not None:
            write_volume(folder / f"labels{part}" / name, data.label, affine)
            row["label"] = f"./labels{part}/{name}"
        if case.group:
            row["group"] = case.group
        self.rows[case.split].append(row)

    def finish(self, folder: Path, dataset: Dataset, losses: Losses) -> list[str]:
        """Write ``dataset.json``."""
        if not any("label" in row or "group" in row for row in self.rows["test"]):
            # As published, and MONAI takes no mixture of the two forms.
            self.rows["test"] = [row["image"] for row in self.rows["test"]]
        tree = dataset.label_tree
        labels = {str(node.value): node.name for node in sorted(tree.nodes, key=lambda node: node.value)}
        if losses.unlabelled[0]:
            labels[str(tree.unlabelled)] = "unlabelled"
        content = {
            "name": dataset.name,
            "description": "",
            "reference": "",
            "licence": "",
            "release": "",
            "tensorImageSize": "3D" if len(dataset.channels) == 1 else "4D",
            "modality": {str(index): name for index, name in enumerate(dataset.channels)},
            "labels": labels,
            "numTraining": len(self.rows["training"]),
            "numTest": len(self.rows["test"]),
            **{split: rows for split, rows in self.rows.items() if rows or split != "validation"},
        }
        write_json(folder / "dataset.json", content)
        return self._lost(dataset, losses)

    def _lost(self, dataset: Dataset, losses: Losses) -> list[str]:
        tree = dataset.label_tree
        said = []
        if len(tree.leaves) < len(tree.nodes):
            said.append(
                "Label tree: which node is part of which is in label_tree.json alone; to a program that reads the list of labels a superclass is one label more."
            )
        if losses.coarse[0]:
            said.append(
                f"Superclass labels: {voxels(losses.coarse)} carry the value of an inner node, which other programs learn as a class of its own."
            )
        if losses.unlabelled[0]:
            said.append(
                f"Sparse annotation: {voxels(losses.unlabelled)} have the value {tree.unlabelled}, listed as 'unlabelled', which other programs learn as a class unless they are told to ignore it."
            )
        if losses.sliced:
            said.append(
                f"Complete slices: that {cases(losses.sliced)} have slices marked as completely annotated is not stored."
            )
        if losses.grouped:
            said.append(
                "Groups: which cases belong to one patient is in the key 'group', which other programs do not read."
            )
        if losses.made:
            said.append(f"Provenance: when, with what and by whom {cases(losses.made)} were annotated is not stored.")
        values = sorted(node.value for node in tree.nodes)
        if values != list(range(len(values))):
            said.append("Label values: they have gaps, which some programs do not expect; they were kept.")
        return said
