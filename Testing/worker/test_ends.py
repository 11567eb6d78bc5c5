"""How a worker ends: with its stdin within 3 s, whatever it is doing, and without leaving a process or a file.

Machines that run tests are loaded, so much more than 3 s is allowed here, and what was measured is printed.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hierseg.worker import watchdog
from standins.waiting import END_LIMIT, is_running


def holding_a_file(start: Callable[..., Any], folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, int]:
    """A worker that keeps a file that it was sent in a folder of its own, below the given one; and its process id."""
    monkeypatch.setenv("TMPDIR", str(folder))
    peer = start("unexpected")
    pid = peer.greet().get("pid")
    content = b"some file"
    data = np.frombuffer(content, dtype=np.uint8)
    peer.send("put", 2, {"data": data}, hash=hashlib.sha256(content).hexdigest(), kind="file", name="image.nii.gz")
    assert peer.expect("have", "error").type == "have"
    assert list(folder.glob("hierseg-worker-*/files/*/image.nii.gz"))
    return peer, pid


def test_idle_worker_ends_with_its_stdin(start: Callable[..., Any]) -> None:
    peer = start("unexpected")
    peer.greet()
    peer.process.stdin.close()
    took = peer.seconds_to_end()
    print(f"idle: gone after {took:.2f} s")
    assert took < END_LIMIT
    assert peer.process.returncode == 0


@pytest.mark.parametrize("mode", ["stuck", "holds_the_interpreter"])
def test_ends_with_its_stdin_although_it_is_stuck(start: Callable[..., Any], mode: str) -> None:
    peer = start(mode)
    peer.greet()
    peer.send("predict", 2)
    stage = peer.expect("progress").get("stage")
    time.sleep(1.3)  # until it is in the C code
    peer.process.stdin.close()
    took = peer.seconds_to_end()
    print(f"{mode}: gone after {took:.2f} s")
    assert took < END_LIMIT
    if mode == "stuck":
        assert not is_running(int(stage.split()[1])), "its child lives on"


def test_ends_although_it_is_stopped(start: Callable[..., Any]) -> None:
    peer = start("stuck")
    peer.greet()
    os.kill(peer.process.pid, signal.SIGSTOP)
    peer.process.stdin.close()
    took = peer.seconds_to_end()
    print(f"stopped: gone after {took:.2f} s")
    assert took < END_LIMIT


def test_leaves_no_process_and_no_file_behind(
    start: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer, pid = holding_a_file(start, tmp_path, monkeypatch)
    below = watchdog.descendants(pid)
    assert below, "the guard runs beside it"
    peer.process.stdin.close()
    assert peer.seconds_to_end() < END_LIMIT
    end = time.monotonic() + END_LIMIT
    while any(is_running(child) for child in below) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(is_running(child) for child in below)
    assert not list(tmp_path.glob("hierseg-worker-*"))


@pytest.mark.parametrize("whole_group", [False, True])
def test_a_killed_worker_leaves_no_file_behind(
    start: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole_group: bool
) -> None:
    _peer, pid = holding_a_file(start, tmp_path, monkeypatch)
    if whole_group:
        for child in watchdog.descendants(pid):
            if os.getpgid(child) == os.getpgid(pid):
                os.kill(child, signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    end = time.monotonic() + END_LIMIT
    while list(tmp_path.glob("hierseg-worker-*")):
        assert time.monotonic() < end, "its folder is still there"
        time.sleep(0.05)


def test_a_termination_signal_ends_it_cleanly(start: Callable[..., Any]) -> None:
    peer = start("unexpected")
    peer.greet()
    peer.process.terminate()
    assert peer.seconds_to_end() < END_LIMIT
    assert peer.process.returncode == 0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs a signal that goes to one thread")
def test_a_termination_signal_that_another_thread_receives_ends_it_too(start: Callable[..., Any]) -> None:
    peer = start("unexpected")
    peer.greet()
    process = peer.process.pid
    threads = sorted(int(entry.name) for entry in Path(f"/proc/{process}/task").iterdir())
    assert ctypes.CDLL(None).tgkill(process, threads[-1], signal.SIGTERM) == 0
    assert threads[-1] != process
    assert peer.seconds_to_end(20) < END_LIMIT
    assert peer.process.returncode == 0


def test_descendants_are_found_by_parenthood() -> None:
    script = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(60)']); print(1, flush=True); time.sleep(60)"
    parent = subprocess.Popen([sys.executable, "-S", "-c", script], stdout=subprocess.PIPE)
    try:
        assert parent.stdout is not None
        parent.stdout.readline()
        below = watchdog.descendants(os.getpid())
        assert below[0] == parent.pid or parent.pid in below
        assert len(watchdog.descendants(parent.pid)) == 1
        assert os.getpid() not in below
    finally:
        for pid in [*watchdog.descendants(parent.pid), parent.pid]:
            os.kill(pid, signal.SIGKILL)
        parent.wait()
        parent.stdout.close()
