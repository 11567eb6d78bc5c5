"""Tiles' logits joined piece by piece give what softmax of whole tiles gives."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hierseg.inference import joining
from hierseg.inference.joining import Channels, add_weighted, channels_of, pieces, softmax

CPU = torch.device("cpu")


@given(
    st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9)),
    st.integers(1, 40),
    st.integers(1, 4000),
)
def test_pieces_cover_a_tile_once_and_stay_small(shape: tuple[int, int, int], channels: int, limit: int) -> None:
    count = torch.zeros(shape)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(joining, "_PIECE", limit)
        for piece in pieces(shape, channels, CPU):
            count[piece] += 1
            size = count[piece].numel()
            # A line along the last axis is never divided.
            assert 4 * channels * size <= limit or size == shape[2]
    assert bool((count == 1).all())


def test_a_graphics_card_gets_whole_tiles() -> None:
    (piece,) = pieces((96, 80, 64), 117, torch.device("cuda"))
    assert torch.empty(96, 80, 64)[piece].shape == (96, 80, 64)


@pytest.mark.parametrize("channels", [1, 3, 15, 16, 61])
@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last_3d])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_softmax_is_that_of_torch_however_logits_lie(
    channels: int, form: torch.memory_format, dtype: torch.dtype
) -> None:
    logits = (5 * torch.randn(1, channels, 4, 5, 6)).to(dtype).contiguous(memory_format=form)[0]
    found = softmax(logits)
    assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(found, torch.softmax(logits.to(found.dtype), 0))


@given(
    st.lists(st.integers(0, 12), unique=True, min_size=1) | st.permutations(range(13)),
    st.sampled_from([torch.float32, torch.float16]),
)
def test_chosen_channels_are_added_where_they_belong(chosen: list[int], dtype: torch.dtype) -> None:
    values, weight = torch.rand(len(chosen), 3, 4, 5), torch.rand(3, 4, 5)
    sums = torch.ones(13, 3, 4, 5, dtype=dtype)
    add_weighted(sums, values, weight, channels_of(chosen, 13, CPU))
    expected = torch.ones(13, 3, 4, 5)
    for channel, value in zip(chosen, values, strict=True):
        expected[channel] += value * weight
    torch.testing.assert_close(sums.float(), expected, atol=0 if dtype == torch.float32 else 2e-3, rtol=1e-6)


def test_neighbors_are_one_run() -> None:
    order, runs = channels_of([4, 5, 6, 1, 2], 9, CPU)
    assert order is not None
    assert order.tolist() == [3, 4, 0, 1, 2]
    assert runs == [(slice(1, 3), slice(0, 2)), (slice(4, 7), slice(2, 5))]
    assert channels_of(None, 9, CPU) == channels_of(range(9), 9, CPU) == Channels(None, None)
    order, runs = channels_of([2, 0, 1], 3, CPU)
    assert order is not None
    assert (order.tolist(), runs) == ([1, 2, 0], None)


def test_a_tile_of_many_classes_is_divided() -> None:
    found = list(pieces((96, 96, 96), 61, CPU))
    assert len(found) == math.ceil(96 / 42) * 96
