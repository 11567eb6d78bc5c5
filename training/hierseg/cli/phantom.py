"""``hierseg phantom``: a synthetic data set with known truth."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from hierseg.cli._shared import counting


def add_parser(subparsers: Any) -> None:
    """Add the subcommand's parser."""
    parser = subparsers.add_parser(
        "phantom",
        help="make a synthetic data set with known truth",
        description=(
            "Makes images and their exact label maps from a seed: the same command gives the same bytes. "
            "acdc: cardiac short-axis MR, two frames a patient; brats: four-channel MR with a glioma; "
            "brain: heads in the structures of the start model, with random contrast; hyperspectral: scenes of surgery in 32 bands, "
            "training scenes with a few strokes, without a background, and with materials that are in no class."
        ),
        epilog="Example: hierseg phantom acdc --cases 10 --fine 2 --out phantom && hierseg train phantom --out run",
    )
    parser.add_argument("kind", choices=["acdc", "brats", "brain", "hyperspectral"], help="which kind of phantom")
    parser.add_argument("--cases", type=int, required=True, metavar="N", help="how many subjects to make")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new or empty folder")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="what everything is drawn from (default: 0)")
    parser.add_argument(
        "--fine",
        type=int,
        metavar="N",
        help="only N subjects keep their subclass labels, the others get superclass labels (default: all keep them)",
    )
    parser.add_argument(
        "--test", type=int, default=0, metavar="N", help="N more subjects, in the split 'test' (default: 0)"
    )
    parser.add_argument(
        "--size", type=int, metavar="N", help="voxels along the longest side (default: as in the original data set)"
    )
    parser.add_argument("--difficulty", type=float, default=0.5, metavar="D", help="0 (easy) to 1 (hard); default: 0.5")
    parser.add_argument(
        "--raw",
        action="store_true",
        help="write the published layout of ACDC or BraTS 2021 instead of a dataset folder",
    )
    parser.add_argument(
        "--dense", action="store_true", help="hyperspectral: training scenes carry their dense truth, too, not strokes"
    )
    parser.add_argument("--json", action="store_true", help="print what was made as JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Make the data set and say where it is."""
    from hierseg.phantoms.writing import Request, make_phantom

    request = Request(
        kind=arguments.kind,
        cases=arguments.cases,
        test=arguments.test,
        fine=arguments.fine,
        seed=arguments.seed,
        size=arguments.size,
        difficulty=arguments.difficulty,
        raw=arguments.raw,
        dense=arguments.dense,
    )
    request.check()
    with counting(request.cases + request.test, "subject", f"{request.kind} phantom") as show:
        made = make_phantom(request, arguments.out, show)
    if arguments.json:
        print(json.dumps(made))
        return 0
    layout = "published layout" if request.raw else "dataset folder"
    print(f"{made['folder']}: {layout} with {made['scans']} scans of {made['subjects']} subjects")
    if not request.raw:
        print(f"  {made['fine_scans']} with subclass labels, {made['coarse_scans']} with superclass labels only")
        print(f"  next: hierseg train {made['folder']} --out RUN")
    return 0
