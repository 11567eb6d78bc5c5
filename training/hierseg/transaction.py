"""Changing several files of a folder as one: stage, write a journal, replace; finish an interrupted replacement.

The new files are first written to ``.staging/``.  Then a journal, ``.journal.json``, is put in place by one rename:
from that moment on the change has happened, and whoever finds the journal finishes it (moves what has not been
moved, deletes what has not been deleted).  Before that moment nothing has happened, and what lies in ``.staging/``
is thrown away.  So a process may be killed at any time: the folder holds the old files or the new ones, never a mix.

Writers hold an exclusive lock on ``.lock``, which the operating system releases when a process dies.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from hierseg.atomic import write_json
from hierseg.errors import DatasetBusyError, DatasetError

LOCK_NAME = ".lock"
JOURNAL_NAME = ".journal.json"
STAGING_NAME = ".staging"
LOCK_SECONDS = 60.0


def is_inside(relative: object) -> bool:
    """Whether a path, as written in a file, is relative and stays in its folder, on every platform."""
    if not isinstance(relative, str) or not relative or "\\" in relative or ":" in relative or "\0" in relative:
        return False
    posix = PurePosixPath(relative)
    return not posix.is_absolute() and ".." not in posix.parts and bool(posix.parts)


@contextlib.contextmanager
def locked(folder: Path, *, shared: bool = False, seconds: float = LOCK_SECONDS) -> Iterator[None]:
    """Hold the folder's lock: exclusive for writers, ``shared`` for readers that want a still folder.

    Raises:
        DatasetBusyError: another program holds it for longer than ``seconds``.
    """
    if shared and not os.access(folder, os.W_OK):
        # On a read-only disk nobody writes: there is nothing to keep out.
        yield
        return
    with open(folder / LOCK_NAME, "a+b") as handle:
        deadline = time.monotonic() + seconds
        while not _try_lock(handle, shared):
            if time.monotonic() > deadline:
                raise DatasetBusyError(
                    f"{folder}: another program has been writing here for {seconds:.0f} s; wait until it is done, or close it, and try again."
                )
            time.sleep(0.02)
        try:
            yield
        finally:
            _unlock(handle)


class Transaction:
    """Files to be put in place, and files to be deleted, in one step.  Use it while holding the lock.

    Args:
        folder: all paths are relative to it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / STAGING_NAME).mkdir(exist_ok=True)
        self.staging = Path(tempfile.mkdtemp(dir=folder / STAGING_NAME))
        self._moves: list[tuple[str, str]] = []
        self._deletes: list[str] = []

    def stage(self, relative: str) -> Path:
        """The path at which to write the file that will become ``relative``; moved in the order of the calls."""
        staged = self.staging / relative
        staged.parent.mkdir(parents=True, exist_ok=True)
        self._moves.append((staged.relative_to(self.folder).as_posix(), relative))
        return staged

    def delete(self, relative: str) -> None:
        """Delete a file after all moves."""
        self._deletes.append(relative)

    def commit(self) -> None:
        """Make the change happen."""
        for staged, _ in self._moves:
            with open(self.folder / staged, "rb+") as written:
                os.fsync(written.fileno())
        write_json(self.folder / JOURNAL_NAME, {"moves": self._moves, "deletes": self._deletes})
        recover(self.folder)

    def abandon(self) -> None:
        """Throw the staged files away."""
        shutil.rmtree(self.staging, ignore_errors=True)


def is_interrupted(folder: Path) -> bool:
    """Whether a change has begun in the folder and is not finished (or is being made right now)."""
    return (folder / JOURNAL_NAME).exists()


def recover(folder: Path) -> None:
    """Finish an interrupted change, and clear what an earlier writer left unfinished.  Hold the lock.

    Raises:
        DatasetError: the journal is not one of ours.
    """
    journal = folder / JOURNAL_NAME
    if journal.exists():
        moves, deletes = _read_journal(journal)
        for staged, final in moves:
            if (folder / staged).exists():
                (folder / final).parent.mkdir(parents=True, exist_ok=True)
                os.replace(folder / staged, folder / final)
        for relative in deletes:
            (folder / relative).unlink(missing_ok=True)
        _sync_folders({(folder / final).parent for _, final in moves})
        journal.unlink(missing_ok=True)
    shutil.rmtree(folder / STAGING_NAME, ignore_errors=True)


def _read_journal(journal: Path) -> tuple[list[tuple[str, str]], list[str]]:
    try:
        content = json.loads(journal.read_text(encoding="utf-8"))
        moves = [(str(staged), str(final)) for staged, final in content["moves"]]
        deletes = [str(relative) for relative in content["deletes"]]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DatasetError(
            f"{journal}: this journal of an interrupted change cannot be read ({error}); remove it and save the case again."
        ) from error
    paths = [path for move in moves for path in move] + deletes
    if not all(is_inside(path) for path in paths) or not all(
        staged.startswith(f"{STAGING_NAME}/") for staged, _ in moves
    ):
        raise DatasetError(
            f"{journal}: this journal names files outside its folder; it was not written by this program, remove it."
        )
    return moves, deletes


def _sync_folders(folders: set[Path]) -> None:
    if sys.platform == "win32":
        return
    for folder in folders:
        if not folder.is_dir():
            continue
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


if sys.platform == "win32":
    import msvcrt

    def _try_lock(handle: IO[bytes], shared: bool) -> bool:
        handle.seek(0)
        try:
            msvcrt.locking(handle.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _unlock(handle: IO[bytes]) -> None:
        handle.seek(0)
        msvcrt.locking(handle.fileno(), msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _try_lock(handle: IO[bytes], shared: bool) -> bool:
        try:
            fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _unlock(handle: IO[bytes]) -> None:
        fcntl.flock(handle, fcntl.LOCK_UN)
