"""Writing files and folders so that a reader never sees half of one: first beside the target, then a rename."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hierseg.errors import DatasetError, HiersegError


@contextlib.contextmanager
def replacing(target: str | Path) -> Iterator[Path]:
    """Yield the path of a temporary file that becomes ``target`` when the block ends without an error.

    The temporary file lies in the target's folder and keeps its endings (``.nii.gz``), because writers choose
    their format by them.  After an error, or Ctrl-C, it is removed and ``target`` is as it was.
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".tmp-", suffix=f"-{target.name}", dir=target.parent)
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
