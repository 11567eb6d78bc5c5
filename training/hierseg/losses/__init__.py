"""Losses on node labels: every voxel's target is one node of the label tree, a leaf, an inner node, or unlabelled.

All are called as ``loss(leaf_logits, target)`` with logits ``(B, K, *spatial)`` (channels in the order of
``tree.leaves``) and a target ``(B, *spatial)`` of node values, and return a scalar: the mean over labelled voxels.
One file a loss; what they share is in ``base.py``.
"""

from hierseg.losses.base import TreeLoss
from hierseg.losses.marginal import MarginalCrossEntropy
from hierseg.losses.negative import NegativeLearning
from hierseg.losses.node_dice import NodeDice
from hierseg.losses.partial import PartialCrossEntropyDice
from hierseg.losses.regions import RegionLoss
from hierseg.losses.split import SplitCrossEntropy
from hierseg.losses.tree_cross_entropy import TreeCrossEntropy
from hierseg.losses.triplet import TreeTriplet
from hierseg.losses.wasserstein import TreeWasserstein

__all__ = [
    "MarginalCrossEntropy",
    "NegativeLearning",
    "NodeDice",
    "PartialCrossEntropyDice",
    "RegionLoss",
    "SplitCrossEntropy",
    "TreeCrossEntropy",
    "TreeLoss",
    "TreeTriplet",
    "TreeWasserstein",
]
