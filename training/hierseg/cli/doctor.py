"""``hierseg doctor``: what works on this machine, and one sentence on what to do about the rest."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hierseg import __version__, resources
from hierseg.bundle import BundleProblem, list_bundles
from hierseg.courtesy import usable_cores

_GIB = 2**30
_REQUIRED = {
    "monai": "1.6.1",
    "nibabel": "5.2",
    "numpy": "1.26",
    "PyYAML": "6",
    "safetensors": "0.4.3",
    "scipy": "1.11",
    "SimpleITK": "2.3",
    "tensorboard": "2.15",
    "tqdm": "4.66",
}
_OPTIONAL = {
    "matplotlib": "pictures and the demo; 'pip install hierseg[demo]' adds it",
    "slicer-core": "Slicer's scene classes outside Slicer; 'pip install hierseg[scene]' adds it",
}


@dataclass(frozen=True)
class Finding:
    """One thing looked at.

    Attributes:
        name: what was looked at.
        state: ``ok``, ``limited`` (works, but less well) or ``missing`` (something will not work).
        found: what is there.
        advice: what to do; empty if nothing.
    """

    name: str
    state: str
    found: str
    advice: str = ""


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser("doctor", help="say what works on this machine", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print every finding; 1 if something that is needed is missing."""
    findings = list(examine())
    if arguments.json:
        print(json.dumps({"hierseg": __version__, "findings": [asdict(finding) for finding in findings]}, indent=1))
    else:
        for finding in findings:
            print(f"{finding.state:8}{finding.name:16}{finding.found}")
            if finding.advice:
                print(f"{'':24}-> {finding.advice}")
    return 1 if any(finding.state == "missing" for finding in findings) else 0


def examine() -> Iterator[Finding]:
    """Look at everything, the quick things first."""
    yield _python()
    yield _command()
    yield from _packages()
    yield from _machine()
    yield from _folders()
    yield from _torch()


def _python() -> Finding:
    found = f"{platform.python_version()} ({sys.executable}), {platform.platform()}"
    return Finding("python", "ok", found)


def _command() -> Finding:
    found = shutil.which("hierseg")
    if found:
        return Finding("command", "ok", found)
    scripts = Path(sys.executable).parent
    return Finding(
        "command",
        "limited",
        "'hierseg' is not on PATH",
        f"type '{sys.executable} -m hierseg' instead, or add {scripts} to PATH.",
    )


def _packages() -> Iterator[Finding]:
    for package, least in _REQUIRED.items():
        version = _version(package)
        if version is None:
            yield Finding(
                package, "missing", "not installed", f"run '{sys.executable} -m pip install \"{package}>={least}\"'."
            )
        elif _numbers(version) < _numbers(least):
            yield Finding(
                package,
                "limited",
                f"{version}, made for {least} or newer",
                f"run '{sys.executable} -m pip install --upgrade {package}'.",
            )
        else:
            yield Finding(package, "ok", version)
    for package, purpose in _OPTIONAL.items():
        version = _version(package)
        yield (
            Finding(package, "ok", version)
            if version
            else Finding(package, "limited", "not installed (optional)", f"only needed for {purpose}.")
        )


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("+", maxsplit=1)[0].split(".")[:3] if part.isdigit())


def _machine() -> Iterator[Finding]:
    cores = usable_cores()
    advice = "" if cores > 1 else "training on one core is slow; close other programs, or train on another machine."
    yield Finding("cores", "ok" if cores > 1 else "limited", str(cores), advice)
    memory = _memory()
    if memory is None:
        yield Finding("memory", "limited", "cannot be read here", "8 GiB or more are recommended.")
    elif memory < 4 * _GIB:
        yield Finding(
            "memory",
            "limited",
            f"{memory / _GIB:.1f} GiB",
            "close other programs, and use a smaller patch size and cache; 8 GiB or more are recommended.",
        )
    else:
        yield Finding("memory", "ok", f"{memory / _GIB:.1f} GiB")
    for name, folder in (("disk, models", resources.models_folder()), ("disk, temporary", Path(tempfile.gettempdir()))):
        there = next(place for place in (folder, *folder.parents) if place.exists())
        free = shutil.disk_usage(there).free
        short = free < 2 * _GIB
        yield Finding(
            name,
            "limited" if short else "ok",
            f"{free / _GIB:.1f} GiB free at {there}",
            "free some space: training and the demo need about 2 GiB." if short else "",
        )


