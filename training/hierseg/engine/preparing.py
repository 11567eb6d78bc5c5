"""Steps of putting a run together: what is checked, what the patches have in common, and the model that training starts from."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from hierseg.bundle import Bundle
from hierseg.data.caching import CaseCache
from hierseg.data.transforms import side_axis
from hierseg.dataset import Dataset
from hierseg.engine.checkpoints import load_checkpoint, save_checkpoint
from hierseg.engine.config import TrainConfig
from hierseg.engine.runfolder import RunFolder
from hierseg.engine.setup import start_from
from hierseg.errors import ConfigError, TrainingError
from hierseg.imageio import spacing_of
from hierseg.labeltree import LabelTree
from hierseg.methods import Geometry
from hierseg.networks import HierarchicalSegmenter
from hierseg.networks.segmenter import build_network


def choose_algorithms(device: torch.device, config: TrainConfig) -> None:
    """The fastest ones, or with ``deterministic`` those that give the same result each time."""
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = not config.deterministic
    if config.deterministic:
        # Where an operation has no deterministic form, torch says which one it is.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(config.deterministic)


def check_same(folder: RunFolder, dataset: Dataset, config: TrainConfig, saved: Mapping[str, Any]) -> None:
    """Refuse to resume with another method or label tree.

    Raises:
        ConfigError: the method is another one.
        TrainingError: the label tree is.
    """
    method = saved["config"]["method"]
    if method != config.method:
        raise ConfigError(
            f"'method' is {config.method}, but the run in {folder.folder} was begun with {method}; leave the setting out, or start a new run."
        )
    if saved["tree"] != dataset.tree.canonical_json:
        raise TrainingError(
            f"{folder.folder}: the run was begun with another label tree than {dataset.folder} has now; start a new run with --init."
        )


def tree_that_is_learned(
    dataset: Dataset, config: TrainConfig, start: Bundle | None, saved: Mapping[str, Any] | None
) -> Dataset:
    """The dataset seen under the tree that is learned."""
    if config.tree == "dataset":
        return dataset
    if saved is not None:
        return dataset.under(LabelTree.from_dict(json.loads(saved["tree"])))
    if start is None:
        raise ConfigError(
            "'tree: start' learns the start model's label tree; give one by --init, or set it to dataset."
        )
    return dataset.under(start.tree)


def common_geometry(cache: CaseCache, config: TrainConfig) -> Geometry:
    """Spacing and sides of the patches, as far as all cases have them in common."""
    dims = config.spatial_dims
    spacings = np.array([spacing_of(affine)[:dims] for affine in cache.affines])
    alike = bool(np.allclose(spacings, spacings[0], rtol=0.01))
    return Geometry(tuple(spacings[0].tolist()) if alike else None, side_axis(cache.affines[0], dims))


def first_weights(
    folder: RunFolder,
    model: HierarchicalSegmenter,
    start: Bundle | None,
    saved: Mapping[str, Any] | None,
    config: TrainConfig,
) -> tuple[HierarchicalSegmenter | None, str | None, list[str]]:
    """The model that training starts from, its id, and what was matched.

    It is kept in the run folder where knowledge keeping or freezing needs it, so that a resumed run does not depend on the bundle.
    """
    kept = folder.folder / "start.pt"
    if saved is not None:
        if not config.needs_start or not kept.exists():
            return None, saved["start_id"], []
        content = load_checkpoint(kept)
        model_ = build_network(LabelTree.from_dict(json.loads(content["tree"])), content["network"])
        model_.load_state_dict(content["model"])
        return model_, saved["start_id"], []
    if start is None:
        return None, None, []
    found, said = start_from(model, start)
    if config.needs_start:
        save_checkpoint(
            kept,
            {"tree": start.tree.canonical_json, "network": dict(start.config["network"]), "model": found.state_dict()},
        )
    return found, start.id, said
