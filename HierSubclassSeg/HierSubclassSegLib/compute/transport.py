"""Carrying bytes to and from a worker process.

A transport knows nothing of messages.  Its three callbacks are called in the thread that the client lives in: by
Qt's event loop where the transport is a ``QProcess``, by :meth:`Transport.poll` where threads collect the bytes.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol

from hierseg.errors import WorkerError

READ_SIZE = 1 << 20
MAX_PENDING = 64
"""Pieces of output that wait for :meth:`SubprocessTransport.poll` before the worker is made to wait."""


class Transport(Protocol):
    """What :class:`~HierSubclassSegLib.compute.client.WorkerClient` needs of a process."""

    on_bytes: Callable[[bytes], None]
    on_stderr: Callable[[bytes], None]
    on_exit: Callable[[int], None]

    def start(self) -> None:
        """Start the process; the callbacks are set before."""

    def write(self, data: bytes | memoryview) -> None:
        """Queue bytes for the process's stdin; returns at once, and keeps still if the process is gone."""

    def poll(self) -> None:
        """Deliver what has come; nothing to do where an event loop delivers."""

    def wait(self, seconds: float) -> None:
        """Deliver what has come, or comes within ``seconds``; for scripts."""

    def close(self) -> None:
        """Close the process's stdin after what is queued: it ends by itself then."""

    def kill(self) -> None:
        """End the process and all that it started, now."""


def _ignore(_: object) -> None:
    """A callback that nobody has set."""


class SubprocessTransport:
    """A process with pipes, threads that wait on them, and a queue between those threads and the caller's.

    Args:
        command: the command line, run without a shell.
        env: its environment; None takes this process's.
        cwd: its working folder; None takes this process's.
    """

    def __init__(self, command: Sequence[str], env: Mapping[str, str] | None = None, cwd: str | None = None) -> None:
        self.command = list(command)
        self.on_bytes: Callable[[bytes], None] = _ignore
        self.on_stderr: Callable[[bytes], None] = _ignore
        self.on_exit: Callable[[int], None] = _ignore
        self._env = dict(env) if env is not None else None
        self._cwd = cwd
        self._process: subprocess.Popen[bytes] | None = None
        self._outgoing: queue.SimpleQueue[bytes | memoryview | None] = queue.SimpleQueue()
        self._incoming: queue.SimpleQueue[tuple[Literal["out", "err"], bytes] | tuple[Literal["exit"], int]]
        self._incoming = queue.SimpleQueue()
        self._room = threading.Semaphore(MAX_PENDING)
        self._ending = threading.Lock()
        self._reaped = False

    @property
    def pid(self) -> int | None:
        """The process's number, None before the start."""
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        """Start the process in a session of its own, so that it can be ended with all that it starts.

        Raises:
            WorkerError: the command cannot be run.
        """
        if self._process is not None:
            return
        flags = 0
        if sys.platform == "win32":
            flags = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
        try:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                env=self._env,
                cwd=self._cwd,
                start_new_session=os.name == "posix",
                creationflags=flags,
            )
        except OSError as error:
            raise WorkerError(
                f"the worker cannot be started: {self.command[0]}: {error.strerror or error}; "
                "choose a Python that has hierseg installed."
            ) from error
        pipes = self._process
        assert pipes.stdin is not None
        assert pipes.stdout is not None
        assert pipes.stderr is not None
        readers = [
            threading.Thread(target=self._read, args=(pipes.stdout.fileno(), "out"), daemon=True),
            threading.Thread(target=self._read, args=(pipes.stderr.fileno(), "err"), daemon=True),
        ]
        for thread in readers:
            thread.start()
        threading.Thread(target=self._write_all, args=(pipes.stdin,), daemon=True).start()
        threading.Thread(target=self._await_exit, args=(readers,), daemon=True).start()

    def write(self, data: bytes | memoryview) -> None:
        """Queue bytes; a thread writes them."""
        self._outgoing.put(data)

    def poll(self) -> None:
        """Call the callbacks for everything that has come."""
        while True:
            try:
                self._deliver(self._incoming.get_nowait())
            except queue.Empty:
                return

    def wait(self, seconds: float) -> None:
        """Wait for something to come, at most ``seconds``, and deliver all there is."""
        with contextlib.suppress(queue.Empty):
            self._deliver(self._incoming.get(timeout=max(0.0, seconds)))
        self.poll()

    def close(self) -> None:
        """Close the process's stdin once what is queued is written."""
        self._outgoing.put(None)

    def kill(self) -> None:
        """End the process and its process group (Windows: its tree)."""
        with self._ending:
            # Before it is reaped its number cannot belong to another process.
            if self._process is None or self._reaped:
                return
            _kill_tree(self._process)

    def _deliver(self, event: tuple[Literal["out", "err"], bytes] | tuple[Literal["exit"], int]) -> None:
        if event[0] == "exit":
            self.on_exit(event[1])
            return
        self._room.release()
        (self.on_bytes if event[0] == "out" else self.on_stderr)(event[1])

    def _read(self, descriptor: int, name: Literal["out", "err"]) -> None:
        while True:
            try:
                data = os.read(descriptor, READ_SIZE)
            except OSError:
                return
            if not data:
                return
            self._room.acquire()
            self._incoming.put((name, data))

    def _write_all(self, stdin: object) -> None:
        descriptor = stdin.fileno()  # type: ignore[attr-defined]
        with contextlib.suppress(OSError):
            while (data := self._outgoing.get()) is not None:
                view = memoryview(data)
                while view:
                    view = view[os.write(descriptor, view[:READ_SIZE]) :]
        with contextlib.suppress(OSError):
            stdin.close()  # type: ignore[attr-defined]

    def _await_exit(self, readers: list[threading.Thread]) -> None:
        process = self._process
        if process is None:
            return
        if hasattr(os, "waitid"):
            # Seen but not yet reaped: what is left of its group can be ended without meeting a stranger.
            with contextlib.suppress(ChildProcessError):
                os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            self.kill()
        code = process.wait()
        with self._ending:
            self._reaped = True
        for reader in readers:
            # A process that left the group may hold the pipe open: it is not waited for.
            reader.join(2.0)
        for reader, pipe in zip(readers, (process.stdout, process.stderr), strict=True):
            if pipe is not None and not reader.is_alive():
                pipe.close()
        self._outgoing.put(None)
        self._incoming.put(("exit", code))


def _kill_tree(process: subprocess.Popen[bytes]) -> None:
    if os.name == "posix":
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
    else:
        subprocess.run(["taskkill", "/T", "/F", "/PID", str(process.pid)], capture_output=True, check=False)
        with contextlib.suppress(OSError):
            process.kill()
