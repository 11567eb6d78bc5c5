"""How much memory is free, as far as the system says so."""

from __future__ import annotations

from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
# An unlimited group of the first version says the largest number of pages.
_UNLIMITED = 1 << 60


def free_memory() -> int | None:
    """Bytes of the computer's memory that this process may still take; None where that cannot be known.

    On Linux what the system can give without swapping, and no more than a container's limit leaves.
    """
    found = [free for free in (_available(), _left_in_container()) if free is not None]
    return min(found, default=None)


def _available() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError):
        return None


def _left_in_container() -> int | None:
    """What the process's control groups, and those above them, leave."""
    try:
        groups = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()]
    except OSError:
        return None
    found = []
    for _, controllers, name in (group for group in groups if len(group) == 3):
        if controllers == "":
            root, limit, usage, cache = _CGROUPS, "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            root, limit, usage, cache = (
                _CGROUPS / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file",
            )  # fmt: skip
        else:
            continue
        folder = root / name.lstrip("/")
        # Inside a container the name may be one that only the computer outside knows: the root is the container's then.
        folders = [folder, *folder.parents] if folder.is_dir() else [root]
        for place in folders:
            if place == root or root in place.parents:
                left = _left(place, limit, usage, cache)
                found += [] if left is None else [left]
    return min(found, default=None)


def _left(folder: Path, limit: str, usage: str, cache: str) -> int | None:
    try:
        most, used = (folder / limit).read_text(encoding="ascii").strip(), int((folder / usage).read_text("ascii"))
        lines = (folder / "memory.stat").read_text(encoding="ascii").splitlines()
        # Pages of files count as used and are given back on demand.
        reusable = next((int(line.split()[1]) for line in lines if line.split()[0] == cache), 0)
        return None if most == "max" or int(most) > _UNLIMITED else max(0, int(most) - used + reusable)
    except (OSError, ValueError, IndexError):
        return None
