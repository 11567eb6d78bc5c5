"""What the worker does for each request, one at a time, in a thread of its own.

Torch is imported by the first request that needs it, so that a refused version or a damaged stream costs nothing.
The last models stay loaded ("warm"): segmenting the next image starts at once.
"""

from __future__ import annotations

import collections
import importlib.metadata
import os
import platform
import socket
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import hierseg
from hierseg.courtesy import predicting, usable_cores
from hierseg.errors import HiersegError, WorkerError, code_of, is_out_of_memory
from hierseg.worker.protocol import PROTOCOL_VERSION, Message
from hierseg.worker.results import packed
from hierseg.worker.sources import Source, memory_notes
from hierseg.worker.store import MissingContentError, Store

if TYPE_CHECKING:
    from hierseg.bundle import Bundle
    from hierseg.inference import Predictor

MAX_WARM = 2
PROGRESS_INTERVAL = 0.1
"""Seconds between two progress messages of one stage; more would be noise on a slow connection."""


class CancelledError(WorkerError):
    """The client took the request back."""


class Job:
    """One request with its cancel flag and its way back to the client."""

    def __init__(self, message: Message, send: Callable[[Message], None]) -> None:
        self.message = message
        self.id = message.id
        self.cancelled = threading.Event()
        self._send = send

    def answer(
        self, type_: str, fields: Mapping[str, Any] | None = None, arrays: Mapping[str, np.ndarray] | None = None
    ) -> None:
        """Send a message about this job."""
        self._send(Message(type_, self.id, fields or {}, arrays or {}))

    def check(self) -> None:
        """Raise CancelledError if the client took the request back."""
        if self.cancelled.is_set():
            raise CancelledError("Canceled.")


