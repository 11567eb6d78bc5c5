"""The worker process, spoken to by hand: what it answers and what it withstands; ``test_ends.py`` has how it ends."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hierseg.worker.crops import uncropped
from hierseg.worker.protocol import PROTOCOL_VERSION, Message, array_hash, encode
from hierseg.worker.tasks import error_fields
from inference.test_estimate import huge
from standins.tiny_bundle import TREE, tiny_image
from standins.waiting import END_LIMIT


def test_predicts_cold_then_warm_and_says_what_it_is(peer: Any, tiny_bundle: Path) -> None:
    hello = peer.greet()
    assert hello.get("protocol") == PROTOCOL_VERSION
    assert hello.get("torch")
    assert hello.get("problem") == ""
    assert hello.get("devices")[0]["name"] == "cpu"

    results = []
    for seed in (2, 3):
        peer.predict(tiny_image(16, seed=seed), tiny_bundle)
        results.append(peer.expect("result", "error"))
    cold, warm = results
    assert (cold.get("warm"), warm.get("warm")) == (False, True)
    assert warm.get("stages")["load model"] < cold.get("stages")["load model"]
    for result in results:
        assert set(result.arrays) == {"labels", "confidence"}
        labels, confidence = (uncropped(result.arrays[name], how) for name, how in result.get("crops").items())
        assert labels.shape == confidence.shape == (16, 16, 16)
        assert labels.dtype == confidence.dtype == np.uint8
        allowed = {node["value"] for node in TREE["nodes"]} | {TREE["unlabelled"]}
        assert set(np.unique(labels)) <= allowed
        assert result.get("affine") == np.eye(4).tolist()
        assert result.get("tree")["name"] == "tiny"
        assert set(result.get("summary")) == {"volumes_ml", "mean_confidence"}

    peer.send("load", 4, bundle={"path": str(tiny_bundle)}, device="cpu")
    assert peer.expect("loaded").get("warm") is True


def test_what_was_put_is_known_by_its_hash_and_comes_back(peer: Any) -> None:
    array = tiny_image(16, seed=8)[0]
    peer.put(array)
    peer.expect("have")
    peer.send("have", 5, hashes=[array_hash(array), "0" * 64, "../../etc"])
    assert peer.expect("have").get("hashes") == [array_hash(array)]
    peer.send("get", 6, hash=array_hash(array))
    np.testing.assert_array_equal(peer.expect("put").arrays["data"], array)


def test_progress_comes_in_stages_with_seconds_left(peer: Any, tiny_bundle: Path) -> None:
    peer.predict(tiny_image(40), tiny_bundle)
    seen = []
    while (message := peer.expect("progress", "result", "error")).type == "progress":
        assert 0.0 <= message.get("fraction") <= 1.0
        assert message.get("seconds_left") is None or message.get("seconds_left") >= 0.0
        seen.append(message.get("stage"))
    assert message.type == "result"
    assert list(dict.fromkeys(seen)) == ["preprocess", "network", "restore"]


def test_user_errors_are_sentences_and_the_worker_goes_on(peer: Any, tiny_bundle: Path, tmp_path: Path) -> None:
    array = tiny_image()[0]
    good = {"hash": peer.put(array), "affine": np.eye(4).tolist()}
    bundle = {"path": str(tiny_bundle)}
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(b"no image")
    cases: list[tuple[dict[str, Any], str]] = [
        ({"bundle": bundle, "images": []}, "names no images"),
        ({"bundle": bundle, "images": [{"hash": "0" * 64, "affine": np.eye(4).tolist()}]}, "does not have the image"),
        ({"bundle": bundle, "images": [{**good, "affine": [1, 2]}]}, "not a 4×4 matrix"),
        ({"bundle": bundle, "images": [{}]}, "neither a hash, nor files, nor a path"),
        ({"bundle": bundle, "images": [{"path": str(broken)}]}, str(broken)),
        ({"bundle": bundle, "images": [good, good]}, "2"),
        ({"bundle": bundle, "images": [good], "options": {"speed": 3}}, "no option speed"),
        ({"bundle": bundle, "images": [good], "device": "tpu"}, "tpu"),
        ({"bundle": {"id": "nobody"}, "images": [good]}, "no model 'nobody'"),
        ({"bundle": {"path": str(tmp_path)}, "images": [good]}, str(tmp_path)),
        ({"images": [good]}, "names no model"),
    ]
    for number, (fields, said) in enumerate(cases, start=10):
        peer.send("predict", number, **fields)
        error = peer.expect("error", "result")
        assert (error.type, error.id) == ("error", number), fields
        assert said in error.get("sentence"), error.get("sentence")
        assert error.get("traceback") == "", error.get("traceback")
    peer.send("dance", 90)
    assert "does not know the message 'dance'" in peer.expect("error").get("sentence")
    peer.send("put", 91, {"data": array}, hash="0" * 64, kind="array")
    assert "arrived damaged" in peer.expect("error").get("sentence")
    peer.predict(tiny_image(), tiny_bundle)
    assert peer.expect("result", "error").type == "result"


def test_what_cannot_fit_is_refused_before_it_is_read(peer: Any, tiny_bundle: Path, tmp_path: Path) -> None:
    # 10¹² voxels, of which only the header takes room on the disk.
    scan = huge(tmp_path / "huge.nii", edge=10_000)
    peer.send("predict", 7, bundle={"path": str(tiny_bundle)}, images=[{"path": str(scan)}])
    error = peer.expect("error", "result")
    assert (error.type, error.get("kind"), error.get("code")) == ("error", "OutOfMemory", "HS-MEMORY")
    assert error.get("sentence").startswith(f"{scan}: predicting this image needs 20")
    assert "GB are free" in error.get("sentence")


def test_a_cancel_is_heard_between_tiles(peer: Any, tiny_bundle: Path) -> None:
    running = peer.predict(tiny_image(128), tiny_bundle)
    while peer.expect("progress").get("stage") != "network":
        pass
    # A job that waits behind it can be taken back too, and is answered after it.
    waiting = peer.predict(tiny_image(16), tiny_bundle)
    began = time.monotonic()
    peer.send("cancel", job=running)
    peer.send("cancel", job=waiting)
    for number in (running, waiting):
        error = peer.expect("error", "result")
        assert (error.type, error.id, error.get("kind")) == ("error", number, "Canceled")
    took = time.monotonic() - began
    print(f"canceled within {took:.2f} s")
    assert took < END_LIMIT
    peer.send("cancel", job=running)
    peer.predict(tiny_image(16), tiny_bundle)
    result = peer.expect("result", "error")
    assert (result.type, result.get("warm")) == ("result", True)


def test_ends_with_its_stdin_while_it_computes(peer: Any, tiny_bundle: Path) -> None:
    """The last one to use the module's worker."""
    peer.predict(tiny_image(160), tiny_bundle)
    while peer.expect("progress").get("stage") != "network":
        pass
    peer.process.stdin.close()
    took = peer.seconds_to_end()
    later = {message.get("stage") or message.type for message in peer.rest()}
    assert later <= {"network", "error", "pong"}, "it went on to the end first"
    print(f"computing: gone after {took:.2f} s")
    assert took < END_LIMIT


