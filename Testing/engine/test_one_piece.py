"""Which structures are one piece is found on validation cases, and written into the bundle."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from engine.blobs import TINY, TREE, make
from hierseg.bundle import Bundle
from hierseg.engine import train
from hierseg.engine.one_piece import pieces_of

SPACING = (1.0, 1.0, 1.0)
CORE, EDEMA, TUMOR = (TREE.node(name).value for name in ("core", "edema", "tumor"))


def ball() -> np.ndarray:
    """A tumor of two halves."""
    labels = np.zeros((16, 16, 16), np.uint8)
    labels[4:8, 4:12, 4:12] = CORE
    labels[8:12, 4:12, 4:12] = EDEMA
    return labels


def with_island(value: int = CORE) -> np.ndarray:
    labels = ball()
    labels[0:2, 0:2, 0:2] = value
    return labels


def test_islands_that_no_reference_shows_are_noticed() -> None:
    assert pieces_of([(with_island(), ball(), SPACING)] * 3, TREE) == ["tumor"]
    inside = ball()
    inside[10, 7:9, 7:9] = CORE
    assert pieces_of([(inside, ball(), SPACING)] * 3, TREE) == ["core"]


def test_where_no_island_is_predicted_nothing_is_asked_for() -> None:
    assert pieces_of([(ball(), ball(), SPACING)] * 3, TREE) == []


def test_two_cases_tell_nothing() -> None:
    assert pieces_of([(with_island(), ball(), SPACING)] * 2, TREE) == []


def test_a_structure_that_one_reference_shows_in_two_pieces_is_left_alone() -> None:
    cases = [(with_island(), ball(), SPACING)] * 5 + [(ball(), with_island(), SPACING)]
    assert pieces_of(cases, TREE) == []


def test_a_crumb_in_the_reference_does_not_count() -> None:
    crumb = ball()
    crumb[0, 0, 0] = CORE
    assert pieces_of([(with_island(), crumb, SPACING)] * 3, TREE) == ["tumor"]


def test_what_costs_others_more_than_it_gains_is_left() -> None:
    """A hole that the model calls core, inside a small edema: filled, the core is a little better and the edema much worse."""
    reference = np.zeros((16, 16, 16), np.uint8)
    reference[0:10, 0:10, 0:10] = CORE
    reference[11:16, 11:16, 11:16] = EDEMA
    reference[12:15, 12:15, 12:15] = 0
    guess = reference.copy()
    guess[12:15, 12:15, 12:15] = CORE
    assert pieces_of([(guess, reference, SPACING)] * 3, TREE) == []
    # The same hole in a large edema.
    reference[11:, 11:, :] = EDEMA
    reference[:, 12:, 11:] = EDEMA
    reference[12:15, 12:15, 12:15] = 0
    guess = reference.copy()
    guess[12:15, 12:15, 12:15] = CORE
    reference[0:10, 0:10, 5:] = guess[0:10, 0:10, 5:] = 0
    assert "core" in pieces_of([(guess, reference, SPACING)] * 3, TREE)


def test_strokes_and_coarse_labels_tell_nothing_about_subclasses() -> None:
    strokes = np.full_like(ball(), TREE.unlabelled)
    strokes[5:7, 6, 6], strokes[0, 0, 0] = CORE, 0
    assert pieces_of([(with_island(), strokes, SPACING)] * 3, TREE) == []
    coarse = np.where(ball() > 0, TUMOR, 0).astype(np.uint8)
    assert pieces_of([(with_island(), coarse, SPACING)] * 3, TREE) == ["tumor"]
    inside = ball()
    inside[10, 7:9, 7:9] = CORE
    assert pieces_of([(inside, coarse, SPACING)] * 3, TREE) == []


@pytest.mark.parametrize("wish", ["auto", "never"])
def test_a_run_looks_for_them_if_it_is_asked_to(tmp_path: Path, wish: str) -> None:
    dataset = make(tmp_path / "data")
    settings = {**TINY, "validation": {"interval": 3, "fraction": 0.5, "one_piece": wish}}
    train(dataset, tmp_path / "run", settings, device="cpu")
    events = [json.loads(line) for line in (tmp_path / "run" / "events.jsonl").read_text(encoding="utf-8").splitlines()]
    found = [event["nodes"] for event in events if event["event"] == "one_piece"]
    assert len(found) == (wish == "auto")
    assert [Bundle.open(tmp_path / "run" / "bundle").config["one_piece"]] == (found or [[]])
