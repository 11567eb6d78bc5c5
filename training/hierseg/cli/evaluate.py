"""``hierseg evaluate``: score predicted label maps against references, node by node."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from hierseg.errors import ConfigError, ImageError
from hierseg.labeltree import LabelTree

if TYPE_CHECKING:
    from hierseg.evaluation.report import Evaluation

ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd")
_PREDICTION_MARK = "_labels"


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
        "--out", type=Path, metavar="DIR", help="write all scores there: scores.md, scores.csv and scores.json"
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        default=2.0,
        metavar="MM",
        help="distance within which surfaces count as the same (default: 2)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON: Dice by case and node, and the means")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    from hierseg.evaluation.metrics import mean_score

    if not arguments.tolerance >= 0:
        raise ConfigError(f"--tolerance is {arguments.tolerance:g}; give a number of mm, 0 or more.")
    tree, pairs = _pairs(arguments.prediction, arguments.reference, arguments.tree)
    found = _scored(tree, pairs, arguments)
    if arguments.out is not None:
        found.save(arguments.out)
    scores = {name: {node: values.dice for node, values in case.nodes.items()} for name, case in found.cases.items()}
    means = {
        node.name: mean_score({case: row[node.name] for case, row in scores.items()}, scores) for node in tree.nodes
    }
    if arguments.json:
        print(json.dumps({"cases": scores, "mean": means}, ensure_ascii=False))
        return 0
    width = max(len(node.name) + 2 * (node.depth - 1) for node in tree.nodes)
    print(f"Dice, mean of {len(scores)} case{'' if len(scores) == 1 else 's'}")
    for node in tree.nodes:
        mean = means[node.name]
        count = sum(row[node.name] is not None for row in scores.values())
        shown = "not in the reference" if mean is None else f"{mean:.3f}  ({count} case{'' if count == 1 else 's'})"
        print(f"{'  ' * (node.depth - 1) + node.name:<{width}}  {shown}")
    if arguments.out is not None:
        print(f"All scores: {arguments.out / 'scores.md'}")
    return 0


def _scored(tree: LabelTree, pairs: list[tuple[str, Path, Path]], arguments: argparse.Namespace) -> Evaluation:
    import numpy as np
    from tqdm import tqdm

    from hierseg.evaluation.case_scores import score_case
    from hierseg.evaluation.report import Evaluation
    from hierseg.imageio import read_label

    cases = {}
    for case, predicted, reference in tqdm(pairs, unit="case", desc="evaluate", disable=arguments.out is None):
        found, truth = read_label(predicted, tree), read_label(reference, tree)
        if found.array.shape != truth.array.shape or not np.allclose(found.affine, truth.affine, atol=1e-2):
            raise ImageError(f"{predicted}: lies on another grid than {reference}; compare maps on the same grid.")
        cases[case] = score_case(
            np.asarray(found.array),
            np.asarray(truth.array),
            tree,
            truth.spacing,
            tolerance=arguments.tolerance,
            surfaces=arguments.out is not None,
        )
    return Evaluation(tree, cases, arguments.tolerance)


def _pairs(prediction: Path, reference: Path, tree_name: str | None) -> tuple[LabelTree, list[tuple[str, Path, Path]]]:
    """The label tree, and (case, prediction, reference) of every case."""
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
        return tree, [(_stem(prediction), prediction, reference)]
    if dataset is not None:
        known = {case.id: stored for case in dataset.cases() if (stored := dataset.label_path(case)) is not None}
    else:
        known = {_stem(path): path for path in _maps(reference)}
    files = [prediction] if prediction.is_file() else _maps(prediction)
    pairs = [(_stem(path), path, known[_stem(path)]) for path in files if _stem(path) in known]
    if not pairs:
        raise ImageError(
            f"{prediction}: none of the label maps here has the name of a reference in {reference}; name them <case>.nii.gz or <case>_labels.nii.gz."
        )
    return tree, pairs


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
