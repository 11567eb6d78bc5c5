"""``hierseg import``: published data sets into dataset folders."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hierseg.cli._shared import AddFormat, add_formats, counting

if TYPE_CHECKING:
    from hierseg.importers.source import Source
    from hierseg.labeltree import LabelTree

EXIT_NOTHING = 2
_GROUP = "finds the patient in a case's name, for example '^[^_]+'; default: a case is a patient"
_EPILOG = (
    "One case is in memory at a time. An import that was stopped goes on when the same command is run again: what is "
    "there and unchanged is kept, and a case that was annotated since is never overwritten. What was refused, and why, "
    "is printed and written to import-report.json and import-report.txt in the dataset folder. "
    "Exit code 0: the folder has at least one of the cases, though others may have been refused; "
    "2: nothing could be imported, or the folder holds no such data set."
)


def add_parser(subparsers: Any) -> None:
    """Add the subcommand's parser."""
    kinds = add_formats(
        subparsers,
        "import",
        "turn other formats into a dataset folder",
        "Reads a data set as it was published and makes a dataset folder of it, which 'hierseg train' takes.",
        _EPILOG,
    )
    acdc = _kind(kinds, "acdc", "ACDC, cardiac MR: patients' folders with Info.cfg")
    acdc.add_argument(
        "--split",
        choices=["ssl4mis", "official"],
        default="ssl4mis",
        help="ssl4mis: 70, 10 and 20 of the 100 patients, as the paper uses (140, 20 and 40 scans); official: those in 'testing' are the test",
    )
    brats = _kind(kinds, "brats2021", "BraTS 2021, glioma MR: a folder a case with flair, t1, t1ce, t2 and seg")
    brats.add_argument(
        "--split",
        choices=["paper", "none"],
        default="paper",
        help="paper: 70, 10 and 20 of 100 cases, drawn from --seed (876, 125, 250 of 1251); none: all for training",
    )
    for name, what in (
        ("nnunet", "nnU-Net's raw data sets: imagesTr, labelsTr, dataset.json with regions and ignore"),
        ("decathlon", "the Medical Segmentation Decathlon and MONAI's datalists"),
    ):
        kind = _kind(kinds, name, what)
        kind.add_argument("--group", metavar="REGEX", help=_GROUP)
    kind = _kind(
        kinds,
        "seg-nrrd",
        "images with segmentations that 3D Slicer saved beside them, .seg.nrrd, with the tags of HierSubclassSeg or plain",
    )
    kind.add_argument("--group", metavar="REGEX", help=_GROUP)
    kind.add_argument(
        "--channels", default="image", metavar="A,B", help="names of the channels; images are CASE.* or CASE_CHANNEL.*"
    )
    kind.add_argument(
        "--complete",
        action="store_true",
        help="everything was segmented: what no segment covers is background (default: nothing is known there, but in slices marked complete)",
    )


def _kind(kinds: AddFormat, name: str, what: str) -> argparse.ArgumentParser:
    parser = kinds(name, what, "Imports")
    parser.add_argument("source", type=Path, metavar="SOURCE", help="the data set's folder")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="the dataset folder to make, or to go on with"
    )
    parser.add_argument(
        "--tree", metavar="TREE", help="a label_tree.json, or the name of a shipped tree, instead of the data set's own"
    )
    parser.add_argument(
        "--fine",
        type=int,
        metavar="N",
        help="N patients (groups) of the training cases keep their subclass labels, the others get superclass labels; validation and test stay fine (default: all keep them)",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="what is drawn, is drawn from it (default: 0)")
    parser.add_argument(
        "--fine-order",
        choices=["drawn", "listed"],
        default="drawn",
        help="which patients --fine keeps: drawn, or the first ones of the data set's list (acdc: as SSL4MIS's code takes them)",
    )
    parser.add_argument(
        "--resample",
        action="store_true",
        help="bring channels and label maps on other grids onto that of the first channel instead of refusing the case",
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.set_defaults(run=run)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Import and say what became of each case."""
    from hierseg.importers.writing import Options, import_cases

    options = Options(arguments.fine, arguments.seed, arguments.fine_order, arguments.resample)
    options.check()
    source = _source(arguments)
    with counting(len(source.cases), "case", f"import {source.kind}") as show:
        report = import_cases(source, arguments.out, options, show)
    if arguments.json:
        print(json.dumps(report.to_dict()))
    else:
        print(report.summary(), end="")
        if report.there:
            print(f"  each case: {arguments.out / 'import-report.txt'}")
            print(f"  next: hierseg train {arguments.out} --out RUN")
        else:
            print("  nothing could be imported")
    return 0 if report.there else EXIT_NOTHING


def _source(arguments: argparse.Namespace) -> Source:
    folder, kind = arguments.source, arguments.kind
    if kind == "acdc":
        from hierseg.importers.acdc import acdc_source

        return acdc_source(folder, _tree(arguments.tree, kind), arguments.split)
    if kind == "brats2021":
        from hierseg.importers.brats import brats_source

        return brats_source(folder, _tree(arguments.tree, kind), arguments.split, arguments.seed)
    tree = None if arguments.tree is None else _tree(arguments.tree, arguments.tree)
    if kind == "nnunet":
        from hierseg.importers.nnunet import nnunet_source

        return nnunet_source(folder, tree, arguments.group)
    if kind == "seg-nrrd":
        from hierseg.importers.seg_nrrd_folder import seg_nrrd_source

        channels = [name.strip() for name in arguments.channels.split(",") if name.strip()]
        return seg_nrrd_source(folder, tree, channels, arguments.group, arguments.complete)
    from hierseg.importers.decathlon import decathlon_source

    return decathlon_source(folder, tree, arguments.group)


def _tree(given: str | None, shipped: str) -> LabelTree:
    """The tree that was given, else the shipped one of the data set."""
    from hierseg import resources
    from hierseg.cli.tree import find_tree
    from hierseg.labeltree import LabelTree

    return LabelTree.load(resources.path("label_trees", shipped) if given is None else find_tree(given))
