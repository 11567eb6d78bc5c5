"""What is needed to run the worker, and what is there: a report made in a child process.

torch is never imported here: a broken one may raise anything or end the process, and inside Slicer that would be Slicer.
A child runs ``hierseg.probe`` and prints what it found; :func:`read_report` turns that into a :class:`SetupReport`.  An
application starts :func:`probe_command` itself and does not wait; scripts use :func:`examine`.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from HierSubclassSegLib.compute.launch import environment

TORCH_VERSIONS = ">=2.8,!=2.9.*"
"""2.9 made some 3D convolutions on CUDA many times slower; 2.10 mended it."""
TORCH = f"torch{TORCH_VERSIONS}"
LEAST_PYTHON = (3, 11)
SKIPPED = ("torch", "numpy", "SimpleITK", "pydicom")
"""Never installed or replaced by pip here: torch has its own step, the others come with Slicer and are in use."""
MARK = "HIERSEG-PROBE "
"""As in ``hierseg.probe``, which is no part of the vocabulary that this half imports."""
PROBE_SECONDS = 120.0
"""Importing torch for the first time, from a slow disk and under a virus scanner, takes a minute and more."""
_MODULES = {"PyYAML": "yaml"}


@dataclass(frozen=True)
class Device:
    """What torch can compute on beside the processor.

    Attributes:
        name: torch's, "cuda:0" or "mps".
        title: the card's name.
        memory: bytes; 0 where unknown.
        problem: why it cannot be used after all; empty if it can.
    """

    name: str
    title: str
    memory: int = 0
    problem: str = ""

    @property
    def text(self) -> str:
        """For a list of choices: ``cuda:0: NVIDIA A100, 39.4 GiB``."""
        memory = f", {self.memory / 2**30:.1f} GiB" if self.memory else ""
        return f"{self.name}: {self.title}{memory}"


@dataclass(frozen=True)
class SetupReport:
    """What one Python can run.

    Attributes:
        code: ``""`` if everything needed is there, else the entry of docs/troubleshooting.md.
        sentence: what is the matter, or what is there.
        hint: what to do, or how it could be faster; may be there although nothing is missing.
        python: the interpreter as it was given.
        versions: ``python``, ``torch``, ``cuda`` (what torch was built for, empty without), ``system``, ``machine``.
        devices: what torch can use.
        graphics: names of the NVIDIA cards that the driver knows.
        missing: requirements beside torch that are not met.
        installed: versions by normalized distribution name.
        torch_there: something called torch is there, whole or broken.
        detail: the child's last lines, for diagnostics.
    """

    code: str
    sentence: str
    hint: str = ""
    python: str = ""
    versions: Mapping[str, str] | None = None
    devices: tuple[Device, ...] = ()
    graphics: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    installed: Mapping[str, str] | None = None
    torch_there: bool = False
    detail: str = ""

    @property
    def ready(self) -> bool:
        """Whether the worker can run."""
        return not self.code

    @property
    def torch_ready(self) -> bool:
        """Whether torch needs nothing done."""
        return self.code in ("", "HS-SETUP-PACKAGES")

    @property
    def other_torch(self) -> bool:
        """Whether all is there, but a torch built for the graphics card would be faster."""
        return self.ready and bool(self.graphics) and not self.devices and not (self.versions or {}).get("cuda")

    def diagnostics(self) -> str:
        """Everything, a line each, for a report."""
        lines = [f"setup: {self.code or 'ready'}: {self.sentence}", *([f"hint: {self.hint}"] if self.hint else [])]
        lines += [f"{name}: {value}" for name, value in (self.versions or {}).items()]
        lines += [f"device: {device.text}{f' ({device.problem})' if device.problem else ''}" for device in self.devices]
        lines += [f"graphics card: {name}" for name in self.graphics]
        lines += [f"missing: {name}" for name in self.missing]
        return "\n".join([*lines, *([self.detail] if self.detail else [])])


def load_requirements(path: Path) -> list[str]:
    """The lines of a requirements file without comments and options, as Slicer's ``load_requirements`` reads them."""
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line and not line.startswith(("#", "-"))]


def probe_command(python: str | Path) -> list[str]:
    """The child's command line; run it with :func:`~HierSubclassSegLib.compute.launch.environment`."""
    return [str(python), "-m", "hierseg.probe"]


