"""Following a training that is its own process: found again, stopped by a file, never mistaken for a stranger."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hierseg.errors import TrainingError
from HierSubclassSegLib.compute import processes, training
from HierSubclassSegLib.compute.launch import environment, train_command
from HierSubclassSegLib.compute.training import TrainingRun, TrainingStatus

PROCESS = Path(__file__).resolve().parents[1] / "standins" / "training_process.py"


def wait_for(run: TrainingRun, condition: Callable[[TrainingStatus], bool], seconds: float = 200.0) -> TrainingStatus:
    end = time.monotonic() + seconds
    while not condition(status := run.status()):
        assert time.monotonic() < end, status
        time.sleep(0.02)
    return status


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Callable[..., TrainingRun]]:
    started: list[TrainingRun] = []

    def start(mode: str, **options: Any) -> TrainingRun:
        command = [sys.executable, str(PROCESS), mode]
        started.append(TrainingRun.start(command, tmp_path / "data", options.pop("out", tmp_path / "run"), **options))
        return started[-1]

    yield start
    for run in started:
        run.kill()


def test_runs_to_its_end_and_is_followed(begin: Callable[..., TrainingRun], tmp_path: Path) -> None:
    run = begin(
        "finishes", config="quick", method="ess", init=tmp_path / "bundle", resume=True, arguments=["--seed", "1"]
    )
    status = wait_for(run, lambda status: status.ended)
    assert (status.state, status.message, status.iteration, status.fraction) == ("finished", "Done.", 1000, 1.0)
    events, position = run.events()
    assert [event["iteration"] for event in events] == [0, 1, 2, 3, 4, 5, 1000]
    assert run.events(position) == ([], position)
    expected = f"arguments: finishes {tmp_path}/data --out {tmp_path}/run --config quick --method ess --init {tmp_path}/bundle --resume --seed 1"
    assert run.log_tail()[0] == expected


def test_is_found_again_and_stopped_by_a_file(begin: Callable[..., TrainingRun], tmp_path: Path) -> None:
    begin("runs")
    again = TrainingRun.attach(tmp_path / "run")
    wait_for(again, lambda status: status.state == "running" and status.iteration > 2)
    with pytest.raises(TrainingError, match="running in this folder"):
        begin("runs")
    again.stop()
    status = wait_for(again, lambda status: status.ended)
    assert (status.state, status.message) == ("stopped", "Stopped; the best model is kept.")


def test_a_stop_right_after_the_start_is_not_lost(begin: Callable[..., TrainingRun]) -> None:
    # The process takes the file for one that an earlier run left, and removes it when it begins.
    run = begin("slow")
    run.stop()
    assert wait_for(run, lambda status: status.ended).state == "stopped"


STARTER = """
import sys
from HierSubclassSegLib.compute.training import TrainingRun
TrainingRun.start([sys.executable, sys.argv[1], "runs"], "data", sys.argv[2])
"""


def test_outlives_the_program_that_started_it(tmp_path: Path) -> None:
    env = environment()
    env["PYTHONPATH"] += f":{PROCESS.parents[2] / 'HierSubclassSeg'}"
    out = tmp_path / "run"
    starter = subprocess.Popen([sys.executable, "-c", STARTER, str(PROCESS), str(out)], env=env, start_new_session=True)
    assert starter.wait(200) == 0
    run = TrainingRun.attach(out)
    try:
        first = wait_for(run, lambda status: status.state == "running")
        assert wait_for(run, lambda status: status.iteration > first.iteration + 2).state == "running"
    finally:
        run.stop()
    assert wait_for(run, lambda status: status.ended).state == "stopped"


def test_a_killed_run_has_failed_and_can_be_started_again(begin: Callable[..., TrainingRun]) -> None:
    run = begin("runs")
    status = wait_for(run, lambda status: status.state == "running" and status.iteration > 0)
    os.killpg(status.pid, signal.SIGKILL)
    status = wait_for(run, lambda status: status.ended)
    assert status.state == "failed"
    assert "killed, memory ran out" in status.message
    assert "resume" in status.message
    assert status.seconds_left is None
    assert wait_for(begin("finishes", resume=True), lambda status: status.ended).state == "finished"


def test_why_a_run_failed_is_read_from_its_log(begin: Callable[..., TrainingRun], tmp_path: Path) -> None:
    status = wait_for(begin("refuses", out=tmp_path / "a"), lambda status: status.ended)
    assert (status.state, status.message) == ("failed", "the dataset has no case with a label; annotate one.")
    # A line that an earlier process left unfinished is not taken for this one's, and its complaint not either.
    (tmp_path / "a" / training.LOG).write_text("hierseg: an old complaint.\n 4/2000 [00:03<35:05]", encoding="utf-8")
    status = wait_for(begin("refuses", out=tmp_path / "a"), lambda status: status.ended)
    assert status.message == "the dataset has no case with a label; annotate one."
    status = wait_for(begin("dies", out=tmp_path / "b"), lambda status: status.ended)
    assert status.state == "failed"
    assert status.log_tail[-1] == "RuntimeError: the graphics card is gone"


def test_an_old_status_is_not_taken_for_the_new_process(begin: Callable[..., TrainingRun]) -> None:
    wait_for(begin("finishes"), lambda status: status.ended)
    run = begin("silent")
    status = run.status()
    assert (status.state, status.iteration) == ("starting", 0)
    run.kill()
    assert wait_for(run, lambda status: status.ended).state == "failed"


def test_a_command_that_cannot_be_run_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="/no/python: No such file or directory; choose a Python"):
        TrainingRun.start(["/no/python"], tmp_path, tmp_path / "run")
    with pytest.raises(TrainingError, match="no training run in this folder"):
        TrainingRun.attach(tmp_path / "elsewhere")


# -- whose process is it? -------------------------------------------------------------------------------------------


@pytest.fixture
def stranger() -> Iterator[int]:
    """A process that has nothing to do with any training."""
    process = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"], start_new_session=True)
    yield process.pid
    process.kill()
    process.wait()


def write_run(folder: Path, launch: dict[str, Any] | None = None, **status: Any) -> TrainingRun:
    folder.mkdir(exist_ok=True)
    if launch is not None:
        (folder / training.LAUNCHES).write_text(json.dumps(launch) + "\n", encoding="utf-8")
    if status:
        (folder / training.STATUS).write_text(json.dumps(status), encoding="utf-8")
    return TrainingRun(folder)


def test_a_stranger_with_the_same_number_is_neither_believed_nor_ended(tmp_path: Path, stranger: int) -> None:
    old = time.time() - 3600
    launch = {"pid": stranger, "process": "another-boot:123", "host": socket.gethostname(), "time": old}
    run = write_run(tmp_path / "launched", launch, state="running", pid=stranger, updated=old)
    assert run.status().state == "failed"
    run.kill()
    run.stop()
    assert run.status().state == "failed"
    assert processes.is_alive(stranger)
    # Started in a terminal: there is only the status, and the stranger began after its last heartbeat.
    run = write_run(tmp_path / "attached", state="running", pid=stranger, updated=old)
    assert run.status().state == "failed"
    with pytest.raises(TrainingError, match="not known which process"):
        run.kill()
    assert processes.is_alive(stranger)


def test_a_run_from_a_terminal_is_alive_while_its_process_is(
    tmp_path: Path, stranger: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = write_run(tmp_path / "run", state="running", pid=stranger, updated=time.time())
    assert (run.status().state, run.status().stalled) == ("running", False)
    # It is there, but has not written for longer than is usual: said, not ended.
    monkeypatch.setattr(training, "STALLED_SECONDS", 0.0)
    assert (run.status().state, run.status().stalled) == ("running", True)


def test_a_run_on_another_machine_lives_by_its_heartbeat(tmp_path: Path) -> None:
    launch = {"pid": 2**22 - 1, "process": "", "host": "elsewhere", "time": time.time() - 100}
    run = write_run(tmp_path / "run", launch, state="running", pid=2**22 - 1, updated=time.time())
    assert run.status().state == "running"
    run = write_run(tmp_path / "run", launch, state="running", pid=2**22 - 1, updated=time.time() - 15)
    assert run.status().state == "failed"


def test_a_zombie_counts_as_ended() -> None:
    process = subprocess.Popen([sys.executable, "-S", "-c", ""])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    os.kill(process.pid, 0)
    assert not processes.is_alive(process.pid)
    process.wait()


def test_when_a_process_began() -> None:
    before = time.time()
    process = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE)
    began = processes.started_at(process.pid)
    assert began is not None
    assert before - 2 < began < time.time() + 2
    assert processes.fingerprint(process.pid) not in ("", processes.fingerprint(os.getpid()))
    process.communicate(b"\n")
    assert processes.started_at(process.pid) is None
    assert processes._elapsed("1-02:03:04") == 93784.0


# -- files that are missing, partial or odd ---------------------------------------------------------------------------

odd = (
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.floats()
    | st.text(max_size=5)
    | st.lists(st.integers(), max_size=2)
)
keys = st.sampled_from(
    ["state", "iteration", "iterations", "seconds_left", "message", "pid", "updated", "best", "stage"]
)


@given(
    st.dictionaries(keys, odd),
    st.dictionaries(st.sampled_from(["pid", "process", "host", "time"]), odd),
    st.integers(0, 80),
)
def test_status_never_raises(tmp_path_factory: pytest.TempPathFactory, status: Any, launch: Any, cut: int) -> None:
    folder = tmp_path_factory.mktemp("run")
    (folder / training.STATUS).write_text(json.dumps(status)[: cut if cut < 40 else None], encoding="utf-8")
    (folder / training.LAUNCHES).write_text(json.dumps(launch)[: cut if cut > 40 else None], encoding="utf-8")
    told = TrainingRun(folder).status()
    assert isinstance(told.state, str)
    assert 0.0 <= told.fraction <= 1.0


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"state": null}'])
def test_a_status_that_cannot_be_read_is_not_the_end(tmp_path: Path, content: bytes, stranger: int) -> None:
    launch = {
        "pid": stranger,
        "process": processes.fingerprint(stranger),
        "host": socket.gethostname(),
        "time": time.time(),
    }
    run = write_run(tmp_path, launch)
    (tmp_path / training.STATUS).write_bytes(content)
    assert run.status().state == "starting"


def test_events_come_whole_and_once(tmp_path: Path) -> None:
    run = TrainingRun(tmp_path)
    path = tmp_path / training.EVENTS
    assert run.events() == ([], 0)
    stream = b'{"n": 1}\n{"n": "\xc3\xa9"}\nnot json\n[3]\n{"n": 2}\n{"n": 3'
    seen, position = [], 0
    for end in range(1, len(stream) + 1):
        path.write_bytes(stream[:end])
        events, position = run.events(position)
        seen += events
    assert seen == [{"n": 1}, {"n": "é"}, {"n": 2}]
    path.write_bytes(b'{"n": 9}\n')
    assert run.events(position)[0] == [{"n": 9}], "a shorter file is a new one"


# -- the real thing -------------------------------------------------------------------------------------------------


def test_a_real_training_is_followed_and_stopped(tmp_path: Path) -> None:
    from engine import blobs

    blobs.make(tmp_path / "data")
    settings = tmp_path / "tiny.yaml"
    settings.write_text(json.dumps({**blobs.TINY, "iterations": 2000}), encoding="utf-8")
    run = TrainingRun.start(train_command(), tmp_path / "data", tmp_path / "run", config=settings)
    try:
        wait_for(run, lambda status: status.ended or status.iteration >= 3, seconds=200)
        run.stop()
        status = wait_for(run, lambda status: status.ended, seconds=200)
    finally:
        run.kill()
    assert status.state == "stopped", run.log_tail()
    assert 3 <= status.iteration < 2000
    assert run.bundle is not None
    events, _ = run.events()
    schemas = Path(__file__).resolve().parents[2] / "docs" / "schemas"
    for event in events:
        jsonschema.validate(event, json.loads((schemas / "training_event.schema.json").read_text(encoding="utf-8")))
    written = json.loads((tmp_path / "run" / "status.json").read_text(encoding="utf-8"))
    jsonschema.validate(written, json.loads((schemas / "training_status.schema.json").read_text(encoding="utf-8")))
    assert {"start", "losses", "validation", "stopped"} <= {event["event"] for event in events}

    again = TrainingRun.start(train_command(), tmp_path / "nowhere", tmp_path / "run", resume=True)
    status = wait_for(again, lambda status: status.ended, seconds=200)
    assert status.state == "failed"
    assert "nowhere" in status.message
    assert "Traceback" not in status.message
