"""Pseudo labels: subclasses that the network itself is sure of."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import nn

from hierseg.losses import TreeLoss
from hierseg.mix.turning import Turn
from hierseg.networks.heads import HierarchicalOutput

Network = Callable[[torch.Tensor], HierarchicalOutput]


@torch.no_grad()
def pseudo_label(
    model: Network,
    image: torch.Tensor,
    node_map: torch.Tensor,
    threshold: float,
    turn: Turn,
    lookup: TreeLoss,
    *,
    leaf_logits: torch.Tensor | None = None,
) -> torch.Tensor:
    """The leaf of every voxel where the network agrees with itself (paper A, section 2.3).

    A voxel gets a leaf if f(x) and T⁻¹f(Tx) have it as their most probable leaf, both with a probability above the
    threshold, and it lies under the node that the voxel carries.  A voxel that carries nothing gets none: the paper
    has a superclass everywhere, and a sure guess about unknown tissue is not yet knowledge.

    The network runs in the mode that it is in (dropout stays active in training, as in the published code), but its
    running statistics are left as they were.

    Args:
        model: the network.
        image: ``(B, C, *spatial)``.
        node_map: ``(B, *spatial)`` node values.
        threshold: τ.
        turn: T.
        lookup: any loss on the tree, for its tables on the right device.
        leaf_logits: f(x), ``(B, K, *spatial)``, if it has been computed already.

    Returns:
        ``(B, *spatial)`` index in ``tree.leaves``, −1 where there is no pseudo label; without gradient.
    """
    with _frozen_statistics(model):
        straight = (model(image).leaf_logits if leaf_logits is None else leaf_logits.detach()).float().softmax(dim=1)
        turned = turn.undo(model(turn.apply(image)).leaf_logits.float().softmax(dim=1))
    probability, leaf = straight.max(dim=1)
    other_probability, other_leaf = turned.max(dim=1)
    nodes = lookup.nodes(node_map)
    allowed = lookup.membership[nodes, leaf] & (nodes >= 0)
    sure = (leaf == other_leaf) & (probability > threshold) & (other_probability > threshold)
    return torch.where(sure & allowed, leaf, torch.full_like(leaf, -1))


@contextlib.contextmanager
def _frozen_statistics(model: object) -> Iterator[None]:
    """Batch normalization normalizes as its mode says, but does not take turned images into its running statistics."""
    layers = (
        [layer for layer in model.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
        if isinstance(model, nn.Module)
        else []
    )
    before = [(layer, layer.momentum, layer.num_batches_tracked) for layer in layers]
    try:
        for layer, _, counted in before:
            layer.momentum = 0.0
            layer.num_batches_tracked = None if counted is None else counted.clone()
        yield
    finally:
        for layer, momentum, counted in before:
            layer.momentum = momentum
            layer.num_batches_tracked = counted