class ProgressReporter:
    """Turns (stage, fraction) into progress messages with the seconds left of the stage."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._stage = ""
        # A stage begins where the one before it was last heard of, not with its own first report.
        self._heard = self._began = time.monotonic()
        self._sent = 0.0

    def __call__(self, stage: str, fraction: float) -> None:
        """Report that ``fraction`` (0 to 1) of a stage is done."""
        now = time.monotonic()
        fraction = min(1.0, max(0.0, float(fraction)))
        if stage != self._stage:
            self._stage, self._began, self._sent = stage, self._heard, 0.0
        self._heard = now
        if now - self._sent < PROGRESS_INTERVAL and fraction < 1.0:
            return
        self._sent = now
        left = (now - self._began) * (1.0 - fraction) / fraction if fraction > 0.0 else None
        self._job.answer("progress", {"stage": stage, "fraction": fraction, "seconds_left": left})


class Tasks:
    """The requests that the worker understands.

    Args:
        store: what clients have sent.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._warm: collections.OrderedDict[tuple[str, str], Predictor] = collections.OrderedDict()
        self._by_type: dict[str, Callable[[Job], None]] = {
            "hello": self.hello,
            "put": self.put,
            "have": self.have,
            "get": self.get,
            "load": self.load,
            "predict": self.predict,
        }

    @property
    def types(self) -> frozenset[str]:
        """The message types that are requests for work."""
        return frozenset(self._by_type)

    def run(self, job: Job) -> None:
        """Do a job and answer it, with an error message if it fails; only the end of the process gets past this."""
        try:
            job.check()
            self._by_type[job.message.type](job)
        except Exception as error:  # noqa: BLE001 - the boundary: whatever goes wrong is told to the client
            if is_out_of_memory(error):
                self._warm.clear()
                _empty_device_cache()
            if job.cancelled.is_set() and not isinstance(error, MemoryError):
                error = CancelledError("Canceled.")
            job.answer("error", error_fields(error))

    def hello(self, job: Job) -> None:
        """Versions, devices and bundles of this machine."""
        fields: dict[str, Any] = {
            "protocol": PROTOCOL_VERSION,
            "hierseg": hierseg.__version__,
            "python": platform.python_version(),
            "monai": _version("monai"),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "cores": usable_cores(),
            "problem": "",
        }
        try:
            fields |= _torch_fields()
        except Exception as error:  # noqa: BLE001 - a broken torch raises anything, and is what hello is to find out
            problem = f"PyTorch cannot be used ({type(error).__name__}: {error}); repair or reinstall it."
            fields |= {"torch": _version("torch"), "devices": [], "problem": problem}
        fields["bundles"] = [
            {"id": bundle.id, "name": bundle.name, "version": bundle.version} for bundle in self.store.bundles()
        ]
        job.answer("hello", fields)

    def put(self, job: Job) -> None:
        """Keep something."""
        message = job.message
        data = message.arrays.get("data")
        if data is None:
            raise WorkerError("a 'put' message carries no array 'data'.")
        self.store.put(str(message.get("hash")), str(message.get("kind")), data, str(message.get("name", "")))
        job.answer("have", {"hashes": [message.get("hash")]})

    def have(self, job: Job) -> None:
        """Which of the hashes are here."""
        hashes = [str(hash_) for hash_ in job.message.get("hashes", [])]
        job.answer("have", {"hashes": self.store.held(hashes)})

    def get(self, job: Job) -> None:
        """Send something back: an array by hash, or a bundle as a zip."""
        reference = job.message.get("bundle")
        if reference is not None:
            hash_, data = self.store.packed_bundle(reference)
            job.answer("put", {"hash": hash_, "kind": "bundle"}, {"data": data})
        else:
            hash_ = str(job.message.get("hash"))
            job.answer("put", {"hash": hash_, "kind": "array"}, {"data": self.store.array(hash_)})

    def load(self, job: Job) -> None:
        """Make a model ready."""
        bundle, _, warm, seconds = self._ready(job)
        job.answer(
            "loaded",
            {
                "bundle": bundle.id,
                "tree": bundle.tree.to_dict(),
                "config": bundle.config,
                "warm": warm,
                "seconds": seconds,
            },
        )

    def predict(self, job: Job) -> None:
        """Segment one case and send the label maps."""
        bundle, predictor, warm, seconds = self._ready(job)
        job.check()
        began = time.monotonic()
        sources = [self._source(number, image) for number, image in enumerate(job.message.get("images") or [])]
        if not sources:
            raise WorkerError("a 'predict' message names no images.")
        tight = memory_notes(predictor, sources)
        volumes = [source.read() for source in sources]
        read = time.monotonic() - began
        job.check()
        with predicting():
            prediction = predictor.predict(
                volumes, ProgressReporter(job), job.cancelled.is_set, **_options(job.message.get("options") or {})
            )
        job.check()
        fields, arrays = packed(prediction)
        job.answer(
            "result",
            {
                "bundle": bundle.id,
                "tree": bundle.tree.to_dict(),
                "affine": prediction.affine.tolist(),
                "stages": {"load model": seconds, "read": read, **prediction.stages},
                "warm": warm,
                "device": str(predictor.device),
                "work": prediction.work,
                "notes": [*tight, *prediction.notes],
                **fields,
            },
            arrays,
        )
        predictor.settle()

    def _ready(self, job: Job) -> tuple[Bundle, Predictor, bool, float]:
        """The bundle, its predictor, whether it was warm, and the seconds that loading took."""
        reference = job.message.get("bundle")
        if not isinstance(reference, dict):
            raise WorkerError("the message names no model; give its hash, id or path as 'bundle'.")
        began = time.monotonic()
        bundle, hash_ = self.store.bundle(reference)
        device = str(job.message.get("device") or "auto")
        key = (hash_, device)
        warm = key in self._warm
        if not warm:
            job.answer("progress", {"stage": "load model", "fraction": 0.0, "seconds_left": None})
            leave_a_core()
            from hierseg.bundle import Bundle
            from hierseg.inference import Predictor

            self._warm[key] = Predictor(Bundle.open(bundle.folder), device=device)
        self._warm.move_to_end(key)
        while len(self._warm) > MAX_WARM:
            self._warm.popitem(last=False)
        return bundle, self._warm[key], warm, time.monotonic() - began

    def _source(self, number: int, image: Mapping[str, Any]) -> Source:
        if "hash" in image:
            affine = np.asarray(image.get("affine"), dtype=np.float64)
            name = str(image.get("name") or f"image {number + 1}")
            if affine.shape != (4, 4):
                raise WorkerError(f"{name}: the affine is not a 4×4 matrix; send voxel indices → RAS mm.")
            array = self.store.array(image["hash"])
            return Source(name, array=array.T if image.get("order") == "F" else array, affine=affine)
        if "files" in image:
            path = self.store.files(image["files"])
            return Source(str(image.get("name") or path.name), path=path)
        if "path" in image:
            return Source(str(image["path"]), path=Path(image["path"]))
        raise WorkerError(f"image {number + 1} has neither a hash, nor files, nor a path.")


