"""Score the start bundle on real scans (``hierseg recipe brain-start evaluate``)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hierseg.bundle import Bundle
from hierseg.errors import ConfigError
from hierseg.evaluation.metrics import node_scores
from hierseg.imageio import read_volume
from hierseg.inference import Predictor
from hierseg.labeltree import LabelTree


@dataclass(frozen=True)
class ScanCase:
    """A scan and its reference label map, on the same grid.

    Attributes:
        name: for tables.
        image: the scan.
        reference: node values of ``reference_tree``.
        what: one line: what the scan is.
    """

    name: str
    image: Path
    reference: Path
    what: str


def parse_case(text: str) -> ScanCase:
    """``NAME=IMAGE,REFERENCE[,WHAT]``.

    Raises:
        ConfigError: the text has another form.
    """
    name, _, rest = text.partition("=")
    parts = rest.split(",", 2)
    if not name or len(parts) < 2:
        raise ConfigError(f"{text!r} is not a scan; write NAME=IMAGE,REFERENCE or NAME=IMAGE,REFERENCE,DESCRIPTION.")
    return ScanCase(name, Path(parts[0]), Path(parts[1]), parts[2] if len(parts) > 2 else "")


def fold(labels: np.ndarray, source: LabelTree, target: LabelTree) -> np.ndarray:
    """Node values of a finer tree as those of a coarser one: each node becomes its deepest ancestor that both have."""
    table = np.full(65536, target.unlabelled, dtype=np.int64)
    for node in source.nodes:
        common = next((one for one in (node, *source.ancestors(node)) if one.name in target), None)
        if common is not None:
            table[node.value] = target.node(common.name).value
    result: np.ndarray = table[labels.astype(np.int64)]
    return result


def evaluate(
    bundle: Bundle, cases: Sequence[ScanCase], reference_tree: LabelTree, device: str = "auto"
) -> dict[str, Any]:
    """Dice per node on each scan."""
    predictor = Predictor(bundle, device=device)
    rows = []
    for case in cases:
        prediction = predictor.predict([read_volume(case.image)])
        reference = read_volume(case.reference).array
        reference_tree.check_values(reference, str(case.reference))
        dice = node_scores(prediction.labels, fold(reference, reference_tree, bundle.tree), bundle.tree)
        leaves = [value for leaf in bundle.tree.leaves if leaf.value and (value := dice[leaf.name]) is not None]
        rows.append(
            {
                "name": case.name,
                "what": case.what,
                "dice": dice,
                "mean_leaf": float(np.mean(leaves)),
                "seconds": {stage: round(seconds, 2) for stage, seconds in prediction.stages.items()},
            }
        )
    return {"bundle": bundle.id, "cases": rows}
