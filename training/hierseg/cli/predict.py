"""``hierseg predict``: segment images with a model bundle."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from hierseg.courtesy import terminable, usable_cores
from hierseg.errors import BundleError, ConfigError, DatasetError, HiersegError, ImageError

if TYPE_CHECKING:
    from hierseg.bundle import Bundle
    from hierseg.inference import Prediction, Predictor

_DESCRIPTION = """\
Segment images with a model bundle.

BUNDLE is a bundle's folder, or the name (or name@version) of an installed or shipped one.
A CASE is an image file (.nii.gz, .nii, .nrrd, .nhdr, .mha, .mhd), a folder with a DICOM series,
or, for a model with several channels, FLAIR=a.nii.gz,T1=b.nii.gz.

Each case gives, in the folder of --out, on the case's own grid:
  <case>_labels.nii.gz       node values of the label tree
  <case>_superclass.nii.gz   values of the top-level nodes
  <case>_confidence.nii.gz   with --confidence: the probability of the chosen leaf
  <case>.json                geometry, volumes in ml, mean confidence, seconds by stage
An image with frames (4D) gives 4D label maps, each frame predicted by itself.
"""
_STAGE_SHARE = {"load": 0.02, "preprocess": 0.03, "network": 0.80, "restore": 0.13, "write": 0.02}


@dataclass(frozen=True)
class _Job:
    """One case: its name and one image a channel, in the model's order."""

    name: str
    images: tuple[Path, ...]


