"""How a network is run: measured once, remembered, overridden, and never a difference in the result."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hierseg.errors import ConfigError
from hierseg.imageio import Volume
from hierseg.inference import Predictor, backends, openvino_forward
from hierseg.inference.backends import CHANNELS_FIRST, CHANNELS_LAST, COMPILE, LEAST_TILES, OPENVINO, Backends
from hierseg.inference.forward import TorchForward, leaf_columns
from hierseg.labeltree import LabelTree
from hierseg.networks import HierarchicalSegmenter
from standins.known_network import brain_tree
from standins.tiny_bundle import TREE
from standins.whole_logits import whole

SHAPE = (1, 1, 16, 16, 16)
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HIERSEG_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("HIERSEG_BACKEND", raising=False)
    return tmp_path / "home"


def network(dims: int = 3, **arguments: Any) -> HierarchicalSegmenter:
    torch.manual_seed(0)
    return HierarchicalSegmenter(LabelTree.from_dict(TREE), 1, dims, width=4, **arguments).eval()


@pytest.fixture
def model() -> HierarchicalSegmenter:
    return network()


def ways(model: HierarchicalSegmenter, wanted: str = "auto") -> Backends:
    return Backends(model, model.tree, model.spatial_dims, wanted)


def is_last(model: torch.nn.Module) -> bool:
    weight = next(value for value in model.parameters() if value.ndim == 5 and min(value.shape[:2]) > 1)
    return weight.is_contiguous(memory_format=torch.channels_last_3d)


def seconds(monkeypatch: pytest.MonkeyPatch, found: dict[str, float]) -> list[str]:
    """Let each way take so long; which were measured, in order."""
    measured: list[str] = []

    def take(_self: Backends, name: str, _shape: Any, _device: Any) -> float:
        measured.append(name)
        return found[name]

    monkeypatch.setattr(Backends, "_measured", take)
    return measured


def test_what_was_measured_is_remembered(model: Any, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name, _ = ways(model).best(SHAPE, LEAST_TILES, CPU)
    (found,) = json.loads((home / "backends.json").read_text(encoding="utf-8")).values()
    assert set(found) >= {CHANNELS_FIRST, CHANNELS_LAST}
    measured = seconds(monkeypatch, {CHANNELS_FIRST: 0.1, CHANNELS_LAST: 0.1, OPENVINO: math.inf})
    assert ways(model).best(SHAPE, LEAST_TILES, CPU)[0] == name
    assert measured == []
    ways(model).best((1, 1, 32, 32, 32), 2, CPU)
    assert measured == []
    ways(model).best((1, 1, 32, 32, 32), LEAST_TILES, CPU)
    assert measured[:2] == [CHANNELS_FIRST, CHANNELS_LAST]


@pytest.mark.parametrize(
    ("last", "openvino", "batches", "wanted"),
    [
        (0.5, math.inf, LEAST_TILES, CHANNELS_LAST),
        (0.99, math.inf, LEAST_TILES, CHANNELS_FIRST),  # within the noise
        (0.5, 0.2, 1000, OPENVINO),
    ],
)
def test_the_fastest_is_chosen(
    model: Any, monkeypatch: pytest.MonkeyPatch, last: float, openvino: float, batches: int, wanted: str
) -> None:
    monkeypatch.setattr(openvino_forward, "is_installed", lambda: True)
    monkeypatch.setattr(Backends, "_built", lambda _self, name, _device: name)
    seconds(monkeypatch, {CHANNELS_FIRST: 1.0, CHANNELS_LAST: last, OPENVINO: openvino})
    assert ways(model).best(SHAPE, batches, CPU)[0] == wanted


def test_getting_ready_has_to_be_worth_it(model: Any, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenVINO saves 1 s of 2 s an image and takes 2.5 s to get ready: not for one image, but for those after it."""
    monkeypatch.setattr(openvino_forward, "is_installed", lambda: True)
    found = {CHANNELS_FIRST: 0.1, CHANNELS_LAST: 0.1, OPENVINO: 0.05, "openvino ready": 2.5}
    home.mkdir()
    (home / "backends.json").write_text(json.dumps({backends._key(model, SHAPE, CPU): found}), encoding="utf-8")
    monkeypatch.setattr(openvino_forward, "OpenVinoForward", lambda *_arguments: "ready")
    worker = ways(model)
    worker.settle()  # nothing is known yet
    assert [worker.best(SHAPE, 20, CPU)[0] for _ in range(2)] == [CHANNELS_FIRST, CHANNELS_FIRST]
    assert worker.best(SHAPE, 200, CPU) == (OPENVINO, "ready")
    later = ways(model)
    later.best(SHAPE, 20, CPU)
    later.settle()
    assert later.best(SHAPE, 20, CPU) == (OPENVINO, "ready")


