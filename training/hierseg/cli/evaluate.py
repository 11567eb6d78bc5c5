"""``hierseg evaluate``: score predicted label maps against references, node by node."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hierseg.errors import ConfigError, ImageError
from hierseg.labeltree import LabelTree

if TYPE_CHECKING:
    from hierseg.evaluation.report import Evaluation
    from hierseg.imageio import Volume

ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd")
_PREDICTION_MARK = "_labels"


@dataclass(frozen=True)
class _Case:
    """The files of a case; ``image`` for the pictures, where a dataset folder has one."""

    name: str
    prediction: Path
    reference: Path
    image: Path | None = None


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser(
        "evaluate",
        help="score predictions against reference label maps, node by node",
        description="Dice of every node of the label tree, or with --out all scores: Dice, 95th percentile of the Hausdorff distance, mean "
        "surface distance and surface Dice in mm, volume error, sensitivity, balanced accuracy, and how far in the tree the errors go. "
        "Unlabelled reference voxels are left out; a voxel known only as an inner node scores that node and its ancestors only; a node "
        "that the reference does not show has no score; surfaces and volumes are measured where the reference is complete.",
    )
    parser.add_argument(
        "prediction", type=Path, help="a label map, or a folder of label maps (<case>_labels.nii.gz or <case>.nii.gz)"
    )
    parser.add_argument(
        "reference", type=Path, help="a label map on the same grid, a folder of them, or a dataset folder"
    )
    parser.add_argument(
        "--tree", help="label_tree.json, or the name of a shipped tree; not needed for a dataset folder"
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="write all scores there: report.html with plots and the worst cases, scores.md, scores.csv and scores.json",
    )
    parser.add_argument(
        "--pictures",
        type=int,
        default=6,
        metavar="N",
        help="with --out: how many of the worst cases the page shows (default: 6; 0 for none)",
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        default=2.0,
        metavar="MM",
        help="distance within which surfaces count as the same (default: 2)",
    )
    parser.add_argument(
        "--unknown",
        nargs="+",
        metavar="NODE",
        default=[],
        help="structures that the model never learned, or 'unlabelled' where references are complete but for unknown matter: is it less "
        "confident there? Needs what 'hierseg predict --confidence' writes; these voxels are left out of the other scores",
    )
    parser.add_argument("--json", action="store_true", help="print JSON: Dice by case and node, and the means")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    from hierseg.evaluation.metrics import mean_score
    from hierseg.evaluation.report import PAGE_NAME

    if not arguments.tolerance >= 0:
        raise ConfigError(f"--tolerance is {arguments.tolerance:g}; give a number of mm, 0 or more.")
    if arguments.pictures < 0:
        raise ConfigError(f"--pictures is {arguments.pictures}; give 0 or more.")
    tree, cases = _cases(arguments.prediction, arguments.reference, arguments.tree)
    found = _scored(tree, cases, arguments)
    if arguments.out is not None:
        _save(found, cases, arguments)
    scores = {name: {node: values.dice for node, values in case.nodes.items()} for name, case in found.cases.items()}
    means = {
        node.name: mean_score({case: row[node.name] for case, row in scores.items()}, scores) for node in tree.nodes
    }
    if arguments.json:
        unknown = {} if found.notice is None else {"out_of_distribution": found.notice.to_dict()}
        print(json.dumps({"cases": scores, "mean": means, **unknown}, ensure_ascii=False))
        return 0
    width = max(len(node.name) + 2 * (node.depth - 1) for node in tree.nodes)
    print(f"Dice, mean of {len(scores)} case{'' if len(scores) == 1 else 's'}")
    for node in tree.nodes:
        mean = means[node.name]
        count = sum(row[node.name] is not None for row in scores.values())
        shown = "not in the reference" if mean is None else f"{mean:.3f}  ({count} case{'' if count == 1 else 's'})"
        print(f"{'  ' * (node.depth - 1) + node.name:<{width}}  {shown}")
    for sentence in () if found.notice is None else found.notice.sentences():
        print(sentence)
    if arguments.out is not None:
        print(f"All scores, with plots: {arguments.out / PAGE_NAME}")
    return 0


def _scored(tree: LabelTree, cases: Sequence[_Case], arguments: argparse.Namespace) -> Evaluation:
    from tqdm import tqdm

    from hierseg.evaluation.case_scores import score_case
    from hierseg.evaluation.out_of_distribution import NO_SCORES, Notice, unknown_voxels
    from hierseg.evaluation.report import Evaluation

    scores = {}
    notice = Notice(arguments.unknown) if arguments.unknown else None
    for case in tqdm(cases, unit="case", desc="evaluate", disable=arguments.out is None):
        found, truth = _read(case, tree)
        labels, reference = np.asarray(found.array), np.asarray(truth.array)
        if notice is not None:
            hidden = unknown_voxels(reference, tree, arguments.unknown)
            labelled = hidden | (reference != tree.unlabelled)
            notice.add(case.name, labels != tree.unlabelled, hidden, labelled, _confidence(case, labels.shape))
            reference = np.where(hidden, reference.dtype.type(tree.unlabelled), reference)
        scores[case.name] = score_case(
            labels,
            reference,
            tree,
            truth.spacing,
            tolerance=arguments.tolerance,
            surfaces=arguments.out is not None,
        )
    if notice is not None and all(case.state == NO_SCORES for case in notice.cases.values()):
        raise ImageError(
            f"{arguments.prediction}: there is no confidence map beside the label maps, which --unknown needs; predict with --confidence."
        )
    return Evaluation(tree, scores, arguments.tolerance, notice)


def _confidence(case: _Case, shape: tuple[int, ...]) -> np.ndarray | None:
    """The confidence map beside a prediction; None if there is none.

    Raises:
        ImageError: it lies on another grid.
    """
    from hierseg.imageio import read_volume

    places = (case.prediction.with_name(f"{case.name}_confidence{ending}") for ending in ENDINGS)
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        return None
    found = np.asarray(read_volume(path).array)
    if found.shape != shape:
        raise ImageError(f"{path}: lies on another grid than {case.prediction}; predict the case again.")
    return found


def _read(case: _Case, tree: LabelTree) -> tuple[Volume, Volume]:
    """Prediction and reference, on one grid."""
    from hierseg.imageio import read_label

    found, truth = read_label(case.prediction, tree), read_label(case.reference, tree)
    if found.array.shape != truth.array.shape or not np.allclose(found.affine, truth.affine, atol=1e-2):
        raise ImageError(
            f"{case.prediction}: lies on another grid than {case.reference}; compare maps on the same grid."
        )
    return found, truth


def _save(found: Evaluation, cases: Sequence[_Case], arguments: argparse.Namespace) -> None:
    """All forms of the scores; the page with the worst cases."""
    from hierseg.atomic import write_text
    from hierseg.evaluation.html.reports import evaluation_page
    from hierseg.evaluation.out_of_distribution import unknown_voxels
    from hierseg.evaluation.report import PAGE_NAME
    from hierseg.evaluation.worst import picture, worst_cases
    from hierseg.imageio import read_volume

    found.save(arguments.out)
    shown = []
    by_name = {case.name: case for case in cases}
    for name in worst_cases(found.cases, found.tree, arguments.pictures):
        prediction, reference = _read(by_name[name], found.tree)
        image = None
        path = by_name[name].image
        if path is not None:
            volume = read_volume(path)
            if volume.array.shape == reference.array.shape:
                image = np.asarray(volume.array)
        labels, truth = np.asarray(prediction.array), np.asarray(reference.array)
        if arguments.unknown:
            truth = np.where(unknown_voxels(truth, found.tree, arguments.unknown), found.tree.unlabelled, truth)
        one = picture(name, labels, truth, found.tree, reference.affine, image)
        if one is not None:
            shown.append(one)
    write_text(arguments.out / PAGE_NAME, evaluation_page(found, shown, f"Scores of {arguments.prediction.name}"))


def _cases(prediction: Path, reference: Path, tree_name: str | None) -> tuple[LabelTree, list[_Case]]:
    """The label tree, and every case of which both maps are there."""
    from hierseg import resources
    from hierseg.dataset import Dataset

    for path in (prediction, reference):
        if not path.exists():
            raise ImageError(f"{path}: there is no such file or folder; give a label map or a folder of label maps.")
    dataset = Dataset.open(reference) if (reference / "dataset.json").is_file() else None
    if tree_name is not None:
        tree = LabelTree.load(tree_name if Path(tree_name).exists() else resources.path("label_trees", tree_name))
    elif dataset is not None:
        tree = dataset.tree
    else:
        raise ConfigError(
            "which label tree do the maps follow? Give --tree, a label_tree.json or the name of a shipped tree."
        )
    if reference.is_file():
        if prediction.is_dir():
            raise ImageError(
                f"{prediction}: a folder cannot be compared with one file, {reference}; give two files or two folders."
            )
        return tree, [_Case(_stem(prediction), prediction, reference)]
    images: dict[str, Path] = {}
    if dataset is not None:
        known = {case.id: stored for case in dataset.cases() if (stored := dataset.label_path(case)) is not None}
        images = {case.id: dataset.image_paths(case)[0] for case in dataset.cases() if case.id in known}
    else:
        known = {_stem(path): path for path in _maps(reference)}
    files = [prediction] if prediction.is_file() else _maps(prediction)
    cases = [_Case(name, path, known[name], images.get(name)) for path in files if (name := _stem(path)) in known]
    if not cases:
        raise ImageError(
            f"{prediction}: none of the label maps here has the name of a reference in {reference}; name them <case>.nii.gz or <case>_labels.nii.gz."
        )
    return tree, cases


def _maps(folder: Path) -> list[Path]:
    """The label maps of a folder; of predictions, the node maps and not the superclass and confidence maps beside them."""
    found = sorted(path for path in folder.iterdir() if path.name.endswith(ENDINGS))
    marked = [path for path in found if _name(path).endswith(_PREDICTION_MARK)]
    return marked or found


def _name(path: Path) -> str:
    for ending in ENDINGS:
        if path.name.endswith(ending):
            return path.name[: -len(ending)]
    return path.name


def _stem(path: Path) -> str:
    return _name(path).removesuffix(_PREDICTION_MARK)
