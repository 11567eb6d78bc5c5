"""``hierseg bench``: time parts of the program and print the result as JSON."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hierseg.errors import ConfigError


def add_parser(subparsers: Any) -> None:
    """Add the subcommand's parser."""
    parser = subparsers.add_parser(
        "bench",
        help="time the prediction stage by stage, a training, or the losses",
        description="Time a part of the program several times and print the medians and spreads as JSON.",
        epilog="benchmarks: " + "; ".join(f"{name}: {what}" for name, (_, what) in BENCHMARKS.items()),
    )
    parser.add_argument("benchmark", nargs="?", default="predict", choices=list(BENCHMARKS), help="(default: predict)")
    parser.add_argument("dataset", nargs="?", help="of training: a dataset folder")
    parser.add_argument("--config", metavar="F", help="of training: settings, as for 'hierseg train'")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="of training: change one setting; may be repeated",
    )
    parser.add_argument(
        "--iterations", type=int, default=30, help="of training: iterations of a timed round (default: 30)"
    )
    parser.add_argument("--bundle", help="a bundle's folder or name (default: a random network)")
    parser.add_argument("--image", type=Path, help="an image file or DICOM folder (default: a generated one)")
    parser.add_argument(
        "--size", type=int, default=128, help="edge of the generated image, or patch, in voxels (default: 128)"
    )
    parser.add_argument("--leaves", type=int, default=16, help="leaves of the random network (default: 16)")
    parser.add_argument("--runs", type=int, default=3, help="timed runs after the warm-up (default: 3)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 or mps (default: auto)")
    parser.add_argument("--threads", type=int, metavar="N", help="processor threads (default: all cores but one)")
    parser.add_argument("--seed", type=int, default=0, help="(default: 0)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the JSON to this file as well")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run one benchmark.

    Raises:
        ConfigError: a number is out of range.
    """
    for name, least in (("size", 8), ("leaves", 2), ("runs", 1), ("iterations", 1)):
        if getattr(arguments, name) < least:
            raise ConfigError(f"--{name} is {getattr(arguments, name)}; give {least} or more.")
    if (arguments.benchmark == "training") != (arguments.dataset is not None):
        raise ConfigError("'hierseg bench training' needs a dataset folder, and the other benchmarks take none.")
    result = BENCHMARKS[arguments.benchmark][0](arguments)
    if arguments.out is not None:
        from hierseg.atomic import write_json

        write_json(arguments.out, result)
    print(json.dumps(result, indent=1))
    return 0


def _predict(arguments: argparse.Namespace) -> dict[str, Any]:
    from hierseg.cli.predict import open_bundle, set_threads
    from hierseg.inference.benchmark import bench_predict

    bundle = open_bundle(arguments.bundle) if arguments.bundle else None
    set_threads(arguments.threads)
    return bench_predict(
        bundle,
        arguments.image,
        size=arguments.size,
        leaves=arguments.leaves,
        runs=arguments.runs,
        device=arguments.device,
        seed=arguments.seed,
        say=lambda text: print(f"bench predict: {text}", file=sys.stderr),
    )


def _training(arguments: argparse.Namespace) -> dict[str, Any]:
    from hierseg.cli.predict import set_threads
    from hierseg.engine.benchmark import bench_training
    from hierseg.engine.config import TrainConfig, parse_overrides, read_config_file

    given = read_config_file(arguments.config) if arguments.config else {}
    settings = TrainConfig.from_dict(given, parse_overrides(arguments.set)).to_dict()
    set_threads(arguments.threads)
    return bench_training(
        arguments.dataset,
        settings,
        iterations=arguments.iterations,
        rounds=arguments.runs,
        device=arguments.device,
        say=lambda text: print(f"bench training: {text}", file=sys.stderr),
    )


def _losses(arguments: argparse.Namespace) -> dict[str, Any]:
    from hierseg.losses.benchmark import bench_losses

    return bench_losses(
        size=arguments.size,
        leaves=arguments.leaves,
        runs=arguments.runs,
        device=arguments.device,
        seed=arguments.seed,
        say=lambda text: print(f"bench losses: {text}", file=sys.stderr),
    )


BENCHMARKS: dict[str, tuple[Callable[[argparse.Namespace], dict[str, Any]], str]] = {
    "predict": (_predict, "load, preprocess, network, decode and restore of one image"),
    "training": (_training, "samples a second with and without loading, and where the time of a training goes"),
    "losses": (_losses, "forward and backward of every loss: memory beyond the logits and their gradient, and seconds"),
}
"""Name → (function of the parsed arguments, what is timed)."""
