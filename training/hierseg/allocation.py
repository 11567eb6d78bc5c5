"""Memory that is used again and again: large arrays come and go at every step, and a fresh page costs more than the sum it holds.

glibc hands an array of some megabytes back to the system as soon as it is freed, and the system fills the next one with
zeros, page by page of 4 kB.  A training on the CPU spent a fifth of its time there.  On Linux with glibc freed
memory is therefore kept for the next array, and torch's arrays lie on large pages; elsewhere nothing is done.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_KEPT = 2**31 - 1
_GROWTH = 64 * 2**20


def reuse_memory() -> None:
    """Keep freed memory for the next array; call it before torch allocates anything."""
    library = _glibc()
    if library is None:
        return
    # Read by torch at its first allocation.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    for option, value in ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, _KEPT), (_TOP_PAD, _GROWTH)):
        library.mallopt(option, value)


def give_back_memory() -> None:
    """Hand all freed memory back to the system: after work, in a process that stays."""
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)


@functools.cache
def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    try:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018 -- only glibc has it
    except (OSError, AttributeError):
        return None
    return library
