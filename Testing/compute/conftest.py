"""Clients of real worker processes, ended with each test whatever happens."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from HierSubclassSegLib.compute.client import WorkerClient
from HierSubclassSegLib.compute.launch import environment, worker_command
from HierSubclassSegLib.compute.transport import SubprocessTransport
from standins.tiny_bundle import write_tiny_bundle

TESTING = Path(__file__).resolve().parents[1]
ODD_WORKER = TESTING / "standins" / "odd_worker.py"


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny")


@pytest.fixture
def connect() -> Iterator[Callable[..., WorkerClient]]:
    """A function that starts a worker (the real one, or ``odd_worker`` with a mode, or any command)."""
    clients: list[WorkerClient] = []

    def begin(mode: str = "", command: list[str] | None = None, **options: Any) -> WorkerClient:
        if command is None:
            command = [sys.executable, str(ODD_WORKER), mode] if mode else worker_command()
        env = environment()
        env["PYTHONPATH"] += f":{TESTING}"
        env.update(options.pop("env", {}))
        clients.append(WorkerClient(SubprocessTransport(command, env, options.pop("cwd", None)), **options))
        return clients[-1]

    yield begin
    for client in clients:
        client.close()
        assert not client.alive


@pytest.fixture(scope="module")
def client() -> Iterator[WorkerClient]:
    """One real worker for the tests that leave it alive."""
    with WorkerClient(SubprocessTransport(worker_command(), environment())) as one:
        yield one
