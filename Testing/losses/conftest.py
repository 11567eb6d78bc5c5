"""Trees and random inputs that the tests of the losses share."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from hierseg.labeltree import LabelTree
from hierseg.losses import (
    MarginalCrossEntropy,
    NegativeLearning,
    NodeDice,
    PartialCrossEntropyDice,
    SplitCrossEntropy,
    TreeCrossEntropy,
    TreeWasserstein,
)
from standins.label_trees import random_map, tree_of

EVERY_LOSS: dict[str, Any] = {
    "partial": PartialCrossEntropyDice,
    "marginal": MarginalCrossEntropy,
    "split": SplitCrossEntropy,
    "node Dice": NodeDice,
    "wasserstein": TreeWasserstein,
    "tree cross-entropy": TreeCrossEntropy,
    "negative": NegativeLearning,
    "balanced marginal": lambda tree: NegativeLearning(tree, balanced_marginal=True),
}


@pytest.fixture(params=list(EVERY_LOSS))
def loss_of(request: pytest.FixtureRequest) -> Any:
    """Each loss in turn, as a function that builds it for a tree."""
    return EVERY_LOSS[request.param]


@pytest.fixture
def deep() -> LabelTree:
    """Three levels, a top-level leaf, unequal leaf depths; 5 leaves of 8 nodes."""
    return tree_of(
        {"background": {}, "brain": {"cortex": {}, "deep": {"left": {}, "right": {}}}, "skull": {"bone": {}}}
    )


@pytest.fixture
def flat() -> LabelTree:
    return tree_of({"a": {}, "b": {}, "c": {}})


@pytest.fixture
def batch() -> Any:
    """A function that draws logits (float64, with gradient) and node values for a tree."""

    def draw(tree: LabelTree, shape: tuple[int, ...] = (2, 3, 4), seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
        rng = np.random.default_rng(seed)
        logits = torch.from_numpy(2.0 * rng.standard_normal((shape[0], len(tree.leaves), *shape[1:])))
        return logits.requires_grad_(), torch.from_numpy(random_map(tree, shape, rng))

    return draw
