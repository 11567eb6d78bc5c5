"""Writing files and folders so that a reader never sees half of one: first beside the target, then a rename."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hierseg.errors import DatasetError, HiersegError

_PREFIX = ".tmp-"
_YOUNG_SECONDS = 60.0


@contextlib.contextmanager
def replacing(target: str | Path) -> Iterator[Path]:
    """Yield the path of a temporary file that becomes ``target`` when the block ends without an error.

    The temporary file lies in the target's folder and keeps its endings (``.nii.gz``), because writers choose
    their format by them.  After an error, or Ctrl-C, it is removed and ``target`` is as it was.
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=_PREFIX, suffix=f"-{target.name}", dir=target.parent)
    # Held until the end, by this process alone: a file that nobody holds belongs to a process that was killed.
    held = _try_lock(handle)
    if not held:
        os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, target)
    except OSError as error:
        # A full disk is reported without a name, or with the temporary one.
        if error.filename in (None, name):
            error.filename = str(target)
        raise
    finally:
        if held:
            os.close(handle)
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Yield the path of a temporary folder that becomes ``out`` when the block ends without an error.

    Raises:
        DatasetError: there is something at ``out`` already, or it cannot be made.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DatasetError(f"{out}: there is something here already; give the name of a new or empty folder.")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        staged = Path(tempfile.mkdtemp(prefix=".tmp-", dir=out.parent))
    except OSError as error:
        raise DatasetError(
            f"{out}: the folder cannot be made ({error.strerror or error}); choose another place."
        ) from error
    try:
        staged.chmod(0o755)
        yield staged
        if out.exists():
            out.rmdir()
        os.replace(staged, out)
    except HiersegError as error:
        raise error.about(staged, out) from error
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def clear_unfinished(folder: str | Path, *endings: str) -> list[Path]:
    """Remove what killed processes left of :func:`replacing` in a folder; give what was removed.

    Nothing that a living process writes, nothing younger than a minute, and only files whose targets have one of the
    endings.  Where the system has no such locks (Windows) nothing is removed.
    """
    removed: list[Path] = []
    if sys.platform == "win32" or not Path(folder).is_dir():
        return removed
    ours = re.compile(rf"{re.escape(_PREFIX)}[a-z0-9_]{{8}}-.*(?:{'|'.join(map(re.escape, endings))})")
    for path in Path(folder).iterdir():
        with contextlib.suppress(OSError):
            if not ours.fullmatch(path.name) or time.time() - path.stat().st_mtime < _YOUNG_SECONDS:
                continue
            handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
            try:
                if _try_lock(handle):
                    path.unlink()
                    removed.append(path)
            finally:
                os.close(handle)
    return removed


def _try_lock(handle: int) -> bool:
    """Take the file's lock, which the system gives back when this process ends; False where that cannot be."""
    if sys.platform == "win32":
        return False
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def write_bytes(target: str | Path, content: bytes) -> None:
    """Write bytes atomically."""
    with replacing(target) as temporary:
        temporary.write_bytes(content)


def write_text(target: str | Path, content: str) -> None:
    """Write UTF-8 text atomically, with the same line ends on every platform."""
    write_bytes(target, content.encode("utf-8"))


def write_json(target: str | Path, content: Any) -> None:
    """Write JSON atomically, indented, with a final newline."""
    write_text(target, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
