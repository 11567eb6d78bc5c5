"""The whole way from images to labels on the first image's grid, behind one class that keeps the model warm."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from hierseg.data.preprocess import Prepared, Preprocessor
from hierseg.errors import ConfigError, ImageError, ResourceError, is_out_of_memory
from hierseg.imageheader import Header
from hierseg.imageio import Volume, spacing_of
from hierseg.inference.backends import Backends
from hierseg.inference.estimate import estimate
from hierseg.inference.ladder import Rung, ladder
from hierseg.inference.one_piece import join_pieces
from hierseg.inference.restore import Restored, Restorer
from hierseg.inference.sliding import Progress, slabs
from hierseg.inference.tiles import default_batch
from hierseg.labeltree import LabelTree

if TYPE_CHECKING:
    from hierseg.bundle import Bundle


@dataclass(frozen=True)
class Prediction:
    """Results on the first volume's grid, ``(x, y, z)`` or, for an image with frames, ``(x, y, z, t)``.

    Attributes:
        labels: node values in the tree's integer type: the deepest accepted node, or ``unlabelled``.
        superclass: the value of each voxel's top-level node.
        confidence: float32, the probability of the chosen leaf.
        affine: 4×4, voxel index → mm in RAS: the first volume's own.
        stages: seconds for preprocess, network, decode and restore.
        tree: the label tree of the values.
        notes: sentences for the user.
        work: ``backend`` that ran the network, ``tiles`` of the image, of these the ``computed`` ones, and ``forward_s``, the seconds
            in the network itself (not on a graphics card); sums over frames.
    """

    labels: np.ndarray
    superclass: np.ndarray
    confidence: np.ndarray
    affine: np.ndarray
    stages: dict[str, float]
    tree: LabelTree
    notes: tuple[str, ...] = field(default=())
    work: dict[str, Any] = field(default_factory=dict)

    def volumes_ml(self) -> dict[str, float | list[float]]:
        """Milliliters by node name, descendants included; a list with one entry a frame for an image with frames."""
        voxel = abs(float(np.linalg.det(self.affine[:3, :3]))) / 1000.0
        frames = (
            [self.labels]
            if self.labels.ndim == 3
            else [self.labels[..., index] for index in range(self.labels.shape[3])]
        )
        counts = [np.bincount(frame.ravel(), minlength=self.tree.unlabelled + 1) for frame in frames]
        result: dict[str, float | list[float]] = {}
        for node in self.tree.nodes:
            values = [node.value, *(below.value for below in self.tree.descendants(node))]
            volumes = [round(float(count[values].sum()) * voxel, 4) for count in counts]
            result[node.name] = volumes if self.labels.ndim == 4 else volumes[0]
        return result

    def mean_confidence(self) -> dict[str, float]:
        """Mean confidence of the voxels that carry each node's own value; nodes without voxels are left out."""
        counts = np.bincount(self.labels.ravel(), minlength=self.tree.unlabelled + 1)
        sums = np.bincount(self.labels.ravel(), weights=self.confidence.ravel(), minlength=self.tree.unlabelled + 1)
        return {
            node.name: round(float(sums[node.value] / counts[node.value]), 4)
            for node in self.tree.nodes
            if counts[node.value]
        }


def resolve_device(name: str | torch.device = "auto") -> torch.device:
    """The device of that name; ``auto`` takes CUDA, else MPS, else the CPU.

    Raises:
        ConfigError: there is no such device here.
    """
    if isinstance(name, torch.device):
        return name
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"there is no device {name!r}; give auto, cpu, cuda, cuda:1 or mps.") from error
    count = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}.get(
        device.type, 0
    )
    if (device.index or 0) >= count:
        raise ConfigError(f"the device {name!r} is not available here ({count} of that kind); give auto or cpu.")
    return device


@dataclass(frozen=True)
class _Options:
    """What the caller wants; see :meth:`Predictor.predict`."""

    decode: str
    thresholds: Mapping[str, float] | None
    one_piece: Sequence[str]
    exhaustive: bool
    cancelled: Callable[[], bool] | None


