"""Two streams, patches centered on annotated voxels, and draws that depend on the seed and the iteration alone."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.blobs import TREE, blob, coarsen
from hierseg.data.cases import MOST_VOXELS, VoxelIndex
from hierseg.data.sampling import COARSE, FINE, TwoStreamSampler, crop, window
from hierseg.errors import TrainingError
from hierseg.labeltree import LabelTree

FULL = blob(0)[1]
SPARSE = np.full_like(FULL, 255)
SPARSE[10, 8:12, 8:16] = FULL[10, 8:12, 8:16]
BOTH = coarsen(FULL)
BOTH[10] = FULL[10]


def sampler(
    *labels: np.ndarray, batch_size: int = 4, seed: int = 7, tree: LabelTree = TREE, fine_share: float = 0.5
) -> TwoStreamSampler:
    indices = [VoxelIndex.of(label, 255) for label in labels]
    return TwoStreamSampler(indices, [label.shape for label in labels], tree, batch_size, seed, fine_share)


def test_streams_are_read_off_the_voxels() -> None:
    found = sampler(FULL, coarsen(FULL), SPARSE, BOTH, np.zeros_like(FULL))
    assert found.fine == [0, 2, 3]
    # The last case shows background only: it teaches superclasses.
    assert found.coarse == [1, 3, 4]
    assert found.notes == []


def test_half_of_a_batch_is_fine_and_half_is_coarse() -> None:
    found = sampler(FULL, coarsen(FULL), batch_size=5)
    for iteration in range(20):
        draws = found.draws(iteration)
        fine = 3 - iteration % 2
        assert [draw.stream for draw in draws] == [FINE] * fine + [COARSE] * (5 - fine)
        assert {draw.case for draw in draws if draw.stream == FINE} == {0}
        assert [draw.partner for draw in draws] == [None] * fine + [0] * (5 - fine)


@given(st.floats(0, 1), st.integers(1, 7))
def test_the_share_of_fine_patches_is_kept_as_exactly_as_whole_patches_allow(share: float, batch_size: int) -> None:
    found = sampler(FULL, coarsen(FULL), batch_size=batch_size, fine_share=share)
    fine = 0
    for iteration in range(12):
        slots = found._slots(iteration)
        assert len(slots) == batch_size
        fine += sum(stream == FINE for stream, _ in slots)
        assert abs(fine - share * batch_size * (iteration + 1)) < 1


def test_a_batch_of_one_takes_turns() -> None:
    found = sampler(FULL, coarsen(FULL), batch_size=1)
    assert [found.draws(iteration)[0].stream for iteration in range(4)] == [FINE, COARSE, FINE, COARSE]


@pytest.mark.parametrize(
    ("labels", "stream", "said"),
    [([FULL, SPARSE], FINE, "subclasses only"), ([coarsen(FULL)], COARSE, "No case has a subclass")],
)
def test_one_stream_alone_trains_and_says_so(labels: list[np.ndarray], stream: str, said: str) -> None:
    found = sampler(*labels)
    assert {draw.stream for draw in found.draws(3)} == {stream}
    assert all(draw.partner is None for draw in found.draws(3))
    assert said in found.notes[0]


def test_a_flat_tree_has_nothing_to_say_about_streams() -> None:
    flat = LabelTree.from_dict(
        {
            "format_version": 1,
            "name": "flat",
            "unlabelled": 255,
            "nodes": [{"name": str(v), "value": v} for v in range(3)],
        }
    )
    found = sampler(FULL, tree=flat)
    assert found.notes == []
    assert {draw.stream for draw in found.draws(0)} == {FINE}


def test_draws_are_a_pure_function_of_seed_and_iteration() -> None:
    one, other = sampler(FULL, coarsen(FULL), BOTH), sampler(FULL, coarsen(FULL), BOTH)
    forwards = [one.draws(iteration) for iteration in range(12)]
    assert [other.draws(iteration) for iteration in reversed(range(12))] == forwards[::-1]
    assert sampler(FULL, coarsen(FULL), BOTH, seed=8).draws(0) != forwards[0]


def test_centers_are_annotated_voxels_and_nodes_are_balanced() -> None:
    found = sampler(SPARSE, coarsen(FULL), batch_size=2)
    labels = [SPARSE, coarsen(FULL)]
    seen: Counter[tuple[str, int]] = Counter()
    for iteration in range(400):
        for draw in found.draws(iteration):
            value = int(labels[draw.case][draw.center])
            assert value != 255
            seen[draw.stream, value] += 1
    # Coarse: tumor is few percent of the voxels but gets near 1/2 * 2/3 of the patches.
    assert 0.27 < seen[COARSE, 5] / 400 < 0.45
    assert {value for stream, value in seen if stream == FINE} <= {0, 1, 2}


def test_the_fine_stream_never_centers_on_coarse_voxels() -> None:
    found = sampler(BOTH, coarsen(FULL), batch_size=2)
    for iteration in range(60):
        draw = found.draws(iteration)[0]
        assert draw.stream == FINE
        assert BOTH[draw.center] in {0, 1, 2}


def test_every_case_is_seen_once_a_turn() -> None:
    found = sampler(*[FULL] * 5, batch_size=2)
    cases = [draw.case for iteration in range(5) for draw in found.draws(iteration)]
    assert sorted(cases[:5]) == sorted(cases[5:]) == list(range(5))


def test_no_case_is_told() -> None:
    with pytest.raises(TrainingError, match="no case to train on"):
        sampler()


@given(st.integers(1, 200_000), st.integers(0, 5))
def test_the_index_is_bounded_and_right(size: int, seed: int) -> None:
    label = np.random.default_rng(seed).choice(np.array([0, 1, 255], np.uint8), size=size, p=[0.7, 0.1, 0.2])
    index = VoxelIndex.of(label, 255)
    for value in (0, 1):
        count = int((label == value).sum())
        assert index.counts.get(value, 0) == count
        if count:
            assert len(index.positions[value]) == min(count, MOST_VOXELS)
            assert (label[index.positions[value]] == value).all()
            assert len(set(index.positions[value].tolist())) == len(index.positions[value])
    assert 255 not in index.counts


@given(
    st.lists(st.tuples(st.integers(1, 12), st.integers(1, 12), st.integers(0, 11)), min_size=1, max_size=3),
)
def test_a_patch_has_its_size_holds_its_center_and_is_padded_outside(axes: list[tuple[int, int, int]]) -> None:
    shape, size = tuple(axis[0] for axis in axes), tuple(axis[1] for axis in axes)
    center = tuple(min(axis[2], axis[0] - 1) for axis in axes)
    array = np.arange(1, np.prod(shape) + 1).reshape(shape)
    start = window(center, size, shape)
    patch = crop(array, start, size, 0)
    assert patch.shape == size
    place = tuple(middle - begin for middle, begin in zip(center, start, strict=True))
    assert patch[place] == array[center]
    assert (patch > 0).sum() == np.prod([min(length, edge) for length, edge in zip(shape, size, strict=True)])
