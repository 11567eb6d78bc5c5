"""``hierseg train``: train or fine-tune a model on a dataset folder."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from hierseg.engine.settings import HOLD_OUT_KINDS, METHODS


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser(
        "train",
        help="train or fine-tune a model on a dataset folder",
        description="Train a model on a dataset folder and write a bundle. The run folder can be watched (status.json, events.jsonl, tensorboard/) "
        "and stopped (put a file named 'stop' into it); Ctrl-C saves a checkpoint, --resume goes on from it.",
        epilog="Settings are explained in training/README.md; a shipped configuration is named without its folder: --config finetune",
    )
    parser.add_argument("dataset", help="dataset folder")
    parser.add_argument(
        "--out",
        required=True,
        metavar="RUN",
        help="run folder: new or empty, or with --resume that of the run to go on with",
    )
    parser.add_argument("--config", metavar="F", help="YAML file of settings, or the name of a shipped one")
    parser.add_argument("--method", choices=METHODS, help="training method (setting 'method')")
    parser.add_argument(
        "--init",
        metavar="BUNDLE",
        help="bundle to start from, a folder or the name of a model; its label tree may differ",
    )
    parser.add_argument("--resume", action="store_true", help="go on with the run in RUN")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change one setting, e.g. --set losses.marginal=1; may be repeated",
    )
    parser.add_argument(
        "--hold-out-each",
        choices=HOLD_OUT_KINDS,
        help="train once for each leaf, or top-level node, hidden from the training, and tell how well each is noticed",
    )
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:1 or mps")
    parser.add_argument(
        "--threads", type=int, help="CPU threads to compute with; default: one less than there are cores"
    )
    parser.add_argument(
        "--background",
        action="store_true",
        help="low priority, and wait while a prediction worker is busy on this computer",
    )
    parser.add_argument("--name", help="name of the bundle")
    parser.add_argument("--json", action="store_true", help="print the result as JSON on standard output")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    from hierseg.cli.predict import open_bundle
    from hierseg.courtesy import lower_priority
    from hierseg.engine import train
    from hierseg.engine.config import parse_overrides, read_config_file

    settings: dict[str, Any] = read_config_file(arguments.config) if arguments.config else {}
    overrides = parse_overrides(arguments.set)
    if arguments.method:
        overrides["method"] = arguments.method
    for key, value in overrides.items():
        settings[key] = (
            {**settings[key], **value} if isinstance(value, dict) and isinstance(settings.get(key), dict) else value
        )
    if arguments.background:
        lower_priority()
    if arguments.hold_out_each:
        return _hold_out_each(arguments, settings)
    bar = None if arguments.quiet else _Bar()
    try:
        result = train(
            arguments.dataset, arguments.out, settings,
            init=open_bundle(arguments.init) if arguments.init else None,
            resume=arguments.resume, progress=bar, device=arguments.device, threads=arguments.threads, name=arguments.name,
            background=arguments.background,
        )  # fmt: skip
    finally:
        if bar is not None:
            bar.close()
    scores = None
    if result.measurement is not None:
        measured = next(iter(result.measurement.scores.values()))
        scores = {node: result.measurement.mean(node) for node in measured}
    if arguments.json:
        print(json.dumps({
            "state": result.state, "iterations": result.iterations, "run": str(result.folder), "bundle": str(result.bundle),
            "best": result.best, "dice": scores, "seconds": round(result.seconds, 1), "notes": list(result.notes),
            "out_of_distribution": None if result.out_of_distribution is None else result.out_of_distribution.to_dict(),
        }, ensure_ascii=False))  # fmt: skip
        return 0
    print(f"{result.state.capitalize()} after {result.iterations} iterations. The model: {result.bundle}")
    if bar is None:
        for note in result.notes:
            print(f"  {note}")
    if scores is None:
        print("Not measured: no validation case.")
    else:
        width = max(len(node) for node in scores)
        print("On what was held out:")
        for node, score in scores.items():
            print(f"  {node:<{width}}  {'not annotated there' if score is None else f'Dice {score:.3f}'}")
    return 0


def _hold_out_each(arguments: argparse.Namespace, settings: dict[str, Any]) -> int:
    from hierseg.dataset import Dataset
    from hierseg.engine.hold_out_each import hold_out_each
    from hierseg.errors import ConfigError

    if arguments.init or arguments.resume:
        raise ConfigError(
            "--hold-out-each begins every training anew and goes on by itself; leave out --init and --resume."
        )
    table = hold_out_each(
        Dataset.open(arguments.dataset), arguments.out, settings, arguments.hold_out_each,
        device=arguments.device, threads=arguments.threads, say=lambda text: print(text, file=sys.stderr),
    )  # fmt: skip
    if arguments.json:
        print(json.dumps(table, ensure_ascii=False))
        return 0
    width = max(len(name) for name in table["classes"])
    print(f"{'hidden':<{width}}  AUROC  FPR at 95 % TPR")
    for name, row in [*table["classes"].items(), ("mean", table["mean"])]:
        shown = "not in the validation cases" if row.get("auroc") is None else f"{row['auroc']:.3f}  {row['fpr95']:.3f}"
        print(f"{name:<{width}}  {shown}")
    return 0


class _Bar:
    """A progress bar on standard error, with what is going on and the notes of the run."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._said = ""

    def __call__(self, status: dict[str, Any]) -> None:
        from tqdm import tqdm

        if (
            status["state"] in ("starting", "running")
            and status["message"]
            and status["message"] != self._said
            and not status["stage"].startswith("preparing")
        ):
            self._said = status["message"]
            tqdm.write(self._said, file=sys.stderr)
        if status["state"] == "starting":
            return
        if self._bar is None:
            self._bar = tqdm(
                total=status["iterations"],
                initial=status["iteration"],
                desc="training",
                unit="it",
                file=sys.stderr,
                dynamic_ncols=True,
                mininterval=0.5,
            )
        self._bar.set_description(status["stage"], refresh=False)
        if status["best"] is not None:
            self._bar.set_postfix({"best": f"{status['best']:.3f}"}, refresh=False)
        self._bar.update(status["iteration"] - self._bar.n)

    def close(self) -> None:
        """Leave the bar where it is."""
        if self._bar is not None:
            self._bar.close()
