"""The client and a real worker: what works, and what happens when either side fails."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from hierseg.bundle import Bundle, import_bundle
from hierseg.errors import HiersegError, WorkerError
from hierseg.worker.protocol import PROTOCOL_VERSION, FrameDecoder, Message, encode
from HierSubclassSegLib.compute.client import WorkerClient
from HierSubclassSegLib.compute.jobs import JobState, Progress, RemoteError
from HierSubclassSegLib.compute.prepare import ImageArray
from standins.tiny_bundle import tiny_image, write_tiny_bundle
from standins.waiting import END_LIMIT, run_until

ROOT = Path(__file__).resolve().parents[2]


# -- what works -----------------------------------------------------------------------------------------------------


def test_segments_twice_and_stays_warm(client: WorkerClient, tiny_bundle: Bundle) -> None:
    progress: list[Progress] = []
    array, _ = tiny_image(24, seed=1)
    affine = np.array([[0, -1.5, 0, 10], [1.5, 0, 0, -20], [0, 0, 2, 5], [0, 0, 0, 1.0]])
    cold = client.predict([(array, affine)], tiny_bundle, progress.append)
    assert client.worker["protocol"] == PROTOCOL_VERSION
    assert cold.labels.shape == cold.superclass.shape == cold.confidence.shape == array.shape
    np.testing.assert_allclose(cold.affine, affine)
    assert cold.tree == tiny_bundle.tree or cold.tree.fingerprint == tiny_bundle.tree.fingerprint
    assert cold.bundle == "tiny@1.0.0"
    assert {step.stage for step in progress} >= {"send", "load model", "network"}

    progress.clear()
    warm = client.predict([ImageArray(array, affine, "scan A")], tiny_bundle.folder, progress.append)
    assert (cold.warm, warm.warm) == (False, True)
    np.testing.assert_array_equal(cold.labels, warm.labels)
    # The worker had the image and the model: nothing was sent again, nothing loaded.
    assert not {step.stage for step in progress} & {"send", "load model"}


def test_files_are_sent_by_content(client: WorkerClient, tiny_bundle: Bundle, tmp_path: Path) -> None:
    from hierseg.imageio import write_volume

    array, affine = tiny_image(16, seed=3)
    path = tmp_path / "Müller, Erika.nii.gz"
    write_volume(path, array, affine)
    from_file = client.predict([path], tiny_bundle)
    from_memory = client.predict([(array, affine)], tiny_bundle)
    np.testing.assert_array_equal(from_file.labels, from_memory.labels)
    broken = tmp_path / "broken.nrrd"
    broken.write_bytes(b"no image")
    with pytest.raises(RemoteError) as caught:
        client.predict([broken], tiny_bundle)
    assert caught.value.kind == "ImageError"
    assert str(broken) in caught.value.sentence, "the user's own path, not the worker's copy"
    assert "hierseg-worker" not in caught.value.sentence


def test_the_callers_array_may_change_once_a_job_is_started(client: WorkerClient, tiny_bundle: Bundle) -> None:
    array, affine = tiny_image(16, seed=4)
    expected = client.predict([(array.copy(), affine)], tiny_bundle)
    job = client.start_predict([(array, affine)], tiny_bundle)
    array[:] = 0.0
    np.testing.assert_array_equal(client.wait(job, 200).labels, expected.labels)


def test_put_and_get_bring_back_the_same(client: WorkerClient, tiny_bundle: Bundle, tmp_path: Path) -> None:
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)[:, ::-1]
    hash_ = client.put(array)
    np.testing.assert_array_equal(client.get(hash_)[1], array)
    assert client.put(tiny_bundle) == tiny_bundle.digest
    # A bundle that only the worker has, as one that was trained there, comes back whole.
    models = Path(os.environ["HIERSEG_HOME"]) / "models"
    import_bundle(write_tiny_bundle(tmp_path / "remote", overlap=0.25).folder, models)
    digest, packed = client.get(bundle="tiny@1.0.0")
    packed.tofile(tmp_path / "back.zip")
    assert import_bundle(tmp_path / "back.zip", tmp_path / "models").digest == digest
    with pytest.raises(RemoteError) as caught:
        client.get("0" * 64)
    assert caught.value.kind == "MissingContent"


def test_mistakes_are_sentences_before_or_after_the_wire(
    client: WorkerClient, tiny_bundle: Bundle, tmp_path: Path
) -> None:
    image = tiny_image()
    detached = tmp_path / "a.mhd"
    detached.write_text("ElementDataFile = a.raw", encoding="utf-8")
    empty = tmp_path / "empty"
    empty.mkdir()
    for images, bundle, said in [
        ([image], tmp_path, "manifest.json"),
        ([image], "nobody@1", "no model 'nobody@1'"),
        ([image, image], tiny_bundle, "2"),
        ([tmp_path / "missing.nii.gz"], tiny_bundle, "no such file"),
        ([detached], tiny_bundle, "second file"),
        ([empty], tiny_bundle, "empty"),
        ([(np.full((4, 4, 4), 3.0), np.eye(4))], tiny_bundle, "constant"),
    ]:
        with pytest.raises(HiersegError) as caught:
            client.predict(images, bundle, timeout=200)
        assert said in caught.value.sentence
        assert "\n" not in caught.value.sentence
    assert client.alive


def test_callbacks_come_once_and_jobs_in_order(client: WorkerClient, tiny_bundle: Bundle) -> None:
    ended: list[Any] = []
    jobs = [
        client.start_predict([tiny_image(16, seed)], tiny_bundle, on_result=ended.append, on_error=ended.append)
        for seed in range(3)
    ]
    run_until(client, lambda: all(job.finished for job in jobs))
    assert [job.state for job in jobs] == [JobState.DONE] * 3
    assert len(ended) == 3
    with pytest.raises(WorkerError, match="not answered 'predict' within 0 s"):
        client.wait(client.start_predict([tiny_image()], tiny_bundle), timeout=0)


def test_what_the_client_says_is_what_the_schema_says(tiny_bundle: Bundle, tmp_path: Path) -> None:
    schema = json.loads((ROOT / "docs" / "schemas" / "worker_message.schema.json").read_text(encoding="utf-8"))

    class Recorder:
        """A transport that keeps what is written and answers 'have' with nothing."""

        def __init__(self) -> None:
            self.decoder, self.headers, self.waiting = FrameDecoder(), [], []

        def start(self) -> None: ...

        def write(self, data: bytes | memoryview) -> None:
            for message in self.decoder.feed(data):
                arrays = [
                    {"name": name, "dtype": array.dtype.str, "shape": list(array.shape), "bytes": array.nbytes}
                    for name, array in message.arrays.items()
                ]
                self.headers.append({"type": message.type, "id": message.id, **message.fields, "arrays": arrays})
                if message.type in ("have", "put"):
                    self.waiting.append(encode(Message("have", message.id, {"hashes": []})))

        def poll(self) -> None:
            waiting, self.waiting = self.waiting, []
            for data in waiting:
                self.on_bytes(data)  # type: ignore[attr-defined]

        def wait(self, seconds: float) -> None: ...
        def close(self) -> None: ...
        def kill(self) -> None: ...

    recorder = Recorder()
    client = WorkerClient(recorder)  # type: ignore[arg-type]
    (tmp_path / "a.nrrd").write_bytes(b"x")
    options = {"decode": "leaf", "thresholds": {"tumor": 0.5}}
    job = client.start_predict([tiny_image(), tmp_path / "a.nrrd"], tiny_bundle, options=options)
    client.start_load("tiny@1.0.0")
    client.start_get("0" * 64)
    client.start_get(bundle="tiny")
    run_until(client, lambda: any(header["type"] == "predict" for header in recorder.headers))
    client.cancel(job)
    client.close(timeout=0)
    for header in recorder.headers:
        jsonschema.validate(header, schema)
    said = {header["type"] for header in recorder.headers}
    assert said == {"hello", "have", "put", "predict", "load", "get", "cancel", "close"}
    kinds = [header["kind"] for header in recorder.headers if header["type"] == "put"]
    assert sorted(kinds) == ["array", "bundle", "file"]


# -- cancel ---------------------------------------------------------------------------------------------------------


def test_a_cancel_ends_the_job_and_keeps_the_worker_warm(client: WorkerClient, tiny_bundle: Bundle) -> None:
    client.predict([tiny_image()], tiny_bundle)
    errors: list[RemoteError] = []
    job = client.start_predict([tiny_image(128)], tiny_bundle, on_error=errors.append)
    run_until(client, lambda: job.progress is not None and job.progress.stage == "network")
    began = time.monotonic()
    client.cancel(job)
    run_until(client, lambda: job.finished)
    took = time.monotonic() - began
    print(f"canceled within {took:.2f} s")
    assert took < END_LIMIT
    assert job.state is JobState.CANCELED
    assert [error.canceled for error in errors] == [True]
    assert client.predict([tiny_image()], tiny_bundle).warm


def test_a_cancel_before_anything_was_sent(client: WorkerClient, tiny_bundle: Bundle) -> None:
    job = client.start_predict([tiny_image(64, seed=12)], tiny_bundle)
    client.cancel(job)
    assert job.state is JobState.CANCELED
    client.cancel(job)
    assert client.predict([tiny_image()], tiny_bundle).labels.shape == (16, 16, 16)


# -- death -----------------------------------------------------------------------------------------------------------


def test_a_worker_killed_half_way_is_one_sentence(client: WorkerClient, tiny_bundle: Bundle) -> None:
    """The last one to use the module's worker."""
    job = client.start_predict([tiny_image(128)], tiny_bundle)
    run_until(client, lambda: job.progress is not None and job.progress.stage == "network")
    waiting = client.start_predict([tiny_image(16)], tiny_bundle)
    os.kill(int(client.worker["pid"]), signal.SIGKILL)
    run_until(client, lambda: job.finished and waiting.finished)
    for each in (job, waiting):
        assert each.state is JobState.FAILED
        assert each.error.kind == "WorkerDied"
        assert each.error.sentence == "The worker was ended by SIGKILL (often because memory ran out); start again."
    assert client.exit_code == -9
    with pytest.raises(RemoteError, match="ended by SIGKILL"):
        client.predict([tiny_image()], tiny_bundle)
