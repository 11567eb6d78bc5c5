"""Telling one process from another: is it there, and is it the one that was meant?

Systems give process numbers again.  A number that was read from a file may belong to a stranger now, so together with
it one needs the moment at which the process began.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

_WINDOWS_STILL_ACTIVE = 259
_WINDOWS_QUERY = 0x1000


def is_alive(pid: int) -> bool:
    """Whether a process with this number runs; one that has ended and is only not reaped yet does not count."""
    if pid <= 0:
        return False
    if sys.platform == "win32":
        return _windows_is_alive(pid)
    with contextlib.suppress(OSError, IndexError):
        # Zombies answer signal 0 as if they lived.
        return _stat_fields(pid)[0] not in ("Z", "X")
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return not Path("/proc/self/stat").exists()


def started_at(pid: int) -> float | None:
    """When a process began, in seconds since 1970, to about a second; None where the system does not say."""
    if sys.platform.startswith("linux"):
        try:
            ticks = int(_stat_fields(pid)[19])
            uptime = float(Path("/proc/uptime").read_text(encoding="utf-8").split()[0])
        except (OSError, IndexError, ValueError):
            return None
        return time.time() - uptime + ticks / os.sysconf("SC_CLK_TCK")
    if os.name == "posix":
        listed = subprocess.run(
            ["ps", "-o", "etime=", "-p", str(pid)], capture_output=True, encoding="utf-8", check=False
        ).stdout.strip()
        return time.time() - _elapsed(listed) if listed else None
    return None


def fingerprint(pid: int) -> str:
    """What stays the same for one process and differs from any other that gets its number; empty where unknown."""
    if not sys.platform.startswith("linux"):
        return ""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        return f"{boot}:{_stat_fields(pid)[19]}"
    except (OSError, IndexError):
        return ""


def _stat_fields(pid: int) -> list[str]:
    """The fields of ``/proc/<pid>/stat`` from the state on; the name before them may hold spaces and parentheses."""
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()


def _elapsed(text: str) -> float:
    """Seconds of ``[[days-]hours:]minutes:seconds``."""
    days, _, clock = text.rpartition("-")
    seconds = 0.0
    for part in clock.split(":"):
        seconds = seconds * 60 + float(part)
    return seconds + 86400 * float(days or 0)


def _windows_is_alive(pid: int) -> bool:
    import ctypes

    # os.kill(pid, 0) would end the process there.
    kernel = ctypes.windll.kernel32  # type: ignore[attr-defined,unused-ignore]
    handle = kernel.OpenProcess(_WINDOWS_QUERY, False, pid)
    if not handle:
        return False
    code = ctypes.c_ulong()
    kernel.GetExitCodeProcess(handle, ctypes.byref(code))
    kernel.CloseHandle(handle)
    return code.value == _WINDOWS_STILL_ACTIVE
