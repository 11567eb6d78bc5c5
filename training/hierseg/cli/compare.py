"""``hierseg compare``: two models on the same annotated cases, node by node."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hierseg.errors import ConfigError

if TYPE_CHECKING:
    from hierseg.data.heldout import HeldSlices
    from hierseg.dataset import Case, Dataset
    from hierseg.evaluation.compare import Comparison


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser(
        "compare",
        help="compare two models on annotated cases, node by node",
        description="Dice of every node for both models, and which nodes the second one does worse by more than 2 points. "
        "By default on the cases in 'validation' of the dataset; with --run on what that training held out.",
    )
    parser.add_argument("before", metavar="BUNDLE_A", help="a bundle's folder, or the name of a model")
    parser.add_argument("after", metavar="BUNDLE_B", help="the one that is compared with it")
    parser.add_argument("dataset", metavar="DATASET", help="dataset folder")
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument(
        "--run",
        type=Path,
        dest="training_run",
        metavar="RUN",
        help="use the cases or slices that this training held out",
    )
    chosen.add_argument("--cases", nargs="+", metavar="ID", help="use these cases")
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:1 or mps")
    parser.add_argument("--threads", type=int, help="CPU threads; default: one less than there are cores")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command; 0 also where nodes lost."""
    from tqdm import tqdm

    from hierseg.cli.predict import open_bundle, set_threads
    from hierseg.dataset import Dataset
    from hierseg.evaluation.compare import compare

    dataset = Dataset.open(arguments.dataset)
    bundles = (open_bundle(arguments.before), open_bundle(arguments.after))
    cases, held = _chosen(dataset, arguments)
    set_threads(arguments.threads)

    def show(done: int, _total: int) -> None:
        bar.update(done - bar.n)

    with tqdm(total=2 * len(cases), unit="case", disable=arguments.json) as bar:
        found = compare(
            bundles,
            dataset,
            cases,
            held=held,
            device=arguments.device,
            progress=show,
        )
    if arguments.json:
        print(json.dumps(found.to_dict(), ensure_ascii=False))
    else:
        _show(found)
    return 0


def _chosen(dataset: Dataset, arguments: argparse.Namespace) -> tuple[list[Case], dict[str, HeldSlices]]:
    from hierseg.data.heldout import HeldSlices

    if arguments.cases:
        return [dataset.case(case_id) for case_id in arguments.cases], {}
    if arguments.training_run is None:
        cases = [case for case in dataset.cases("validation") if case.label is not None]
        if not cases:
            raise ConfigError(
                f"{dataset.folder}: there is no annotated case in 'validation'; give --cases, or --run with the run folder of a training."
            )
        return cases, {}
    record: dict[str, Any] = {}
    try:
        record = json.loads((arguments.training_run / "dataset.json").read_text(encoding="utf-8"))
        whole = [str(case) for case in record["validation"]]
        held = {str(case): HeldSlices.from_dict(given) for case, given in (record.get("held_slices") or {}).items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{arguments.training_run}: what this training held out cannot be read there; give the run folder of a training."
        ) from error
    if not whole and not held:
        raise ConfigError(f"{arguments.training_run}: this training held nothing out; give --cases.")
    return [dataset.case(case_id) for case_id in (whole or held)], ({} if whole else held)


def _show(found: Comparison) -> None:
    tree, means = found.tree, found.means()
    width = max(len(node.name) + 2 * (node.depth - 1) for node in tree.nodes)
    cases = len(found.scores[0])
    where = f"held-out slices of {cases}" if found.held else str(cases)
    print(f"Dice on {where} case{'' if cases == 1 else 's'}: {found.models[0]}, {found.models[1]}")
    for node in tree.nodes:
        before, after = means[node.name]
        if before is None and after is None:
            continue
        texts = ["–" if score is None else f"{100 * score:.1f}" for score in (before, after)]
        change = "" if before is None or after is None else f"{100 * (after - before):+.1f}"
        print(f"{'  ' * (node.depth - 1) + node.name:<{width}}  {texts[0]:>6}  {texts[1]:>6}  {change:>6}")
    lost = ", ".join(f"{name} ({points:+.1f})" for name, points in found.lost())
    if lost:
        print(f"Worse by more than 2 points: {lost}.")
