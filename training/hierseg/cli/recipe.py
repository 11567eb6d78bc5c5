"""``hierseg recipe``: make the models that the repository ships, from downloads to weights."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

from hierseg.errors import ConfigError


def add_parser(subparsers: Any) -> None:
    """Add the parser of ``hierseg recipe``."""
    parser = subparsers.add_parser("recipe", help="make the models that the repository ships", description=__doc__)
    recipes = parser.add_subparsers(dest="recipe", metavar="RECIPE", required=True)
    start = recipes.add_parser("brain-start", help="the small brain bundle to start from")
    steps = start.add_subparsers(dest="step", metavar="STEP", required=True)

    build = steps.add_parser("build", help="make the class maps that images are synthesized from")
    build.add_argument("--out", type=Path, required=True, help="folder for the class maps")
    build.add_argument("--samseg-python", required=True, help="Python with samseg==0.4a0, numpy<2, scipy")

    train = steps.add_parser("train", help="train, or go on where a stopped training was")
    train.add_argument("--maps", type=Path, required=True)
    train.add_argument("--out", type=Path, required=True, help="run folder")
    train.add_argument("--iterations", type=int, default=3400)
    train.add_argument("--seed", type=int, default=7)
    train.add_argument("--threads", type=int, default=os.cpu_count() or 1)

    bundle = steps.add_parser("bundle", help="write the bundle from a run")
    bundle.add_argument("--run", dest="run_folder", type=Path, required=True)
    bundle.add_argument("--out", type=Path, required=True)
    bundle.add_argument("--maps", type=Path, help="class maps, to measure whether tiles without brain may be left out")
    bundle.add_argument("--results", type=Path, help="JSON of 'evaluate', for the model card")

    evaluate = steps.add_parser("evaluate", help="score a bundle on scans with references")
    evaluate.add_argument("--bundle", type=Path, required=True)
    evaluate.add_argument("--scan", action="append", required=True, metavar="NAME=IMAGE,REFERENCE[,WHAT]")
    evaluate.add_argument("--reference-tree", type=Path, help="tree of the references; the bundle's if left out")
    evaluate.add_argument("--out", type=Path, help="write the JSON here as well")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run one step of a recipe."""
    return {"build": _build, "train": _train, "bundle": _bundle, "evaluate": _evaluate}[arguments.step](arguments)


def _build(arguments: argparse.Namespace) -> int:
    from hierseg.recipes.brain_start import build

    build(arguments.out, arguments.samseg_python)
    print(f"class maps are in {arguments.out}")
    return 0


def _train(arguments: argparse.Namespace) -> int:
    from hierseg.recipes.brain_start import PATCH, start_tree
    from hierseg.recipes.brain_start_train import train

    if not (arguments.maps / "living.npz").is_file():
        raise ConfigError(f"{arguments.maps}: there are no class maps; run 'hierseg recipe brain-start build' first.")
    arguments.out.mkdir(parents=True, exist_ok=True)
    checkpoint = train(
        start_tree(),
        arguments.maps,
        arguments.out,
        iterations=arguments.iterations,
        patch=PATCH,
        seed=arguments.seed,
        threads=arguments.threads,
    )
    print(f"weights are in {checkpoint}; 'hierseg recipe brain-start bundle --run {arguments.out}' packs them")
    return 0


def _bundle(arguments: argparse.Namespace) -> int:
    from hierseg.recipes.brain_start import pack

    results = json.loads(arguments.results.read_text(encoding="utf-8")) if arguments.results else None
    bundle = pack(arguments.run_folder / "checkpoint.pt", arguments.out, results, arguments.maps)
    print(f"{bundle.id}: {bundle.weights.stat().st_size / 1e6:.1f} MB of weights in {bundle.folder}")
    return 0


def _evaluate(arguments: argparse.Namespace) -> int:
    from hierseg.atomic import write_json
    from hierseg.bundle import Bundle
    from hierseg.labeltree import LabelTree
    from hierseg.recipes.brain_start_evaluate import evaluate, parse_case

    bundle = Bundle.open(arguments.bundle)
    tree = LabelTree.load(arguments.reference_tree) if arguments.reference_tree else bundle.tree
    results = evaluate(bundle, [parse_case(text) for text in arguments.scan], tree)
    if arguments.out:
        write_json(arguments.out, results)
    print(json.dumps(results, indent=1))
    return 0
