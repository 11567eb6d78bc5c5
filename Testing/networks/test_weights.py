"""Weights on disk: small, exact where it matters, and strict."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from hierseg.bundle import Bundle, write_bundle
from hierseg.errors import BundleError, ConfigError
from hierseg.networks import HierarchicalSegmenter
from hierseg.networks.trunks import TRUNKS
from hierseg.networks.weights import load_model, load_weights, save_weights
from standins.label_trees import tree_of

TREE = tree_of({"background": {}, "tumor": {"core": {}, "edema": {}}})


@pytest.fixture
def model() -> HierarchicalSegmenter:
    torch.manual_seed(0)
    model = HierarchicalSegmenter(TREE, 1, 2, width=4)
    for _ in range(3):
        model(torch.randn(2, 1, 16, 32))
    return model.eval()


def bundle(model: HierarchicalSegmenter, folder: Path, state: Mapping[str, torch.Tensor] | None = None) -> Bundle:
    """A bundle of the model, or of other weights under its name."""
    weights = model.state_dict() if state is None else state
    config = {
        "network": {"name": "HierarchicalSegmenter", "arguments": model.arguments},
        "channels": [{"name": "MRI", "normalization": {"type": "none"}}],
        "orientation": "RAS",
        "spacing": None,
        "patch_size": [32] * model.spatial_dims,
        "overlap": 0.5,
        "spatial_dims": model.spatial_dims,
        "modality": "MR",
    }
    return write_bundle(
        folder,
        config=config,
        metadata={"name": "small", "version": "1.0.0"},
        tree=model.tree,
        write_weights=lambda path: save_weights(weights, path, half=False),
        card="# small",
        license_text="Apache-2.0",
    )


def test_full_precision_comes_back_exactly(model: HierarchicalSegmenter, tmp_path: Path) -> None:
    save_weights(model.state_dict(), tmp_path / "w.safetensors", half=False)
    state = load_weights(tmp_path / "w.safetensors")
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())


def test_half_precision_halves_the_file_and_keeps_statistics_exact(
    model: HierarchicalSegmenter, tmp_path: Path
) -> None:
    save_weights(model.state_dict(), tmp_path / "full.safetensors", half=False)
    save_weights(model.state_dict(), tmp_path / "half.safetensors")
    assert (tmp_path / "half.safetensors").stat().st_size < 0.7 * (tmp_path / "full.safetensors").stat().st_size
    state = load_weights(tmp_path / "half.safetensors")
    for name, tensor in model.state_dict().items():
        assert state[name].dtype == tensor.dtype
        if "running" in name or "num_batches" in name:
            assert torch.equal(state[name], tensor)
        else:
            assert torch.allclose(state[name], tensor, rtol=1e-3, atol=1e-6)


def test_values_beyond_half_precision_are_kept(tmp_path: Path) -> None:
    state = {"large": torch.tensor([1e6, 1.0]), "tiny.running_var": torch.tensor([1e-9])}
    save_weights(state, tmp_path / "w.safetensors")
    back = load_weights(tmp_path / "w.safetensors")
    assert all(torch.equal(back[name], tensor) for name, tensor in state.items())


def test_shared_tensors_can_be_written(tmp_path: Path) -> None:
    shared = torch.arange(6.0)
    save_weights({"a": shared, "b": shared[2:]}, tmp_path / "w.safetensors", half=False)
    assert torch.equal(load_weights(tmp_path / "w.safetensors")["b"], shared[2:])


@pytest.mark.parametrize("trunk", list(TRUNKS))
def test_a_bundle_s_model_answers_as_the_saved_one(trunk: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = HierarchicalSegmenter(TREE, 1, 2, trunk=trunk, width=8, dropout=0.1).eval()
    loaded = load_model(bundle(model, tmp_path / "model"))
    image = torch.randn(1, 1, 32, 32)
    with torch.no_grad():
        assert torch.equal(loaded(image).leaf_logits, model(image).leaf_logits)
    assert not loaded.training


def test_what_does_not_fit_is_named(model: HierarchicalSegmenter, tmp_path: Path) -> None:
    state = model.state_dict()
    lacking = {name: tensor for name, tensor in state.items() if name != "heads.leaf.1.bias"}
    with pytest.raises(BundleError, match=r"lacks 'heads\.leaf\.1\.bias'"):
        load_model(bundle(model, tmp_path / "a", lacking))
    with pytest.raises(BundleError, match="has 'backdoor' that the network does not know"):
        load_model(bundle(model, tmp_path / "b", {**state, "backdoor": torch.zeros(1)}))
    with pytest.raises(BundleError, match=r"another shape \(\(5,\) instead of \(2,\)\)"):
        load_model(bundle(model, tmp_path / "c", {**state, "heads.leaf.1.bias": torch.zeros(5)}))


def test_an_unknown_network_is_not_built(model: HierarchicalSegmenter, tmp_path: Path) -> None:
    asked = bundle(model, tmp_path / "model")
    asked.config["network"]["name"] = "Anything"
    with pytest.raises(ConfigError, match="Anything"):
        load_model(asked)


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (os.mkdir, ("was-executed",))


@pytest.mark.parametrize(
    "content", [pickle.dumps(Bomb()), b"", b"not safetensors at all"], ids=["pickle", "empty", "text"]
)
def test_other_files_are_refused_and_nothing_runs(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w.safetensors").write_bytes(content)
    with pytest.raises(BundleError, match=r"w\.safetensors: not a readable safetensors file"):
        load_weights(tmp_path / "w.safetensors")
    assert not (tmp_path / "was-executed").exists()


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="there is no such weights file"):
        load_weights(tmp_path / "none.safetensors")