def examine(
    python: str | Path,
    requirements: Sequence[str],
    base: Mapping[str, str] | None = None,
    seconds: float = PROBE_SECONDS,
) -> SetupReport:
    """Start the child, wait for it, and report; for scripts and tests, never in an application's main thread.

    Args:
        python: the interpreter: PythonSlicer, or any other.
        requirements: what is needed beside torch.
        base: the environment to start from: Slicer's ``slicer.util.startupEnvironment()`` for a foreign Python, this
            process's for PythonSlicer.
        seconds: how long it may take.
    """
    try:
        done = subprocess.run(
            probe_command(python),
            env=environment(base),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        return read_report(python, requirements, error.stdout or b"", error.stderr or b"", None)
    except OSError as error:
        return not_started(python, error.strerror or str(error))
    return read_report(python, requirements, done.stdout, done.stderr, done.returncode)


def not_started(python: str | Path, reason: str) -> SetupReport:
    """The report where the child could not be started at all."""
    return SetupReport(
        "HS-SETUP-PYTHON",
        f"{python} cannot be started ({reason}).",
        f"Choose a Python {LEAST_PYTHON[0]}.{LEAST_PYTHON[1]} or newer.",
        str(python),
    )


def read_report(
    python: str | Path, requirements: Sequence[str], stdout: bytes, stderr: bytes, exit_code: int | None
) -> SetupReport:
    """Turn what the child printed into a report.

    Args:
        python: the interpreter as it was given.
        requirements: what is needed beside torch.
        stdout: the child's.
        stderr: the child's.
        exit_code: the child's; None if it was ended because it took too long.
    """
    facts = _facts(stdout)
    lines = stderr.decode("utf-8", "replace").strip().splitlines()
    detail = "\n".join(lines[-20:])
    if not facts:
        last = lines[-1].strip() if lines else f"exit code {exit_code}"
        return SetupReport(
            "HS-SETUP-PYTHON",
            f"{python} cannot run a Python program ({last}).",
            f"Choose a Python {LEAST_PYTHON[0]}.{LEAST_PYTHON[1]} or newer.",
            str(python),
            detail=detail,
        )
    found = _Findings(str(python), facts, requirements, detail, exit_code)
    return found.report()


def satisfies(version: str, specifier: str) -> bool:
    """Whether a version is in a range like ``>=2.8,!=2.9.*``; pre-releases and local parts do not matter."""
    numbers = _numbers(version)
    for part in filter(None, specifier.replace(" ", "").split(",")):
        sign = part.rstrip("0123456789.*abcrdevpost+")
        wanted = part[len(sign) :]
        bound = _numbers(wanted)
        prefix = numbers[: len(bound)]
        equal = prefix == bound if wanted.endswith("*") else _padded(numbers) == _padded(bound)
        below = _padded(numbers) < _padded(bound)
        allowed = {">=": not below, "<": below, ">": not below and not equal, "<=": below or equal}
        if not (allowed | {"==": equal, "!=": not equal, "~=": not below}).get(sign, True):
            return False
    return True


def split_requirement(line: str) -> tuple[str, str]:
    """``monai>=1.6,<2`` as name and range."""
    end = next((index for index, letter in enumerate(line) if letter in "<>=!~ ;["), len(line))
    return line[:end], line[end:].partition(";")[0].strip()


def normalized(name: str) -> str:
    """A distribution's name as pip compares it."""
    return name.lower().replace("_", "-").replace(".", "-")


class _Findings:
    """The facts of one child, and what follows from them."""

    def __init__(
        self, python: str, facts: dict[str, Any], requirements: Sequence[str], detail: str, exit_code: int | None
    ) -> None:
        self.python, self.facts, self.detail, self.exit_code = python, facts, detail, exit_code
        self.torch: dict[str, Any] = facts.get("torch") or {}
        self.installed: dict[str, str] = facts.get("versions") or {}
        self.devices = tuple(Device(**device) for device in self.torch.get("devices", ()))
        self.cards = tuple(str(card["name"]) for card in facts.get("graphics", ()))
        self.missing = tuple(line for line in requirements if not self._met(line)) if "versions" in facts else ()

    def report(self) -> SetupReport:
        code, sentence, hint = self._verdict()
        return SetupReport(
            code,
            sentence,
            hint,
            self.python,
            {
                "python": str(self.facts.get("python", "")),
                "torch": str(self.torch.get("version", "")),
                "cuda": str(self.torch.get("cuda", "")),
                "system": str(self.facts.get("system", "")),
                "machine": str(self.facts.get("machine", "")),
            },
            self.devices,
            self.cards,
            self.missing,
            self.installed,
            bool(self.torch.get("installed", "torch" not in self.facts)),
            self.detail,
        )

    def _verdict(self) -> tuple[str, str, str]:
        facts, torch = self.facts, self.torch
        version = str(torch.get("version", ""))
        if _numbers(str(facts.get("python", ""))) < LEAST_PYTHON:
            sentence = f"{self.python} is Python {facts.get('python')}; {LEAST_PYTHON[0]}.{LEAST_PYTHON[1]} or newer is needed."
            return "HS-SETUP-PYTHON", sentence, "Choose another Python."
        if "torch" not in facts:
            how = "does not come to an end" if self.exit_code is None else f"ends the program (code {self.exit_code})"
            return "HS-TORCH-BROKEN", f"torch is there, but importing it {how}.", _REPAIR
        if not torch.get("installed"):
            return "HS-TORCH-MISSING", "torch, which computes the segmentation, is not installed.", self._install_hint()
        if torch.get("problem"):
            return "HS-TORCH-BROKEN", f"torch is there, but it does not work ({torch['problem']}).", _REPAIR
        if not satisfies(version, TORCH_VERSIONS):
            return (
                "HS-TORCH-VERSION",
                f"torch {version} is installed; {TORCH_VERSIONS} is needed.",
                self._install_hint(),
            )
        if self.missing:
            names = ", ".join(split_requirement(line)[0] for line in self.missing)
            return "HS-SETUP-PACKAGES", f"Not installed, or of another version: {names}.", "Install them."
        usable = [device for device in self.devices if not device.problem]
        where = usable[0].text if usable else "the processor"
        return "", f"torch {version} on {where}.", self._speed_hint(usable)

    def _install_hint(self) -> str:
        return f"Install it for {self.cards[0]}." if self.cards else "Install it."

    def _speed_hint(self, usable: Sequence[Device]) -> str:
        unusable = [device for device in self.devices if device.problem]
        if unusable:
            problem = unusable[0]
            return f"{problem.title} is there, but this torch cannot use it ({problem.problem}); install torch again."
        if usable or not self.cards:
            return ""
        if not self.torch.get("cuda"):
            return (
                f"{self.cards[0]} is there, but this torch is built without CUDA: install torch again, for this card."
            )
        return (
            f"{self.cards[0]} is there, but torch, built for CUDA {self.torch['cuda']}, cannot use it: "
            "update the NVIDIA driver and restart the computer."
        )

    def _met(self, line: str) -> bool:
        name, specifier = split_requirement(line)
        version = self.installed.get(normalized(name))
        if version is None:
            # Slicer's own builds may have no metadata: there, and not to be replaced, is enough.
            return name in SKIPPED and _MODULES.get(name, name) in self.facts.get("modules", ())
        return name in SKIPPED or satisfies(version, specifier)


_REPAIR = "Remove it and install it again; on Windows, an installation in a folder with a short path helps."


def _facts(stdout: bytes) -> dict[str, Any]:
    """The last complete line of ours; a child that died while it imported torch leaves the first one."""
    facts: dict[str, Any] = {}
    for line in stdout.decode("utf-8", "replace").splitlines():
        if line.startswith(MARK):
            try:
                facts = json.loads(line[len(MARK) :])
            except ValueError:
                continue
    return facts


def _numbers(version: str) -> tuple[int, ...]:
    numbers = []
    for part in version.partition("+")[0].split("."):
        digits = part[: next((i for i, letter in enumerate(part) if not letter.isdigit()), len(part))]
        if not digits:
            break
        numbers.append(int(digits))
    return tuple(numbers)


def _padded(numbers: tuple[int, ...]) -> tuple[int, ...]:
    return (numbers + (0, 0, 0, 0))[:4]
