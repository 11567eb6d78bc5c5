"""The worker's main loop: the main thread listens, a second thread works, so that a cancel is heard at once."""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
from collections.abc import Callable

from hierseg.allocation import give_back_memory
from hierseg.errors import WorkerError
from hierseg.worker import watchdog
from hierseg.worker.channel import Channel, take_over_streams
from hierseg.worker.protocol import Message, check_version
from hierseg.worker.store import Store
from hierseg.worker.tasks import Job, Tasks, error_fields

MAX_QUEUED = 10_000


class Server:
    """Answers one client until its stream ends.

    Args:
        channel: the two streams.
        store: what the client sends goes here.
    """

    def __init__(self, channel: Channel, store: Store) -> None:
        self._channel = channel
        self._store = store
        self._tasks = Tasks(store)
        self._queue: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._jobs: dict[int, Job] = {}
        self._lock = threading.Lock()
        self._running: int | None = None
        self._greeted = False
        self._worker = threading.Thread(target=self._work, name="hierseg-work", daemon=True)

    def run(self) -> int:
        """Serve; return the exit code: 0 after the end of the stream, 2 after a stream that cannot be read."""
        self._worker.start()
        code = 0
        try:
            for message in self._channel.receive():
                if message.type == "close":
                    break
                self._take(message)
        except WorkerError as error:
            sys.stderr.write(f"hierseg worker: {error.sentence}\n")
            self._channel.send(Message("error", 0, error_fields(error)))
            code = 2
        self._finish(code)
        return code

    def _take(self, message: Message) -> None:
        """Answer what needs no work at once, queue the rest."""
        if message.type == "ping":
            self._channel.send(Message("pong", message.id, {"busy": self._running}))
        elif message.type == "cancel":
            with self._lock:
                job = self._jobs.get(message.get("job", message.id))
            if job is not None:
                job.cancelled.set()
        elif message.type == "hello":
            check_version(message, "client")
            self._greeted = True
            self._enqueue(message)
        elif message.type not in self._tasks.types:
            self._refuse(message, f"the worker does not know the message {message.type!r}.")
        elif not self._greeted:
            self._refuse(message, f"the first message must be 'hello', not {message.type!r}.")
        else:
            self._enqueue(message)

    def _enqueue(self, message: Message) -> None:
        job = Job(message, self._channel.send)
        with self._lock:
            if len(self._jobs) < MAX_QUEUED and message.id not in self._jobs:
                self._jobs[message.id] = job
                self._queue.put(job)
                return
            taken = message.id in self._jobs
        reason = f"the job number {message.id} is in use." if taken else f"more than {MAX_QUEUED} requests are waiting."
        self._refuse(message, reason)

    def _refuse(self, message: Message, sentence: str) -> None:
        self._channel.send(Message("error", message.id, error_fields(WorkerError(sentence))))

    def _work(self) -> None:
        while (job := self._queue.get()) is not None:
            self._running = job.id
            try:
                self._tasks.run(job)
            finally:
                with self._lock:
                    self._jobs.pop(job.id, None)
                self._running = None
            if self._queue.empty():
                give_back_memory()

    def _finish(self, code: int) -> None:
        """End within the grace period: what is running is canceled, what is stuck is ended by force."""
        watchdog.end_soon(code)
        with self._lock:
            for job in self._jobs.values():
                job.cancelled.set()
        self._queue.put(None)
        self._worker.join(watchdog.GRACE * 0.75)
        self._channel.flush(watchdog.GRACE * 0.2)
        self._store.clear()


def _on_signal(end: Callable[[], None]) -> None:
    """Call ``end`` on a thread of its own when somebody asks this process to end.

    A handler alone would run only when the main thread comes back from reading: a signal that another thread received,
    or that came just before the reading began, would wait there for the next message.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)

    def wait() -> None:
        os.read(reading, 1)
        end()

    threading.Thread(target=wait, name="hierseg-signals", daemon=True).start()
    for name in ("SIGTERM", "SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), lambda *_: None)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)


def serve() -> int:
    """Run the worker on this process's stdin and stdout; returns only in theory, the process ends."""
    incoming, outgoing = take_over_streams()
    store = Store()
    watchdog.start_guard(incoming, folder=store.place)
    os.environ.setdefault("TQDM_DISABLE", "1")

    def end() -> None:
        store.clear()
        watchdog.end_process(0)

    _on_signal(end)
    code = Server(Channel(incoming, outgoing), store).run()
    # Not a return through the interpreter's own end: library threads and pools could hold it up for long.
    watchdog.end_process(code)
    return code
