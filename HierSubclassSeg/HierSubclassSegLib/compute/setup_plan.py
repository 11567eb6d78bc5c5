"""What an installation into a Python would do, step by step, before anything is done.

torch first: through the PyTorch extension where it is there, else with its back-end detection (light-the-torch) in a
child of the same Python, whose output is a log.  Then the rest through ``slicer.packaging.pip_ensure``, which asks.
Offline everything comes from a folder of wheels.  Nothing here starts a process or asks a question.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from subprocess import CalledProcessError
from typing import Any

from hierseg.atomic import write_text
from hierseg.errors import ResourceError
from HierSubclassSegLib.compute.setup import (
    LEAST_PYTHON,
    SKIPPED,
    TORCH,
    TORCH_VERSIONS,
    SetupReport,
    normalized,
    split_requirement,
)

LIGHT_THE_TORCH = "light-the-torch>=0.8"
_RUN_IT = "import sys; from light_the_torch.__main__ import main; sys.exit(main())"
"""Not ``-m light_the_torch``: that ends with 0 whatever has happened (light-the-torch 0.8.1, ``__main__.py``)."""
REQUESTER = "HierSubclassSeg"


class StepKind(Enum):
    """Who carries a step out."""

    PYTORCH_EXTENSION = "PyTorch extension"
    COMMAND = "command"
    PIP_ENSURE = "slicer.packaging"


@dataclass(frozen=True)
class Step:
    """One step of an installation.

    Attributes:
        kind: who carries it out.
        title: what happens, for the user.
        command: the command line of a :attr:`StepKind.COMMAND`, to be run in a child whose output is the log.
        requirements: what a :attr:`StepKind.PIP_ENSURE` installs.
        megabytes: about how much it downloads.
    """

    kind: StepKind
    title: str
    command: tuple[str, ...] = ()
    requirements: tuple[str, ...] = ()
    megabytes: int = 0


@dataclass(frozen=True)
class InstallPlan:
    """What is to be done.

    Attributes:
        steps: in order; empty where nothing is missing or nothing can be installed.
        refusal: why nothing can be installed here, and what to do instead; empty if it can.
    """

    steps: tuple[Step, ...] = ()
    refusal: str = ""

    @property
    def size(self) -> str:
        """About how much is downloaded: ``350 MB``; empty where nothing is."""
        total = sum(step.megabytes for step in self.steps)
        if total >= 1000:
            return f"{total / 1000:.1f} GB"
        return f"{total} MB" if total else ""


def why_no_torch(report: SetupReport) -> str:
    """Why torch 2.8 or newer cannot be had for this Python; empty if it can."""
    versions = report.versions or {}
    instead = "use another Python, or a worker on another computer."
    python = tuple(int(part) for part in versions.get("python", "0").split(".")[:2] if part.isdigit())
    if python < LEAST_PYTHON:
        return f"{report.python} is too old a Python or none: {instead}"
    if versions.get("system") == "darwin" and versions.get("machine") == "x86_64":
        return (
            "There is no torch 2.8 or newer for Intel Macs, nor for a Slicer that runs as an Intel program on an Apple "
            f"processor: {instead}"
        )
    if versions.get("machine", "").lower() in ("i386", "i686", "x86", "armv7l"):
        return f"There is no torch for 32-bit programs: {instead}"
    return ""


def make_plan(
    report: SetupReport,
    *,
    pytorch_extension: bool = False,
    wheels: Path | None = None,
    constraints: Path | None = None,
) -> InstallPlan:
    """What would bring the Python of a report to what the worker needs.

    Args:
        report: of the Python that is to be changed.
        pytorch_extension: Slicer's PyTorch extension is installed.
        wheels: a folder of wheel files; nothing is downloaded then.
        constraints: a file of :func:`write_constraints`.

    Raises:
        ResourceError: a wheel is missing in the folder.
    """
    if report.ready and not report.other_torch:
        return InstallPlan()
    refusal = why_no_torch(report)
    if refusal:
        return InstallPlan(refusal=refusal)
    pip = (report.python, "-m", "pip")
    limits = ("-c", str(constraints)) if constraints is not None else ()
    packages = tuple(line for line in report.missing if split_requirement(line)[0] not in SKIPPED)
    steps: list[Step] = []
    fresh = report.other_torch or not report.torch_ready
    if fresh and report.torch_there:
        steps.append(
            Step(StepKind.COMMAND, "Remove the torch that is there", (*pip, "uninstall", "-y", "torch", "torchvision"))
        )
    if wheels is not None:
        wanted = (*((TORCH,) if fresh else ()), *packages)
        check_wheels(wheels, wanted)
        names = ", ".join(split_requirement(line)[0] for line in wanted)
        command = (*pip, "install", "--no-index", "--find-links", str(wheels), *limits, *wanted)
        return InstallPlan((*steps, Step(StepKind.COMMAND, f"Install {names} from {wheels}", command)))
    if fresh:
        size, megabytes = ("3 GB", 3000) if report.graphics else ("250 MB", 250)
        title = f"Install torch for {report.graphics[0] if report.graphics else 'the processor'} (about {size})"
        if pytorch_extension:
            steps.append(Step(StepKind.PYTORCH_EXTENSION, title, megabytes=megabytes))
        else:
            detect = (*pip, "install", *limits, LIGHT_THE_TORCH)
            steps.append(Step(StepKind.COMMAND, "Install light-the-torch, which finds the right torch", detect))
            install = (report.python, "-c", _RUN_IT, "install", *limits, TORCH)
            steps.append(Step(StepKind.COMMAND, title, install, megabytes=megabytes))
    if packages:
        names = ", ".join(split_requirement(line)[0] for line in packages)
        title = f"Install {names} (about 100 MB)"
        steps.append(Step(StepKind.PIP_ENSURE, title, requirements=packages, megabytes=100))
    return InstallPlan(tuple(steps))


def install_torch(pytorch_logic: Any) -> None:
    """Carry out a :attr:`StepKind.PYTORCH_EXTENSION`.

    Args:
        pytorch_logic: ``PyTorchUtils.PyTorchUtilsLogic()``.

    Raises:
        ResourceError: torch was not installed.
    """
    try:
        installed = pytorch_logic.installTorch(askConfirmation=True, torchVersionRequirement=TORCH_VERSIONS)
    except (CalledProcessError, ImportError, OSError, RuntimeError) as error:
        raise ResourceError(
            f"torch was not installed ({error}); restart Slicer and try again, or use another Python."
        ) from error
    if installed is None:
        raise ResourceError("torch was not installed: the installation was declined.")


def install_packages(step: Step, packaging: Any, constraints: Path | None = None) -> None:
    """Carry out a :attr:`StepKind.PIP_ENSURE`.

    Args:
        step: the step.
        packaging: the module ``slicer.packaging``.
        constraints: a file of :func:`write_constraints`.

    Raises:
        ResourceError: the user has declined, or pip has failed.
    """
    try:
        packaging.pip_ensure(
            list(step.requirements),
            constraints=None if constraints is None else str(constraints),
            skip_packages=list(SKIPPED),
            requester=REQUESTER,
        )
    except CalledProcessError as error:
        raise ResourceError(
            f"pip could not install the packages (exit code {error.returncode}); its log names the package and the reason."
        ) from error
    except RuntimeError as error:
        # What pip_ensure raises when the user says no, or another installation is going on.
        raise ResourceError(f"the packages were not installed ({error}).") from error


def why_failed(lines: Sequence[str], exit_code: int) -> str:
    """What the last lines of an installation come to: a reason that goes after a colon, and what to do where we know.

    Args:
        lines: of its log.
        exit_code: its own.
    """
    text = "\n".join(lines)
    for signs, reason in _REASONS:
        if any(sign in text for sign in signs):
            return reason
    told = [line for line in lines if line.startswith("ERROR: ") and line != "ERROR: Exception:"]
    last = told[-1] if told else lines[-1] if lines else f"exit code {exit_code}"
    return last.removeprefix("ERROR: ")


_REASONS = (
    (
        ("No space left on device", "There is not enough space on the disk"),
        "the disk is full; make room and try again.",
    ),
    (
        (
            "Failed to establish a new connection",
            "Name or service not known",
            "getaddrinfo failed",
            "ConnectTimeoutError",
            "ReadTimeoutError",
            "ProxyError",
            "Network is unreachable",
        ),
        "the package server cannot be reached; see to the network, or install from a folder of wheels.",
    ),
    (
        ("CERTIFICATE_VERIFY_FAILED",),
        "the certificate of the package server is not trusted here; ask who keeps this network, or use a wheel folder.",
    ),
    (
        ("No matching distribution found for torch",),
        "there is no torch 2.8 or newer for this Python; use another Python, or a worker on another computer.",
    ),
)


def write_constraints(report: SetupReport, path: Path) -> Path:
    """Write a pip constraints file that keeps the packages that come with Slicer at their versions."""
    kept = {name: (report.installed or {}).get(normalized(name)) for name in SKIPPED if name != "torch"}
    write_text(path, "".join(f"{name}=={version}\n" for name, version in kept.items() if version))
    return path


def check_wheels(folder: Path, requirements: Sequence[str]) -> None:
    """See that a folder has a wheel of each requirement.

    Raises:
        ResourceError: it is no folder, or wheels are missing.
    """
    if not folder.is_dir():
        raise ResourceError(f"{folder} is no folder; choose the folder that the wheel files are in.")
    there = {normalized(path.name.split("-")[0]) for path in folder.glob("*.whl")}
    missing = [split_requirement(line)[0] for line in requirements]
    missing = [name for name in missing if normalized(name) not in there]
    if missing:
        raise ResourceError(
            f"{folder} has no wheel of {', '.join(missing)}; on a computer with the same system and Python "
            f"{sys.version_info[0]}.{sys.version_info[1]} 'pip download' fetches them with all that they need."
        )
