"""How much memory a prediction needs, before it starts and before a voxel is read.

What is certain is computed: the images, the network's input, the results, and one slab of all classes' probabilities.  What
the network itself needs for a tile is measured once a network, by running it on a small tile and adding up what lives
at the same time; it grows with the tile's voxels.  An image is refused if what is certain does not fit, with the smallest
tiles that would be tried; if the whole estimate does not fit, that is said, and the work begins (``ladder``).
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from hierseg.data.preprocess import Preprocessor
from hierseg.errors import ResourceError
from hierseg.imageheader import Header, read_header
from hierseg.inference.forward import TorchForward
from hierseg.inference.ladder import ladder
from hierseg.inference.restore import EDGE
from hierseg.inference.tiles import default_batch
from hierseg.inference.window import sums_dtype
from hierseg.labeltree import LabelTree
from hierseg.memory import free_memory

if TYPE_CHECKING:
    from hierseg.inference.predictor import Predictor

_SCRATCH = 1.5
"""Of what a network's arrays take: convolutions reorder and keep copies of their own."""
_DECISION_BYTES = 48
"""Of a voxel of a block while its classes are compared: indices of 2, 4 and 8 bytes, several at a time."""


@dataclass(frozen=True)
class Estimate:
    """Bytes that a prediction takes at its peak, by part.

    Attributes:
        images: the voxels of all channels that still have to be read.
        prepared: the network's input, and what is there while it is made.
        results: labels, superclass and confidence on the first image's grid.
        slab: the probabilities of all classes for the planes that tiles reach at a time, and deciding on them.
        least_slab: the same with the smallest tiles that are tried.
        network: one batch of tiles in the network.
        free: of the computer's memory; None where unknown.
        device_free: of the graphics card's memory; None on the processor.
    """

    images: int
    prepared: int
    results: int
    slab: int
    least_slab: int
    network: int
    free: int | None
    device_free: int | None = None

    @property
    def total(self) -> int:
        """All of it, on whatever device."""
        return self.images + self.prepared + self.results + self.slab + self.network

    @property
    def certain(self) -> int:
        """What the computer's memory has to hold by all means."""
        return self.images + self.prepared + self.results + self.least_slab

    @property
    def host(self) -> int:
        """The computer's share of the usual way."""
        return self.total if self.device_free is None else self.images + self.prepared + self.results

    @property
    def device(self) -> int:
        """The graphics card's share of the usual way."""
        return 0 if self.device_free is None else self.prepared + self.slab + self.network

    def refuse(self, where: str) -> None:
        """Refuse what cannot fit.

        Raises:
            ResourceError: names ``where``, the GB needed and the GB free.
        """
        if self.free is not None and self.certain > self.free:
            raise ResourceError(
                f"{where}: predicting this image needs {self.certain / 1e9:.1f} GB of memory, and {self.free / 1e9:.1f} GB are free; "
                "crop the image, close other programs, or use a computer with more memory."
            ) from MemoryError()

    def notes(self, where: str) -> list[str]:
        """A sentence where it will be tight; none where it fits."""
        for needed, free, name in (
            (self.host, self.free, "memory"),
            (self.device, self.device_free, "the graphics card's memory"),
        ):
            if free is not None and needed > free:
                note = (
                    f"{where}: about {needed / 1e9:.1f} GB of {name} are needed and {free / 1e9:.1f} GB are free; "
                    "if they do not suffice, it is computed in smaller parts, which takes longer."
                )
                return [note]
        return []

    def report(self) -> dict[str, float | None]:
        """GB by part, for a report in JSON."""
        parts = {name: getattr(self, name) for name in ("images", "prepared", "results", "slab", "network", "total")}
        gb = {name: round(value / 1e9, 3) for name, value in parts.items()}
        free = None if self.free is None else round(self.free / 1e9, 3)
        return (
            gb
            | {"free": free}
            | ({} if self.device_free is None else {"device_free": round(self.device_free / 1e9, 3)})
        )


