"""Turns and flips: undone exactly, and never carrying a structure to the other side under its old name."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hierseg.labeltree import LabelTree
from hierseg.mix import Turn, draw_turn
from hierseg.mix.turning import opposite_channels
from standins.label_trees import tree_of

PLAIN = tree_of({"background": {}, "tumor": {"core": {}, "edema": {}}})
SIDED = tree_of(
    {"background": {}, "hippocampus": {"left h": {}, "right h": {}}, "stem": {}}, opposites={"left h": "right h"}
)
HALF_SIDED = tree_of(
    {"lungs": {"left": {"left a": {}, "left b": {}}, "right": {"right a": {}}}}, opposites={"left": "right"}
)


@given(
    shape=st.lists(st.integers(1, 5), min_size=2, max_size=3),
    quarters=st.integers(0, 3),
    flip=st.integers(-1, 2),
    plane=st.sampled_from([(0, 1), (0, 2), (1, 2)]),
)
def test_undoing_gives_the_image_back(shape: list[int], quarters: int, flip: int, plane: tuple[int, int]) -> None:
    """Also where a quarter turn changes the shape."""
    dims = len(shape)
    turn = Turn(quarters, plane if max(plane) < dims else (0, 1), flip if 0 <= flip < dims else None)
    image = torch.rand(2, 3, *shape)
    assert torch.equal(turn.undo(turn.apply(image)), image)


def drawn(tree: LabelTree, shape: tuple[int, ...], count: int = 200, **arguments: object) -> list[Turn]:
    rng = np.random.default_rng(0)
    return [draw_turn(shape, tree, rng, **arguments) for _ in range(count)]  # type: ignore[arg-type]


def test_all_turns_and_flips_occur_where_nothing_forbids_them() -> None:
    turns = drawn(PLAIN, (8, 8, 8), spacing=(1.0, 1.0, 1.0))
    assert {turn.plane for turn in turns} == {(0, 1), (0, 2), (1, 2)}
    assert {turn.quarters for turn in turns} == {0, 1, 2, 3}
    assert {turn.flip for turn in turns} == {0, 1, 2}
    assert {turn.swap for turn in turns} == {None}


@pytest.mark.parametrize(
    ("shape", "spacing", "planes"),
    [
        ((8, 8, 6), (1.0, 1.0, 1.0), {(0, 1)}),
        ((8, 8, 8), (0.5, 0.5, 3.0), {(0, 1)}),
        ((8, 8, 8), (1.0, 2.0, 3.0), set()),
        ((8, 6), (1.0, 1.0), set()),
        ((8, 8), (1.0, 1.0), {(0, 1)}),
        ((8, 8), None, set()),
    ],
)
def test_quarter_turns_only_in_square_isotropic_planes(
    shape: tuple[int, ...], spacing: tuple[float, ...] | None, planes: set[tuple[int, int]]
) -> None:
    turns = drawn(PLAIN, shape, spacing=spacing)
    assert {turn.plane for turn in turns if turn.quarters} == planes
    image = torch.rand(1, 1, *shape)
    assert all(turn.apply(image).shape == image.shape for turn in turns)


def test_with_opposites_a_left_right_flip_swaps_them_and_no_plane_with_that_axis_turns() -> None:
    turns = drawn(SIDED, (8, 8, 8), spacing=(1.0, 1.0, 1.0))
    assert {turn.plane for turn in turns if turn.quarters} == {(1, 2)}
    flipped = [turn for turn in turns if turn.flip == 0]
    assert flipped
    # background, left h, right h, stem
    assert {turn.swap for turn in flipped} == {(0, 2, 1, 3)}
    assert {turn.swap for turn in turns if turn.flip != 0} == {None}


def test_opposites_that_leaves_cannot_swap_forbid_the_left_right_flip() -> None:
    assert opposite_channels(HALF_SIDED) is None
    assert {turn.flip for turn in drawn(HALF_SIDED, (8, 8, 8), spacing=(1.0, 1.0, 1.0))} == {1, 2}


def test_an_image_without_a_left_right_axis_is_free() -> None:
    turns = drawn(SIDED, (8, 8), spacing=(1.0, 1.0), left_right_axis=None)
    assert {turn.flip for turn in turns} == {0, 1}
    assert {turn.swap for turn in turns} == {None}


def test_a_swapped_prediction_is_right_about_sides() -> None:
    """A perfect network that knows left by the coordinate: after T⁻¹ it agrees with itself."""
    where = torch.zeros(1, 1, 6, 4)
    where[..., :3, :] = 1.0  # structure on the left half only

    def network(image: torch.Tensor) -> torch.Tensor:
        left = torch.zeros_like(image)
        left[..., :3, :] = image[..., :3, :]
        right = image - left
        return torch.cat([1 - image, left, right, torch.zeros_like(image)], dim=1)

    turn = Turn(flip=0, swap=opposite_channels(SIDED))
    assert torch.equal(turn.undo(network(turn.apply(where))), network(where))
    assert not torch.equal(Turn(flip=0).undo(network(Turn(flip=0).apply(where))), network(where))
