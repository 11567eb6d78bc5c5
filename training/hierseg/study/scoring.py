"""Measuring a run's model on whole cases: decided by the leaf output alone, as papers do, and level by level."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hierseg.atomic import write_json
from hierseg.bundle import Bundle
from hierseg.dataset import Case, Dataset
from hierseg.errors import ImageError
from hierseg.evaluation.case_scores import DEFAULT_TOLERANCE, CaseScores, score_case
from hierseg.evaluation.out_of_distribution import UNLABELLED, Notice, unknown_voxels
from hierseg.evaluation.report import Evaluation
from hierseg.imageio import Volume, read_label, read_volume
from hierseg.inference import Predictor
from hierseg.inference.backends import CHANNELS_FIRST

CONSISTENT = "consistent"
"""Folder of the scores of the level-by-level decisions, inside that of the others."""


def score_run(
    bundle: Path,
    dataset: Dataset,
    cases: Sequence[Case],
    out: Path,
    sha256: str,
    device: str,
    hidden: str | None = None,
) -> None:
    """Predict every case, and write the scores as ``hierseg evaluate --out`` does.

    ``out`` gets those of the most probable leaf, ``out/consistent`` those of the decoding that users get (no surfaces), and at
    the end ``data.json``, which says that the folder is complete.

    Args:
        bundle: the model's folder.
        dataset: of the cases; its label tree is the model's.
        cases: annotated ones.
        out: made if missing.
        sha256: of the cases' data.
        device: where to predict.
        hidden: a class that was hidden from the training: its voxels are the unknown ones, and scored as if unlabelled.

    Raises:
        ImageError: a label map lies on another grid than its image.
    """
    # Every run is measured by the same arithmetic: the fastest back-end is not looked for.
    predictor = Predictor(Bundle.open(bundle), device=device, backend=CHANNELS_FIRST)
    found: dict[str, dict[str, CaseScores]] = {"leaf": {}, "hierarchical": {}}
    # Without a background what carries no label is in no class: is it noticed?
    unknown_names = [UNLABELLED] if hidden is None else [hidden]
    looks = hidden is not None or dataset.tree.background is None
    notices = {mode: Notice(unknown_names) if looks else None for mode in found}
    for case in cases:
        volumes = [read_volume(path) for path in dataset.image_paths(case)]
        reference = _reference(dataset, case, volumes[0])
        given = np.asarray(reference.array)
        unknown = unknown_voxels(given, dataset.tree, unknown_names)
        truth = given if hidden is None else np.where(unknown, dataset.tree.unlabelled, given).astype(given.dtype)
        # Of voxels without a label nobody can say that they are not of a hidden class.
        labelled = np.ones_like(unknown) if hidden is None else given != dataset.tree.unlabelled
        for mode, scores in found.items():
            # In a paper's table every voxel gets a leaf.
            limits: dict[str, float] | None = {} if mode == "leaf" else None
            predicted = predictor.predict(volumes, decode=mode, thresholds=limits, exhaustive=True)
            labels, notice = predicted.labels, notices[mode]
            if notice is not None:
                accepted = labels != dataset.tree.unlabelled
                notice.add(case.id, accepted, unknown, labelled, predicted.confidence)
            scores[case.id] = score_case(labels, truth, dataset.tree, reference.spacing, surfaces=mode == "leaf")
    for mode, place in (("leaf", out), ("hierarchical", out / CONSISTENT)):
        Evaluation(dataset.tree, found[mode], DEFAULT_TOLERANCE, notices[mode]).save(place)
    write_json(out / "data.json", {"sha256": sha256, "cases": [case.id for case in cases]})


def _reference(dataset: Dataset, case: Case, image: Volume) -> Volume:
    path = dataset.label_path(case)
    assert path is not None  # annotated cases were chosen
    reference = read_label(path, dataset.tree)
    if reference.array.shape != image.array.shape or not np.allclose(reference.affine, image.affine, atol=1e-2):
        raise ImageError(f"case '{case.id}': the label map lies on another grid than the image; save the case again.")
    return reference
