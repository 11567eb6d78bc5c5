"""What is measured side by side: this engine, MONAI's sliding window, nnU-Net's predictor, the network alone.

All rows get the same prepared image and the same network with the same weights, and end with a label map on the image's
own grid.  See ``docs/results/inference.md`` for what each row is.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch

from hierseg.data.preprocess import Prepared, Preprocessor
from hierseg.imageio import Volume
from hierseg.inference import Predictor
from hierseg.networks import HierarchicalSegmenter

from .cases import OVERLAP, Case

COARSE_PASS = {"factor": [2, 2, 2], "threshold": 0.01}
"""As a bundle's configuration states it."""


class Setup(NamedTuple):
    """What a row works with."""

    case: Case
    network: HierarchicalSegmenter
    volumes: list[Volume]
    device: str


class Done(NamedTuple):
    """Seconds by stage, the label map (node values) if the row makes one, and what the engine says of its work."""

    stages: dict[str, float]
    labels: np.ndarray | None
    work: dict[str, Any] = {}


def by_leaf(setup: Setup) -> np.ndarray:
    """This engine's label map where the leaf head alone decides, as it does for the peers: for comparing maps."""
    predictor = Predictor(setup.network, setup.case.config(), device=setup.device, backend="torch")
    return predictor.predict(setup.volumes, decode="leaf", exhaustive=True).labels


def exhaustive(setup: Setup) -> Done:
    """This engine with every tile, the network run by torch as in the other rows."""
    return _ours(setup, "torch", exhaustive=True)


def openvino(setup: Setup) -> Done:
    """As ``exhaustive``, with the network run by OpenVINO."""
    return _ours(setup, "openvino", exhaustive=True)


def skipping(setup: Setup) -> Done:
    """As ``exhaustive``, without tiles that a coarse pass shows to be empty."""
    return _ours(setup, "torch", exhaustive=False)


_PREDICTORS: dict[str, Predictor] = {}


def _ours(setup: Setup, backend: str, *, exhaustive: bool) -> Done:
    # As in a worker, one predictor stays; after the first image it gets ready what is fastest.
    first = backend not in _PREDICTORS
    if first:
        config = setup.case.config() if exhaustive else {**setup.case.config(), "coarse_pass": COARSE_PASS}
        _PREDICTORS[backend] = Predictor(setup.network, config, device=setup.device, backend=backend)
    prediction = _PREDICTORS[backend].predict(setup.volumes, exhaustive=exhaustive)
    if first:
        _PREDICTORS[backend].settle()
    return Done(dict(prediction.stages), prediction.labels, prediction.work)


def tiles(setup: Setup) -> Done:
    """The network alone on as many tiles, nothing kept: the floor of every row."""
    tile = torch.rand(1, setup.case.channels, *setup.case.patch, device=setup.device)
    network = _fastest_layout(setup)
    began = time.perf_counter()
    with torch.inference_mode():
        for _ in range(setup.case.tiles()):
            network(tile)
    _wait(setup.device)
    return Done({"network": time.perf_counter() - began}, None)


def monai(setup: Setup) -> Done:
    """``sliding_window_inference`` as it is by default, then MONAI's transforms back to the image's grid, then argmax."""
    return _monai(setup, best=False)


def monai_best(setup: Setup) -> Done:
    """The same with Gaussian weights, the faster memory layout, resampling in float32, and the argmax before the flip."""
    return _monai(setup, best=True)


def _monai(setup: Setup, *, best: bool) -> Done:
    from monai.data import MetaTensor
    from monai.inferers import sliding_window_inference
    from monai.transforms import Orientation, SpatialResample

    case = setup.case
    network = _fastest_layout(setup) if best else setup.network.to(setup.device)
    clock = _Clock(setup.device)
    prepared = Preprocessor(case.config(), setup.device).image(setup.volumes)
    oriented, affine = _oriented(setup)
    data = torch.from_numpy(prepared.array).to(setup.device)
    # A 2D network sees slices: they become the batch.
    data = data.permute(3, 0, 1, 2) if case.dims == 2 else data[None]
    clock.stage("preprocess")
    with torch.inference_mode():
        joined = sliding_window_inference(
            data,
            list(case.patch),
            1,
            lambda part: torch.softmax(network(part).leaf_logits, dim=1),
            mode="gaussian" if best else "constant",
            overlap=OVERLAP,
        )
        probabilities = joined.permute(1, 2, 3, 0) if case.dims == 2 else joined[0]
        del joined, data
        clock.stage("network")
        kind = {"dtype": torch.float32} if best else {}
        back = SpatialResample(mode="bilinear", padding_mode="border", **kind)(
            MetaTensor(probabilities, affine=torch.from_numpy(prepared.affine)),
            dst_affine=torch.from_numpy(affine), spatial_size=oriented,
        )  # fmt: skip
        del probabilities
        to_file = Orientation("LAS")
        if best:
            back = back.argmax(dim=0, keepdim=True)
            clock.stage("restore")
        back = to_file(back)
        labels = (back[0] if best else back.argmax(dim=0)).cpu().numpy()
    clock.stage("restore")
    return Done(clock.stages, labels)


