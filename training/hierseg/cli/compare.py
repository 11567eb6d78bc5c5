"""``hierseg compare``: two models on the same annotated cases, node by node."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hierseg.cli._shared import counting
from hierseg.errors import ConfigError

_ENDINGS = (".html", ".md", ".csv", ".json")

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
        "By default on the cases in 'validation' of the dataset; with --run on what that training held out. "
        "With --scores, models are compared by what 'hierseg evaluate --out' wrote: paired tests over the cases.",
    )
    parser.add_argument("before", nargs="?", metavar="BUNDLE_A", help="a bundle's folder, or the name of a model")
    parser.add_argument("after", nargs="?", metavar="BUNDLE_B", help="the one that is compared with it")
    parser.add_argument("dataset", nargs="?", metavar="DATASET", help="dataset folder")
    parser.add_argument(
        "--scores",
        nargs="+",
        metavar="NAME[@N]=FILE[,FILE]",
        help="scores of two or more models instead of bundles, the baseline first; several files (seeds) are averaged case by case; "
        "NAME@N says that N training cases had subclass labels, which the page of --out draws as a curve for each NAME",
    )
    parser.add_argument(
        "--metric",
        default="dice",
        help="of --scores: dice (default), hausdorff95, surface_distance, surface_dice, volume_error, sensitivity, balanced_accuracy; or of the "
        "errors as a whole tree_distance, error_distance (where wrong) or wrong",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="of --scores: write there, as .html (with plots), .md, .csv or .json; into a folder, all four",
    )
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
    if arguments.scores:
        return _compare_scores(arguments)
    if arguments.dataset is None:
        raise ConfigError("give BUNDLE_A, BUNDLE_B and DATASET, or --scores with the scores of two or more models.")
    from hierseg.cli.predict import open_bundle, set_threads
    from hierseg.dataset import Dataset
    from hierseg.evaluation.compare import compare

    dataset = Dataset.open(arguments.dataset)
    bundles = (open_bundle(arguments.before), open_bundle(arguments.after))
    cases, held = _chosen(dataset, arguments)
    set_threads(arguments.threads)
    with counting(2 * len(cases), "case", hidden=arguments.json) as show:
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


def _compare_scores(arguments: argparse.Namespace) -> int:
    from hierseg.atomic import write_text
    from hierseg.evaluation.html.reports import comparison_page
    from hierseg.evaluation.significance import compare_models, read_models, to_csv, to_markdown

    if arguments.before is not None:
        raise ConfigError("bundles and --scores were given; compare either of them.")
    files: dict[str, list[Path]] = {}
    for given in arguments.scores:
        name, sign, paths = given.partition("=")
        if not sign or not name or name in files:
            raise ConfigError(f"--scores has {given!r}; give NAME=FILE with a name of its own for each model.")
        files[name] = [Path(path) for path in paths.split(",") if path]
    fine = {name: found for name in files if (found := _fine(name)) is not None}
    out: Path | None = arguments.out
    if out is not None and out.suffix and out.suffix.lower() not in _ENDINGS:
        raise ConfigError(f"--out is {out}; give a folder, or a file that ends in {', '.join(_ENDINGS)}.")
    metric = arguments.metric
    contents = read_models(files)
    rows = compare_models(contents, metric)
    as_json = json.dumps({"metric": metric, "rows": [row.to_dict() for row in rows]}, ensure_ascii=False)
    if out is not None:
        texts = {
            ".html": lambda: comparison_page(contents, rows, metric, fine),
            ".md": lambda: to_markdown(rows, metric),
            ".csv": lambda: to_csv(rows),
            ".json": lambda: as_json,
        }
        for ending in [out.suffix.lower()] if out.suffix else _ENDINGS:
            write_text(out if out.suffix else out / f"comparison{ending}", texts[ending]())
    print(as_json if arguments.json else to_markdown(rows, metric), end="" if not arguments.json else "\n")
    if out is not None and not arguments.json:
        print(f"\nWritten: {out if out.suffix else out / 'comparison.html'}")
    return 0


def _fine(name: str) -> tuple[str, float] | None:
    """Method and number of a NAME@N; None for a name without a number."""
    method, sign, number = name.rpartition("@")
    if not sign:
        return None
    try:
        return method, float(int(number))
    except ValueError as error:
        raise ConfigError(
            f"--scores has the name '{name}'; after the @ comes the number of training cases with subclass labels."
        ) from error


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
