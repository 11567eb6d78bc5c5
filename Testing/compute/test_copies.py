"""Own copies of images in small steps: a large volume is copied without holding the GUI."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from HierSubclassSegLib.compute import prepare
from HierSubclassSegLib.compute.prepare import ImageArray, copy_steps
from HierSubclassSegLib.ticks import finish


def all_of(images: list[Any]) -> tuple[list[Any], list[float]]:
    steps, seen = copy_steps(images), []
    while True:
        try:
            seen.append(next(steps))
        except StopIteration as end:
            return end.value, seen


@pytest.mark.parametrize("shape", [(1, 1, 1), (20, 30, 40), (5, 6, 7, 8)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_copies_are_equal_and_the_callers_array_may_change(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], order: Any
) -> None:
    monkeypatch.setattr(prepare, "_PIECE_BYTES", 4000)
    array = np.asarray(np.random.default_rng(0).integers(0, 9, shape), np.int16, order=order)
    before = array.copy()
    (copied,), seen = all_of([(array, np.eye(4))])
    array[...] = -1
    np.testing.assert_array_equal(copied.array, before)
    assert copied.own
    assert seen == sorted(seen)
    assert max(seen) < 1
    assert len(seen) >= array.nbytes / 8000


def test_views_and_reversed_axes() -> None:
    array = np.arange(4 * 5 * 6).reshape(4, 5, 6).transpose(2, 0, 1)[::-1, :, 1:4]
    (copied,) = finish(copy_steps([ImageArray(array, np.eye(4), "head")]))
    assert isinstance(copied, ImageArray)
    np.testing.assert_array_equal(copied.array, array)
    assert copied.name == "head"


def test_a_copy_is_not_copied_again_and_paths_stay() -> None:
    first = finish(copy_steps([(np.zeros((2, 2, 2)), np.eye(4)), "scan.nii.gz"]))
    again = finish(copy_steps(first))
    assert isinstance(first[0], ImageArray)
    assert again[0] is first[0]
    assert again[1] == Path("scan.nii.gz")
