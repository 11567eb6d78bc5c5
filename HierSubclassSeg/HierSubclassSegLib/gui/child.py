"""A child process whose output is wanted and whose end is told; the event loop waits, nobody else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import qt

from HierSubclassSegLib.compute.process_tree import kill_tree


class Child:
    """Runs one command line.

    Args:
        command: the program and its arguments, run without a shell.
        env: its environment.
        on_done: called once with stdout, stderr and the exit code; None as code if it was stopped or could not be
            started.
        on_line: called with each line of both streams.
        seconds: after which it is stopped; 0 for never.
    """

    def __init__(
        self,
        command: Sequence[str],
        env: Mapping[str, str],
        on_done: Callable[[bytes, bytes, int | None], None],
        on_line: Callable[[str], None] | None = None,
        seconds: float = 0.0,
    ) -> None:
        self._on_done: Callable[[bytes, bytes, int | None], None] | None = on_done
        self._on_line = on_line
        self._out, self._err = bytearray(), bytearray()
        self._rest = {True: b"", False: b""}
        self._stopped = False
        self._process = qt.QProcess()
        environment = qt.QProcessEnvironment()
        for name, value in env.items():
            environment.insert(name, value)
        self._process.setProcessEnvironment(environment)
        self._process.readyReadStandardOutput.connect(self._read_output)
        self._process.readyReadStandardError.connect(self._read_errors)
        self._process.errorOccurred.connect(self._error_occurred)
        # "finished" has two overloads in Qt 5; the state has one.
        self._process.stateChanged.connect(self._state_changed)
        self._late = qt.QTimer()
        self._late.setSingleShot(True)
        self._late.timeout.connect(self.stop)
        self._code: int | None = None
        self._told = qt.QTimer()
        self._told.setSingleShot(True)
        self._told.setInterval(0)
        self._told.timeout.connect(self._tell)
        self._process.start(str(command[0]), [str(part) for part in command[1:]])
        # Nothing is typed into it: a program that asks must not wait for ever.
        self._process.closeWriteChannel()
        if seconds:
            self._late.start(int(1000 * seconds))

    @property
    def running(self) -> bool:
        """Whether its end has not been told."""
        return self._on_done is not None

    def stop(self) -> None:
        """End it with all that it started; ``on_done`` is told."""
        if self.running:
            self._stopped = True
            kill_tree(int(self._process.processId()))
            self._process.kill()

    def forget(self) -> None:
        """End it without telling anybody."""
        self._on_done = self._on_line = None
        self._late.stop()
        self._told.stop()
        kill_tree(int(self._process.processId()))
        self._process.kill()
        self._process.waitForFinished(500)

    # -- the event loop's calls -------------------------------------------------------------------------------------

    def _read_output(self) -> None:
        self._take(bytes(self._process.readAllStandardOutput().data()), True)

    def _read_errors(self) -> None:
        self._take(bytes(self._process.readAllStandardError().data()), False)

    def _take(self, data: bytes, out: bool) -> None:
        (self._out if out else self._err).extend(data)
        if self._on_line is None:
            return
        *lines, self._rest[out] = (self._rest[out] + data).replace(b"\r", b"\n").split(b"\n")
        for line in lines:
            text = line.decode("utf-8", "replace").rstrip()
            if text:
                self._on_line(text)

    def _error_occurred(self, error: object) -> None:
        if error == qt.QProcess.FailedToStart:
            self._end(None)

    def _state_changed(self, state: object) -> None:
        if state != qt.QProcess.NotRunning or not self.running:
            return
        self._read_output()
        self._read_errors()
        self._end(None if self._stopped else int(self._process.exitCode()))

    def _end(self, code: int | None) -> None:
        self._late.stop()
        self._code = code
        # Not from the process's own signal: whoever is told may let go of the process, which is at work here.
        self._told.start()

    def _tell(self) -> None:
        done, self._on_done = self._on_done, None
        if done is not None:
            done(bytes(self._out), bytes(self._err), self._code)
