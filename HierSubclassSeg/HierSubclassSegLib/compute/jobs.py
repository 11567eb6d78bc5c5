"""What callers of the worker client see: a job, its progress, its result, its error."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np

from hierseg.errors import WorkerError, code_of
from hierseg.labeltree import LabelTree

_logger = logging.getLogger(__name__)


class JobState(Enum):
    """Where a job stands."""

    RUNNING = "running"
    CANCELING = "canceling"
    DONE = "done"
    FAILED = "failed"
    CANCELED = "canceled"


@dataclass(frozen=True)
class Progress:
    """How far a job is.

    Attributes:
        stage: what is being done, in a word or two.
        fraction: 0 to 1 of this stage.
        seconds_left: of this stage; None while unknown.
    """

    stage: str
    fraction: float
    seconds_left: float | None = None


@dataclass(frozen=True)
class PredictionResult:
    """A segmented case, on the first image's grid.

    Attributes:
        labels: ``(x, y, z)`` (or with frames ``(x, y, z, t)``) node values, the deepest accepted node of each voxel.
        confidence: the same shape, uint8: 255 is certain.
        affine: 4×4, voxel index → RAS mm.
        tree: the bundle's label tree.
        bundle: ``name@version``.
        stages: seconds by stage.
        warm: the model was in memory already.
        device: where it ran.
        notes: sentences for the user.
        summary: milliliters by node path.
    """

    labels: np.ndarray
    confidence: np.ndarray
    affine: np.ndarray
    tree: LabelTree
    bundle: str
    stages: Mapping[str, float]
    warm: bool
    device: str = ""
    notes: tuple[str, ...] = ()
    summary: Mapping[str, float] = field(default_factory=dict)

    @property
    def superclass(self) -> np.ndarray:
        """Values of top-level nodes, of the shape of ``labels``, from which they follow."""
        tops = {node.value: self.tree.top_of(node).value for node in self.tree.nodes}
        found: np.ndarray = self.tree.lookup(tops, self.tree.unlabelled).astype(self.tree.dtype)[self.labels]
        return found


class RemoteError(WorkerError):
    """What the worker answered instead of a result, or why no answer can come any more.

    Args:
        sentence: for the user.
        hint: what to do.
        kind: the error's class on the worker ("ImageError", "OutOfMemory", "Canceled", "WorkerDied", ...).
        traceback: for a report, where the error is the program's fault; or the worker's last lines.
    """

    def __init__(self, sentence: str, *, hint: str = "", kind: str = "WorkerError", traceback: str = "") -> None:
        super().__init__(sentence, hint=hint)
        self._kind = kind
        self.traceback = traceback

    @property
    def kind(self) -> str:
        """The error's class on the worker."""
        return self._kind

    @property
    def code(self) -> str:
        """Its entry in docs/troubleshooting.md; empty for a cancel."""
        return code_of(self._kind)

    @property
    def canceled(self) -> bool:
        """Whether this is the answer to a cancel."""
        return self._kind == "Canceled"


@dataclass(eq=False)
class Job:
    """One request; callbacks are called in the client's thread, ``on_result`` or ``on_error`` exactly once."""

    kind: str
    on_progress: Callable[[Progress], None] | None = None
    on_result: Callable[[Any], None] | None = None
    on_error: Callable[[RemoteError], None] | None = None
    state: JobState = JobState.RUNNING
    progress: Progress | None = None
    result: Any = None
    error: RemoteError | None = None

    @property
    def finished(self) -> bool:
        """Whether the result or the error is there."""
        return self.state in (JobState.DONE, JobState.FAILED, JobState.CANCELED)

    def advance(self, progress: Progress) -> None:
        """Note progress."""
        if self.state is JobState.RUNNING:
            self.progress = progress
            call(self.on_progress, progress)

    def succeed(self, result: Any) -> None:
        """End with a result; after a cancel the result is thrown away."""
        if self.finished:
            return
        if self.state is JobState.CANCELING:
            self.fail(RemoteError("Canceled.", kind="Canceled"))
            return
        self.state, self.result = JobState.DONE, result
        call(self.on_result, result)

    def fail(self, error: RemoteError) -> None:
        """End with an error; after a cancel every end counts as canceled."""
        if self.finished:
            return
        if self.state is JobState.CANCELING and not error.canceled:
            error = RemoteError("Canceled.", kind="Canceled")
        self.state, self.error = JobState.CANCELED if error.canceled else JobState.FAILED, error
        call(self.on_error, error)


def call(callback: Callable[..., None] | None, *arguments: Any) -> None:
    """Call a callback; its own fault is logged, so that it cannot break the stream that it hangs on."""
    if callback is None:
        return
    try:
        callback(*arguments)
    except Exception:
        _logger.exception("A callback of the worker client failed.")
