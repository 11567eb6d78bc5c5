"""The files of a model bundle on disk: listing, hashing, safe unpacking, and replacing a folder as a whole."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from hierseg.bundle_format import MANIFEST
from hierseg.errors import BundleError
from hierseg.transaction import is_inside

MAX_UNPACKED_BYTES = 8 * 2**30
# What file managers leave in folders that somebody looked into.  It is never read, copied or packed.
_LITTER = frozenset([".DS_Store", "Thumbs.db", "desktop.ini"])
_LITTER_FOLDER = "__MACOSX"


def walk(folder: Path) -> list[str]:
    """Relative paths of all files but the manifest, sorted; links and special files are refused."""
    found = []
    for root, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            path = Path(root) / name
            mode = path.lstat().st_mode
            if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
                raise BundleError(
                    f"{path}: a bundle holds plain files only, this is a link or a special file; remove it."
                )
            if stat.S_ISREG(mode) and name not in _LITTER:
                found.append(path.relative_to(folder).as_posix())
    return sorted(relative for relative in found if relative != MANIFEST)


def sha256(path: Path) -> str:
    """The hash of a file, as hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def unpack(source: Path, target: Path) -> Path:
    """Unpack an archive into an empty folder and return the bundle's folder in it."""
    try:
        with zipfile.ZipFile(source) as archive:
            entries = archive.infolist()
            _check_entries(source, entries)
            for entry in entries:
                if entry.is_dir() or PurePosixPath(entry.filename).parts[0] == _LITTER_FOLDER:
                    continue
                path = target / entry.filename
                path.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(entry) as packed, open(path, "wb") as file:
                    shutil.copyfileobj(packed, file, 2**20)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise BundleError(
            f"{source}: not a readable zip archive ({error}); give a bundle folder or a zip archive of one."
        ) from error
    inner = [path for path in target.iterdir() if path.is_dir()]
    if not (target / MANIFEST).exists() and len(inner) == 1 and len(list(target.iterdir())) == 1:
        return inner[0]
    return target


def _check_entries(source: Path, entries: list[zipfile.ZipInfo]) -> None:
    seen: set[str] = set()
    for entry in entries:
        name = entry.filename
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if not is_inside(name) or entry.orig_filename != name:
            raise BundleError(
                f"{source}: the entry {entry.orig_filename!r} would be written outside its folder; do not use this archive."
            )
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise BundleError(f"{source}: the entry '{name}' is a link or a special file; do not use this archive.")
        if entry.flag_bits & 1:
            raise BundleError(f"{source}: the entry '{name}' is encrypted; make the archive without a password.")
        key = str(PurePosixPath(name)).lower()
        if key in seen:
            raise BundleError(f"{source}: the entry '{name}' is there twice; do not use this archive.")
        seen.add(key)
    if sum(entry.file_size for entry in entries) > MAX_UNPACKED_BYTES:
        raise BundleError(
            f"{source}: unpacks to more than {MAX_UNPACKED_BYTES // 2**30} GiB, which no bundle needs; do not use this archive."
        )


@contextlib.contextmanager
def staging(target: Path) -> Iterator[Path]:
    """A new empty folder beside ``target``, on the same disk; what is left of it in the end is removed.

    Raises:
        BundleError: the disk is full or may not be written, while the folder is in use.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        staged = Path(tempfile.mkdtemp(prefix=f".tmp-{target.name}-", dir=target.parent))
        try:
            os.chmod(staged, 0o755)
            yield staged
        finally:
            shutil.rmtree(staged, ignore_errors=True)
    except OSError as error:
        raise BundleError(
            f"{target}: the bundle cannot be written ({error.strerror or error}); free space or choose another folder."
        ) from error


def swap(staged: Path, target: Path) -> None:
    """Put the staged folder in the target's place; a bundle that was there comes back if we are killed in between."""
    if target.exists() and not (target / MANIFEST).exists() and (not target.is_dir() or any(target.iterdir())):
        raise BundleError(f"{target}: something that is not a bundle is there; choose another folder.")
    backup = _backup(target)
    for attempt in range(5):
        if target.exists():
            shutil.rmtree(backup, ignore_errors=True)
            os.replace(target, backup)
        try:
            os.replace(staged, target)
            break
        except OSError:
            # A reader that came between the two steps took the old bundle for an interrupted replacement.
            finish_swap(target)
            if attempt == 4:
                raise
    shutil.rmtree(backup, ignore_errors=True)


def _backup(target: Path) -> Path:
    return target.parent / f".replaced-{target.name}"


def finish_swap(folder: Path) -> None:
    """Bring the old bundle back where a replacement was interrupted before the new one was in place."""
    if not folder.exists() and _backup(folder).is_dir():
        os.replace(_backup(folder), folder)
