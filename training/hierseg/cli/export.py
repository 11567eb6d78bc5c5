"""``hierseg export``: dataset folders into other formats."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hierseg.cli._shared import AddFormat, add_formats, counting

if TYPE_CHECKING:
    from hierseg.dataset import Dataset
    from hierseg.exporters.writing import Exporter

_EPILOG = (
    "What the other format cannot hold is printed and written to what-was-lost.md beside the data, one sentence each. "
    "Exit code 2: nothing could be exported."
)


def add_parser(subparsers: Any) -> None:
    """Add the subcommand's parser."""
    kinds = add_formats(
        subparsers,
        "export",
        "turn a dataset folder into another format",
        "Writes a dataset folder in the format of another program and says what is lost.",
        _EPILOG,
    )
    nnunet = _kind(kinds, "nnunet", "nnU-Net's raw data set, with regions and ignore", "DatasetXXX_Name")
    nnunet.add_argument("--flat", action="store_true", help="leaves as plain labels, no regions for their superclasses")
    _kind(kinds, "decathlon", "a task of the Medical Segmentation Decathlon, a datalist of MONAI", "DIR")
    bids = _kind(kinds, "bids", "BIDS: images as a raw data set, label maps as derivatives in it", "DIR")
    bids.add_argument(
        "--suffix",
        action="append",
        default=[],
        metavar="CHANNEL=SUFFIX",
        help="BIDS's name of a channel, such as T1w or ce-gadolinium_T1w; empty: leave its images out",
    )


def _kind(kinds: AddFormat, name: str, what: str, out: str) -> argparse.ArgumentParser:
    parser = kinds(name, what, "Writes")
    parser.add_argument("dataset", type=Path, metavar="DATASET", help="a dataset folder")
    parser.add_argument("--out", type=Path, required=True, metavar=out, help="a new or empty folder")
    parser.add_argument(
        "--resample",
        action="store_true",
        help="bring what lies on another grid onto that of the first channel instead of leaving the case out",
    )
    parser.add_argument("--json", action="store_true", help="print what was made and lost as JSON")
    parser.set_defaults(run=run)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Export and say what was lost."""
    from hierseg.dataset import Dataset
    from hierseg.exporters.writing import export_dataset

    dataset = Dataset.open(arguments.dataset)
    exporter = _exporter(arguments, dataset)
    with counting(len(dataset.cases()), "case", f"export {arguments.kind}") as show:
        made = export_dataset(dataset, arguments.out, exporter, bring=arguments.resample, progress=show)
    if arguments.json:
        print(json.dumps(made.to_dict(), ensure_ascii=False))
    else:
        print(f"{made.folder}: {len(made.cases)} cases exported, {len(made.refused)} left out")
        for sentence in made.lost:
            print(f"  {sentence}")
        for name, reason in made.refused.items():
            print(f"  left out {name}: {reason}")
    return 0


def _exporter(arguments: argparse.Namespace, dataset: Dataset) -> Exporter:
    from hierseg.errors import ConfigError

    if arguments.kind == "nnunet":
        from hierseg.exporters.nnunet import NnunetExporter

        return NnunetExporter(dataset, arguments.flat)
    if arguments.kind == "decathlon":
        from hierseg.exporters.decathlon import DecathlonExporter

        return DecathlonExporter()
    from hierseg.exporters.bids import BidsExporter

    suffixes = {}
    for given in arguments.suffix:
        channel, sign, suffix = given.partition("=")
        if not sign:
            raise ConfigError(f"--suffix is {given!r}; give CHANNEL=SUFFIX.")
        suffixes[channel] = suffix
    return BidsExporter(dataset, suffixes)
