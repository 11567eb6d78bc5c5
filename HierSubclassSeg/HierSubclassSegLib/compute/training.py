"""A training run as its own process: started detached, found again by its folder, stopped by a file.

The run outlives the panel and the application: there are no pipes between them, only the files in the run folder
(``docs/training-run.md``).  Everything is read with the possibility in mind that the file is missing, half a line
behind, or left by a process that no longer exists.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hierseg.atomic import write_text
from hierseg.errors import TrainingError
from HierSubclassSegLib.compute import processes

STATUS = "status.json"
EVENTS = "events.jsonl"
STOP = "stop"
LOG = "train.log"
LAUNCHES = "launch.log"
"""One JSON line for each start of a process in the folder; the last one counts."""

LIVE_STATES = ("starting", "running", "stopping")
STALE_SECONDS = 10.0
"""The heartbeat in status.json comes every second; without a process and without it for so long, a run is dead."""
STALLED_SECONDS = 120.0
"""A process that is there but writes nothing for so long hangs."""
LOG_TAIL_BYTES = 16_384
MAX_EVENTS_BYTES = 8 << 20

# Kept until they have ended, so that Python neither complains of them nor leaves them as zombies.
_children: list[subprocess.Popen[bytes]] = []


@dataclass(frozen=True)
class TrainingStatus:
    """Where a run stands.

    Attributes:
        state: starting, running, stopping, finished, stopped or failed.
        message: a sentence for the user; for a failed run, why.
        stage: what it does just now.
        iteration: iterations done.
        iterations: iterations to do; 0 while unknown.
        seconds_left: None while unknown.
        best: what the engine says of its best checkpoint so far.
        pid: the process, None if unknown.
        updated: seconds since 1970 of the last sign of life.
        stalled: the process is there but has not written for two minutes.
        log_tail: the log's last lines, for a failed run.
    """

    state: str
    message: str = ""
    stage: str = ""
    iteration: int = 0
    iterations: int = 0
    seconds_left: float | None = None
    best: Any = None
    pid: int | None = None
    updated: float | None = None
    stalled: bool = False
    log_tail: tuple[str, ...] = ()

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self.state not in LIVE_STATES

    @property
    def fraction(self) -> float:
        """0 to 1."""
        return min(1.0, self.iteration / self.iterations) if self.iterations > 0 else 0.0


class TrainingRun:
    """A run in a folder; use :meth:`start` or :meth:`attach`.

    Attributes:
        folder: the run folder.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._stop_asked = False

    @classmethod
    def start(
        cls,
        command: Sequence[str],
        dataset: str | Path,
        out: str | Path,
        *,
        config: str | Path | None = None,
        method: str | None = None,
        init: str | Path | None = None,
        resume: bool = False,
        arguments: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        info: Mapping[str, Any] | None = None,
    ) -> TrainingRun:
        """Start a training that goes on when this program ends.

        Args:
            command: how ``hierseg train`` is called, see :func:`~HierSubclassSegLib.compute.launch.train_command`.
            dataset: the dataset folder.
            out: the run folder; made here.
            config: a configuration's file or name.
            method: ess, two_head, ...
            init: the bundle to start from.
            resume: go on with the run that is in ``out``.
            arguments: further arguments.
            env: the environment; :func:`~HierSubclassSegLib.compute.launch.environment` by default.
            info: what the caller wants to find again in :attr:`launch`.

        Raises:
            TrainingError: a run is alive in the folder, the folder cannot be made, or the command cannot be run.
        """
        run = cls(out)
        options = {"--config": config, "--method": method, "--init": init}
        line = [*command, str(dataset), "--out", str(out)]
        line += [str(part) for name, value in options.items() if value is not None for part in (name, value)]
        line += ["--resume"] * resume + list(arguments)
        run._begin(line, env, info or {})
        return run

    def go_on(self, env: Mapping[str, str] | None = None) -> None:
        """Start the run's own command again, from its last checkpoint.

        Raises:
            TrainingError: the run is alive, was not started by the module, or the command cannot be run.
        """
        launch = self.launch
        line = [str(word) for word in launch.get("command") or ()]
        if not line:
            raise TrainingError(
                f"{self.folder}: this run was started in a terminal; go on with it there, by 'hierseg train ... --resume'."
            )
        self._begin([*line, *(["--resume"] if "--resume" not in line else [])], env, launch.get("info") or {})

    @classmethod
    def attach(cls, run_folder: str | Path) -> TrainingRun:
        """Find a run again, also one that was started in a terminal.

        Raises:
            TrainingError: there is no run in the folder.
        """
        run = cls(run_folder)
        if not run._exists():
            raise TrainingError(f"{run_folder}: there is no training run in this folder; choose a run's folder.")
        return run

    @property
    def stop_file(self) -> Path:
        """Its presence asks the run to end after the current iteration."""
        return self.folder / STOP

    @property
    def bundle(self) -> Path | None:
        """The finished model's folder; None while there is none."""
        folder = self.folder / "bundle"
        return folder if (folder / "manifest.json").is_file() else None

    def status(self) -> TrainingStatus:
        """Where the run stands; never raises for what a file holds or lacks."""
        for child in _children:
            child.poll()
        launch, status = self._read_launch(), self._read_status()
        if status.get("state") not in LIVE_STATES and status:
            return self._told(status)
        alive = self._process_alive(launch, status)
        if status and not alive:
            # The last words may have been written between reading the file and looking for the process.
            status = self._read_status() or status
            if status.get("state") not in LIVE_STATES:
                return self._told(status)
        if alive and self._stop_asked and status.get("state") in (None, "starting") and not self.stop_file.exists():
            # A run removes, when it begins, a file that an earlier one left; this one was meant for it.
            self.stop()
        return self._judge(launch, status, alive)

    def events(self, since: int = 0) -> tuple[list[dict[str, Any]], int]:
        """What has happened since an earlier call.

        Args:
            since: 0, or the number that the last call returned.

        Returns:
            The events, and the number for the next call.  A line that is not finished yet comes with the next call.
        """
        try:
            with open(self.folder / EVENTS, "rb") as file:
                if since > file.seek(0, os.SEEK_END):
                    # A shorter file is another one: the run was started anew.
                    since = 0
                file.seek(since)
                data = file.read(MAX_EVENTS_BYTES)
        except OSError:
            return [], since
        whole = data[: data.rfind(b"\n") + 1]
        events = []
        for line in whole.split(b"\n"):
            with contextlib.suppress(ValueError):
                event = json.loads(line)
                if isinstance(event, dict):
                    events.append(event)
        return events, since + len(whole)

    def log_tail(self, lines: int = 20) -> tuple[str, ...]:
        """The last lines that the latest process wrote to the run's log."""
        begin = _number(self._read_launch().get("log")) or 0
        try:
            with open(self.folder / LOG, "rb") as file:
                file.seek(max(0, begin, file.seek(0, os.SEEK_END) - LOG_TAIL_BYTES))
                text = file.read().decode("utf-8", "replace")
        except OSError:
            return ()
        kept = [line.rstrip() for line in text.replace("\r", "\n").split("\n") if line.strip()]
        return tuple(kept[-lines:])

    def stop(self) -> None:
        """Ask the run to end after the current iteration and to keep its best model."""
        self._stop_asked = True
        write_text(self.stop_file, "")

    def kill(self) -> None:
        """End the run's process now; a run can go on from its last checkpoint with ``resume``.

        Raises:
            TrainingError: it cannot be told for certain that the process is this run's; nothing is ended then.
        """
        launch = self._read_launch()
        pid = _number(launch.get("pid"))
        if pid is None or launch.get("host") != socket.gethostname() or not launch.get("process"):
            raise TrainingError(f"{self.folder}: it is not known which process runs this training; use 'Stop' instead.")
        if not processes.is_alive(pid) or processes.fingerprint(pid) != launch["process"]:
            return
        with contextlib.suppress(ProcessLookupError):
            # Its own session, see _launch: the group holds the run and its helpers, nobody else.
            os.killpg(pid, signal.SIGKILL)

    @property
    def launch(self) -> dict[str, Any]:
        """The record of the latest start by the module; empty for a run that was started in a terminal."""
        return self._read_launch()

    # -- starting ---------------------------------------------------------------------------------------------------

    def _begin(self, line: list[str], env: Mapping[str, str] | None, info: Mapping[str, Any]) -> None:
        from HierSubclassSegLib.compute.launch import environment

        if self._exists() and not self.status().ended:
            raise TrainingError(
                f"{self.folder}: a training is running in this folder; stop it first, or choose another folder."
            )
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.stop_file.unlink(missing_ok=True)
            began, log = time.time(), self.folder / LOG
            written = log.stat().st_size if log.exists() else 0
            process = self._launch(line, environment() if env is None else dict(env))
            _children[:] = [child for child in _children if child.poll() is None] + [process]
            record = {
                "pid": process.pid,
                "process": processes.fingerprint(process.pid),
                "host": socket.gethostname(),
                "time": began,
                "log": written,
                "command": line,
                "info": dict(info),
            }
            with open(self.folder / LAUNCHES, "a", encoding="utf-8") as launches:
                launches.write(json.dumps(record) + "\n")
        except OSError as error:
            raise TrainingError(
                f"{error.filename or self.folder}: the run folder cannot be written ({error.strerror or error}); "
                "free some space, or choose another place."
            ) from error

    # -- reading the folder -----------------------------------------------------------------------------------------

    def _launch(self, line: list[str], env: dict[str, str]) -> subprocess.Popen[bytes]:
        flags = 0
        if sys.platform == "win32":
            flags = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.DETACHED_PROCESS
        with open(self.folder / LOG, "ab") as log:
            try:
                return subprocess.Popen(
                    line,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=env,
                    start_new_session=os.name == "posix",
                    creationflags=flags,
                )
            except OSError as error:
                raise TrainingError(
                    f"the training cannot be started: {line[0]}: {error.strerror or error}; "
                    "choose a Python that has hierseg installed."
                ) from error

    def _exists(self) -> bool:
        return any((self.folder / name).is_file() for name in (STATUS, LAUNCHES))

    def _read_launch(self) -> dict[str, Any]:
        with contextlib.suppress(OSError, ValueError, IndexError):
            last = (self.folder / LAUNCHES).read_text(encoding="utf-8").strip().split("\n")[-1]
            record = json.loads(last)
            if isinstance(record, dict):
                return record
        return {}

    def _read_status(self) -> dict[str, Any]:
        """The status of the latest process; empty if it has not written one yet."""
        with contextlib.suppress(OSError, ValueError):
            status = json.loads((self.folder / STATUS).read_text(encoding="utf-8"))
            if not isinstance(status, dict) or not isinstance(status.get("state"), str):
                return {}
            launched, updated = _seconds(self._read_launch().get("time")), _seconds(status.get("updated"))
            if launched is None or updated is None or updated >= launched:
                return status
        return {}

    def _process_alive(self, launch: Mapping[str, Any], status: Mapping[str, Any]) -> bool | None:
        """Whether the run's process is there; None if it is not seen here, where it need not be.

        A process that has only been given the same number does not count.
        """
        pid, launched = _number(status.get("pid")), _number(launch.get("pid"))
        if launched is not None and (pid is None or pid == launched) and launch.get("host") == socket.gethostname():
            known = str(launch.get("process") or "")
            return processes.is_alive(launched) and (not known or processes.fingerprint(launched) == known)
        if pid is None or not processes.is_alive(pid):
            return None
        began, updated = processes.started_at(pid), _seconds(status.get("updated"))
        # Who began after the last heartbeat did not write it.
        return True if began is None or updated is None or began <= updated + 2.0 else None

    def _told(self, status: Mapping[str, Any]) -> TrainingStatus:
        """The status as the engine wrote it."""
        state = str(status.get("state") or "failed")
        return TrainingStatus(
            state=state,
            message=str(status.get("message") or ""),
            stage=str(status.get("stage") or ""),
            iteration=_number(status.get("iteration")) or 0,
            iterations=_number(status.get("iterations")) or 0,
            seconds_left=_seconds(status.get("seconds_left")),
            best=status.get("best"),
            pid=_number(status.get("pid")),
            updated=_seconds(status.get("updated")),
            log_tail=self.log_tail() if state == "failed" else (),
        )

    def _judge(self, launch: Mapping[str, Any], status: Mapping[str, Any], alive: bool | None) -> TrainingStatus:
        """The status of a run whose own last word is that it runs."""
        updated = _seconds(status.get("updated"))
        last_sign = max(
            [seconds for seconds in (updated, _seconds(launch.get("time"))) if seconds is not None], default=0.0
        )
        quiet = time.time() - last_sign
        told = self._told({"state": "starting", "pid": launch.get("pid"), **status})
        if alive:
            return replace(told, stalled=quiet > STALLED_SECONDS)
        # A run on another machine, seen through a shared folder, has no process here, but it has a heartbeat.
        if alive is None and status and quiet < STALE_SECONDS:
            return told
        if not status and not launch:
            return replace(
                told, state="failed", message=f"{self.folder}: there is no training run in this folder (any more)."
            )
        tail = self.log_tail()
        said = next((line.partition("hierseg: ")[2] for line in reversed(tail) if line.startswith("hierseg: ")), "")
        message = said or (
            "The training has ended without saying why (it was killed, memory ran out, or the computer was restarted); "
            "resume it to go on from the last checkpoint."
        )
        return replace(told, state="failed", message=message, seconds_left=None, log_tail=tail)


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _seconds(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
