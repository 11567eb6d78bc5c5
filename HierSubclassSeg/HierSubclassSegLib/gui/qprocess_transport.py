"""A worker process on Qt's event loop: no thread, no waiting."""

from __future__ import annotations

import collections
from collections.abc import Callable, Mapping, Sequence

import qt

from hierseg.errors import WorkerError
from HierSubclassSegLib.compute.process_tree import kill_tree

PIECE = 1 << 22
"""Bytes handed to Qt at a time, which copies them: some milliseconds."""
AHEAD = 1 << 23
"""Bytes that wait inside Qt before the next piece is handed over."""


def _ignore(_: object) -> None:
    """A callback that nobody has set."""


class QProcessTransport:
    """Carries bytes for :class:`~HierSubclassSegLib.compute.client.WorkerClient`.

    Args:
        command: the command line, run without a shell.
        env: its environment; None takes this process's.
    """

    def __init__(self, command: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        self.command = [str(part) for part in command]
        self.on_bytes: Callable[[bytes], None] = _ignore
        self.on_stderr: Callable[[bytes], None] = _ignore
        self.on_exit: Callable[[int], None] = _ignore
        self._env = env
        self._outgoing: collections.deque[memoryview] = collections.deque()
        self._closing = False
        self._ended = False
        self._exit_told = False
        self._ran = False
        self._failed_to_start = False
        self._process = qt.QProcess()

    @property
    def pid(self) -> int:
        """The process's number, 0 when it does not run."""
        return int(self._process.processId())

    def start(self) -> None:
        """Start the process; what goes wrong later comes as its exit.

        Raises:
            WorkerError: there is no such program.
        """
        process = self._process
        if self._env is not None:
            environment = qt.QProcessEnvironment()
            for name, value in self._env.items():
                environment.insert(name, value)
            process.setProcessEnvironment(environment)
        process.readyReadStandardOutput.connect(self._read_output)
        process.readyReadStandardError.connect(self._read_errors)
        process.bytesWritten.connect(self._write_on)
        # "finished" has two overloads in Qt 5; the state has one.
        process.stateChanged.connect(self._state_changed)
        process.errorOccurred.connect(self._error_occurred)
        process.start(self.command[0], self.command[1:])
        if self._failed_to_start:
            raise WorkerError(
                f"the worker cannot be started: {self.command[0]} cannot be run; choose a Python that has hierseg installed."
            )

    def write(self, data: bytes | memoryview) -> None:
        """Queue bytes; the event loop writes them."""
        if not (self._ended or self._closing):
            self._outgoing.append(memoryview(data))
            self._write_on()

    def poll(self) -> None:
        """Nothing to do: the event loop delivers."""

    def wait(self, seconds: float) -> None:
        """Let Qt look at this process for up to that long, at the end of the application, when no event loop runs."""
        if not self._ended:
            self._process.waitForFinished(int(1000 * seconds))

    def close(self) -> None:
        """Close the process's stdin once what is queued is written."""
        self._closing = True
        self._write_on()

    def kill(self) -> None:
        """End the process and all that it started."""
        if self._ended:
            return
        kill_tree(self.pid)
        self._process.kill()

    # -- the event loop's calls -------------------------------------------------------------------------------------

    def _read_output(self) -> None:
        data = bytes(self._process.readAllStandardOutput().data())
        if data:
            self.on_bytes(data)

    def _read_errors(self) -> None:
        data = bytes(self._process.readAllStandardError().data())
        if data:
            self.on_stderr(data)

    def _write_on(self, *_: object) -> None:
        while self._outgoing and not self._ended and self._process.bytesToWrite() < AHEAD:
            view = self._outgoing.popleft()
            if len(view) > PIECE:
                self._outgoing.appendleft(view[PIECE:])
                view = view[:PIECE]
            self._process.write(qt.QByteArray(bytes(view)))
        if self._closing and not self._outgoing and not self._ended:
            # Qt closes the channel after what it still holds.
            self._process.closeWriteChannel()

    def _error_occurred(self, error: object) -> None:
        if error == qt.QProcess.FailedToStart:
            self._could_not_start()

    def _could_not_start(self) -> None:
        if not self._failed_to_start:
            self._failed_to_start = True
            self.on_stderr(f"{self.command[0]} cannot be run\n".encode())
            self._exit(127)

    def _state_changed(self, state: object) -> None:
        if state == qt.QProcess.Running:
            self._ran = True
        if state != qt.QProcess.NotRunning or self._failed_to_start:
            return
        if not self._ran:
            # Qt tells the state before it tells the error.
            self._could_not_start()
            return
        self._read_output()
        self._read_errors()
        crashed = self._process.exitStatus() == qt.QProcess.CrashExit
        # Qt gives a crashed process's signal as its exit code; the client expects it negative.
        code = int(self._process.exitCode())
        self._exit(-abs(code) if crashed else code)

    def _exit(self, code: int) -> None:
        self._ended = True
        self._outgoing.clear()
        if not self._exit_told:
            self._exit_told = True
            self.on_exit(code)
