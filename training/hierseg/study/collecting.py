"""The numbers of all runs of a row put together: by case, each the mean over the seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hierseg.evaluation.case_scores import MISSED, WHOLE
from hierseg.evaluation.significance import ALL, MEAN, mean_over_files

NOTICED = ("auroc", "fpr95")
ACCEPTED = ("known_accepted", "unknown_accepted")
"""What the thresholds let pass, so that it is of the level-by-level decoding."""


@dataclass(frozen=True)
class Collected:
    """Scores of the runs of one row that differ by their seed alone.

    Args:
        contents: what their ``scores.json`` say; one a seed.
    """

    contents: Sequence[Mapping[str, Any]]

    @property
    def leaves(self) -> list[str]:
        """The structures of a table: the leaves but for a background."""
        first = self.contents[0]
        return [leaf for leaf in first["leaves"] if leaf != first.get("background")]

    def by_case(self, metric: str) -> dict[str, float]:
        """The mean over a case's leaves that have the number, then over seeds; cases that all seeds have it of."""
        if metric in (*NOTICED, *ACCEPTED):
            return _over_seeds([_noticed(content, metric) for content in self.contents])
        return mean_over_files(self.contents, metric).get(ALL if metric in WHOLE else MEAN, {})

    def by_seed(self, metric: str) -> list[float]:
        """The mean over the cases, of each seed by itself."""
        found = [Collected([content]).by_case(metric) for content in self.contents]
        return [float(np.mean(list(cases.values()))) for cases in found if cases]

    def leaf_by_case(self, leaf: str, metric: str) -> dict[str, float]:
        """A leaf's number in each case, mean over the seeds."""
        return {} if metric in (*NOTICED, *ACCEPTED) else mean_over_files(self.contents, metric).get(leaf, {})

    @property
    def missed(self) -> float:
        """How many leaves were missed wholly, mean over seeds: in the reference, nowhere predicted, and without a distance."""
        counts = [
            sum(
                scores["nodes"][leaf]["state"] == MISSED for scores in content["cases"].values() for leaf in self.leaves
            )
            for content in self.contents
        ]
        return float(np.mean(counts))


def _noticed(content: Mapping[str, Any], metric: str) -> dict[str, float]:
    """What is said of a case's unknown voxels; nothing for trees with a background."""
    cases = content.get("out_of_distribution", {}).get("cases", {})
    return {case: float(found[metric]) for case, found in cases.items() if found.get(metric) is not None}


def _over_seeds(tables: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean over seeds; a case that not every seed has a number of would compare different things."""
    shared = set(tables[0]).intersection(*tables[1:]) if tables else set()
    return {case: float(np.mean([table[case] for table in tables])) for case in sorted(shared)}