def add_parser(subparsers: Any) -> None:
    """Add the subcommand's parser."""
    parser = subparsers.add_parser(
        "predict",
        help="segment images with a model bundle",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("bundle", metavar="BUNDLE", help="a bundle's folder, or the name of an installed one")
    parser.add_argument("cases", metavar="CASE", nargs="*", help="an image, a DICOM folder, or NAME=FILE,NAME=FILE")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the results go")
    parser.add_argument("--dataset", type=Path, metavar="DIR", help="predict the cases of a dataset folder")
    parser.add_argument("--split", help="with --dataset: only cases of this split (training, validation, test)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 or mps (default: auto)")
    parser.add_argument("--threads", type=int, metavar="N", help="processor threads (default: all cores but one)")
    parser.add_argument(
        "--decode",
        choices=("hierarchical", "leaf"),
        default="hierarchical",
        help="who decides on the superclass: its own output, or the leaves alone",
    )
    parser.add_argument("--exhaustive", action="store_true", help="compute every tile, also those without structures")
    parser.add_argument(
        "--all-pieces",
        action="store_true",
        help="leave pieces apart from the largest also of the structures that the bundle says are one piece",
    )
    parser.add_argument(
        "--backend",
        default="auto",
        metavar="NAME",
        help="how the network is run: torch, channels_first, channels_last, openvino, compile (default: auto, by measuring)",
    )
    parser.add_argument("--confidence", action="store_true", help="write the confidence as well")
    parser.add_argument(
        "--dry-run", action="store_true", help="only say how much memory each case needs; no voxel is read"
    )
    parser.add_argument("--json", action="store_true", help="print the results as JSON on stdout")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Predict every case; a case that fails is told at once and the others go on.

    Returns:
        0, or 2 if a case failed.
    """
    bundle = open_bundle(arguments.bundle)
    jobs = _jobs(arguments, bundle)
    set_threads(arguments.threads)
    from hierseg.inference import Predictor

    predictor = Predictor(bundle, device=arguments.device, backend=arguments.backend)
    from hierseg.atomic import clear_unfinished

    clear_unfinished(arguments.out, *(f"_{kind}.nii.gz" for kind in ("labels", "superclass", "confidence")), ".json")
    results: list[dict[str, Any]] = []
    failed = 0
    with terminable(), _Bar(len(jobs)) as bar:
        for job in jobs:
            bar.start(job.name)
            try:
                results.append(_predict(job, predictor, bundle, arguments, bar))
            except HiersegError as error:
                failed += 1
                bar.say(f"hierseg: {error.sentence}" + (f"\n  {error.hint}" if error.hint else ""))
                results.append(
                    {
                        "case": job.name,
                        "error": {
                            "kind": error.kind,
                            "code": error.code,
                            "sentence": error.sentence,
                            "hint": error.hint,
                        },
                    }
                )
            bar.end()
    if arguments.json:
        print(json.dumps(results, indent=1))
    else:
        _show(results, arguments.out)
    return 2 if failed else 0


def open_bundle(name: str) -> Bundle:
    """Open a bundle by its folder, or by the name or id of an installed or shipped one.

    Raises:
        BundleError: there is none, or it is damaged.
    """
    from hierseg.bundle import Bundle, list_bundles

    if Path(name).is_dir():
        return Bundle.open(name)
    found = [bundle for bundle in list_bundles() if isinstance(bundle, Bundle)]
    matching = [bundle for bundle in found if name in (bundle.name, bundle.id, bundle.folder.name)]
    if not matching:
        known = ", ".join(sorted({bundle.id for bundle in found})) or "none"
        raise BundleError(
            f"{name}: there is no such bundle folder and no installed bundle of that name; installed are: {known}."
        )
    newest = max(
        matching, key=lambda bundle: [int(part) for part in bundle.version.split("-")[0].split("+")[0].split(".")[:3]]
    )
    return Bundle.open(newest.folder)


def set_threads(threads: int | None = None) -> None:
    """Let torch use ``threads`` cores; by default all but one, so that the machine stays usable.

    Raises:
        ConfigError: fewer than 1.
    """
    import os

    import torch

    if threads is not None and threads < 1:
        raise ConfigError(f"--threads is {threads}; give 1 or more.")
    cores = usable_cores()
    if threads is not None or not os.environ.get("OMP_NUM_THREADS"):
        torch.set_num_threads(threads or max(1, cores - 1))


# -- cases ----------------------------------------------------------------------------------------------------------


def _jobs(arguments: argparse.Namespace, bundle: Bundle) -> list[_Job]:
    channels = [str(channel["name"]) for channel in bundle.config["channels"]]
    if bool(arguments.cases) == (arguments.dataset is not None):
        raise ConfigError("give either cases or --dataset DIR.")
    if arguments.split and arguments.dataset is None:
        raise ConfigError("--split goes with --dataset.")
    if arguments.dataset is not None:
        return _dataset_jobs(arguments.dataset, arguments.split, channels)
    return _named([_Job("", parse_case(text, channels)) for text in arguments.cases])


def parse_case(text: str, channels: Sequence[str]) -> tuple[Path, ...]:
    """The images of a CASE, in the order of the model's channels; every one exists.

    Args:
        text: a path, or ``NAME=FILE,NAME=FILE``.
        channels: the names of the model's channels.

    Raises:
        ImageError: channels are missing, unknown or given twice, or a file is not there.
    """
    example = ",".join(f"{name}=FILE" for name in channels)
    if Path(text).exists() or "=" not in text:
        if len(channels) > 1:
            raise ImageError(
                f"{text}: 1 image given, but the model expects {len(channels)} channels: {', '.join(channels)}; give {example}."
            )
        paths = [Path(text)]
    else:
        given: dict[str, str] = {}
        for part in text.split(","):
            name, sign, file = part.partition("=")
            if not sign:  # a comma inside a file name
                raise ImageError(f"{text}: '{part}' is not NAME=FILE; give {example}.")
            key = next((channel for channel in channels if channel.casefold() == name.strip().casefold()), None)
            if key is None:
                raise ImageError(
                    f"{text}: the model has no channel '{name.strip()}'; its channels are {', '.join(channels)}; give {example}."
                )
            if key in given:
                raise ImageError(f"{text}: the channel '{key}' is given twice; give {example}.")
            given[key] = file
        missing = [channel for channel in channels if channel not in given]
        if missing:
            raise ImageError(
                f"{text}: {len(given)} of {len(channels)} channels given, {', '.join(missing)} missing; give {example}."
            )
        paths = [Path(given[channel]) for channel in channels]
    for path in paths:
        if not path.exists():
            raise ImageError(f"{path}: there is no such file or folder; check the path.")
    return tuple(paths)


def _named(jobs: list[_Job]) -> list[_Job]:
    """Name each case after its first image; where names collide, the folder's name goes before it."""
    from hierseg.imageio import image_stem

    names = [image_stem(job.images[0]) for job in jobs]
    if len(set(names)) < len(names):
        names = [f"{job.images[0].resolve().parent.name}_{name}" for job, name in zip(jobs, names, strict=True)]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ImageError(f"two cases would both be written as '{twice}'; predict them into different folders.")
    return [replace(job, name=name) for job, name in zip(jobs, names, strict=True)]


def _dataset_jobs(folder: Path, split: str | None, channels: Sequence[str]) -> list[_Job]:
    from hierseg.dataset import Dataset

    dataset = Dataset.open(folder)
    own = [name.casefold() for name in dataset.channels]
    wanted = [name.casefold() for name in channels]
    if len(own) == len(wanted) == 1:
        order = [0]  # the only channel is the channel, whatever it is called
    elif set(wanted) <= set(own):
        order = [own.index(name) for name in wanted]
    else:
        raise DatasetError(
            f"{folder}: the dataset's channels are {', '.join(dataset.channels)}, but the model expects {', '.join(channels)}; use a matching dataset or model."
        )
    cases = dataset.cases(split)
    if not cases:
        raise DatasetError(
            f"{folder}: there is no case{f' in the split {split!r}' if split else ''}; choose another split or dataset."
        )
    return [_Job(case.id, tuple(dataset.image_paths(case)[index] for index in order)) for case in cases]


# -- one case -------------------------------------------------------------------------------------------------------


def _predict(
    job: _Job, predictor: Predictor, bundle: Bundle, arguments: argparse.Namespace, bar: _Bar
) -> dict[str, Any]:
    from hierseg.imageio import read_volume
    from hierseg.inference.estimate import estimate_files

    memory = estimate_files(predictor, job.images)
    notes = [] if memory is None else memory.notes(str(job.images[0]))
    needed = {} if memory is None else {"memory_gb": memory.report()}
    if arguments.dry_run:
        return {"case": job.name, "images": [str(path) for path in job.images], "notes": notes, **needed}
    began = time.perf_counter()
    volumes = [read_volume(path) for path in job.images]
    loaded = time.perf_counter() - began
    bar.progress("load", 1.0)
    prediction = predictor.predict(
        volumes,
        bar.progress,
        decode=arguments.decode,
        one_piece=() if arguments.all_pieces else None,
        exhaustive=arguments.exhaustive,
    )
    began = time.perf_counter()
    outputs = {"labels": prediction.labels, "superclass": prediction.superclass}
    if arguments.confidence:
        outputs["confidence"] = prediction.confidence.round(3)
    report = _report(job, prediction, bundle, str(predictor.device))
    report["work"] = prediction.work
    report["stages_s"] = {"load": loaded, **prediction.stages}
    report["notes"] = [*notes, *report["notes"]]
    report |= needed
    written = _write(arguments.out, job.name, outputs, prediction, report, began)
    bar.progress("write", 1.0)
    return written


def _report(job: _Job, prediction: Prediction, bundle: Bundle, device: str) -> dict[str, Any]:
    from hierseg import __version__
    from hierseg.imageio import spacing_of

    notes = list(prediction.notes)
    if prediction.labels.ndim == 4:
        notes.append(
            f"{job.images[0]}: {prediction.labels.shape[3]} frames, each predicted by itself; the label maps are 4D."
        )
    return {
        "case": job.name,
        "images": [str(path) for path in job.images],
        "bundle": bundle.id,
        "tree": prediction.tree.fingerprint,
        "hierseg": __version__,
        "device": device,
        "geometry": {
            "shape": list(prediction.labels.shape),
            "spacing_mm": [round(value, 6) for value in spacing_of(prediction.affine)],
            "affine_ras": prediction.affine.tolist(),
        },
        "volumes_ml": prediction.volumes_ml(),
        "mean_confidence": round(float(prediction.confidence.mean()), 4),
        "mean_confidence_by_node": prediction.mean_confidence(),
        "notes": notes,
    }


def _write(
    folder: Path, name: str, outputs: dict[str, Any], prediction: Prediction, report: dict[str, Any], began: float
) -> dict[str, Any]:
    """Write all files of a case, or none: they appear when the last one is complete."""
    from hierseg.atomic import replacing, write_json
    from hierseg.imageio import write_volume

    targets = {kind: folder / f"{name}_{kind}.nii.gz" for kind in outputs}
    try:
        with contextlib.ExitStack() as stack:
            for kind, array in outputs.items():
                staged = stack.enter_context(replacing(targets[kind]))
                write_volume(staged, array, prediction.affine, shown=targets[kind])
            report["stages_s"]["write"] = time.perf_counter() - began
            report["stages_s"] = {stage: round(seconds, 3) for stage, seconds in report["stages_s"].items()}
            report["outputs"] = {kind: path.name for kind, path in targets.items()}
            write_json(stack.enter_context(replacing(folder / f"{name}.json")), report)
    except (FileExistsError, NotADirectoryError) as error:
        raise ConfigError(f"{folder}: this is a file, not a folder; give another folder as --out.") from error
    return report


def _show(results: Sequence[dict[str, Any]], folder: Path) -> None:
    for result in results:
        if "error" in result:
            continue
        if "outputs" not in result:
            print(f"{result['case']}: {_gigabytes(result.get('memory_gb'))}")
            continue
        total = sum(result["stages_s"].values())
        print(f"{result['case']}: {', '.join(result['outputs'].values())} ({total:.1f} s)")
        for note in result["notes"]:
            print(f"  {note}")
    if any("outputs" in result for result in results):
        print(f"written to {folder}")


def _gigabytes(memory: dict[str, float | None] | None) -> str:
    if memory is None:
        return "how much memory it needs cannot be told from its header"
    free = "" if memory["free"] is None else f", {memory['free']:.1f} GB are free"
    return f"needs about {memory['total']:.1f} GB of memory{free}"


class _Bar:
    """One progress bar over all cases and their stages, on stderr; silent where stderr is not a terminal."""

    def __init__(self, cases: int) -> None:
        from tqdm import tqdm

        layout = "{desc}: {percentage:3.0f}%|{bar}| {elapsed} (left: {remaining})"
        self._bar = tqdm(total=float(cases), file=sys.stderr, bar_format=layout, disable=None, mininterval=0.2)
        self._ended, self._fractions = 0, dict.fromkeys(_STAGE_SHARE, 0.0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._bar.close()

    def start(self, name: str) -> None:
        """A case begins."""
        self._fractions = dict.fromkeys(_STAGE_SHARE, 0.0)
        self._bar.set_description_str(name)

    def progress(self, stage: str, fraction: float) -> None:
        """A stage of the case has come so far."""
        self._fractions[stage] = fraction
        done = self._ended + sum(share * self._fractions[name] for name, share in _STAGE_SHARE.items())
        self._bar.update(max(0.0, done - self._bar.n))

    def end(self) -> None:
        """The case is done, or has failed."""
        self._ended += 1
        self._bar.update(max(0.0, self._ended - self._bar.n))

    def say(self, text: str) -> None:
        """Print a line on stderr without tearing the bar."""
        self._bar.write(text, file=sys.stderr)