def test_getting_ready_unasked_never_fails(model: Any, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_arguments: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(openvino_forward, "is_installed", lambda: True)
    monkeypatch.setattr(openvino_forward, "OpenVinoForward", broken)
    home.mkdir()
    found = {CHANNELS_FIRST: 0.1, CHANNELS_LAST: 0.1, OPENVINO: 0.05, "openvino ready": 2.5}
    (home / "backends.json").write_text(json.dumps({backends._key(model, SHAPE, CPU): found}), encoding="utf-8")
    worker = ways(model)
    worker.best(SHAPE, 20, CPU)
    worker.settle()
    assert worker.best(SHAPE, 20, CPU)[0] == CHANNELS_FIRST


def test_little_work_is_not_worth_a_measurement(model: Any, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ways(model).best(SHAPE, LEAST_TILES - 1, CPU)[0] == CHANNELS_FIRST
    assert not home.exists()
    monkeypatch.setattr(openvino_forward, "is_installed", lambda: True)
    measured = seconds(monkeypatch, {CHANNELS_FIRST: 1e-5, CHANNELS_LAST: 1e-5})
    ways(model).best(SHAPE, LEAST_TILES, CPU)
    assert measured == [CHANNELS_FIRST, CHANNELS_LAST]


def test_what_cannot_run_the_network_is_never_chosen(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_arguments: object) -> None:
        raise RuntimeError("an operator is not supported")

    monkeypatch.setattr(openvino_forward, "is_installed", lambda: True)
    monkeypatch.setattr(openvino_forward, "OpenVinoForward", broken)
    monkeypatch.setattr(backends, "LEAST_SECONDS", 0.0)
    assert ways(model).best(SHAPE, 100_000, CPU)[0] in (CHANNELS_FIRST, CHANNELS_LAST)


@pytest.mark.parametrize("chosen", [CHANNELS_FIRST, CHANNELS_LAST])
def test_the_environment_decides(model: Any, home: Path, monkeypatch: pytest.MonkeyPatch, chosen: str) -> None:
    monkeypatch.setenv("HIERSEG_BACKEND", chosen)
    assert ways(model).best(SHAPE, 1000, CPU)[0] == chosen
    assert is_last(model) is (chosen == CHANNELS_LAST)
    assert not home.exists()


def test_a_wrong_choice_is_refused(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIERSEG_BACKEND", "fast")
    with pytest.raises(ConfigError, match="HIERSEG_BACKEND is 'fast'"):
        ways(model)
    with pytest.raises(ConfigError, match="the back-end is 'faster'"):
        ways(model, "faster")


def test_what_is_not_to_be_had_here_is_refused(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino_forward, "is_installed", lambda: False)
    with pytest.raises(ConfigError, match="needs the package openvino"):
        ways(model, OPENVINO).best(SHAPE, 1, CPU)
    with pytest.raises(ConfigError, match="CUDA under Linux"):
        ways(model, COMPILE).best(SHAPE, 1, CPU)


@pytest.mark.parametrize("text", ["", "[]", "{broken", '{"a": 3}'])
def test_a_broken_memory_is_no_obstacle(model: Any, home: Path, text: str) -> None:
    home.mkdir()
    (home / "backends.json").write_text(text, encoding="utf-8")
    ways(model).best(SHAPE, LEAST_TILES, CPU)
    assert any(
        isinstance(found, dict) for found in json.loads((home / "backends.json").read_text(encoding="utf-8")).values()
    )


def test_a_damaged_entry_is_measured_again(model: Any, home: Path) -> None:
    home.mkdir()
    key = backends._key(model, SHAPE, CPU)
    (home / "backends.json").write_text(json.dumps({key: {CHANNELS_FIRST: "fast"}}), encoding="utf-8")
    ways(model).best(SHAPE, LEAST_TILES, CPU)
    assert isinstance(json.loads((home / "backends.json").read_text(encoding="utf-8"))[key][CHANNELS_FIRST], float)


def test_a_home_that_cannot_be_written_to_is_no_obstacle(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    monkeypatch.setenv("HIERSEG_HOME", str(tmp_path / "file"))
    assert ways(model).best(SHAPE, LEAST_TILES, CPU)[0] in (CHANNELS_FIRST, CHANNELS_LAST)


@pytest.mark.parametrize("dims", [2, 3])
def test_the_result_is_the_same(dims: int) -> None:
    model = network(dims)
    config = {
        "channels": [{"name": "image", "normalization": {"type": "zscore"}}],
        "orientation": "RAS",
        "spacing": None,
        "patch_size": [16] * dims,
        "spatial_dims": dims,
    }
    volume = Volume(np.random.default_rng(0).normal(size=(30, 25, 20)).astype(np.float32), np.eye(4))
    results = []
    for chosen in backends.candidates(CPU):
        predictor = Predictor(model, config, device="cpu", backend=chosen)
        results.append([predictor.predict([volume]) for _ in range(2)])
        assert results[-1][0].work["backend"] == chosen
    for again in results:
        np.testing.assert_array_equal(again[0].confidence, again[1].confidence)
        np.testing.assert_allclose(results[0][0].confidence, again[0].confidence, atol=1e-5)
        assert np.mean(results[0][0].labels != again[0].labels) < 1e-3


needs_openvino = pytest.mark.skipif(not openvino_forward.is_installed(), reason="OpenVINO is not installed")


@needs_openvino
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"separate_normalization": False},
        {"head": "leaf"},
        {"head": "path_softmax"},
        {"head": "regions"},
        {"trunk": "segresnet"},
        {"trunk": "dynunet"},
    ],
    ids=str,
)
def test_openvino_agrees_with_torch_at_any_shape(arguments: dict[str, Any]) -> None:
    torch.manual_seed(1)
    model = HierarchicalSegmenter(brain_tree(), 2, 3, width=8, **arguments).eval()
    fast = openvino_forward.OpenVinoForward(model, model.tree, 3)
    plain = TorchForward(model, model.tree, 3, CPU)
    for shape in ((1, 2, 32, 32, 32), (2, 2, 32, 48, 64)):
        tiles = torch.randn(*shape)
        for ours, theirs in zip(whole(fast(tiles), tiles.shape), whole(plain(tiles), tiles.shape), strict=True):
            if theirs is None:
                # Superclasses are the sums of their leaves.
                continue
            assert ours is not None
            # Logits of a random network reach from -10 to 10.
            torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", [CHANNELS_FIRST, pytest.param(OPENVINO, marks=needs_openvino)])
def test_absent_top_level_nodes_are_left_out(name: str) -> None:
    """With only some present, their logits are those of the whole network."""
    torch.manual_seed(1)
    model = HierarchicalSegmenter(brain_tree(), 1, 3, width=4).eval()
    _, forward = ways(model, name).best(SHAPE, 1, CPU)
    assert forward.selective
    tiles = torch.randn(1, 1, 16, 16, 16)
    with torch.inference_mode():
        logits = model(tiles)
    for present in ((0, 2), (1,), (0, 1, 2)):
        top, leaf = whole(forward(tiles, present), tiles.shape)
        columns = leaf_columns(model.tree, present)
        torch.testing.assert_close(top, logits.superclass_logits[:, list(present)], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(leaf, logits.leaf_logits[:, columns], atol=1e-5, rtol=1e-4)


def test_a_network_with_shared_heads_cannot_leave_anything_out() -> None:
    model = network(separate_normalization=False)
    assert not ways(model).best(SHAPE, 1, CPU)[1].selective


def test_a_compiled_network_gives_the_same(model: Any) -> None:
    """With torch's front end alone: its code generator needs a C++ compiler, or a graphics card's."""
    compiled = TorchForward(model, model.tree, 3, CPU, compiled=lambda network: torch.compile(network, backend="eager"))
    plain = TorchForward(model, model.tree, 3, CPU)
    assert not compiled.selective
    for batch in (2, 1):
        tiles = torch.randn(batch, 1, 16, 16, 16)
        for ours, theirs in zip(whole(compiled(tiles), tiles.shape), whole(plain(tiles), tiles.shape), strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


SIGNALLED = """
import faulthandler, gc, os, signal
import torch
from hierseg.inference.benchmark import random_tree
from hierseg.inference.openvino_forward import OpenVinoForward
from hierseg.networks import HierarchicalSegmenter
faulthandler.enable()
tree = random_tree(4)
made = [OpenVinoForward(HierarchicalSegmenter(tree, 1, 2, width=4).eval(), tree, 2) for _ in range(2)]
for one in range(2):
    made[0](torch.zeros(1, 1, 32, 32, 1))
    del made[0]
    gc.collect()
signal.signal(signal.SIGUSR1, lambda number, frame: print("heard"))
os.kill(os.getpid(), signal.SIGUSR1)
"""


@needs_openvino
@pytest.mark.may_skip("Windows has no such signals")
@pytest.mark.skipif(os.name == "nt", reason="no SIGUSR1")
def test_a_signal_after_openvino_is_heard() -> None:
    """Several of its plugins, gone in the order they came, left a signal stack that was no more: any signal was the end."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", SIGNALLED], capture_output=True, encoding="utf-8", env=environment, check=False
    )
    assert (done.returncode, done.stdout) == (0, "heard\n"), done.stderr