def test_nothing_but_hello_is_answered_first(start: Callable[..., Any]) -> None:
    peer = start("noisy")
    peer.send("predict", 9)
    assert "first message must be 'hello'" in peer.expect("error").get("sentence")
    peer.greet()
    peer.send("close")
    assert peer.seconds_to_end() < END_LIMIT
    assert peer.process.returncode == 0


def test_nothing_else_reaches_the_stream(start: Callable[..., Any]) -> None:
    peer = start("noisy")
    peer.greet()
    for number in range(2, 6):
        peer.send("predict", number)
        message = peer.expect("loaded", "error")
        assert message.type == "loaded", message.fields
        np.testing.assert_array_equal(message.arrays["array"], np.arange(1000))
    log = peer.log()
    for noise in (
        "python prints",
        "the original stdout is used",
        "descriptor 1 is written to",
        "C prints",
        "a child prints",
        "a library warns",
        "50%",
    ):
        assert noise in log


@pytest.mark.parametrize("version", [0, 1, None, "2"])
def test_another_protocol_version_is_refused_in_one_sentence(start: Callable[..., Any], version: Any) -> None:
    peer = start()
    peer.send("hello", 1, protocol=version)
    error = peer.expect("error")
    assert (
        f"the client speaks version {version!r} of the protocol and this program version {PROTOCOL_VERSION}"
        in error.get("sentence")
    )
    assert peer.seconds_to_end() < END_LIMIT
    assert peer.process.returncode == 2


