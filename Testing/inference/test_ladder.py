"""Too little memory: what is tried instead, what is said of it, and when it is given up."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from hierseg.errors import ResourceError
from hierseg.imageio import Volume
from hierseg.inference import Predictor
from hierseg.inference.ladder import ladder
from hierseg.labeltree import LabelTree
from standins.tiny_bundle import TREE

CONFIG: dict[str, Any] = {
    "channels": [{"name": "image", "normalization": {"type": "zscore"}}],
    "orientation": "RAS",
    "spacing": None,
    "patch_size": [64, 64, 64],
    "overlap": 0.5,
    "spatial_dims": 3,
}
VOLUME = Volume(np.random.default_rng(0).normal(size=(70, 40, 30)).astype(np.float32), np.eye(4))


class Demanding(nn.Module):
    """A network without context that has memory for so many voxels at once, and for no more."""

    divisor = 16

    def __init__(self, voxels: int, error: type[Exception] = torch.OutOfMemoryError) -> None:
        super().__init__()
        self.tree = LabelTree.from_dict(TREE)
        self.voxels, self.error = voxels, error
        self.seen: list[tuple[int, ...]] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append(tuple(x.shape))
        if x.numel() > self.voxels:
            raise self.error("CUDA out of memory. Tried to allocate 7.40 GiB. GPU 0 has a total of 3.9 GiB.")
        return torch.cat([x * number for number in range(len(self.tree.leaves))], dim=1)


def test_smaller_tiles_are_tried_and_told_and_the_result_is_the_same() -> None:
    plenty = Predictor(Demanding(10**9), CONFIG, device="cpu").predict([VOLUME])
    assert plenty.notes == ()
    network = Demanding(40_000)
    predictor = Predictor(network, CONFIG, device="cpu")
    scarce = predictor.predict([VOLUME])
    np.testing.assert_array_equal(scarce.labels, plenty.labels)
    np.testing.assert_allclose(scarce.confidence, plenty.confidence, atol=1e-5)
    (note,) = scarce.notes
    assert note.startswith("The computer's memory does not suffice for this image: smaller tiles")
    network.seen.clear()
    assert predictor.predict([VOLUME]).notes == (note,)
    assert max(int(np.prod(shape)) for shape in network.seen) <= 40_000, "what failed once is not tried again"


def test_a_smaller_image_is_computed_as_usual_after_one_that_was_too_large() -> None:
    small = Volume(VOLUME.array[:30, :30], np.eye(4))
    network = Demanding(40_000)
    predictor = Predictor(network, CONFIG, device="cpu")
    alone = predictor.predict([small])
    assert alone.notes == ()
    assert predictor.predict([VOLUME]).notes != ()
    network.seen.clear()
    again = predictor.predict([small])
    assert again.notes == ()
    assert {shape[2:] for shape in network.seen} == {(32, 32, 32)}
    np.testing.assert_array_equal(again.confidence, alone.confidence)


def test_no_rung_repeats_the_one_before() -> None:
    network = Demanding(10)
    with pytest.raises(ResourceError):
        Predictor(network, CONFIG, device="cpu").predict([VOLUME])
    assert len(set(network.seen)) == len(network.seen) == 2


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, MemoryError, RuntimeError])
def test_where_nothing_helps_a_sentence_says_so(error: type[Exception]) -> None:
    with pytest.raises(ResourceError, match="memory is too small for this image"):
        Predictor(Demanding(10, error), CONFIG, device="cpu").predict([VOLUME])


def test_other_errors_are_not_taken_for_a_lack_of_memory() -> None:
    class Broken(Demanding):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        Predictor(Broken(1), CONFIG, device="cpu").predict([VOLUME])


def test_an_image_that_does_not_fit_by_estimate_goes_down_the_ladder_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hierseg.inference.window.free_memory", lambda: 3_000_000)
    prediction = Predictor(Demanding(10**9), CONFIG, device="cpu").predict([VOLUME])
    assert "smaller tiles" in prediction.notes[0]
    monkeypatch.setattr("hierseg.inference.window.free_memory", lambda: 100_000)
    with pytest.raises(ResourceError, match=r"need 0\.\d GB"):
        Predictor(Demanding(10**9), CONFIG, device="cpu").predict([VOLUME])


def test_on_a_graphics_card() -> None:
    rungs = ladder(torch.device("cuda"), {"patch_size": [128, 128, 64]}, 16, 4)
    assert [(str(rung.device), str(rung.stitch), rung.tile_batch, rung.patch_size) for rung in rungs] == [
        ("cuda", "cuda", None, (128, 128, 64)),
        ("cuda", "cpu", None, (128, 128, 64)),
        ("cuda", "cpu", 1, (128, 128, 64)),
        ("cuda", "cpu", 1, (64, 64, 32)),
        ("cuda", "cpu", 1, (32, 32, 32)),
        ("cpu", "cpu", 1, (128, 128, 64)),
    ]
    assert rungs[0].sentence == ""
    assert all(rung.sentence.startswith("The graphics card's memory") for rung in rungs[1:])