class Predictor:
    """Predicts with one model, kept on its device between calls.

    Args:
        bundle_or_model: an opened bundle, or a network (then ``config`` is needed).
        config: what ``hierseg.json`` says; the bundle's own if None.
        tree: the bundle's or the network's own if None.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        backend: how the network is run (:data:`hierseg.inference.backends.NAMES`); ``auto`` measures.

    Raises:
        ConfigError: the device or the back-end is not there, or a configuration is missing or wrong.
        BundleError: the weights cannot be loaded.
    """

    def __init__(
        self,
        bundle_or_model: Bundle | nn.Module,
        config: Mapping[str, Any] | None = None,
        *,
        tree: LabelTree | None = None,
        device: str | torch.device = "auto",
        backend: str = "auto",
    ) -> None:
        self.device = resolve_device(device)
        if isinstance(bundle_or_model, nn.Module):
            if config is None:
                raise ConfigError("a network without a bundle needs a configuration; pass what hierseg.json would say.")
            self.model: nn.Module = bundle_or_model
            self.config: Mapping[str, Any] = config
            self.tree: LabelTree = getattr(bundle_or_model, "tree", None) if tree is None else tree  # type: ignore[assignment]
            self.id = ""
        else:
            from hierseg.networks.weights import load_model

            self.model = load_model(bundle_or_model)
            self.config = bundle_or_model.config if config is None else config
            self.tree = bundle_or_model.tree
            self.id = bundle_or_model.id
        self.model = self.model.to(self.device).eval()
        self.preprocessor = Preprocessor(self.config, self.device)
        self._backends = Backends(self.model, self.tree, int(self.config.get("spatial_dims", 3)), backend)
        self._failed = 0, 0

    def predict(
        self,
        volumes: Sequence[Volume],
        progress: Progress | None = None,
        cancelled: Callable[[], bool] | None = None,
        *,
        decode: str = "hierarchical",
        thresholds: Mapping[str, float] | None = None,
        one_piece: Sequence[str] | None = None,
        exhaustive: bool = False,
    ) -> Prediction:
        """Predict one case.

        Args:
            volumes: one a channel; with frames, each is predicted by itself (a 3D channel serves every frame).
            progress: called with ``(stage, fraction of that stage)``; stages are preprocess, network and restore.
            cancelled: asked often; True ends the work.
            decode: ``hierarchical`` or ``leaf``.
            thresholds: by node; the bundle's own if None.
            one_piece: nodes of which the largest piece alone is left (:mod:`hierseg.inference.one_piece`); the bundle's own if None.
            exhaustive: compute every tile and branch, also those that a coarse pass finds to be without structures.

        Raises:
            Cancelled: ``cancelled`` returned True.
            ImageError: the images cannot be used (each sentence says which and why).
            ResourceError: the device's memory is too small.
        """
        frames = _frames(volumes)
        self._refuse_what_cannot_fit(volumes)
        stages = dict.fromkeys(("preprocess", "network", "decode", "restore"), 0.0)
        limits = self.config.get("thresholds") if thresholds is None else thresholds
        pieces = self.config.get("one_piece", ()) if one_piece is None else one_piece
        options = _Options(decode, limits, pieces, exhaustive, cancelled)
        work: dict[str, Any] = {}
        results: list[Restored] = []
        notes: list[str] = []
        for index in range(frames or 1):
            share = _share(progress, index, frames or 1)
            result, said = self._predict_frame(
                [volume.frame(index) for volume in volumes], stages, share, options, work
            )
            results.append(result)
            notes += [note for note in said if note not in notes]
        labels, superclass, confidence = (
            getattr(results[0], part)
            if frames is None
            else np.stack([getattr(result, part) for result in results], axis=-1)
            for part in ("labels", "superclass", "confidence")
        )
        return Prediction(
            labels,
            superclass,
            confidence,
            np.array(volumes[0].affine, np.float64),
            stages,
            self.tree,
            tuple(notes),
            work,
        )

    def settle(self) -> None:
        """Get ready what makes further images faster; for a worker with time on its hands."""
        self._backends.settle()

    def _refuse_what_cannot_fit(self, volumes: Sequence[Volume]) -> None:
        headers = [header for header in map(Header.of, volumes) if header is not None]
        # What else is wrong with the images, preparing them will tell.
        if len(headers) == len(volumes) == len(self.config["channels"]):
            estimate(self, headers, run=False).refuse(str(volumes[0].path or "the image"))

    def _predict_frame(
        self,
        volumes: Sequence[Volume],
        stages: dict[str, float],
        progress: Progress | None,
        options: _Options,
        work: dict[str, Any],
    ) -> tuple[Restored, tuple[str, ...]]:
        began = time.perf_counter()
        prepared = self._prepared(volumes)
        stages["preprocess"] += time.perf_counter() - began
        if progress is not None:
            progress("preprocess", 1.0)
        began = time.perf_counter()
        batch = default_batch(self.device, int(self.config.get("spatial_dims", 3)))
        rungs = ladder(self.device, self.config, int(getattr(self.model, "divisor", 16)), batch)
        said: list[str] = []
        voxels = max(prepared.array[0].size, math.prod(prepared.source.shape))
        # What did not fit once is not tried again with an image as large; a smaller one may fit.
        lowest, failed = self._failed
        for number in range(lowest if voxels >= failed else 0, len(rungs)):
            try:
                result = self._computed(prepared, rungs[number], progress, options, work)
                said = [rungs[number].sentence] if rungs[number].sentence else []
                break
            except (MemoryError, RuntimeError, ResourceError) as error:
                if not isinstance(error, ResourceError) and not is_out_of_memory(error):
                    raise
                if number + 1 == len(rungs):
                    raise self._too_small(error) from error
                self._failed = number + 1, voxels
            # After the except clause, which would keep the failed attempt's arrays alive.
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
        stages["network"] += time.perf_counter() - began - sum(result.seconds.values())
        if progress is not None:
            progress("restore", 1.0)
        for stage, seconds in result.seconds.items():
            stages[stage] += seconds
        began = time.perf_counter()
        said += self._in_one_piece(result, prepared, options)
        stages["decode"] += time.perf_counter() - began
        return result, (*prepared.notes, *said)

    def _in_one_piece(self, result: Restored, prepared: Prepared, options: _Options) -> list[str]:
        """Leave one piece of each node that is one, and say what changed."""
        if not options.one_piece:
            return []
        spacing = spacing_of(prepared.source.affine)
        changed = join_pieces(result.labels, self.tree, options.one_piece, spacing, result.superclass)
        count = int(changed.sum())
        if count == 0:
            return []
        # Another leaf than the most probable one: its probability is not known any more, but what is left for it is.
        result.confidence[changed] = np.minimum(result.confidence[changed], 1.0 - result.confidence[changed])
        millilitres = count * float(np.prod(spacing)) / 1000.0
        return [
            f"{millilitres:.3g} ml apart from the largest piece of {', '.join(options.one_piece)} took the label of what surrounds it."
        ]

    def _prepared(self, volumes: Sequence[Volume]) -> Prepared:
        try:
            return self.preprocessor.image(volumes)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise self._too_small(error) from error

    def _computed(
        self,
        prepared: Prepared,
        rung: Rung,
        progress: Progress | None,
        options: _Options,
        work: dict[str, Any],
    ) -> Restored:
        restorer = Restorer(
            prepared.affine, prepared.shape, prepared.source, self.tree,
            mode=options.decode, thresholds=options.thresholds, cancelled=options.cancelled,
        )  # fmt: skip
        report: dict[str, Any] = {}
        for slab in slabs(
            self.model.to(rung.device), prepared.array, {**self.config, "patch_size": rung.patch_size},
            tree=self.tree, device=rung.device, stitch=rung.stitch, tile_batch=rung.tile_batch,
            progress=progress, cancelled=options.cancelled, whole=not restorer.streams, backends=self._backends,
            exhaustive=options.exhaustive, report=report,
        ):  # fmt: skip
            restorer.add(slab)
        work["backend"] = report["backend"]
        for key in report.keys() - {"backend"}:
            work[key] = work.get(key, 0) + report[key]
        return restorer.result()

    def _too_small(self, error: BaseException) -> ResourceError:
        """The sentence after the last rung."""
        if isinstance(error, ResourceError):
            return error
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        if self.device.type != "cpu" and isinstance(error, torch.OutOfMemoryError):
            return ResourceError(
                f"the memory of {self.device} is too small for this image; use the device cpu, or crop the image.",
                hint=str(error).split(". ")[0],
            )
        return ResourceError("this machine's memory is too small for this image; crop it, or close other programs.")


def _frames(volumes: Sequence[Volume]) -> int | None:
    """The number of frames, None for 3D.

    Raises:
        ImageError: channels differ in their number of frames.
    """
    found = {volume.frames: volume for volume in volumes if volume.frames is not None}
    if len(found) > 1:
        listed = ", ".join(f"{volume.path or 'an image'}: {count}" for count, volume in found.items())
        raise ImageError(
            f"the channels differ in their number of frames ({listed}); give images of the same length, or 3D ones."
        )
    return next(iter(found), None)


def _share(progress: Progress | None, index: int, count: int) -> Progress | None:
    """Progress of one frame as progress of all."""
    if progress is None or count == 1:
        return progress
    return lambda stage, fraction: progress(stage, (index + fraction) / count)
