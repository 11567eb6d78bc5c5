"""Turning images, files and bundles into what is sent to a worker: references by hash, and the content behind them.

Hashing and zipping take time, so the client runs :func:`prepare` in a thread; nothing here touches the scene.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hierseg.bundle import Bundle, export_bundle
from hierseg.errors import WorkerError
from hierseg.worker.protocol import array_hash, file_hash
from HierSubclassSegLib.ticks import Steps

DETACHED = (".mhd", ".nhdr", ".hdr", ".img")
"""Image headers whose voxels lie in another file; one file at a time is sent, so these cannot be."""


_PIECE_BYTES = 8 << 20


@dataclass(frozen=True)
class ImageArray:
    """An image from memory.

    Attributes:
        array: ``(x, y, z)``, or with frames ``(x, y, z, t)``.
        affine: 4×4, voxel index → RAS mm.
        name: what messages to the user call it.
        own: the array is a copy already, which nobody else changes.
    """

    array: np.ndarray
    affine: np.ndarray
    name: str = ""
    own: bool = False


Image = ImageArray | tuple[np.ndarray, np.ndarray] | str | Path


@dataclass(frozen=True)
class Content:
    """Something that the worker may lack: how to send it."""

    hash: str
    kind: str
    load: Callable[[], np.ndarray]
    name: str = ""


@dataclass
class Prepared:
    """The fields of a request, and the content that they refer to."""

    fields: dict[str, Any] = field(default_factory=dict)
    contents: list[Content] = field(default_factory=list)


def copy_steps(images: Sequence[Image]) -> Steps[list[Image]]:
    """The images with arrays copied, so that the caller may go on working on its own while these are sent.

    Nothing else may change the arrays before the last step.
    """
    copies: list[Image] = []
    for number, image in enumerate(images):
        if isinstance(image, (str, Path)):
            copies.append(Path(image))
            continue
        if isinstance(image, ImageArray) and image.own:
            copies.append(image)
            continue
        array, affine, name = _parts(image)
        copy = np.empty_like(array)
        # The axis of the largest stride is the slowest one: pieces along it lie together in memory.
        axis = int(np.argmax(np.abs(array.strides)))
        source, target = np.moveaxis(array, axis, 0), np.moveaxis(copy, axis, 0)
        planes = max(1, _PIECE_BYTES * len(source) // max(1, array.nbytes))
        for start in range(0, len(source), planes):
            target[start : start + planes] = source[start : start + planes]
            yield (number + start / len(source)) / len(images)
        affine = np.array(affine, dtype=np.float64)
        copies.append(ImageArray(copy, affine, name or f"image {number + 1}", own=True))
    return copies


def _parts(image: Any) -> tuple[np.ndarray, np.ndarray, str]:
    if isinstance(image, tuple):
        return image[0], image[1], ""
    # Anything with an array and an affine will do: an ImageArray, a hierseg Volume.
    return image.array, image.affine, str(getattr(image, "name", "") or getattr(image, "path", "") or "")


def prepare(images: Sequence[Image], bundle: Bundle | str | Path | None, options: dict[str, Any]) -> Prepared:
    """Everything that a ``load`` or ``predict`` message needs.

    Raises:
        WorkerError: an image cannot be sent; the sentence names it.
        BundleError: the bundle's folder is none.
        OSError: a file cannot be read.
    """
    prepared = Prepared(fields=dict(options))
    if bundle is not None:
        prepared.fields["bundle"] = _bundle(bundle, prepared)
    if images:
        prepared.fields["images"] = [_image(image, prepared) for image in images]
    return prepared


def bundle_content(bundle: Bundle) -> Content:
    """A bundle as content; its hash is its digest, so a bundle that the worker has is never packed."""
    return Content(bundle.digest, "bundle", lambda: _packed(bundle))


def array_content(array: np.ndarray) -> Content:
    """An array as content."""
    # In the background, and not where it is sent.
    contiguous = np.ascontiguousarray(array).reshape(np.shape(array))
    return Content(array_hash(contiguous), "array", lambda: contiguous)


def open_bundle(bundle: Bundle | str | Path) -> Bundle:
    """The bundle in a folder; an opened one as it is."""
    return bundle if isinstance(bundle, Bundle) else Bundle.open(bundle, verify=False)


def _packed(bundle: Bundle) -> np.ndarray:
    with tempfile.TemporaryDirectory(prefix="hierseg-send-") as scratch:
        return np.fromfile(export_bundle(bundle, Path(scratch) / "bundle.zip"), dtype=np.uint8)


def _bundle(bundle: Bundle | str | Path, prepared: Prepared) -> dict[str, str]:
    if isinstance(bundle, str) and not Path(bundle).is_dir():
        return {"id": bundle}
    content = bundle_content(open_bundle(bundle))
    prepared.contents.append(content)
    return {"hash": content.hash}


def _image(image: Image, prepared: Prepared) -> dict[str, Any]:
    if isinstance(image, ImageArray):
        # Arrays of the scene run through memory the other way round: turned where they are computed with, not here.
        turned = image.array.flags.f_contiguous and not image.array.flags.c_contiguous
        content = array_content(image.array.T if turned else image.array)
        prepared.contents.append(content)
        order = "F" if turned else "C"
        return {"hash": content.hash, "order": order, "affine": image.affine.tolist(), "name": image.name}
    path = Path(image)  # type: ignore[arg-type]
    if not path.exists():
        raise WorkerError(f"{path}: there is no such file or folder.")
    if path.name.lower().endswith(DETACHED):
        raise WorkerError(f"{path}: its voxels lie in a second file; save it as .nii.gz, .nrrd or .mha.")
    sources = sorted(entry for entry in path.rglob("*") if entry.is_file()) if path.is_dir() else [path]
    if not sources:
        raise WorkerError(f"{path}: the folder is empty; give the folder of a DICOM series.")
    files = []
    for source in sources:
        # A file's own name may hold a patient's; only the ending matters on the other side.
        name = "image" + "".join(source.suffixes[-2:] if source.name.lower().endswith(".gz") else source.suffixes[-1:])
        name = name if name.replace(".", "").isalnum() and name.isascii() else "image.dcm"
        content = Content(file_hash(source), "file", partial(np.fromfile, source, dtype=np.uint8), name)
        prepared.contents.append(content)
        files.append({"name": name, "hash": content.hash})
    return {"files": files, "name": str(path)}
