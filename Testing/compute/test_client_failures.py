"""What happens when the worker, or the client, misbehaves or is another one; ``odd_worker`` plays those parts."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hierseg.bundle import Bundle
from hierseg.errors import WorkerError
from hierseg.worker.protocol import PROTOCOL_VERSION
from HierSubclassSegLib.compute.client import WorkerClient
from HierSubclassSegLib.compute.jobs import Job, JobState, RemoteError
from HierSubclassSegLib.compute.launch import environment
from HierSubclassSegLib.compute.transport import SubprocessTransport
from standins.tiny_bundle import tiny_image
from standins.waiting import END_LIMIT, is_running, run_until

ROOT = Path(__file__).resolve().parents[2]


# -- another machine ------------------------------------------------------------------------------------------------


def test_works_through_another_command_line_without_a_shared_disk(
    connect: Callable[..., WorkerClient], tiny_bundle: Bundle, tmp_path: Path
) -> None:
    """What ssh does: a shell, another working folder, another home, nothing of this side's files."""
    away = tmp_path / "away"
    away.mkdir()
    script = tmp_path / "host.sh"
    script.write_text(
        f'cd "{away}" && export HOME="{away}" HIERSEG_HOME="{away}/hierseg" TMPDIR="{away}" '
        f'PYTHONPATH="{ROOT / "training"}" && "{sys.executable}" -m hierseg worker\n',
        encoding="utf-8",
    )
    client = connect(command=["sh", "-c", f"sh {script}"])
    array, affine = tiny_image(16, seed=9)
    result = client.predict([(array, affine)], tiny_bundle, timeout=200)
    assert result.labels.shape == array.shape
    received = list(away.glob("hierseg-worker-*/bundles/*/*/configs/hierseg.json"))
    assert len(received) == 1, "the model was sent"
    assert client.put(tiny_bundle) == tiny_bundle.digest
    worker = int(client.worker["pid"])
    client.close()
    assert not is_running(worker)
    assert not list(away.glob("hierseg-worker-*"))


def test_a_login_script_that_prints_is_named_as_the_cause(connect: Callable[..., WorkerClient]) -> None:
    client = connect(command=["sh", "-c", f"echo Welcome to host; exec {sys.executable} -m hierseg worker"])
    with pytest.raises(RemoteError, match="login scripts must not print") as caught:
        client.hello(timeout=200)
    assert "Welcome" in caught.value.sentence


def test_another_version_on_the_other_side_is_refused(
    connect: Callable[..., WorkerClient], tiny_bundle: Bundle
) -> None:
    client = connect("noisy", env={"ODD_PROTOCOL": "7"})
    said = f"the worker speaks version 7 of the protocol and this program version {PROTOCOL_VERSION}"
    with pytest.raises(RemoteError, match=said):
        client.predict([tiny_image()], tiny_bundle, timeout=200)


# -- a cancel that is ignored ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["stuck", "holds_the_interpreter"])
def test_a_worker_that_ignores_a_cancel_is_ended_with_its_children(
    connect: Callable[..., WorkerClient], mode: str
) -> None:
    client = connect(mode)
    job = client.start_predict([tiny_image()], "any")
    run_until(client, lambda: job.progress is not None and job.progress.stage != "send")
    began = time.monotonic()
    client.cancel(job)
    assert job.state is JobState.CANCELING
    run_until(client, lambda: job.finished and not client.alive)
    took = time.monotonic() - began
    print(f"{mode}: ended within {took:.2f} s of the cancel")
    assert took < END_LIMIT
    assert job.state is JobState.CANCELED
    if mode == "stuck":
        assert not is_running(int(job.progress.stage.split()[1]))


# -- the worker fails -----------------------------------------------------------------------------------------------


def test_the_last_words_of_a_crash_are_kept(connect: Callable[..., WorkerClient]) -> None:
    lines: list[str] = []
    client = connect("dies", on_log=lines.append)
    with pytest.raises(RemoteError) as caught:
        client.predict([tiny_image()], "any", timeout=200)
    assert "SIGABRT" in caught.value.sentence
    assert "std::bad_alloc" in caught.value.hint
    assert any("std::bad_alloc" in line for line in lines)


def test_garbage_from_a_worker_ends_it_and_the_job(connect: Callable[..., WorkerClient]) -> None:
    client = connect("garbage")
    with pytest.raises(RemoteError) as caught:
        client.predict([tiny_image()], "any", timeout=200)
    assert caught.value.kind == "Protocol"
    assert "Segmentation finished" in caught.value.sentence
    run_until(client, lambda: not client.alive)


def test_a_stream_that_ends_inside_a_message_fails_the_job(connect: Callable[..., WorkerClient]) -> None:
    # A worker that greets and then dies inside an answer that announces more than it sends.
    script = (
        "import os, struct, sys\nfrom hierseg.worker.protocol import *\n"
        "os.write(1, encode(Message('hello', 1, {'protocol': PROTOCOL_VERSION})))\n"
        "os.write(1, encode(Message('have', 2, {'hashes': []}, {'a': __import__('numpy').zeros(1000)}))[:500])\n"
    )
    client = connect(command=[sys.executable, "-c", script])
    job = client.start_put(np.zeros(3))
    run_until(client, lambda: job.finished)
    assert job.error.kind == "WorkerDied"
    assert "exit code 0" in job.error.sentence


