"""The prediction worker's client: what a worker can be asked for, without waiting and, for scripts, waiting.

A request that refers to images or a bundle goes in steps: hash them here (in a thread), ask which of them the worker
has, send the others, then ask.  So it works through any pair of pipes, and nothing is sent twice.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

import hierseg
from hierseg.bundle import Bundle
from hierseg.errors import WorkerError
from hierseg.labeltree import LabelTree
from hierseg.worker.crops import uncropped
from hierseg.worker.protocol import PROTOCOL_VERSION, Message, check_version
from HierSubclassSegLib.compute import prepare
from HierSubclassSegLib.compute.connection import Connection, canceled
from HierSubclassSegLib.compute.jobs import Job, JobState, PredictionResult, Progress, RemoteError
from HierSubclassSegLib.compute.prepare import Content, Image, Prepared
from HierSubclassSegLib.compute.transport import Transport
from HierSubclassSegLib.ticks import finish


class WorkerClient(Connection):
    """Talks to one worker process; see :class:`~HierSubclassSegLib.compute.connection.Connection`.

    Attributes:
        worker: what the worker said of itself in ``hello``; empty before.

    Example, in a script::

        with WorkerClient(SubprocessTransport(worker_command(), environment())) as client:
            result = client.predict([ImageArray(array, affine)], bundle_folder)
    """

    def __init__(self, transport: Transport, **options: Any) -> None:
        self.worker: Mapping[str, Any] = {}
        self._greeting: Job | None = None
        super().__init__(transport, **options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- requests that return at once -----------------------------------------------------------------------------

    def start_hello(
        self,
        on_result: Callable[[Mapping[str, Any]], None] | None = None,
        on_error: Callable[[RemoteError], None] | None = None,
    ) -> Job:
        """Ask for versions, devices and bundles; the result is the ``hello`` message's fields."""
        job = self._begin(Job("hello", None, on_result, on_error))
        fields = {"protocol": PROTOCOL_VERSION, "client": f"HierSubclassSeg {hierseg.__version__}"}
        self._ask(job, Message("hello", 0, fields), lambda message: self._greeted(job, message))
        self._greeting = self._greeting or job
        return job

    def start_put(
        self,
        content: np.ndarray | Bundle | str | Path,
        on_result: Callable[[str], None] | None = None,
        on_error: Callable[[RemoteError], None] | None = None,
    ) -> Job:
        """Send an array, a bundle or a file unless the worker has it; the result is its hash."""
        job = self._greet_and_begin(Job("put", None, on_result, on_error))

        def prepared() -> Prepared:
            if isinstance(content, np.ndarray):
                made = prepare.array_content(content)
                return Prepared({"hash": made.hash}, [made])
            if isinstance(content, Bundle) or Path(content).is_dir():
                made = prepare.bundle_content(prepare.open_bundle(content))
                return Prepared({"hash": made.hash}, [made])
            whole = prepare.prepare([content], None, {})
            return Prepared({"hash": whole.contents[0].hash}, whole.contents)

        self._prepare(job, prepared, "", lambda _: None)
        return job

    def start_get(
        self,
        hash_: str = "",
        bundle: str = "",
        on_result: Callable[[tuple[str, np.ndarray]], None] | None = None,
        on_error: Callable[[RemoteError], None] | None = None,
    ) -> Job:
        """Fetch an array by hash, or a bundle by hash or id as a zip; the result is (hash, array or bytes as uint8)."""
        job = self._greet_and_begin(Job("get", None, on_result, on_error))
        fields: dict[str, Any] = {"hash": hash_}
        if bundle:
            fields = {"bundle": {"id": bundle}}
        self._ask(job, Message("get", 0, fields), lambda m: job.succeed((str(m.get("hash")), m.arrays["data"])))
        return job

    def start_load(
        self,
        bundle: Bundle | str | Path,
        *,
        device: str = "auto",
        on_progress: Callable[[Progress], None] | None = None,
        on_result: Callable[[Mapping[str, Any]], None] | None = None,
        on_error: Callable[[RemoteError], None] | None = None,
    ) -> Job:
        """Make a model ready; the result is the ``loaded`` message's fields."""
        job = self._greet_and_begin(Job("load", on_progress, on_result, on_error))
        self._prepare(
            job,
            lambda: prepare.prepare([], bundle, {"device": device}),
            "load",
            lambda message: job.succeed(dict(message.fields)),
        )
        return job

    def start_predict(
        self,
        images: Sequence[Image],
        bundle: Bundle | str | Path,
        *,
        device: str = "auto",
        options: Mapping[str, Any] | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        on_result: Callable[[PredictionResult], None] | None = None,
        on_error: Callable[[RemoteError], None] | None = None,
    ) -> Job:
        """Segment a case.

        Args:
            images: one a channel, in the bundle's order: arrays with affines (:class:`prepare.ImageArray`, or a
                pair), or paths of files or DICOM folders on this machine.  Arrays are copied at once, unless they
                are the caller's ``own`` copies.
            bundle: a bundle, its folder on this machine, or the ``name@version`` of one that the worker has.
            device: "auto", "cpu", "cuda:0", ...
            options: further fields of the message.
            on_progress: called with :class:`Progress`.
            on_result: called with the :class:`PredictionResult`.
            on_error: called with a :class:`RemoteError`.
        """
        job = self._greet_and_begin(Job("predict", on_progress, on_result, on_error))
        own = finish(prepare.copy_steps(images))
        fields = {"device": device, "options": dict(options or {})}
        self._prepare(
            job,
            lambda: prepare.prepare(own, bundle, fields),
            "predict",
            lambda message: job.succeed(_prediction(message)),
        )
        return job

    # -- the same, waiting: for scripts -----------------------------------------------------------------------------

    def hello(self, timeout: float | None = 120.0) -> Mapping[str, Any]:
        """Versions, devices and bundles of the worker."""
        return self.wait(self.start_hello(), timeout)

    def put(self, content: np.ndarray | Bundle | str | Path, timeout: float | None = None) -> str:
        """Send an array, a bundle or a file; return its hash."""
        return self.wait(self.start_put(content), timeout)

    def get(self, hash_: str = "", bundle: str = "", timeout: float | None = None) -> tuple[str, np.ndarray]:
        """Fetch an array or a bundle's zip; return hash and content."""
        return self.wait(self.start_get(hash_, bundle), timeout)

    def load(
        self, bundle: Bundle | str | Path, *, device: str = "auto", timeout: float | None = None
    ) -> Mapping[str, Any]:
        """Make a model ready."""
        return self.wait(self.start_load(bundle, device=device), timeout)

    def predict(
        self,
        images: Sequence[Image],
        bundle: Bundle | str | Path,
        on_progress: Callable[[Progress], None] | None = None,
        *,
        device: str = "auto",
        options: Mapping[str, Any] | None = None,
        timeout: float | None = None,
    ) -> PredictionResult:
        """Segment a case and wait for the result; see :meth:`start_predict`.

        Raises:
            RemoteError: the worker's error, or its death.
        """
        job = self.start_predict(images, bundle, device=device, options=options, on_progress=on_progress)
        return self.wait(job, timeout)

    # -- steps ------------------------------------------------------------------------------------------------------

    def _greet_and_begin(self, job: Job) -> Job:
        if self._greeting is None:
            self.start_hello()
        return self._begin(job)

    def _greeted(self, job: Job, message: Message) -> None:
        try:
            check_version(message, "worker")
        except WorkerError as error:
            self._break(RemoteError(error.sentence, kind="Protocol"))
            return
        self.worker = dict(message.fields)
        job.succeed(self.worker)

    def _prepare(self, job: Job, make: Callable[[], Prepared], type_: str, answered: Callable[[Message], None]) -> None:
        """Prepare in the background, send what the worker lacks, then ask; without ``type_`` the hash is the result."""

        def ask(prepared: Prepared) -> None:
            if not type_:
                job.succeed(prepared.fields["hash"])
                return
            # Content may have made way for newer content since it was offered: offer it once more, not for ever.
            self._ask(job, Message(type_, 0, prepared.fields), answered, lambda: offer_again(prepared))

        def offer_again(prepared: Prepared) -> None:
            self._offer(job, prepared, lambda: self._ask(job, Message(type_, 0, prepared.fields), answered))

        self._in_background(job, make, lambda prepared: self._offer(job, prepared, lambda: ask(prepared)))

    def _offer(self, job: Job, prepared: Prepared, then: Callable[[], None]) -> None:
        """Ask which contents the worker has, send the others."""
        contents = {content.hash: content for content in prepared.contents}

        def listed(message: Message) -> None:
            held = set(message.fields["hashes"])
            missing = collections.deque(content for hash_, content in contents.items() if hash_ not in held)
            self._send_contents(job, missing, then)

        if contents:
            self._ask(job, Message("have", 0, {"hashes": list(contents)}), listed)
        else:
            then()

    def _send_contents(self, job: Job, missing: collections.deque[Content], then: Callable[[], None]) -> None:
        """Send one content after the other, each when the one before has arrived."""
        if job.state is JobState.CANCELING:
            job.fail(canceled())
        elif not missing:
            then()
        else:
            content = missing.popleft()
            job.advance(Progress("send", 0.0))
            fields = {"hash": content.hash, "kind": content.kind, "name": content.name}
            self._in_background(
                job,
                content.load,
                lambda data: self._ask(
                    job,
                    Message("put", 0, fields, {"data": data}),
                    lambda _: self._send_contents(job, missing, then),
                ),
            )


def _prediction(message: Message) -> PredictionResult:
    fields, arrays = message.fields, message.arrays
    whole = {name: uncropped(arrays[name], how) for name, how in fields["crops"].items()}
    return PredictionResult(
        labels=whole["labels"],
        confidence=whole["confidence"],
        affine=np.array(fields["affine"], dtype=np.float64),
        tree=LabelTree.from_dict(fields["tree"]),
        bundle=str(fields["bundle"]),
        stages=dict(fields["stages"]),
        warm=bool(fields["warm"]),
        device=str(fields.get("device", "")),
        notes=tuple(fields.get("notes", ())),
        summary=dict(fields.get("summary", {})),
    )
