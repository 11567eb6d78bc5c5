"""Writing files so that a reader never sees half of one: a temporary file beside the target, then a rename."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any


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