def _memory() -> int | None:
    """Memory that this process may use, in bytes: the machine's, or less inside a container."""
    limits = []
    if sys.platform == "win32":
        return None
    try:
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (OSError, ValueError):
        return None
    container = Path("/sys/fs/cgroup/memory.max")
    if container.is_file() and (text := container.read_text(encoding="ascii").strip()).isdigit():
        limits.append(int(text))
    return min(limits)


def _folders() -> Iterator[Finding]:
    trees = resources.names("label_trees")
    if trees:
        yield Finding("label trees", "ok", f"{len(trees)} in {resources.folders('label_trees')[0]}")
    else:
        yield Finding("label trees", "missing", "none found", "install hierseg again: the package is incomplete.")
    folder = resources.models_folder()
    there = next(place for place in (folder, *folder.parents) if place.exists())
    if os.access(there, os.W_OK):
        yield Finding("models folder", "ok", f"{folder}{'' if folder.exists() else ' (made when first needed)'}")
    else:
        yield Finding(
            "models folder",
            "missing",
            f"{folder} cannot be written",
            "change its permissions, or set HIERSEG_HOME to a folder of your own.",
        )
    bundles = list_bundles()
    problems = [entry for entry in bundles if isinstance(entry, BundleProblem)]
    usable = len(bundles) - len(problems)
    if usable:
        yield Finding("model bundles", "ok", str(usable))
    else:
        yield Finding(
            "model bundles",
            "limited",
            "none",
            "add one with 'hierseg bundle import', or make one with 'hierseg train'.",
        )
    for problem in problems:
        yield Finding("model bundle", "limited", str(problem.folder), problem.sentence)


def _torch() -> Iterator[Finding]:
    if importlib.util.find_spec("torch") is None:
        yield Finding(
            "torch",
            "missing",
            "not installed",
            f"run '{sys.executable} -m pip install \"torch>=2.8\"' (see pytorch.org for the build that fits your graphics card).",
        )
        return
    try:
        import torch
    except (ImportError, OSError, RuntimeError) as error:
        yield Finding("torch", "missing", f"does not start ({error})", "install torch again, in a fresh environment.")
        return
    version = str(torch.__version__)
    found = f"{version}, built {f'for CUDA {torch.version.cuda}' if torch.version.cuda else 'without CUDA'}"
    if _numbers(version) < (2, 8):
        yield Finding("torch", "limited", found, "made for 2.8 or newer: upgrade torch.")
    elif _numbers(version)[:2] == (2, 9) and torch.version.cuda:
        yield Finding("torch", "limited", found, "3D convolutions are slow in 2.9: install 2.8, or 2.10 or newer.")
    else:
        yield Finding("torch", "ok", found)
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            card = torch.cuda.get_device_properties(index)
            small = card.total_memory < 4 * _GIB
            yield Finding(
                f"cuda:{index}",
                "limited" if small else "ok",
                f"{card.name}, {card.total_memory / _GIB:.1f} GiB",
                "small for training: use a smaller patch size." if small else "",
            )
    elif torch.backends.mps.is_available():
        yield Finding("mps", "ok", "Apple graphics")
    elif shutil.which("nvidia-smi"):
        advice = "install the build of torch that fits your driver (see pytorch.org)."
        if torch.version.cuda:
            advice = "update the NVIDIA driver, then restart the computer."
        yield Finding("graphics card", "limited", "there is an NVIDIA driver, but torch cannot use it", advice)
    else:
        yield Finding(
            "graphics card",
            "limited",
            "none that torch can use",
            "everything works on the processor; for large images train on a machine with an NVIDIA card.",
        )
