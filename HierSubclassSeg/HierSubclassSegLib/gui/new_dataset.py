"""A new dataset folder for an annotation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

from hierseg.dataset import Dataset
from hierseg.errors import HiersegError
from HierSubclassSegLib.gui import case_questions
from HierSubclassSegLib.scene import annotation, export


def make(parent: Any, folder: str, annotation_node: Any) -> str | None:
    """Ask for the channels' names and make a dataset with the annotation's tree.

    Returns:
        A sentence if it cannot be made; an empty one if it was; None if the user would rather not, or if there is a
        dataset, however damaged, already.
    """
    if (Path(folder) / "dataset.json").exists():
        return None
    try:
        tree = annotation.tree_of(annotation_node)
        count = len(export.volumes_for(annotation_node))
        # Never the volumes' names: they may name a patient.
        proposed = ["image"] if count == 1 else [f"image {number}" for number in range(1, count + 1)]
        channels = case_questions.make_dataset(parent, folder, tree.name, proposed)
        if not channels:
            return None
        if len(channels) != count:
            return _("The annotation has {count} images, but {given} names were given.").format(
                count=count, given=len(channels)
            )
        Dataset.create(folder, Path(folder).name or "dataset", channels, tree)
    except HiersegError as error:
        return error.sentence
    except OSError as error:
        return _("{folder} cannot be written: {reason}.").format(folder=folder, reason=error.strerror or error)
    return ""
