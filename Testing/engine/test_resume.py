"""A run that was cut off goes on as if nothing had happened, bit for bit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.blobs import TINY
from hierseg.dataset import Dataset
from hierseg.engine import train
from hierseg.engine.checkpoints import load_checkpoint
from hierseg.errors import TrainingError

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2] / "training")}


def stop_after(out: Path, iteration: int) -> Any:
    """A progress callback that asks the run to stop at an iteration."""

    def callback(status: dict[str, Any]) -> None:
        if status["iteration"] == iteration:
            (out / "stop").touch()

    return callback


def assert_same(one: Path, other: Path) -> None:
    first, second = load_checkpoint(one / "last.pt"), load_checkpoint(other / "last.pt")
    assert first["iteration"] == second["iteration"]
    for part in ("model", "average"):
        if first[part] is None:
            continue
        for name, tensor in first[part].items():
            assert torch.equal(tensor, second[part][name]), f"{part} {name}"
    momenta = [state["momentum_buffer"] for state in first["optimizer"]["state"].values()]
    others = [state["momentum_buffer"] for state in second["optimizer"]["state"].values()]
    assert momenta
    assert all(torch.equal(a, b) for a, b in zip(momenta, others, strict=True))
    assert first["best"] == second["best"]
    assert first["best_score"] == second["best_score"]


@pytest.mark.parametrize(
    "settings", [{"ema": 0.9}, {"method": "two_head", "num_workers": 2}], ids=["ess-ema", "workers"]
)
def test_six_iterations_equal_three_and_three(blobs: Dataset, tmp_path: Path, settings: dict[str, Any]) -> None:
    config = {**TINY, **settings}
    train(blobs, tmp_path / "whole", {**config, "num_workers": 0}, threads=1, device="cpu")
    halves = tmp_path / "halves"
    first = train(blobs, halves, config, progress=stop_after(halves, 3), threads=1, device="cpu")
    assert (first.state, first.iterations) == ("stopped", 3)
    torch.manual_seed(99)  # what was drawn in between must not matter
    second = train(blobs, halves, config, resume=True, threads=1, device="cpu")
    assert (second.state, second.iterations) == ("finished", 6)
    assert_same(tmp_path / "whole", halves)


KILLED = """
import json, os, signal, sys
from hierseg.engine import train

def die(status):
    if status["iteration"] == 5:
        os.kill(os.getpid(), signal.SIGKILL)

data, out, settings = sys.argv[1:]
train(data, out, json.loads(settings), progress=die, threads=1, device="cpu")
"""


def test_a_killed_training_goes_on_from_the_last_checkpoint(blobs: Dataset, tmp_path: Path) -> None:
    out, whole = tmp_path / "killed", tmp_path / "whole"
    settings = {**TINY, "iterations": 12, "validation": {"fraction": 0}, "checkpoint_interval": 2}
    command = [sys.executable, "-c", KILLED, str(blobs.folder), str(out), json.dumps(settings)]
    killed = subprocess.run(command, env=ENVIRONMENT, check=False, timeout=200)
    assert killed.returncode == -signal.SIGKILL
    assert json.loads((out / "status.json").read_text(encoding="utf-8"))["state"] == "running"
    assert load_checkpoint(out / "last.pt")["iteration"] == 4
    (out / ".tmp-1234-last.pt").write_bytes(b"half a checkpoint")
    # Its status still says "running", but its process is gone, so that the folder can be taken over.
    train(blobs, out, resume=True, threads=1, device="cpu")
    train(blobs, whole, settings, threads=1, device="cpu")
    assert_same(whole, out)
    assert not list(out.glob(".tmp-*"))


def _iteration(out: Path) -> int:
    try:
        events = (out / "events.jsonl").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return 0
    return max((json.loads(line).get("iteration", 0) for line in events), default=0)


def test_ctrl_c_saves_a_checkpoint_and_exits_with_130(blobs: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = [
        sys.executable,
        "-m",
        "hierseg.cli",
        "train",
        str(blobs.folder),
        "--out",
        str(out),
        "--device",
        "cpu",
        "--threads",
        "1",
    ]
    for pair in (
        "iterations=5000",
        "patch_size=[32,16,16]",
        "width=4",
        "batch_size=2",
        "log_interval=1",
        "checkpoint_interval=5000",
    ):
        command += ["--set", pair]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, encoding="utf-8", env=ENVIRONMENT)
    try:
        deadline = time.monotonic() + 200
        while _iteration(out) < 3:
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=200)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert "Traceback" not in said
    assert load_checkpoint(out / "last.pt")["iteration"] >= 3
    status = json.loads((out / "status.json").read_text(encoding="utf-8"))
    assert status["state"] == "stopped"
    assert "--resume" in status["message"]


def test_another_tree_cannot_be_resumed(blobs: Dataset, tmp_path: Path) -> None:
    train(blobs, tmp_path / "run", {**TINY, "iterations": 1}, threads=1, device="cpu")
    content = blobs.tree.to_dict()
    content["nodes"].append({"name": "necrosis", "parent": "tumor", "value": 3})
    blobs.set_tree(type(blobs.tree).from_dict(content))
    with pytest.raises(TrainingError, match="another label tree"):
        train(blobs, tmp_path / "run", resume=True, threads=1, device="cpu")


def test_a_damaged_checkpoint_is_told(blobs: Dataset, tmp_path: Path) -> None:
    train(blobs, tmp_path / "run", {**TINY, "iterations": 1}, threads=1, device="cpu")
    (tmp_path / "run" / "last.pt").write_bytes((tmp_path / "run" / "last.pt").read_bytes()[:1000])
    with pytest.raises(TrainingError, match=r"last\.pt.*cannot be read"):
        train(blobs, tmp_path / "run", resume=True, threads=1, device="cpu")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to catch")
def test_a_training_ended_before_its_first_iteration_says_so(blobs: Dataset, tmp_path: Path) -> None:
    def end(status: dict[str, Any]) -> None:
        if status["state"] == "starting":
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        train(blobs, tmp_path / "run", TINY, progress=end, threads=1, device="cpu")
    status = json.loads((tmp_path / "run" / "status.json").read_text(encoding="utf-8"))
    assert status["state"] == "stopped"
    assert "start the training again" in status["message"]
    assert signal.getsignal(signal.SIGTERM) == before
