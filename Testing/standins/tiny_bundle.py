"""A model bundle that is complete and real, but small: an untrained network on a tree of four leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

TREE = {
    "format_version": 1,
    "name": "tiny",
    "unlabelled": 255,
    "nodes": [
        {"name": "background", "value": 0},
        {"name": "tumor", "value": 5},
        {"name": "core", "parent": "tumor", "value": 1},
        {"name": "edema", "parent": "tumor", "value": 2},
        {"name": "vessel", "value": 3},
    ],
}


def write_tiny_bundle(folder: Path, *, metadata: dict[str, Any] | None = None, **config: Any) -> Any:
    """Write the bundle; ``config`` replaces entries of ``hierseg.json``, ``metadata`` those of the metadata.

    Returns:
        The opened bundle.
    """
    import torch

    from hierseg.bundle import write_bundle
    from hierseg.labeltree import LabelTree
    from hierseg.networks import HierarchicalSegmenter
    from hierseg.networks.weights import save_weights

    torch.manual_seed(0)
    tree = LabelTree.from_dict(TREE)
    model = HierarchicalSegmenter(tree, len(config.get("channels", [0])), 3, width=4)
    whole: dict[str, Any] = {
        "network": {"name": "HierarchicalSegmenter", "arguments": model.arguments},
        "channels": [{"name": "MRI", "normalization": {"type": "percentile", "lower": 0.5, "upper": 99.5}}],
        "orientation": "RAS",
        "spacing": None,
        "patch_size": [16, 16, 16],
        "overlap": 0.5,
        "thresholds": {},
        "spatial_dims": 3,
        "modality": "MR",
    }
    return write_bundle(
        folder,
        config={**whole, **config},
        metadata={"name": "tiny", "version": "1.0.0", **(metadata or {})},
        tree=tree,
        write_weights=lambda path: save_weights(model.state_dict(), path),
        card="# tiny\n\nUntrained; for tests.\n",
        license_text="Apache-2.0\n",
    )


def tiny_image(size: int = 16, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Noise of ``size``³ voxels of 1 mm, and its affine."""
    array = np.random.default_rng(seed).normal(100.0, 20.0, (size, size, size)).astype(np.float32)
    return array, np.diag([1.0, 1.0, 1.0, 1.0])
