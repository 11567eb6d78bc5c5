"""``hierseg evaluate``: score predicted label maps against references, node by node."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from hierseg.errors import ConfigError, ImageError
from hierseg.labeltree import LabelTree

ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd")
_PREDICTION_MARK = "_labels"


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser(
        "evaluate",
        help="score predictions against reference label maps, node by node",
        description="Dice of every node of the label tree. Unlabelled reference voxels are left out; a voxel known only as an inner node scores "
        "that node and its ancestors only; a node that the reference does not show has no score.",
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
    parser.add_argument("--json", action="store_true", help="print JSON: Dice by case and node, and the means")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    import numpy as np

    from hierseg.evaluation.metrics import mean_score, node_scores
    from hierseg.imageio import read_label

    tree, pairs = _pairs(arguments.prediction, arguments.reference, arguments.tree)
    scores: dict[str, dict[str, float | None]] = {}
    for case, predicted, reference in pairs:
        found, truth = read_label(predicted, tree), read_label(reference, tree)
        if found.array.shape != truth.array.shape or not np.allclose(found.affine, truth.affine, atol=1e-2):
            raise ImageError(f"{predicted}: lies on another grid than {reference}; compare maps on the same grid.")
        scores[case] = node_scores(np.asarray(found.array), np.asarray(truth.array), tree)
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
    return 0


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
