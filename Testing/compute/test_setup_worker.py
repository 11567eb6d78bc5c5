"""A worker of the user's choice: what a typed line means, and what the test says of workers that do not answer."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from hierseg.errors import ConfigError
from HierSubclassSegLib.compute import processes
from HierSubclassSegLib.compute.launch import environment, worker_command
from HierSubclassSegLib.compute.setup_worker import TrialOutcome, WorkerTrial, parse_worker, try_worker
from HierSubclassSegLib.compute.transport import SubprocessTransport


def test_what_a_typed_line_means(tmp_path: Path) -> None:
    assert parse_worker(sys.executable) == worker_command(sys.executable)
    inner = tmp_path / "my env/bin/python"
    inner.parent.mkdir(parents=True)
    inner.touch()
    assert parse_worker(f"  {tmp_path / 'my env'} ") == worker_command(inner)
    assert parse_worker("ssh -p 22 gpu hierseg worker")[-5:] == ["-p", "22", "gpu", "hierseg", "worker"]
    assert "BatchMode=yes" in parse_worker("ssh gpu hierseg worker")
    assert parse_worker("ssh -o BatchMode=no gpu hierseg worker").count("-o") == 1
    assert parse_worker("hierseg worker") == ["hierseg", "worker"]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "no worker is given"),
        ("ssh gpu", "hierseg worker"),
        ("ssh 'gpu hierseg worker", "quotation"),
        (os.path.join(os.sep, "no", "such", "python"), "does not exist"),
    ],
)
def test_a_line_that_means_nothing_is_one_sentence(text: str, word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        parse_worker(text)


def test_a_folder_without_python_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no Python"):
        parse_worker(str(tmp_path))


@pytest.mark.slow
def test_the_real_worker_answers() -> None:
    outcome = try_worker(worker_command())
    assert outcome.ok, (outcome.sentence, outcome.detail)
    assert "torch" in outcome.sentence
    assert outcome.worker["pid"]
    deadline = time.monotonic() + 10
    while processes.is_alive(outcome.worker["pid"]) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not processes.is_alive(outcome.worker["pid"]), "the test leaves no worker behind"


@pytest.mark.parametrize(
    ("code", "word"),
    [
        ("import time; time.sleep(600)", "has not answered within 2 s"),
        ("import sys; sys.exit('/usr/bin/python3: No module named hierseg')", "has no hierseg"),
        ("import sys; sys.exit('user@gpu: Permission denied (publickey,password).')", "asks for a password"),
        ("import sys; sys.exit('the frobnicator is on fire')", "the frobnicator is on fire"),
        ("print('Welcome to the cluster!', flush=True); import time; time.sleep(600)", "cannot be read"),
    ],
    ids=["silent", "no-hierseg", "password", "dies", "chatty-login"],
)
def test_a_worker_that_does_not_answer_is_one_sentence(code: str, word: str) -> None:
    began = time.monotonic()
    outcome = try_worker([sys.executable, "-c", code], seconds=2.0 if "600" in code and "print" not in code else 60.0)
    assert not outcome.ok
    assert word in outcome.sentence
    assert outcome.worker == {}
    assert time.monotonic() - began < 60


def test_a_worker_with_a_broken_torch_says_so(tmp_path: Path) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch/__init__.py").write_text("raise ImportError('libcudart is missing')\n", encoding="utf-8")
    outcome = try_worker(worker_command(), {**os.environ, "PYTHONPATH": str(tmp_path)})
    assert not outcome.ok
    assert "libcudart is missing" in outcome.sentence


def test_a_command_that_is_not_there_is_one_sentence() -> None:
    outcome = try_worker(["no-such-program", "hierseg", "worker"])
    assert not outcome.ok
    assert "no-such-program" in outcome.sentence


def test_a_canceled_test_says_nothing_more() -> None:
    heard: list[TrialOutcome] = []
    transport = SubprocessTransport([sys.executable, "-c", "import time; time.sleep(600)"], environment())
    trial = WorkerTrial(transport, heard.append, seconds=60.0)
    trial.poll()
    trial.cancel()
    deadline = time.monotonic() + 10
    while not trial.finished and time.monotonic() < deadline:
        transport.wait(0.05)
        trial.poll()
    assert trial.finished
    assert heard == []
