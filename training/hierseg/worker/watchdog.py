"""Ending the worker, whatever it is doing, once nobody listens.

Two layers.  A thread notices that stdin has ended, lets the running job stop at its next look at the cancel flag and
then ends the process, with its children, within :data:`GRACE` seconds.  Where the system has ``poll`` a small guard
process watches the same pipe from outside, for the one case that a thread cannot handle: code that never returns to
the interpreter, or a worker that is stopped.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

GRACE = 2.0
"""Seconds from the end of stdin until the process is ended by force; the contract is 3."""

# The guard: a fresh interpreter that imports nothing else.  Descriptor 0 is the worker's input, of which it reads
# nothing; descriptor 3... is a pipe whose other end only the worker holds, so that its end means the worker's end.
# Whatever ended the worker, its folder goes with it.
_GUARD = """
import os, select, sys, time, signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
worker, alive, grace, folder = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
def leave():
    if folder and os.path.isdir(folder):
        import shutil
        shutil.rmtree(folder, ignore_errors=True)
    sys.exit(0)
poll = select.poll()
poll.register(0, 0)
poll.register(alive, select.POLLIN)
while True:
    events = dict(poll.poll())
    if alive in events:
        leave()
    if events.get(0, 0) & (select.POLLHUP | select.POLLERR | select.POLLNVAL):
        break
gone = select.poll()
gone.register(alive, select.POLLIN)
if gone.poll(int(grace * 1000)):
    leave()
sys.stderr.write("hierseg worker: did not end by itself; ended by its guard\\n")
for child in map(int, os.popen("ps -o pid= --ppid %d 2>/dev/null || pgrep -P %d" % (worker, worker)).read().split()):
    if child != os.getpid():
        try:
            os.kill(child, signal.SIGKILL)
        except OSError:
            pass
os.kill(worker, signal.SIGKILL)
gone.poll(1000)
leave()
"""


def start_guard(incoming: int, grace: float = GRACE + 0.5, folder: str | Path = "") -> bool:
    """Start the guard process; False where the system offers no ``poll`` on pipes (Windows).

    Args:
        incoming: the descriptor of the worker's input.
        grace: seconds from the input's end until the worker is ended.
        folder: removed when the worker has ended, however it did.
    """
    import select

    if not hasattr(select, "poll") or os.name != "posix":
        return False
    reading, writing = os.pipe()
    # The writing end stays open, and out of every child, for as long as this process lives.
    os.set_inheritable(writing, False)
    try:
        subprocess.Popen(
            [sys.executable, "-S", "-E", "-c", _GUARD, str(os.getpid()), str(reading), str(grace), str(folder)],
            stdin=incoming,
            stdout=subprocess.DEVNULL,
            pass_fds=[reading],
            # Whoever ends the worker's whole group leaves the one that clears up after it.
            start_new_session=True,
        )
    except OSError:
        return False
    finally:
        os.close(reading)
    return True


def end_process(code: int) -> None:
    """End this process now, with every child it has; never returns."""
    for child in reversed(descendants(os.getpid())):
        with contextlib.suppress(OSError):
            os.kill(child, signal.SIGKILL if os.name == "posix" else signal.SIGTERM)
    os._exit(code)


def end_soon(code: int, grace: float = GRACE) -> None:
    """Start a thread that ends the process after ``grace`` seconds unless it has ended by itself."""
    timer = threading.Timer(grace, end_process, [code])
    timer.daemon = True
    timer.start()


def descendants(root: int) -> list[int]:
    """Process numbers of the children of ``root`` and of theirs, parents first; by parenthood, never by name."""
    children: dict[int, list[int]] = {}
    for child, parent in _process_table():
        children.setdefault(parent, []).append(child)
    found: list[int] = []
    front = [root]
    while front:
        front = [child for parent in front for child in children.get(parent, [])]
        found.extend(front)
    return found


def _process_table() -> list[tuple[int, int]]:
    """(process, parent) of every process that can be seen; empty where the system has no means for it."""
    proc = Path("/proc/self/stat")
    if proc.exists():
        table = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError, IndexError, ValueError):
                    # The name in parentheses may hold spaces; what follows the last ")" is state, parent, ...
                    table.append(
                        (
                            int(entry.name),
                            int((entry / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1]),
                        )
                    )
        return table
    if os.name != "posix":
        return []
    listing = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid="], capture_output=True, encoding="utf-8", check=False
    ).stdout
    rows = [line.split() for line in listing.splitlines()]
    return [(int(row[0]), int(row[1])) for row in rows if len(row) == 2]
