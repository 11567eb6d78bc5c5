"""Results without their empty surroundings: what comes out is what went in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hierseg.errors import WorkerError
from hierseg.inference import Prediction
from hierseg.worker.crops import cropped, uncropped
from hierseg.worker.protocol import FrameDecoder, Message, encode
from hierseg.worker.results import as_bytes, packed
from standins.known_network import brain_tree

TREE = brain_tree()


def prediction(labels: np.ndarray, confidence: np.ndarray) -> Prediction:
    return Prediction(labels, labels, confidence, np.diag([1.0, 2.0, 5.0, 1.0]), {}, TREE)


@given(
    hnp.arrays(
        st.sampled_from([np.uint8, np.uint16]),
        hnp.array_shapes(min_dims=3, max_dims=4, max_side=6),
        elements=st.sampled_from([0, 0, 0, 7]),
    ),
    st.booleans(),
)
def test_what_is_cut_off_comes_back(whole: np.ndarray, turned: bool) -> None:
    whole = np.asfortranarray(whole) if turned else whole
    piece, how = cropped(whole)
    (message,) = FrameDecoder().feed(encode(Message("result", fields={"how": how}, arrays={"piece": piece})))
    back = uncropped(message.arrays["piece"], message.get("how"))
    assert back.dtype == whole.dtype
    np.testing.assert_array_equal(back, whole)
    if piece.size:
        edges = [piece.take(index, axis=axis) for axis in range(piece.ndim) for index in (0, -1)]
        assert all((edge != how["fill"]).any() for edge in edges), "the box is the smallest"


def test_a_small_structure_in_a_large_volume_is_a_small_box() -> None:
    whole = np.full((100, 80, 60), 255, np.uint8)
    whole[10:15, 20:28, 3] = 1
    piece, how = cropped(whole)
    assert (piece.shape, how) == ((5, 8, 1), {"shape": [100, 80, 60], "start": [10, 20, 3], "fill": 255})


@pytest.mark.parametrize(
    "how",
    [
        {"shape": [4, 4, 4], "start": [3, 0, 0], "fill": 0},
        {"shape": [4, 4, 4], "start": [-1, 0, 0], "fill": 0},
        {"shape": [4, 4], "start": [0, 0], "fill": 0},
        {"shape": [4, 4, 4], "start": [0, 0, 0], "fill": 256},
        {"shape": [10**6] * 3, "start": [0, 0, 0], "fill": 0},
    ],
)
def test_a_box_that_does_not_fit_is_refused(how: dict[str, Any]) -> None:
    with pytest.raises(WorkerError, match="does not lie in"):
        uncropped(np.ones((2, 2, 2), np.uint8), how)


@given(st.integers(0, 2**32 - 1), st.booleans(), st.booleans())
def test_the_summary_is_that_of_the_whole_maps(seed: int, frames: bool, empty: bool) -> None:
    rng = np.random.default_rng(seed)
    shape = (9, 8, 7, 2) if frames else (9, 8, 7)
    labels = np.zeros(shape, TREE.dtype)
    if not empty:
        labels[2:5, 1:6, 3:4] = rng.choice([*TREE.values, TREE.unlabelled], labels[2:5, 1:6, 3:4].shape)
    whole = prediction(labels, rng.random(shape).astype(np.float32))
    fields, arrays = packed(whole)
    assert arrays["labels"].size <= 15 * (2 if frames else 1)
    assert fields["summary"]["volumes_ml"] == whole.volumes_ml()
    expected = whole.mean_confidence()
    assert fields["summary"]["mean_confidence"] == pytest.approx(expected, abs=0.5 / 255 + 1e-4)
    np.testing.assert_array_equal(uncropped(arrays["labels"], fields["crops"]["labels"]), labels)
    sure = uncropped(arrays["confidence"], fields["crops"]["confidence"])
    np.testing.assert_allclose(sure / 255.0, whole.confidence, atol=0.5 / 255 + 1e-6)


def test_a_confidence_that_is_no_number_is_none() -> None:
    found = as_bytes(np.array([[[0.0, 1.0, 0.5, np.nan, -np.inf, np.inf, 2.0]]], np.float32))
    assert found.tolist() == [[[0, 255, 128, 0, 0, 255, 255]]]