def nnunet(setup: Setup) -> Done:
    """``nnUNetPredictor`` with Gaussian weights and no mirroring, then its own resampling of logits and its argmax."""
    return _nnunet(setup, best=False)


def nnunet_best(setup: Setup) -> Done:
    """The same with the faster memory layout, and the resampling through torch that its maintainers advise for speed."""
    return _nnunet(setup, best=True)


def _nnunet(setup: Setup, *, best: bool) -> Done:
    from . import nnunet as peer

    case, network = setup.case, _fastest_layout(setup) if best else setup.network
    clock = _Clock(setup.device)
    prepared = Preprocessor(case.config(), setup.device).image(setup.volumes)
    oriented, _affine = _oriented(setup)
    data = torch.from_numpy(prepared.array)
    # Its 2D networks take slices along the first axis.
    order = (2, 0, 1) if case.dims == 2 else (0, 1, 2)
    data = data.permute(0, *(axis + 1 for axis in order)).contiguous()
    predictor = peer.predictor(case, network, order, setup.device, torch_resampling=best)
    clock.stage("preprocess")
    logits = predictor.predict_logits_from_preprocessed_data(data)
    clock.stage("network")
    segmentation = peer.convert(predictor, logits, oriented, order, case)
    labels = np.ascontiguousarray(np.flip(segmentation, 0))
    clock.stage("restore")
    return Done(clock.stages, labels)


ROWS: dict[str, Callable[[Setup], Done]] = {
    "monai": monai,
    "monai-best": monai_best,
    "nnunet": nnunet,
    "nnunet-best": nnunet_best,
    "exhaustive": exhaustive,
    "openvino": openvino,
    "skipping": skipping,
    "tiles": tiles,
}
PEERS = ("monai", "monai-best", "nnunet", "nnunet-best")


def available() -> list[str]:
    """The rows, in the order of tables."""
    return list(ROWS)


_LAYOUTS: dict[tuple[int, ...], torch.memory_format] = {}


def _fastest_layout(setup: Setup) -> torch.nn.Module:
    """The network with its weights channels first or last, whichever is faster; measured once in a process."""
    case, network = setup.case, setup.network.to(setup.device)
    last = torch.channels_last if case.dims == 2 else torch.channels_last_3d
    if case.patch not in _LAYOUTS:
        edges = [max(network.divisor, edge // 2 // network.divisor * network.divisor) for edge in case.patch]
        tile = torch.rand(1, case.channels, *edges, device=setup.device)
        seconds = {}
        for layout in (torch.contiguous_format, last):
            network.to(memory_format=layout)
            seconds[layout] = min(_seconds(network, tile.contiguous(memory_format=layout)) for _ in range(3))
        _LAYOUTS[case.patch] = min(seconds, key=lambda layout: seconds[layout])
    return network.to(memory_format=_LAYOUTS[case.patch])


def _seconds(network: torch.nn.Module, tile: torch.Tensor) -> float:
    began = time.perf_counter()
    with torch.inference_mode():
        network(tile)
    _wait(str(tile.device))
    return time.perf_counter() - began


def _oriented(setup: Setup) -> tuple[tuple[int, ...], np.ndarray]:
    """Shape and affine of the image with its axes turned to RAS, at its own spacing."""
    config = {**setup.case.config(), "spacing": None}
    shape, affine = Preprocessor(config).grid(setup.volumes[0].shape, setup.volumes[0].affine)
    return shape, affine


def prepare(setup: Setup) -> Prepared:
    """The image as every row's network sees it."""
    return Preprocessor(setup.case.config()).image(setup.volumes)


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


class _Clock:
    """Adds up the seconds of stages that follow each other."""

    def __init__(self, device: str) -> None:
        self.stages: dict[str, float] = {}
        self.device, self.last = device, time.perf_counter()

    def stage(self, name: str) -> None:
        _wait(self.device)
        now = time.perf_counter()
        self.stages[name] = self.stages.get(name, 0.0) + now - self.last
        self.last = now
