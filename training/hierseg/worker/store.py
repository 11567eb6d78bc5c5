"""What clients have sent, by SHA-256: arrays in memory, files and bundles on disk.

Everything is checked against the hash that it was announced with before it can be used.  Arrays are kept up to a
limit, the least recently used go first; files and bundles live in a folder that ends with the worker.
"""

from __future__ import annotations

import collections
import hashlib
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from hierseg.atomic import write_bytes
from hierseg.bundle import Bundle, export_bundle, import_bundle, list_bundles
from hierseg.errors import WorkerError
from hierseg.resources import all_model_folders
from hierseg.worker.protocol import array_hash

DEFAULT_LIMIT = 8 << 30
_HASH = re.compile(r"[0-9a-f]{64}")
# One path component that no system takes for a device, a parent folder or an option.
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,199}")


class MissingContentError(WorkerError):
    """Something is referred to by a hash that the worker does not have (any more); the client sends it again."""


class Store:
    """Content by hash.

    Args:
        limit: bytes of arrays kept in memory.

    Attributes:
        place: where received files and bundles will lie, known before it exists, so that it can be cleared away.
    """

    def __init__(self, limit: int = DEFAULT_LIMIT) -> None:
        self._limit = limit
        self._arrays: collections.OrderedDict[str, np.ndarray] = collections.OrderedDict()
        self.place = Path(tempfile.gettempdir()) / f"hierseg-worker-{os.getpid()}-{secrets.token_hex(8)}"
        self._folder: Path | None = None
        self._shipped: dict[str, Path] = {}

    @property
    def folder(self) -> Path:
        """Where received files and bundles lie; made when first needed."""
        if self._folder is None:
            self.place.mkdir(mode=0o700)
            self._folder = self.place
        return self._folder

    def clear(self) -> None:
        """Forget everything and remove the folder."""
        self._arrays.clear()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def held(self, hashes: Sequence[str]) -> list[str]:
        """Those of the hashes whose content is here, in memory, received, or in a model folder."""
        self._shipped = {bundle.digest: bundle.folder for bundle in self.bundles()}
        for hash_ in hashes:
            if hash_ in self._arrays:
                self._arrays.move_to_end(hash_)
        return [
            hash_
            for hash_ in hashes
            if _HASH.fullmatch(hash_)
            and (hash_ in self._arrays or self._file(hash_) is not None or self._bundle_folder(hash_) is not None)
        ]

    def put(self, hash_: str, kind: str, data: np.ndarray, name: str = "") -> None:
        """Keep something that a client sent.

        Args:
            hash_: :func:`~hierseg.worker.protocol.array_hash` of an array, SHA-256 of a file's bytes, or a bundle's
                :attr:`~hierseg.bundle.Bundle.digest`.
            kind: "array", "file" or "bundle" (a zip of the folder).
            data: the array, or the bytes as ``uint8``.
            name: a file's name, whose ending tells its format.

        Raises:
            WorkerError: the hash is another, or the kind is unknown.
            BundleError: the zip is no sound bundle.
        """
        if _HASH.fullmatch(hash_) is None:
            raise WorkerError(f"{hash_!r} is no SHA-256 in hexadecimal digits.")
        if kind == "array":
            self._check(hash_, array_hash(data), "an array")
            self._keep_array(hash_, data)
        elif kind == "file":
            self._check(hash_, hashlib.sha256(data.tobytes()).hexdigest(), f"the file {name}")
            if _FILE_NAME.fullmatch(name) is None:
                raise WorkerError(f"{name!r} cannot be a file's name here; use letters, digits, '.', '_' and '-'.")
            write_bytes(self.folder / "files" / hash_ / name, data.tobytes())
        elif kind == "bundle":
            self._put_bundle(hash_, data)
        else:
            raise WorkerError(f"{kind!r} cannot be sent; 'array', 'file' and 'bundle' can.")

    def array(self, hash_: str) -> np.ndarray:
        """An array that was put.

        Raises:
            MissingContentError: it is not here.
        """
        if hash_ not in self._arrays:
            raise MissingContentError(f"the worker does not have the image {hash_[:12]}; send it again.")
        self._arrays.move_to_end(hash_)
        return self._arrays[hash_]

    def files(self, entries: list[Mapping[str, str]]) -> Path:
        """The path of one file that was put, or of a folder with several (a DICOM series).

        Args:
            entries: ``{"name": ..., "hash": ...}`` each.
        """
        paths = []
        for entry in entries:
            path = self._file(str(entry.get("hash")))
            if path is None:
                raise MissingContentError(f"the worker does not have the file {entry.get('name')}; send it again.")
            paths.append(path)
        if len(paths) == 1:
            return paths[0]
        together = Path(tempfile.mkdtemp(prefix="series-", dir=self.folder))
        for number, path in enumerate(paths):
            shutil.copy2(path, together / f"{number:05d}-{path.name}")
        return together

    def bundle(self, reference: Mapping[str, str]) -> tuple[Bundle, str]:
        """Find the bundle that a client means; return it and its hash.  Its files' hashes are checked when it is loaded.

        Args:
            reference: ``{"hash": ...}``, ``{"id": "name@version"}`` or ``{"path": ...}`` on the worker's machine.

        Raises:
            MissingContentError: no bundle has this hash or id.
            BundleError: the bundle is damaged or unsafe.
        """
        if "path" in reference:
            folder = Path(reference["path"])
        elif "hash" in reference:
            found = self._bundle_folder(reference["hash"])
            if found is None:
                raise MissingContentError(
                    f"the worker does not have the model {reference['hash'][:12]}; send it again."
                )
            folder = found
        else:
            return self._bundle_by_id(str(reference.get("id")))
        bundle = Bundle.open(folder, verify=False)
        return bundle, bundle.digest

    def packed_bundle(self, reference: Mapping[str, str]) -> tuple[str, np.ndarray]:
        """The hash and the zip of a bundle, as ``uint8``, for a client that wants to keep it."""
        bundle, hash_ = self.bundle(reference)
        packed = self.folder / f"{hash_}.out.zip"
        export_bundle(bundle, packed)
        data = np.fromfile(packed, dtype=np.uint8)
        packed.unlink()
        return hash_, data

    def bundles(self) -> list[Bundle]:
        """The sound bundles in this machine's model folders."""
        return [found for found in list_bundles(*all_model_folders()) if isinstance(found, Bundle)]

    def _keep_array(self, hash_: str, data: np.ndarray) -> None:
        self._arrays[hash_] = data
        self._arrays.move_to_end(hash_)
        held = sum(array.nbytes for array in self._arrays.values())
        while held > self._limit and len(self._arrays) > 1:
            held -= self._arrays.popitem(last=False)[1].nbytes

    def _put_bundle(self, hash_: str, data: np.ndarray) -> None:
        packed = self.folder / f"{hash_}.zip"
        write_bytes(packed, data.tobytes())
        target = self.folder / "bundles" / hash_
        try:
            shutil.rmtree(target, ignore_errors=True)
            bundle = import_bundle(packed, target)
            found = bundle.digest
            if found != hash_:
                shutil.rmtree(target, ignore_errors=True)
                self._check(hash_, found, "a model bundle")
        finally:
            packed.unlink(missing_ok=True)

    def _bundle_folder(self, hash_: str) -> Path | None:
        received = self.folder / "bundles" / hash_ if self._folder is not None else None
        if received is not None and received.is_dir():
            return next(iter(sorted(received.iterdir())), None)
        return self._shipped.get(hash_)

    def _bundle_by_id(self, id_: str) -> tuple[Bundle, str]:
        available = self.bundles()
        for bundle in available:
            if id_ in (bundle.id, bundle.name):
                return bundle, bundle.digest
        offered = ", ".join(sorted(bundle.id for bundle in available)) or "none"
        raise MissingContentError(f"the worker has no model {id_!r} (it has {offered}); import it or send it.")

    def _file(self, hash_: str) -> Path | None:
        if self._folder is None or _HASH.fullmatch(hash_) is None:
            return None
        folder = self._folder / "files" / hash_
        return next((path for path in folder.glob("*") if not path.name.startswith(".")), None)

    @staticmethod
    def _check(announced: str, found: str, what: str) -> None:
        if announced != found:
            raise WorkerError(
                f"{what} arrived damaged (SHA-256 {found[:12]}, announced {announced[:12]}); send it again."
            )
