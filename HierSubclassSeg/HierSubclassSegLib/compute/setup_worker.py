"""A worker of the user's choice (their own Python, another computer), and a test that says in one sentence whether it answers."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hierseg.errors import ConfigError, HiersegError
from HierSubclassSegLib.compute.client import WorkerClient
from HierSubclassSegLib.compute.jobs import RemoteError
from HierSubclassSegLib.compute.launch import environment, worker_command
from HierSubclassSegLib.compute.setup import TORCH_VERSIONS, satisfies
from HierSubclassSegLib.compute.transport import SubprocessTransport, Transport

TRIAL_SECONDS = 60.0
"""A worker imports torch before it answers; over ssh, from a cold disk, that takes its time."""
_SSH_OPTIONS = ("-o", "BatchMode=yes", "-o", "ConnectTimeout=10")


def parse_worker(text: str) -> list[str]:
    """The command line of a worker from what a user typed.

    Args:
        text: a Python, the folder of a virtual environment, or a command that ends in ``hierseg worker``.

    Raises:
        ConfigError: it is neither.
    """
    text = text.strip()
    if not text:
        raise ConfigError("no worker is given; enter a Python, or a command like 'ssh HOST hierseg worker'.")
    path = Path(text.strip("\"'")).expanduser()
    if path.is_dir():
        for inner in ("bin/python", "Scripts/python.exe", "python.exe", "bin/PythonSlicer"):
            if (path / inner).is_file():
                return worker_command(path / inner)
        raise ConfigError(f"{path} holds no Python; choose the folder of a virtual environment, or its Python itself.")
    if path.is_file():
        return worker_command(path)
    try:
        # Windows paths hold backslashes, which are no escapes there.
        words = shlex.split(text, posix=os.name == "posix")
    except ValueError as error:
        raise ConfigError(f"{text!r} is not a command line ({error}); close the quotation mark.") from error
    if len(words) == 1 and os.sep in text:
        raise ConfigError(f"{path} does not exist; choose a Python, or the folder of a virtual environment.")
    if words[-1] != "worker":
        raise ConfigError(
            f"{text!r} does not end in 'hierseg worker'; a command for another computer reads 'ssh HOST hierseg worker'."
        )
    if Path(words[0]).stem == "ssh" and not any("BatchMode" in word for word in words):
        # There is no terminal in which ssh could ask for a password: it would wait for ever.
        words[1:1] = _SSH_OPTIONS
    return words


@dataclass(frozen=True)
class TrialOutcome:
    """How a trial ended.

    Attributes:
        ok: the worker can be used.
        sentence: what was found, or what is wrong.
        hint: what to do; may be empty.
        worker: the fields of its ``hello``; empty if it never came.
        detail: its last lines, for diagnostics.
    """

    ok: bool
    sentence: str
    hint: str = ""
    worker: Mapping[str, Any] = field(default_factory=dict)
    detail: str = ""


class WorkerTrial:
    """Starts a worker, waits for its ``hello`` without blocking, and ends it.

    Args:
        transport: not yet started.
        on_done: called once, from :meth:`poll`, with the outcome.
        seconds: how long the worker may take to answer.
        shown: the command as the user knows it, for sentences.

    Raises:
        WorkerError: the command cannot be run.
    """

    def __init__(
        self,
        transport: Transport,
        on_done: Callable[[TrialOutcome], None],
        *,
        seconds: float = TRIAL_SECONDS,
        shown: str = "the worker",
    ) -> None:
        self.outcome: TrialOutcome | None = None
        self._on_done, self._seconds, self._shown = on_done, seconds, shown
        self._until = time.monotonic() + seconds
        self._client = WorkerClient(transport)
        self._client.start_hello(on_result=self._greeted, on_error=self._failed)

    @property
    def finished(self) -> bool:
        """Whether the outcome is known and the worker is gone."""
        return self.outcome is not None and not self._client.alive

    def poll(self) -> None:
        """Do what time brings; call it several times a second, until :attr:`finished`."""
        self._client.poll()
        if self.outcome is None and time.monotonic() > self._until:
            sentence = f"{self._shown} has not answered within {self._seconds:g} s."
            hint = "See that the host can be reached without a password, and that torch starts there."
            self._end(TrialOutcome(False, sentence, hint, detail=self._detail()))

    def cancel(self) -> None:
        """End it without an outcome for :attr:`on_done`."""
        self.outcome = self.outcome or TrialOutcome(False, "The test was canceled.")
        self._client.close(timeout=0)

    def _greeted(self, hello: Mapping[str, Any]) -> None:
        torch = str(hello.get("torch") or "")
        problem = str(hello.get("problem") or "")
        if problem:
            self._end(TrialOutcome(False, problem, worker=hello, detail=self._detail()))
        elif not satisfies(torch, TORCH_VERSIONS):
            found = f"torch {torch}" if torch else "no torch"
            hint = f"Install torch{TORCH_VERSIONS} there."
            self._end(TrialOutcome(False, f"{self._shown} answers, but has {found}.", hint, hello))
        else:
            names = [
                str(device.get("name", device)) if isinstance(device, dict) else str(device)
                for device in hello.get("devices", ())
            ]
            where = ", ".join(names) or "cpu"
            sentence = f"hierseg {hello.get('hierseg')} on {hello.get('host')} answers: torch {torch}, {where}."
            self._end(TrialOutcome(True, sentence, worker=hello))

    def _failed(self, error: RemoteError) -> None:
        sentence, hint = explain_death(error, self._client.stderr_tail, self._shown)
        self._end(TrialOutcome(False, sentence, hint, detail=self._detail()))

    def _detail(self) -> str:
        return "\n".join(self._client.stderr_tail)

    def _end(self, outcome: TrialOutcome) -> None:
        if self.outcome is None:
            self.outcome = outcome
            self._client.close(timeout=0)
            self._on_done(outcome)


def explain_death(error: RemoteError, lines: Sequence[str], shown: str) -> tuple[str, str]:
    """A sentence and a hint for a worker that ended instead of answering, from its last lines."""
    text = "\n".join(lines)
    if error.kind != "WorkerDied":
        return error.sentence, error.hint
    for pattern, sentence, hint in _CAUSES:
        if pattern in text:
            return sentence.format(shown=shown), hint
    last = lines[-1].strip() if lines else ""
    return f"{shown} has ended instead of answering{f' ({last})' if last else ''}.", error.hint if not last else ""


_CAUSES = (
    ("No module named hierseg", "{shown} has no hierseg.", "Install it there: 'pip install hierseg'."),
    ("hierseg: command not found", "{shown} has no command hierseg.", "Give its whole path, or install it there."),
    ("hierseg: not found", "{shown} has no command hierseg.", "Give its whole path, or install it there."),
    ("No module named 'numpy'", "{shown} has no numpy.", "Install hierseg there with all that it needs: 'pip install hierseg'."),
    ("Permission denied (", "{shown} asks for a password.", "Set up an ssh key for that host: a worker cannot type."),
    ("Host key verification failed", "The host of {shown} is not known to ssh.", "Connect to it once in a terminal."),
    ("Could not resolve hostname", "The host of {shown} is not found.", "Check its name."),
    ("Connection timed out", "The host of {shown} does not answer.", "Check its name and the network."),
    ("Connection refused", "The host of {shown} refuses ssh.", "See that its ssh server runs."),
)  # fmt: skip


def try_worker(
    command: Sequence[str], base: Mapping[str, str] | None = None, seconds: float = TRIAL_SECONDS
) -> TrialOutcome:
    """The same, waiting; for scripts and tests, never in an application's main thread.

    Args:
        command: the worker's command line.
        base: the environment to start from, as for :func:`~HierSubclassSegLib.compute.launch.environment`.
        seconds: how long it may take to answer.
    """
    transport = SubprocessTransport(command, environment(base))
    try:
        trial = WorkerTrial(transport, lambda _: None, seconds=seconds, shown=command[0])
    except HiersegError as error:
        return TrialOutcome(False, error.sentence, error.hint)
    while not trial.finished:
        transport.wait(0.05)
        trial.poll()
    assert trial.outcome is not None
    return trial.outcome
