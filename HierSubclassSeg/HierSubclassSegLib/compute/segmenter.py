"""One prediction after the other on one warm worker: start, follow, cancel, discard; a dead worker is replaced.

An application gives a function that makes a client (with its own kind of transport) and calls :meth:`Segmenter.poll`
from a timer.  Nothing here waits, and nothing here knows of a scene: the result goes to a callback, unless the run was
discarded in the meantime.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hierseg.bundle import Bundle
from hierseg.errors import WorkerError
from HierSubclassSegLib.compute.client import WorkerClient
from HierSubclassSegLib.compute.jobs import Job, JobState, PredictionResult, Progress, RemoteError, call
from HierSubclassSegLib.compute.overall import Overall, OverallProgress
from HierSubclassSegLib.compute.prepare import Image


class Segmenter:
    """Runs predictions, one at a time.

    Args:
        connect: makes a client of a new worker; called with ``on_log`` as keyword.
        on_progress: called with :class:`Overall`.
        on_result: called with the :class:`PredictionResult` of a run that was neither canceled nor discarded.
        on_error: called with the :class:`RemoteError` of a run that was not discarded; a cancel is one of kind "Canceled".
        on_log: called with each line that a worker writes to stderr.
        on_worker: called with what a worker says of itself (versions, devices) each time one has started.
    """

    def __init__(
        self,
        connect: Callable[..., WorkerClient],
        *,
        on_progress: Callable[[Overall], None] | None = None,
        on_result: Callable[[PredictionResult], None] | None = None,
        on_error: Callable[[RemoteError], None] | None = None,
        on_log: Callable[[str], None] | None = None,
        on_worker: Callable[[Mapping[str, Any]], None] | None = None,
    ) -> None:
        self._connect = connect
        self._on_progress, self._on_result, self._on_error = on_progress, on_result, on_error
        self._on_log, self._on_worker = on_log, on_worker
        self._client: WorkerClient | None = None
        self._leaving: list[WorkerClient] = []
        self._job: Job | None = None

    @property
    def running(self) -> bool:
        """Whether a run has neither ended nor been discarded."""
        return self._job is not None

    @property
    def canceling(self) -> bool:
        """Whether the run was canceled and has not ended yet."""
        return self._job is not None and self._job.state is JobState.CANCELING

    @property
    def busy(self) -> bool:
        """Whether :meth:`poll` is wanted several times a second: a run, a discarded one, or a worker that ends."""
        return self._job is not None or bool(self._leaving) or (self._client is not None and self._client.alive)

    @property
    def worker(self) -> Mapping[str, Any]:
        """What the worker says of itself; empty before it has said it."""
        return self._client.worker if self._client is not None else {}

    @property
    def diagnostics(self) -> list[str]:
        """The worker's last lines."""
        return self._client.stderr_tail if self._client is not None else []

    def warm_up(self) -> None:
        """Start the worker, if there is none, so that its devices are known.

        Raises:
            WorkerError: it cannot be started.
        """
        self._living_client()

    def start(self, images: Sequence[Image], bundle: Bundle | str | Path, *, device: str = "auto") -> None:
        """Begin a run; arrays are copied at once, unless they are ``own`` copies already.

        Raises:
            WorkerError: a run is going on, or the worker cannot be started.
        """
        if self._job is not None:
            raise WorkerError("a prediction is going on; cancel it or wait for it.")
        client = self._living_client()
        whole = OverallProgress()
        call(self._on_progress, whole.update(Progress("start", 0.0)))
        job = client.start_predict(images, bundle, device=device)
        if job.finished:
            # The worker died between two polls.
            raise job.error or WorkerError("the worker is gone; start again.")

        def advanced(progress: Progress) -> None:
            if self._job is job:
                call(self._on_progress, whole.update(progress))

        job.on_progress = advanced
        job.on_result = lambda result: self._end(job, self._on_result, result)
        job.on_error = lambda error: self._end(job, self._on_error, error)
        self._job = job

    def cancel(self) -> None:
        """Take the run back: the error callback comes within 3 s."""
        if self._job is not None and self._client is not None:
            self._client.cancel(self._job)

    def discard(self) -> None:
        """Forget the run: it is canceled, and no callback comes any more (its scene is gone)."""
        job, self._job = self._job, None
        if job is not None and self._client is not None:
            self._client.cancel(job)

    def poll(self) -> None:
        """Do what time brings."""
        for client in [*self._leaving, *([self._client] if self._client is not None else [])]:
            client.poll()
        self._leaving = [client for client in self._leaving if client.alive]

    def close(self, timeout: float = 0.0) -> None:
        """End the worker; without ``timeout`` go on calling :meth:`poll` until :attr:`busy` is False."""
        self.discard()
        client, self._client = self._client, None
        if client is not None and client.alive:
            client.close(timeout)
            if client.alive:
                self._leaving.append(client)

    # -- steps ------------------------------------------------------------------------------------------------------

    def _end(self, job: Job, callback: Callable[[Any], None] | None, outcome: Any) -> None:
        if self._job is job:
            self._job = None
            call(callback, outcome)

    def _living_client(self) -> WorkerClient:
        if self._client is None or not self._client.usable:
            if self._client is not None and self._client.alive:
                self._leaving.append(self._client)
            client = self._connect(on_log=self._on_log)
            self._client = client
            client.start_hello(lambda fields: call(self._on_worker, fields))
        return self._client
