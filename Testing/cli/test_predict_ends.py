"""However ``hierseg predict`` ends, it leaves no half-written file: Ctrl-C, SIGTERM, and after a SIGKILL at the next start."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from hierseg.atomic import clear_unfinished, replacing
from hierseg.cli import main
from hierseg.imageio import write_volume
from standins.tiny_bundle import write_tiny_bundle

pytestmark = [
    pytest.mark.may_skip("Windows has neither these signals nor these locks"),
    pytest.mark.skipif(sys.platform == "win32", reason="signals and locks"),
]

# Writing takes for ever, after some bytes.
SLOW = """
import signal, sys, time, nibabel
# What a shell starts in the background has Ctrl-C turned off, and so have its children: this one hears it.
signal.signal(signal.SIGINT, signal.default_int_handler)
def save(image, path):
    with open(path, "wb") as file:
        file.write(b"half a file")
        file.flush()
        time.sleep(120)
nibabel.save = save
from hierseg.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    write_tiny_bundle(tmp_path / "tiny")
    noise = np.random.default_rng(0).normal(size=(12, 10, 8)).astype(np.float32)
    write_volume(tmp_path / "scan.nii.gz", noise, np.eye(4))
    return ["predict", str(tmp_path / "tiny"), str(tmp_path / "scan.nii.gz"), "--out", str(tmp_path / "out")]


def half_way(arguments: list[str], out: Path) -> subprocess.Popen[str]:
    """A prediction that has begun to write."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, *arguments], stderr=subprocess.PIPE, encoding="utf-8", env=environment
    )
    end = time.monotonic() + 200
    while not any(file.stat().st_size for file in out.glob(".tmp-*")):
        assert time.monotonic() < end
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_nothing(arguments: list[str], tmp_path: Path, number: signal.Signals) -> None:
    with half_way(arguments, tmp_path / "out") as process:
        process.send_signal(number)
        _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in told
    assert list((tmp_path / "out").iterdir()) == []


def test_what_a_killed_prediction_left_goes_at_the_next_start(arguments: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    with half_way(arguments, out) as process:
        left = list(out.iterdir())
        for file in left:
            os.utime(file, (1, 1))
        assert clear_unfinished(out, "_labels.nii.gz") == [], "its writer lives"
        process.kill()
    assert left
    others = [out / ".tmp-notes", out / ".tmp-abcdefgh-mine_labels.txt", out / ".tmp-abcdefgh-young.json"]
    for other in others:
        other.write_text("not ours", encoding="utf-8")
    for file in [*left, *others[:2]]:
        os.utime(file, (1, 1))
    assert main(arguments) == 0
    names = {file.name for file in out.iterdir()}
    assert names == {"scan_labels.nii.gz", "scan_superclass.nii.gz", "scan.json", *(other.name for other in others)}


def test_a_file_that_is_being_written_stays(tmp_path: Path) -> None:
    with replacing(tmp_path / "a.json") as temporary:
        os.utime(temporary, (1, 1))
        assert clear_unfinished(tmp_path, ".json") == []
        temporary.write_text("{}", encoding="utf-8")
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]
