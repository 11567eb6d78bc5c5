"""A real model bundle whose answer is known: a network with weights set by hand so that bright voxels are marked.

Channel 0 bright is the leaf 'core', channel 1 bright is 'edema', both below 'tumor'; everything else is background.  Every
convolution but those on the way of the full resolution is zero, and those pass single voxels on: what is marked does
not depend on a voxel's surroundings, so that a place that comes back shifted was shifted by the program.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from hierseg.bundle import Bundle, write_bundle
from hierseg.networks import HierarchicalSegmenter
from hierseg.networks.weights import save_weights
from standins.known_network import brain_tree

BRIGHT = 100
"""The intensity of a voxel that is marked for certain; half of it is the threshold."""
_STEEP = 4.0
"""Of the probability at the threshold: 1 per unit, so that it is nearly linear, as interpolation between voxels is."""


def threshold_network(channels: int = 1) -> HierarchicalSegmenter:
    """The network; it expects intensities from 0 to 1."""
    tree = brain_tree()
    model = HierarchicalSegmenter(
        tree, channels, 3, width=channels, separate_normalization=False, prior_concatenation=False
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm3d):
                module.weight.fill_((1.0 + module.eps) ** 0.5)
        body = model.trunk.body
        for conv in (
            body.conv_0.conv_0.conv, body.conv_0.conv_1.conv,
            body.upcat_1.convs.conv_0.conv, body.upcat_1.convs.conv_1.conv, model.heads.branch[2],
        ):  # fmt: skip
            for channel in range(channels):
                conv.weight[channel, channel, 1, 1, 1] = 1.0
        for head, nodes in ((model.heads.superclass, tree.top_level), (model.heads.leaf, tree.leaves)):
            names = [node.name for node in nodes]
            head.bias.fill_(-30.0)
            head.bias[names.index("background")] = 0.0
            for channel, leaf in enumerate(["core", "edema"][:channels]):
                row = names.index("tumor" if head is model.heads.superclass else leaf)
                head.bias[row] = -0.5 * _STEEP
                head.weight[row, channel] = _STEEP
    return model.eval()


def write_threshold_bundle(folder: Path, channels: int = 1, **config: Any) -> Bundle:
    """Write the bundle; ``config`` replaces entries of ``hierseg.json``."""
    model = threshold_network(channels)
    whole: dict[str, Any] = {
        "network": {"name": "HierarchicalSegmenter", "arguments": model.arguments},
        "channels": [
            {"name": f"C{index}", "normalization": {"type": "range", "lower": 0, "upper": BRIGHT}}
            for index in range(channels)
        ],
        "orientation": "RAS",
        "spacing": None,
        "patch_size": [32, 32, 32],
        "overlap": 0.0,
        "thresholds": {},
        "spatial_dims": 3,
        "modality": "MR",
    }
    return write_bundle(
        folder,
        config={**whole, **config},
        metadata={"name": f"threshold-{folder.name}", "version": "1.0.0"},
        tree=model.tree,
        write_weights=lambda path: save_weights(model.state_dict(), path),
        card="# threshold\n\nMarks bright voxels; for tests.\n",
        license_text="Apache-2.0\n",
    )