def estimate(predictor: Predictor, headers: Sequence[Header], *, run: bool = True) -> Estimate:
    """What predicting images with these headers takes.

    Args:
        predictor: the model on its device.
        headers: one a channel, as for :meth:`Predictor.predict`.
        run: the network over a small tile, the first time; otherwise ``network`` is 0, which no refusal asks for.
    """
    config, device = predictor.config, predictor.device
    first, frames = headers[0], max(header.frames for header in headers)
    source = math.prod(first.shape[:3])
    shape, _ = Preprocessor(config).grid(first.shape[:3], first.affine)
    voxels = math.prod(shape)
    largest = max(math.prod(header.shape[:3]) for header in headers)
    channels, itemsize = len(headers), predictor.tree.dtype.itemsize
    # A channel as floats, resampled axis by axis; then all channels side by side, and once more where they are padded.
    prepared = max(4 * (largest + 2 * max(largest, voxels)) + 4 * (channels - 1) * voxels, 8 * channels * voxels)
    result = source * (2 * itemsize + 4)
    divisor = int(getattr(predictor.model, "divisor", 16))
    rungs = ladder(device, config, divisor, 1)
    spatial_dims = int(config.get("spatial_dims", 3))
    slabs = [_slab(predictor, rung.patch_size, shape) for rung in rungs]
    patch = _fitting(rungs[0].patch_size, shape, divisor)
    batch = default_batch(device, spatial_dims)
    cuda = device.type == "cuda"
    # Another number of images than the model has channels is for the predictor to refuse.
    inputs = len(config["channels"])
    return Estimate(
        images=sum(math.prod(header.shape) * header.itemsize for header in headers if not header.held),
        prepared=prepared,
        # Frames are kept one by one and then put together.
        results=result if frames == 1 else 2 * frames * result,
        slab=slabs[0],
        least_slab=min(slabs),
        network=0
        if not run
        else round(
            _SCRATCH * batch * math.prod(patch) * bytes_per_voxel(predictor.model, predictor.tree, inputs, spatial_dims)
        ),
        free=free_memory(),
        device_free=torch.cuda.mem_get_info(device)[0] if cuda else None,
    )


def estimate_files(predictor: Predictor, paths: Sequence[str | Path]) -> Estimate | None:
    """What predicting images in files takes, from their headers; None where one is no image, which reading it will tell.

    Raises:
        ResourceError: it cannot fit into the memory that is free.
    """
    headers = [header for header in map(read_header, paths) if header is not None]
    if len(headers) != len(paths):
        return None
    found = estimate(predictor, headers)
    found.refuse(str(paths[0]))
    return found


def _fitting(patch: Sequence[int], shape: Sequence[int], divisor: int) -> list[int]:
    """A tile's edges where the image is smaller than a tile."""
    return [
        math.ceil(min(edge, size) / divisor) * divisor for edge, size in zip(patch, shape[: len(patch)], strict=True)
    ]


def _slab(predictor: Predictor, patch: Sequence[int], shape: Sequence[int]) -> int:
    """Probabilities of all classes for the planes that tiles reach along the longest axis, and deciding on them."""
    edges = _fitting(patch, shape, int(getattr(predictor.model, "divisor", 16)))
    flat = len(edges) == 2
    edges = [*edges, 16][:3] if flat else edges
    axis = 2 if flat else max(range(3), key=lambda index: (shape[index], -index))
    sizes = [max(size, edge) for size, edge in zip(shape, [*edges[:2], 1] if flat else edges, strict=True)]
    reach = min(edges[axis], sizes[axis]) + 1
    plane = math.prod(sizes) // sizes[axis]
    classes = len(predictor.tree.top_level) + len(predictor.tree.leaves) + 1
    numbers = classes * plane * reach
    edge = EDGE["cpu" if predictor.device.type == "cpu" else "cuda"]
    # A block, and all classes' probabilities behind it, which are copied.
    block = min(edge**3, plane * reach) * (_DECISION_BYTES + 4 * classes)
    return sums_dtype(predictor.device, numbers).itemsize * numbers + block


_measured: weakref.WeakKeyDictionary[nn.Module, dict[int, float]] = weakref.WeakKeyDictionary()


def bytes_per_voxel(model: nn.Module, tree: LabelTree, channels: int, spatial_dims: int) -> float:
    """Bytes of arrays that live at the same time while a network computes a tile, for each voxel of the tile."""
    known = _measured.setdefault(model, {})
    if channels not in known:
        divisor = int(getattr(model, "divisor", 16))
        edge = max(1, 32 // divisor) * divisor
        parameter = next(model.parameters(), torch.empty(0))
        training = model.training
        tiles = torch.zeros(
            (1, channels, *[edge] * spatial_dims, *[1] * (3 - spatial_dims)),
            device=parameter.device,
            dtype=parameter.dtype,
        )
        forward = TorchForward(model, tree, spatial_dims, parameter.device)
        with _Living() as living, torch.inference_mode():
            model.eval()
            try:
                forward(tiles, forward.everything)
            finally:
                model.train(training)
        known[channels] = living.peak / edge**spatial_dims
    return known[channels]


class _Living(TorchDispatchMode):
    """Adds up the arrays that operators make, and takes off those that are given back."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._seen: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(tensor, torch.Tensor) and tensor.layout == torch.strided:
                self._take(tensor.untyped_storage())
        return result

    def _take(self, storage: torch.UntypedStorage) -> None:
        if storage in self._seen:
            return
        self._seen.add(storage)
        size = storage.nbytes()
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._give, size)

    def _give(self, size: int) -> None:
        self.now -= size
