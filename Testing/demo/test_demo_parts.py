"""The parts of the demo that decide what its table says: strokes, the baseline, the distance rule, the verdict."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

import scans
import scores
import strokes

from hierseg import resources
from hierseg.labeltree import LabelTree

TREE = scans.split_tree(LabelTree.load(resources.path("label_trees", "brain_start")))
CORTEX, WHITE = TREE.node("cerebellar cortex").value, TREE.node("cerebellar white matter").value


def ball(shape: tuple[int, ...], center: tuple[float, ...], radius: float) -> np.ndarray:
    grid = np.stack(np.meshgrid(*[np.arange(size) for size in shape], indexing="ij"), axis=-1)
    return np.linalg.norm(grid - np.array(center), axis=-1) <= radius


def test_strokes_lie_inside_their_structure_and_in_few_slices() -> None:
    reference = np.zeros((30, 40, 30), np.uint8)
    reference[ball(reference.shape, (15, 20, 15), 10)] = CORTEX
    reference[ball(reference.shape, (15, 20, 15), 5)] = WHITE
    slices = strokes.choose_slices(reference > 0)
    assert len(slices) == strokes.SLICES
    for value in (CORTEX, WHITE):
        mask = strokes.draw(reference, value, slices)
        assert mask.any()
        assert (reference[mask] == value).all()
        assert set(np.nonzero(mask)[strokes.AXIS]) <= set(slices)


def test_a_stroke_is_the_middle_of_its_structure_and_no_larger_than_needed() -> None:
    reference = np.zeros((30, 3, 30), np.uint8)
    reference[5:25, 1, 5:25] = CORTEX
    mask = strokes.draw(reference, CORTEX, [1])
    assert mask[10:20, 1, 10:20].all()
    assert mask.sum() == 10 * 10


def test_a_thin_structure_is_painted_whole() -> None:
    reference = np.zeros((30, 3, 30), np.uint8)
    reference[5:25, 1, 5:7] = WHITE
    assert strokes.draw(reference, WHITE, [1]).sum() == 40


def test_nearest_stroke_is_nearest_in_the_patient_not_in_the_array() -> None:
    """B's array runs the other way: nearest by index would be wrong for every voxel."""
    parent = np.ones((10, 1, 1), bool)
    first, last = np.zeros((10, 1, 1), bool), np.zeros((10, 1, 1), bool)
    first[0], last[9] = True, True
    flipped = np.diag([-1.0, 1, 1, 1])
    flipped[0, 3] = 9
    result = scores.split_by_nearest_stroke(
        parent, flipped, {CORTEX: first, WHITE: last}, np.eye(4), np.zeros((10, 1, 1), np.uint8)
    )
    assert result[:, 0, 0].tolist() == [WHITE] * 5 + [CORTEX] * 5


def test_far_from_strokes_counts_millimeters() -> None:
    mask = np.zeros((21, 1, 1), bool)
    mask[0] = True
    assert np.argmax(scores.away_from(mask, (2.0, 1.0, 1.0))) == 5
    assert np.argmax(scores.away_from(mask, (1.0, 1.0, 1.0))) == 10


def test_the_table_tells_a_loss_and_a_baseline_that_was_not_beaten() -> None:
    result = scores.Scores(
        before={"thalamus": 0.9, "cerebellum": 0.8},
        after={"thalamus": 0.85, "cerebellum": 0.81, "cerebellar cortex": 0.5, "cerebellar white matter": 0.6},
        nearest={"cerebellar cortex": 0.55, "cerebellar white matter": 0.4},
    )
    said = scores.verdict(result, {"cerebellar cortex", "cerebellar white matter"})
    assert "cerebellar cortex on B: 50.0 does not beat the nearest stroke's 55.0" in said
    assert "cerebellar white matter on B: 60.0 beats the nearest stroke's 40.0" in said
    assert said[-1] == "largest loss of an untouched node on B: 5.0 points (thalamus)"
    text = scores.table(result, TREE, {"cerebellar cortex", "cerebellar white matter"})
    assert "| ·  thalamus | 90.0 | 85.0 | -5.0 |" in text
    assert text.count("\n") == len(TREE.nodes) + 1


@pytest.mark.parametrize("scan", [scans.A, scans.B], ids=["A", "B"])
def test_references_hold_nodes_of_the_split_tree(scan: scans.Scan) -> None:
    reference = scan.reference_map(TREE)
    for name in scans.NEW_LEAVES:
        assert (reference == name["value"]).sum() > 1000
    assert not (reference == TREE.node("cerebellum").value).any(), "every voxel of the cerebellum carries a subclass"
