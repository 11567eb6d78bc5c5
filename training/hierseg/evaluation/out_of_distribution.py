"""How well a score tells what was never annotated from what was: area under the curve, and errors at a fixed rate.

Held-out-class cross-validation (OOD-SEG, arXiv 2411.09553): a class is hidden from the training, and its voxels stand
for what a model without a background has to recognize as none of its classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from hierseg.evaluation.statistics import Summary, summarize
from hierseg.labeltree import LabelTree

_TPR = 0.95
_MOST = 200_000
"""Voxels of each kind that are kept of a case."""
UNLABELLED = "unlabelled"
MEASURED, NO_SCORES, NOTHING_KNOWN, NOTHING_UNKNOWN = (
    "measured",
    "no confidence map",
    "no known voxel",
    "no unknown voxel",
)


@dataclass(frozen=True)
class Separation:
    """Scores that are high for known classes.

    Attributes:
        auroc: the chance that a known voxel scores higher than an unknown one, ties counting half; None without both.
        fpr95: share of the unknown voxels that pass where 95 % of the known ones do; None without both.
        known: number of voxels.
        unknown: number of voxels.
    """

    auroc: float | None
    fpr95: float | None
    known: int
    unknown: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def separation(known: np.ndarray, unknown: np.ndarray) -> Separation:
    """Compare the scores of known and unknown voxels.

    Args:
        known: scores of voxels that carry a class of the training, ``(n,)``.
        unknown: scores of voxels of the hidden classes, ``(m,)``.
    """
    if len(known) == 0 or len(unknown) == 0:
        return Separation(None, None, len(known), len(unknown))
    order = np.sort(unknown)
    below, up_to = np.searchsorted(order, known, side="left"), np.searchsorted(order, known, side="right")
    auroc = float((below + up_to).mean() / 2 / len(order))
    # The largest threshold that 95 % of the known voxels reach.
    threshold = np.sort(known)[::-1][max(0, int(np.ceil(_TPR * len(known) - 1e-9)) - 1)]
    return Separation(auroc, float((unknown >= threshold).mean()), len(known), len(unknown))


@dataclass(frozen=True)
class CaseNotice:
    """How well what is unknown was noticed in one case.

    Attributes:
        state: ``measured``, or why not.
        separation: by the scores; its numbers are None where the case was not measured.
        known_accepted: share of the known voxels that were predicted as any node; None without any.
        unknown_accepted: the same of the unknown voxels, which should be ``unlabelled``.
    """

    state: str
    separation: Separation
    known_accepted: float | None
    unknown_accepted: float | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "state": self.state,
            **self.separation.to_dict(),
            "known_accepted": self.known_accepted,
            "unknown_accepted": self.unknown_accepted,
        }


@dataclass
class Notice:
    """How well what is unknown was noticed in a set of cases.

    Attributes:
        names: of the hidden nodes, or ``unlabelled``.
        cases: by name.
    """

    names: Sequence[str]
    cases: dict[str, CaseNotice] = field(default_factory=dict)
    _known: list[np.ndarray] = field(default_factory=list)
    _unknown: list[np.ndarray] = field(default_factory=list)

    def add(
        self, case: str, predicted: np.ndarray, hidden: np.ndarray, labelled: np.ndarray, scores: np.ndarray | None
    ) -> None:
        """Look at one case; all arrays have its shape.

        Args:
            case: its name.
            predicted: bool, whether a node was predicted at all.
            hidden: bool, voxels that are unknown to the model.
            labelled: bool, voxels with a reference, or unknown.
            scores: high where the model is sure; None if there are none.
        """
        known = labelled & ~hidden
        pair = [np.zeros(0) if scores is None else some(scores[mask]) for mask in (known, hidden)]
        found = separation(*pair)
        if scores is None:
            state = NO_SCORES
        elif not hidden.any():
            state = NOTHING_UNKNOWN
        else:
            state = MEASURED if known.any() else NOTHING_KNOWN
        shares = [float(predicted[mask].mean()) if mask.any() else None for mask in (known, hidden)]
        counted = Separation(found.auroc, found.fpr95, int(known.sum()), int(hidden.sum()))
        self.cases[case] = CaseNotice(state, counted, *shares)
        self._known.append(pair[0])
        self._unknown.append(pair[1])

    def together(self) -> Separation:
        """Of all voxels of all cases, by one threshold for all."""
        return separation(np.concatenate(self._known or [np.zeros(0)]), np.concatenate(self._unknown or [np.zeros(0)]))

    def summary(self, name: str) -> Summary | None:
        """Mean over the cases of ``auroc``, ``fpr95``, ``known_accepted`` or ``unknown_accepted``; None if no case has it."""
        found = (case.to_dict()[name] for case in self.cases.values())
        return summarize([value for value in found if value is not None])

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        means = {name: self.summary(name) for name in ("auroc", "fpr95", "known_accepted", "unknown_accepted")}
        return {
            "unknown": list(self.names),
            "together": self.together().to_dict(),
            **{name: None if mean is None else asdict(mean) for name, mean in means.items()},
            "cases": {name: case.to_dict() for name, case in self.cases.items()},
        }

    def sentences(self) -> list[str]:
        """What was found, for people."""
        names, together = ", ".join(self.names), self.together()
        states = [case.state for case in self.cases.values()]
        lines = []
        if together.auroc is None or together.fpr95 is None:
            lines.append(f"Out of distribution ({names}): not measured.")
        else:
            lines.append(
                f"Out of distribution ({names}): area under the curve {together.auroc:.3f}; where 95 % of the known voxels pass, "
                f"{100 * together.fpr95:.1f} % of the unknown ones do (one threshold for all cases)."
            )
            curve, rate = self.summary("auroc"), self.summary("fpr95")
            if curve is not None and rate is not None:
                lines.append(
                    f"Mean over {curve.number} case{'' if curve.number == 1 else 's'}: area {_with_interval(curve, 1, 3)}, "
                    f"false positives {_with_interval(rate, 100, 1)} %."
                )
        known, unknown = self.summary("known_accepted"), self.summary("unknown_accepted")
        if known is not None and unknown is not None:
            lines.append(
                f"Predicted as some node: {100 * known.mean:.1f} % of the known voxels, {100 * unknown.mean:.1f} % of the unknown ones."
            )
        lines += [
            f"Not measured in {states.count(state)} of {len(states)} cases: {state}."
            for state in (NO_SCORES, NOTHING_UNKNOWN, NOTHING_KNOWN)
            if state in states
        ]
        return lines


def unknown_voxels(reference: np.ndarray, tree: LabelTree, names: Sequence[str]) -> np.ndarray:
    """Bool, the reference's shape: voxels of the named nodes and of all below; the name ``unlabelled`` stands for those without a label.

    Raises:
        LabelTreeError: there is no such node.
    """
    values = {tree.unlabelled: 1} if UNLABELLED in names else {}
    for name in names:
        if name != UNLABELLED:
            node = tree.node(name)
            values |= {below.value: 1 for below in (node, *tree.descendants(node))}
    result: np.ndarray = tree.lookup(values, 0).astype(bool)[reference]
    return result


def some(scores: np.ndarray) -> np.ndarray:
    """At most 200,000 of the scores, drawn with a fixed seed."""
    return scores if len(scores) <= _MOST else np.random.default_rng(0).choice(scores, _MOST, replace=False)


def _with_interval(summary: Summary, scale: float, digits: int) -> str:
    text = f"{scale * summary.mean:.{digits}f}"
    if summary.low is not None and summary.high is not None:
        text += f" [{scale * summary.low:.{digits}f}, {scale * summary.high:.{digits}f}]"
    return text