@pytest.mark.parametrize(
    "garbage", [b"GET / HTTP/1.1\r\n\r\n", b"HSW\x01" + b"\xff" * 12, encode(Message("hello"))[:-3]]
)
def test_garbage_and_cut_messages_end_it_with_a_sentence(start: Callable[..., Any], garbage: bytes) -> None:
    peer = start()
    peer.write(garbage)
    peer.process.stdin.close()
    assert peer.expect("error").get("kind") == "WorkerError"
    assert peer.seconds_to_end() < END_LIMIT
    assert peer.process.returncode == 2
    assert "Traceback" not in peer.log()


def test_survives_a_flood_and_answers_in_order(start: Callable[..., Any]) -> None:
    peer = start("unexpected")
    peer.greet()
    # 100,000 pings that nobody reads the answers of, then questions: nothing blocks, the questions are answered.
    flood = encode(Message("ping")) * 100_000
    writer_began = time.monotonic()
    peer.write(flood)
    print(f"100,000 pings written in {time.monotonic() - writer_began:.2f} s")
    big = np.random.default_rng(0).integers(0, 255, 64 << 20, dtype=np.uint8)
    peer.send("put", 2, {"data": big}, hash=array_hash(big), kind="array")
    assert peer.expect("have").get("hashes") == [array_hash(big)]
    peer.send("get", 3, hash=array_hash(big))
    np.testing.assert_array_equal(peer.expect("put").arrays["data"], big)
    for number in range(10, 1010):
        peer.send("have", number, hashes=[])
    assert [peer.expect("have").id for _ in range(1000)] == list(range(10, 1010))


def test_unexpected_errors_ask_for_a_report_and_memory_errors_for_less(start: Callable[..., Any]) -> None:
    peer = start("unexpected")
    peer.greet()
    peer.send("predict", 2)
    error = peer.expect("error")
    assert error.get("kind") == "Unexpected"
    assert "please report" in error.get("hint")
    assert "nobody thought of this" in error.get("traceback")
    peer.send("ping", 3)
    assert peer.expect("pong").get("busy") is None
    for mode, said in (("out_of_memory", "The computer ran out"), ("cuda_out_of_memory", "The graphics card ran out")):
        peer = start(mode)
        peer.greet()
        peer.send("predict", 2)
        error = peer.expect("error")
        assert error.get("kind") == "OutOfMemory"
        assert said in error.get("sentence")
        assert "CPU" in error.get("hint")
        peer.send("have", 3, hashes=[])
        assert peer.expect("have").id == 3


def test_a_memory_error_below_a_sentence_keeps_the_sentence() -> None:
    from hierseg.errors import ResourceError

    error = ResourceError("this machine's memory is too small for this image; crop it.")
    error.__cause__ = RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 10 GB")
    said = {"kind": "OutOfMemory", "code": "HS-MEMORY", "sentence": error.sentence, "hint": "", "traceback": ""}
    assert error_fields(error) == said


def test_a_person_who_starts_it_is_told_what_it_is() -> None:
    import pty

    parent, child = pty.openpty()
    try:
        run = subprocess.run(
            [sys.executable, "-m", "hierseg", "worker"],
            stdin=child,
            capture_output=True,
            encoding="utf-8",
            timeout=200,
            check=False,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2] / "training")},
        )
    finally:
        os.close(parent)
        os.close(child)
    assert run.returncode == 2
    assert "use 'hierseg predict'" in run.stderr
    assert "Traceback" not in run.stderr
