"""The event-driven core of the worker client: bytes in, callbacks out, and what time brings.

Feeds the decoder, matches answers with questions, ends a worker that ignores a cancel, notices one that has gone
quiet, and turns a worker's death into one error for every job that waits.  It knows nothing of images or bundles.
"""

from __future__ import annotations

import collections
import itertools
import queue
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from hierseg.errors import HiersegError, WorkerError
from hierseg.worker.protocol import FrameDecoder, Message, encode_parts
from HierSubclassSegLib.compute.jobs import Job, JobState, Progress, RemoteError, call
from HierSubclassSegLib.compute.transport import Transport

CANCEL_PATIENCE = 2.0
"""Seconds that a worker has to answer a cancel before its stdin is closed; it is ended by force
:data:`CLOSE_PATIENCE` later.  Together they stay below the 3 s that are promised."""
CLOSE_PATIENCE = 0.5
PING_INTERVAL = 5.0
STDERR_LINES = 200
STDERR_SHOWN = 8
MAX_LINE = 4096

_Made = TypeVar("_Made")


@dataclass
class _Request:
    """A message that waits for its answer."""

    job: Job
    answered: Callable[[Message], None]
    missing: Callable[[], None] | None
    asked: float


class Connection:
    """One worker process; when it has ended, make a new one.

    Args:
        transport: carries the bytes; started here.
        on_stall: called with a job, the seconds without a sign of work, and whether the worker still answers pings.
        on_exit: called with the exit code when the process has ended.
        on_log: called with each line that the worker writes to stderr.
        stall_after: seconds without a sign of work that count as a stall.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        on_stall: Callable[[Job, float, bool], None] | None = None,
        on_exit: Callable[[int], None] | None = None,
        on_log: Callable[[str], None] | None = None,
        stall_after: float = 120.0,
    ) -> None:
        self.exit_code: int | None = None
        self._on_stall, self._on_exit, self._on_log = on_stall, on_exit, on_log
        self._stall_after = stall_after
        self._decoder = FrameDecoder()
        self._numbers = itertools.count(1)
        self._requests: dict[int, _Request] = {}
        self._jobs: list[Job] = []
        self._deadlines: dict[Job, float] = {}
        self._kill_at: float | None = None
        self._ready: queue.SimpleQueue[tuple[Job, Callable[[], None]]] = queue.SimpleQueue()
        self._stderr: collections.deque[str] = collections.deque(maxlen=STDERR_LINES)
        self._stderr_rest = b""
        self._last_work = self._last_heard = self._last_ping = time.monotonic()
        self._stalled = False
        self._failure: RemoteError | None = None
        self._transport = transport
        transport.on_bytes, transport.on_stderr, transport.on_exit = self.feed, self._feed_stderr, self._exited
        transport.start()

    # -- events -----------------------------------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """Take bytes from the worker's stdout; the transport calls this."""
        if self._failure is not None:
            return
        self._last_heard = time.monotonic()
        try:
            for message in self._decoder.feed(data):
                self._received(message)
            if self._decoder.error is not None:
                raise self._decoder.error
        except WorkerError as error:
            self._break(RemoteError(f"The worker's answer cannot be read: {error.sentence}", kind="Protocol"))

    def poll(self) -> None:
        """Do what time brings; call it several times a second from a timer."""
        self._transport.poll()
        while True:
            try:
                job, proceed = self._ready.get_nowait()
            except queue.Empty:
                break
            if not job.finished:
                proceed()
                self._settle()
        now = time.monotonic()
        if self._kill_at is None and any(deadline < now for deadline in self._deadlines.values()):
            self._transport.close()
            self._kill_at = now + CLOSE_PATIENCE
        if self._kill_at is not None and self.alive and now > self._kill_at:
            self._kill_at = now + CLOSE_PATIENCE
            self._transport.kill()
        if self._requests and self.alive:
            self._watch(now)

    @property
    def alive(self) -> bool:
        """Whether the process has not been seen to end."""
        return self.exit_code is None

    @property
    def usable(self) -> bool:
        """Whether it takes requests: it lives, was not given up, and is not about to be ended."""
        return self.alive and self._failure is None and self._kill_at is None

    @property
    def stderr_tail(self) -> list[str]:
        """The last lines that the worker wrote to stderr, for diagnostics."""
        rest = self._stderr_rest.decode("utf-8", "replace").strip()
        return [*self._stderr, *([rest] if rest else [])]

    def cancel(self, job: Job) -> None:
        """Take a job back: politely at first, then, from ``poll()``, by ending the worker within 3 s."""
        if job.finished or job.state is JobState.CANCELING:
            return
        job.state = JobState.CANCELING
        asked = [number for number, request in self._requests.items() if request.job is job]
        if not asked:
            # Still being prepared here: the worker knows nothing of it.
            job.fail(canceled())
            self._settle()
            return
        for number in asked:
            self._send(Message("cancel", 0, {"job": number}))
        self._deadlines[job] = time.monotonic() + CANCEL_PATIENCE

    def wait(self, job: Job, timeout: float | None = None) -> Any:
        """Wait for a job and return its result: for scripts, never in an application's main thread.

        Raises:
            RemoteError: the job failed.
            WorkerError: it is not finished after ``timeout`` seconds (it goes on).
        """
        end = None if timeout is None else time.monotonic() + timeout
        self.poll()
        while not job.finished:
            if end is not None and time.monotonic() > end:
                raise WorkerError(f"the worker has not answered '{job.kind}' within {timeout:g} s.")
            self._transport.wait(0.05)
            self.poll()
        if job.error is not None:
            raise job.error
        return job.result

    def close(self, timeout: float = 3.0) -> None:
        """End the worker; with ``timeout`` 0 without waiting for it (it ends by itself when its stdin closes)."""
        if self.exit_code is not None:
            return
        self._send(Message("close"))
        self._transport.close()
        self._kill_at = time.monotonic() + max(timeout, CLOSE_PATIENCE)
        end = self._kill_at + 2.0
        while timeout > 0 and self.alive and time.monotonic() < end:
            self._transport.wait(0.05)
            self.poll()

    # -- what comes from the transport ------------------------------------------------------------------------------

    def _feed_stderr(self, data: bytes) -> None:
        # A progress bar ends its lines with a carriage return.
        *lines, rest = (self._stderr_rest + data).replace(b"\r", b"\n").split(b"\n")
        self._stderr_rest = rest[-MAX_LINE:]
        for line in lines:
            text = line[:MAX_LINE].decode("utf-8", "replace").rstrip()
            if text:
                self._stderr.append(text)
                call(self._on_log, text)

    def _exited(self, code: int) -> None:
        self.exit_code = code
        if self._failure is None:
            tail = self.stderr_tail
            hint = "Its last lines: " + " | ".join(tail[-STDERR_SHOWN:]) if tail else ""
            self._failure = RemoteError(_death(code), hint=hint, kind="WorkerDied", traceback="\n".join(tail))
        self._fail_all(self._failure)
        call(self._on_exit, code)

    def _break(self, error: RemoteError) -> None:
        """Give up on the worker: nothing that it sends can be trusted any more."""
        self._failure = error
        self._transport.close()
        self._transport.kill()
        self._fail_all(error)

    def _fail_all(self, error: RemoteError) -> None:
        jobs, self._jobs = self._jobs, []
        self._requests.clear()
        self._deadlines.clear()
        for job in jobs:
            job.fail(error)

    def _watch(self, now: float) -> None:
        if now - self._last_ping > PING_INTERVAL:
            self._last_ping = now
            self._send(Message("ping"))
        # Counted from the oldest open question: before it the worker had nothing to do.
        quiet = now - max(self._last_work, min(request.asked for request in self._requests.values()))
        if quiet > self._stall_after and not self._stalled:
            self._stalled = True
            job = next(iter(self._requests.values())).job
            call(self._on_stall, job, quiet, now - self._last_heard < 2 * PING_INTERVAL)

    # -- messages ---------------------------------------------------------------------------------------------------

    def _send(self, message: Message) -> None:
        for part in encode_parts(message):
            self._transport.write(part)

    def _begin(self, job: Job) -> Job:
        if self._failure is not None:
            job.fail(self._failure)
        else:
            self._jobs.append(job)
        return job

    def _ask(
        self, job: Job, message: Message, answered: Callable[[Message], None], missing: Callable[[], None] | None = None
    ) -> None:
        """Send a question; ``missing`` is called instead of failing when the worker lacks content that it had."""
        if job.finished:
            return
        number = next(self._numbers)
        self._requests[number] = _Request(job, answered, missing, time.monotonic())
        self._send(Message(message.type, number, message.fields, message.arrays))

    def _received(self, message: Message) -> None:
        if message.type == "pong":
            return
        self._last_work, self._stalled = time.monotonic(), False
        if message.type == "error" and message.id == 0:
            self._break(_remote_error(message))
            return
        request = self._requests.get(message.id)
        if request is None:
            return
        try:
            if message.type == "progress":
                left = message.get("seconds_left")
                request.job.advance(Progress(str(message.fields["stage"]), float(message.fields["fraction"]), left))
                return
            del self._requests[message.id]
            if message.type != "error":
                request.answered(message)
            elif message.get("kind") == "MissingContent" and request.missing is not None:
                request.missing()
            else:
                request.job.fail(_remote_error(message))
        except (KeyError, TypeError, ValueError, HiersegError) as error:
            sentence = f"The worker's answer to '{request.job.kind}' is incomplete ({type(error).__name__}: {error})."
            request.job.fail(RemoteError(sentence, kind="Protocol"))
        self._settle()

    def _settle(self) -> None:
        """Forget the jobs that are finished."""
        for job in [job for job in self._jobs if job.finished]:
            self._jobs.remove(job)
            self._deadlines.pop(job, None)

    def _in_background(self, job: Job, work: Callable[[], _Made], then: Callable[[_Made], None]) -> None:
        """Run ``work`` in a thread, and ``then`` with what it made in the client's thread, from ``poll()``."""

        def run() -> None:
            try:
                made = work()
            except HiersegError as error:
                failed = RemoteError(error.sentence, hint=error.hint, kind=error.kind)
            except OSError as error:
                failed = RemoteError(f"{error.filename or job.kind}: {error.strerror or error}.", kind="OSError")
            except MemoryError:
                failed = RemoteError("There is not enough memory to send the images.", kind="OutOfMemory")
            else:
                self._ready.put((job, lambda: then(made)))
                return
            self._ready.put((job, lambda: job.fail(failed)))

        if not job.finished:
            threading.Thread(target=run, name="hierseg-prepare", daemon=True).start()


def canceled() -> RemoteError:
    """The error of a job that was taken back."""
    return RemoteError("Canceled.", kind="Canceled")


def _remote_error(message: Message) -> RemoteError:
    return RemoteError(
        str(message.get("sentence") or "The worker reports an error without saying which."),
        hint=str(message.get("hint") or ""),
        kind=str(message.get("kind") or "WorkerError"),
        traceback=str(message.get("traceback") or ""),
    )


def _death(code: int) -> str:
    """Why the worker is gone, in one sentence."""
    if code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        cause = " (often because memory ran out)" if name == "SIGKILL" else ""
        return f"The worker was ended by {name}{cause}; start again."
    return f"The worker has ended (exit code {code}); start again, its last lines may tell why."
