"""A peer that speaks the protocol by hand, so that the worker is tested without the project's own client."""

from __future__ import annotations

import itertools
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from hierseg.worker.protocol import PROTOCOL_VERSION, FrameDecoder, Message, array_hash, encode
from standins.tiny_bundle import write_tiny_bundle

ROOT = Path(__file__).resolve().parents[2]
ODD_WORKER = ROOT / "Testing" / "standins" / "odd_worker.py"


def environment() -> dict[str, str]:
    paths = [str(ROOT / "training"), str(ROOT / "Testing")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


SCHEMA = Draft202012Validator(
    json.loads((ROOT / "docs/schemas/worker_message.schema.json").read_text(encoding="utf-8"))
)


def header_of(message: Message) -> dict[str, Any]:
    """The header as it was on the wire."""
    arrays = [
        {"name": name, "dtype": array.dtype.str, "shape": list(array.shape), "bytes": array.nbytes}
        for name, array in message.arrays.items()
    ]
    return {"type": message.type, "id": message.id, **message.fields, "arrays": arrays}


class Peer:
    """A worker process and the messages that it has sent."""

    def __init__(self, command: list[str], stderr: Path) -> None:
        self.stderr = stderr
        with open(stderr, "wb") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, bufsize=0, env=environment()
            )
        self.decoder = FrameDecoder()
        self.messages: list[Message] = []
        self._numbers = itertools.count(100)

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self.process.stdin.write(view) :]  # type: ignore[union-attr]

    def send(self, type_: str, id_: int = 0, arrays: dict[str, np.ndarray] | None = None, **fields: Any) -> None:
        self.write(encode(Message(type_, id_, fields, arrays or {})))

    def greet(self) -> Message:
        self.send("hello", 1, protocol=PROTOCOL_VERSION)
        return self.expect("hello")

    def expect(self, *types: str, seconds: float = 200.0) -> Message:
        """The next message of one of these types; those before it are dropped."""
        end = time.monotonic() + seconds
        while True:
            while self.messages:
                message = self.messages.pop(0)
                if message.type in types:
                    return message
            assert time.monotonic() < end, f"no {types} within {seconds} s; stderr: {self.log()}"
            if select.select([self.process.stdout], [], [], 0.2)[0]:
                data = os.read(self.process.stdout.fileno(), 1 << 20)  # type: ignore[union-attr]
                assert data, f"the worker has closed its stream; stderr: {self.log()}"
                received = self.decoder.feed(data)
                # One pong is like the other, and there may be a flood of them.
                for message in [one for one in received if one.type != "pong"] + received[-1:]:
                    SCHEMA.validate(header_of(message))
                self.messages += received

    def put(self, array: np.ndarray) -> str:
        self.send("put", next(self._numbers), {"data": array}, hash=array_hash(array), kind="array")
        return array_hash(array)

    def predict(self, image: tuple[np.ndarray, np.ndarray], bundle: Path, **fields: Any) -> int:
        """Send an image and the request to segment it; returns the request's id."""
        images = [{"hash": self.put(image[0]), "affine": image[1].tolist()}]
        id_ = next(self._numbers)
        self.send("predict", id_, images=images, bundle={"path": str(bundle)}, device="cpu", **fields)
        return id_

    def rest(self) -> list[Message]:
        """What a worker that has ended had still sent, whole messages only."""
        while data := os.read(self.process.stdout.fileno(), 1 << 20):  # type: ignore[union-attr]
            self.messages += self.decoder.feed(data)
        return self.messages

    def log(self) -> str:
        return self.stderr.read_text(errors="replace", encoding="utf-8")

    def seconds_to_end(self, limit: float = 100.0) -> float:
        """How long the process lives on from now."""
        began = time.monotonic()
        self.process.wait(limit)
        return time.monotonic() - began

    def close(self) -> None:
        self.process.stdin.close()  # type: ignore[union-attr]
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()  # type: ignore[union-attr]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Peer]]:
    """A function that starts a worker, the real one or one with a mode of ``odd_worker``."""
    peers: list[Peer] = []

    def begin(mode: str = "") -> Peer:
        command = [sys.executable, str(ODD_WORKER), mode] if mode else [sys.executable, "-m", "hierseg", "worker"]
        peers.append(Peer(command, tmp_path / f"stderr-{len(peers)}.txt"))
        return peers[-1]

    yield begin
    for peer in peers:
        peer.close()


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    """One real worker, greeted, for the tests that leave it alive."""
    one = Peer([sys.executable, "-m", "hierseg", "worker"], tmp_path_factory.mktemp("peer") / "stderr.txt")
    yield one
    one.close()


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(write_tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny").folder)