def error_fields(error: BaseException) -> dict[str, Any]:
    """An exception as the fields of an error message: kind, code, sentence, hint, traceback."""
    fields = _error_fields(error)
    return {**fields, "code": code_of(fields["kind"])}


def _error_fields(error: BaseException) -> dict[str, Any]:
    if isinstance(error, MissingContentError):
        return {"kind": "MissingContent", "sentence": error.sentence, "hint": error.hint, "traceback": ""}
    if isinstance(error, CancelledError):
        return {"kind": "Canceled", "sentence": error.sentence, "hint": "", "traceback": ""}
    if isinstance(error, HiersegError):
        # Where the sentence is better than ours, the cause still decides what it is: memory is a kind of its own.
        kind = "OutOfMemory" if is_out_of_memory(error) else error.kind
        return {"kind": kind, "sentence": error.sentence, "hint": error.hint, "traceback": ""}
    trace = "".join(traceback.format_exception(error))
    if is_out_of_memory(error):
        where = "The graphics card" if "cuda" in str(error).lower() else "The computer"
        hint = "Choose a smaller region or the CPU, or close other programs that use memory, and try again."
        return {"kind": "OutOfMemory", "sentence": f"{where} ran out of memory.", "hint": hint, "traceback": trace}
    if isinstance(error, OSError):
        named = f"{error.filename}: " if error.filename else ""
        sentence = f"{named}{error.strerror or error}."
        return {
            "kind": "OSError",
            "sentence": sentence,
            "hint": "Check the file, the folder and the disk.",
            "traceback": trace,
        }
    sentence = f"The prediction stopped with an unexpected error ({type(error).__name__}: {error})."
    hint = "This is a fault of the program: please report it with the details below."
    return {"kind": "Unexpected", "sentence": sentence, "hint": hint, "traceback": trace}


def leave_a_core() -> None:
    """Keep torch off one core, so that the application that waits for the result stays responsive."""
    import torch

    if not os.environ.get("OMP_NUM_THREADS"):
        torch.set_num_threads(max(1, usable_cores() - 1))


def _torch_fields() -> dict[str, Any]:
    import torch

    devices: list[dict[str, Any]] = [
        {"name": "cpu", "label": platform.processor() or platform.machine(), "memory": None}
    ]
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        devices.append({"name": f"cuda:{index}", "label": properties.name, "memory": int(properties.total_memory)})
    if torch.backends.mps.is_available():
        devices.append({"name": "mps", "label": "Apple GPU", "memory": None})
    return {"torch": torch.__version__, "cuda": torch.version.cuda, "devices": devices}


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _empty_device_cache() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a predict message, which are the predictor's keyword arguments.

    Raises:
        WorkerError: there is no such option.
    """
    unknown = set(options) - {"decode", "thresholds", "one_piece", "exhaustive"}
    if unknown:
        raise WorkerError(
            f"there is no option {', '.join(sorted(unknown))}; there are decode, thresholds, one_piece and exhaustive."
        )
    return dict(options)