def test_a_flood_of_stderr_does_not_block_anyone(connect: Callable[..., WorkerClient]) -> None:
    script = (
        "import sys\nfor n in range(100_000): sys.stderr.write(f'warning {n}: something is deprecated' + chr(10))\n"
        "sys.stderr.write('x' * 5_000_000)\nsys.exit(3)\n"
    )
    client = connect(command=[sys.executable, "-c", script])
    with pytest.raises(RemoteError, match="exit code 3"):
        client.hello(timeout=200)
    assert len(client.stderr_tail) <= 201
    assert max(len(line) for line in client.stderr_tail) <= 4096


def test_a_missing_interpreter_is_a_sentence() -> None:
    with pytest.raises(WorkerError, match=r"/no/such/python: No such file or directory; choose a Python"):
        WorkerClient(SubprocessTransport(["/no/such/python", "-m", "hierseg", "worker"]))


def test_an_interpreter_without_hierseg_shows_why(connect: Callable[..., WorkerClient]) -> None:
    client = connect(command=[sys.executable, "-S", "-E", "-c", "import hierseg"])
    with pytest.raises(RemoteError) as caught:
        client.hello(timeout=200)
    assert "No module named 'hierseg'" in caught.value.hint


def test_a_stall_is_reported_and_nothing_is_killed(connect: Callable[..., WorkerClient]) -> None:
    stalls: list[tuple[Job, float, bool]] = []
    client = connect("stuck", on_stall=lambda *said: stalls.append(said), stall_after=1.0)
    job = client.start_predict([tiny_image()], "any")
    run_until(client, lambda: job.progress is not None and job.progress.stage.startswith("child"))
    stalls.clear()  # a slow start may have been one
    run_until(client, lambda: bool(stalls))
    end = time.monotonic() + 1.5
    run_until(client, lambda: time.monotonic() > end)
    assert [stall[0] for stall in stalls] == [job], "said once a stall"
    assert stalls[0][1] > 1.0
    assert client.alive
    assert not job.finished


def test_content_that_made_way_is_sent_again(connect: Callable[..., WorkerClient]) -> None:
    client = connect("forgetful")
    array, affine = tiny_image()
    np.testing.assert_array_equal(client.predict([(array, affine)], "any", timeout=200).labels, array)


# -- the client fails -----------------------------------------------------------------------------------------------

CLIENT = """
import sys, time
from standins.tiny_bundle import tiny_image
from HierSubclassSegLib.compute.client import WorkerClient
from HierSubclassSegLib.compute.launch import environment
from HierSubclassSegLib.compute.transport import SubprocessTransport
client = WorkerClient(SubprocessTransport([sys.executable, sys.argv[1], "stuck"], environment()))
job = client.start_predict([tiny_image()], "any")
while job.progress is None or not job.progress.stage.startswith("child"):
    client.poll()
    time.sleep(0.01)
print(client.worker["pid"], job.progress.stage.split()[1], flush=True)
time.sleep(600)
"""


def test_the_worker_and_its_children_go_when_the_client_is_killed() -> None:
    env = environment()
    env["PYTHONPATH"] += f":{ROOT / 'HierSubclassSeg'}:{ROOT / 'Testing'}"
    application = subprocess.Popen(
        [sys.executable, "-c", CLIENT, str(ROOT / "Testing" / "standins" / "odd_worker.py")],
        stdout=subprocess.PIPE,
        env=env,
        encoding="utf-8",
    )
    try:
        assert application.stdout is not None
        processes = [int(number) for number in application.stdout.readline().split()]
        assert len(processes) == 2
        assert all(is_running(pid) for pid in processes)
    finally:
        application.kill()
        application.wait()
        application.stdout.close()  # type: ignore[union-attr]
    began = time.monotonic()
    while any(is_running(pid) for pid in processes) and time.monotonic() - began < END_LIMIT:
        time.sleep(0.02)
    print(f"client killed: the stuck worker is gone after {time.monotonic() - began:.2f} s")
    assert not any(is_running(pid) for pid in processes)


def test_closing_ends_even_a_stuck_worker(connect: Callable[..., WorkerClient]) -> None:
    client = connect("stuck")
    job = client.start_predict([tiny_image()], "any")
    run_until(client, lambda: job.progress is not None and job.progress.stage.startswith("child"))
    began = time.monotonic()
    client.close()
    took = time.monotonic() - began
    print(f"stuck: closed within {took:.2f} s")
    assert took < END_LIMIT
    assert not client.alive
    assert job.finished


def test_a_callback_that_fails_breaks_nothing(
    connect: Callable[..., WorkerClient], caplog: pytest.LogCaptureFixture
) -> None:
    client = connect("forgetful")

    def fails(_: Any) -> None:
        raise ValueError("in the panel")

    job = client.start_predict([tiny_image()], "any", on_progress=fails, on_result=fails)
    run_until(client, lambda: job.finished)
    assert job.state is JobState.DONE
    assert "in the panel" in caplog.text
    assert client.wait(client.start_predict([tiny_image()], "any"), 200).labels.shape == (16, 16, 16)


def test_an_answer_that_cannot_be_sent_is_an_error_not_silence(connect: Callable[..., WorkerClient]) -> None:
    with pytest.raises(RemoteError, match="answer of the worker cannot be sent"):
        connect("not_json").predict([tiny_image()], "any", timeout=200)
