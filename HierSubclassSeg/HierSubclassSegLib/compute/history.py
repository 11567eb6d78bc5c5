"""What has happened in a run so far, gathered from its events: curves, notes, and better or worse than before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hierseg.labeltree import LabelTree
from HierSubclassSegLib.compute.training import TrainingRun

WARN_POINTS = 2.0
"""A structure that loses more Dice points than this is warned of."""
_LEAST_SECONDS = 5.0


@dataclass(frozen=True)
class NodeChange:
    """A structure before and after.

    Attributes:
        name: the node's.
        depth: 1 at the top level.
        before: Dice of the starting model, 0 to 1; None if it does not know the node or the reference lacks it.
        after: Dice of the best weights so far; None if the reference lacks the node.
    """

    name: str
    depth: int
    before: float | None
    after: float | None

    @property
    def points(self) -> float | None:
        """Percentage points won or lost."""
        return None if self.before is None or self.after is None else 100.0 * (self.after - self.before)

    @property
    def lost(self) -> bool:
        """Whether it lost more than :data:`WARN_POINTS`."""
        return self.points is not None and self.points < -WARN_POINTS


@dataclass
class History:
    """The events of a run, gathered; call :meth:`refresh` again and again.

    Attributes:
        run: whose.
        losses: (iteration, total loss).
        scores: (iteration, score), the score being a mean Dice, 0 to 1.
        known: the same of the structures alone that the starting model knows; empty if nothing is compared with it.
        what: what the score is the mean of.
        baseline: what the starting model scores on the same reference; None if nothing is held out.
        best: the event of the best validation so far.
        start: the event of the latest start.
        notes: what the run said about its data.
    """

    run: TrainingRun
    losses: list[tuple[int, float]] = field(default_factory=list)
    scores: list[tuple[int, float]] = field(default_factory=list)
    known: list[tuple[int, float]] = field(default_factory=list)
    what: str = ""
    baseline: dict[str, Any] | None = None
    best: dict[str, Any] | None = None
    start: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    _position: int = 0
    _times: list[tuple[float, int]] = field(default_factory=list)

    def refresh(self) -> bool:
        """Read what came since; returns whether something did."""
        events, position = self.run.events(self._position)
        if position < self._position:
            # The file was written anew: so was the run.
            self.losses, self.scores, self.known, self.baseline, self.best = [], [], [], None, None
        self._position = position
        for event in events:
            self._take(event)
        return bool(events)

    @property
    def held(self) -> str:
        """What the scores were measured on: ``cases``, ``slices``, or empty if nothing was held out."""
        held = str(self.start.get("held") or "")
        return held or ("cases" if self.start.get("validation") else "")

    @property
    def seconds_per_iteration(self) -> float | None:
        """Measured since the latest start, validation and saving included; None before that can be said."""
        if len(self._times) < 2:
            return None
        (first, low), (last, high) = self._times[0], self._times[-1]
        return (last - first) / (high - low) if high > low and last - first > _LEAST_SECONDS else None

    def changes(self, tree: LabelTree) -> list[NodeChange]:
        """Each structure that the reference shows, in the tree's order; empty while nothing was measured."""
        after = _scores(self.best)
        before = _scores(self.baseline)
        return [
            NodeChange(node.name, node.depth, before.get(node.name), after.get(node.name))
            for node in tree.nodes
            if after.get(node.name) is not None
        ]

    def _take(self, event: Mapping[str, Any]) -> None:
        kind, iteration = event.get("event"), _whole(event.get("iteration"))
        if kind == "start":
            self._begin(event, iteration or 0)
        elif kind == "note":
            self.notes.append(str(event.get("message") or ""))
        elif kind == "losses" and iteration is not None and (total := _real(event.get("total"))) is not None:
            self.losses.append((iteration, total))
            if (moment := _real(event.get("time"))) is not None:
                self._times.append((moment, iteration))
        elif kind == "baseline":
            self.baseline = dict(event)
        elif kind == "validation" and iteration is not None:
            self.what = str(event.get("what") or "")
            if (score := _real(event.get("score"))) is not None:
                self.scores.append((iteration, score))
            if (score := _real(event.get("known"))) is not None:
                self.known.append((iteration, score))
            if event.get("best"):
                self.best = dict(event)

    def _begin(self, event: Mapping[str, Any], iteration: int) -> None:
        """A process started, at the beginning or from a checkpoint: what lies behind that is done again."""
        self.losses, self.scores, self.known = (
            [point for point in points if point[0] <= iteration] for points in (self.losses, self.scores, self.known)
        )
        self.start, self.notes, self._times = dict(event), [], []


def _scores(event: Mapping[str, Any] | None) -> dict[str, float]:
    given = event.get("scores") if event is not None else None
    if not isinstance(given, dict):
        return {}
    return {str(name): value for name, found in given.items() if (value := _real(found)) is not None}


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _real(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
