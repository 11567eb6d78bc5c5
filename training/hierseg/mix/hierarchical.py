"""The HierarchicalMix loss: mixed images, pseudo labels, and the schedule between them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from hierseg.errors import ConfigError
from hierseg.labeltree import LabelTree
from hierseg.losses import PartialCrossEntropyDice
from hierseg.mix.pseudo import Network, pseudo_label
from hierseg.mix.turning import draw_turn

MODES = ("full", "mixup", "pseudo", "off")


class MixLoss(NamedTuple):
    """What :meth:`HierarchicalMix.forward` returns.

    Attributes:
        loss: L_p, a scalar with gradient; 0 where there is nothing to learn.
        threshold: τ at this iteration.
        pseudo_share: share of the voxels that got a pseudo label (scalar tensor without gradient).
        mixed_share: share of the voxels that were blended.
    """

    loss: torch.Tensor
    threshold: float
    pseudo_share: torch.Tensor
    mixed_share: torch.Tensor


class HierarchicalMix(nn.Module):
    """L_p of paper A: subclass supervision on coarsely labelled cases (sections 2.3 and 2.4).

    The target of a voxel is ``a · onehot(z) + (1 − a) · z_pse``: z is the partner's leaf, a its share *in that voxel*
    (α where the images are blended, 0 elsewhere), z_pse the pseudo label of the unmixed image.  The loss of
    f(x_mix) with that soft target is cross-entropy + Dice.

    Where paper and published code disagree this follows the paper: the gradient flows through f(x_mix), τ falls
    linearly from 1 to 0.4, and there is no ramp (``ramp=True`` is the code's).

    Args:
        tree: the label tree.
        iterations: length of the training, over which τ falls.
        mode: ``full``; ``mixup`` (mixed image, no pseudo label), ``pseudo`` (pseudo label, unmixed image): the
            ablations of the paper's Table 2; or ``off``.
        threshold: τ at the beginning and at the end.
        spacing: voxel size in mm along each axis, None if not known (no quarter turns then).
        left_right_axis: the spatial axis between left and right, None if there is none.
        ramp: multiply by the published code's stepwise sigmoid of the iteration.

    Raises:
        ConfigError: the mode is unknown or a number is out of range.
    """

    def __init__(
        self,
        tree: LabelTree,
        iterations: int,
        *,
        mode: str = "full",
        threshold: tuple[float, float] = (1.0, 0.4),
        spacing: Sequence[float] | None = None,
        left_right_axis: int | None = 0,
        ramp: bool = False,
    ) -> None:
        super().__init__()
        if mode not in MODES:
            raise ConfigError(f"the mixing mode is {mode!r}; choose one of {', '.join(MODES)}.")
        if iterations < 1:
            raise ConfigError(f"the number of iterations is {iterations}; give at least 1.")
        self.tree = tree
        self.iterations = iterations
        self.mode = mode
        self.thresholds = threshold
        self.spacing = None if spacing is None else tuple(spacing)
        self.left_right_axis = left_right_axis
        self.ramp = ramp
        self.criterion = PartialCrossEntropyDice(tree)

    @property
    def needs_partner(self) -> bool:
        """Whether images have to be mixed while data is loaded."""
        return self.mode in ("full", "mixup")

    def threshold(self, iteration: int) -> float:
        """τ: linear over the training, then constant."""
        first, last = self.thresholds
        return first + (last - first) * min(max(iteration / self.iterations, 0.0), 1.0)

    def ramp_weight(self, iteration: int) -> float:
        """1, or with ``ramp`` 1 / (1 + exp(⌊−iteration / 1000⌋)) as in the published code."""
        return 1.0 / (1.0 + math.exp(math.floor(-iteration / 1000))) if self.ramp else 1.0

    def forward(
        self,
        model: Network,
        image: torch.Tensor,
        node_map: torch.Tensor,
        mixed_image: torch.Tensor | None = None,
        mixed_label: torch.Tensor | None = None,
        mixed_weight: torch.Tensor | None = None,
        *,
        iteration: int,
        rng: np.random.Generator,
        leaf_logits: torch.Tensor | None = None,
    ) -> MixLoss:
        """L_p of a batch of coarsely labelled patches; 0 without a forward pass if there are none.

        Args:
            model: the network.
            image: ``(B, C, *spatial)``, the unmixed patches x.
            node_map: ``(B, *spatial)``, their node values.
            mixed_image: ``(B, C, *spatial)``, x_mix from :func:`hierseg.mix.boxes.mixed_patch`.
            mixed_label: ``(B, *spatial)``, the partner's leaf values.
            mixed_weight: ``(B, *spatial)``, the partner's share; these three are needed by ``full`` and ``mixup``.
            iteration: counted from 0.
            rng: draws T.
            leaf_logits: f(x) if the training step has computed it already; saves one forward pass.

        Raises:
            ConfigError: the mode needs mixed images and none were given.
        """
        tau = self.threshold(iteration)
        nothing = image.new_zeros((), dtype=torch.float32)
        if self.mode == "off" or image.shape[0] == 0:
            return MixLoss(nothing, tau, nothing, nothing)
        if self.needs_partner and (mixed_image is None or mixed_label is None or mixed_weight is None):
            raise ConfigError(
                f"the mixing mode '{self.mode}' needs mixed images; give them, or choose 'pseudo' or 'off'."
            )
        pseudo = None
        if self.mode != "mixup":
            turn = draw_turn(
                image.shape[2:], self.tree, rng, spacing=self.spacing, left_right_axis=self.left_right_axis
            )
            pseudo = pseudo_label(model, image, node_map, tau, turn, self.criterion, leaf_logits=leaf_logits)
        if mixed_image is None or mixed_label is None or mixed_weight is None or self.mode == "pseudo":
            target = self.target(pseudo, None, None)
            logits = leaf_logits if leaf_logits is not None else model(image).leaf_logits
        else:
            target = self.target(pseudo, mixed_label, mixed_weight)
            logits = model(mixed_image).leaf_logits
        loss = self.ramp_weight(iteration) * self.criterion(logits, target)
        shares = (
            nothing if pseudo is None else (pseudo >= 0).float().mean(),
            nothing if mixed_weight is None else (mixed_weight > 0).float().mean(),
        )
        return MixLoss(loss, tau, *shares)

    @torch.no_grad()
    def target(
        self, pseudo: torch.Tensor | None, mixed_label: torch.Tensor | None, mixed_weight: torch.Tensor | None
    ) -> torch.Tensor:
        """The soft target ``a · onehot(z) + (1 − a) · z_pse``, float32 ``(B, K, *spatial)``.

        Args:
            pseudo: ``(B, *spatial)`` leaf indices, −1 for none; or None.
            mixed_label: ``(B, *spatial)`` leaf values of the partner; or None.
            mixed_weight: ``(B, *spatial)`` its share a; or None.
        """
        given = pseudo if pseudo is not None else mixed_label
        if given is None:
            raise ConfigError("a target is made of a pseudo label, a mixed label, or both; none was given.")
        target = torch.zeros((given.shape[0], len(self.tree.leaves), *given.shape[1:]), device=given.device)
        share = torch.zeros(given.shape, device=given.device)
        if mixed_label is not None and mixed_weight is not None:
            leaves = self.criterion.leaves(mixed_label)
            share = torch.where(leaves >= 0, mixed_weight.float(), share)
            target.scatter_add_(1, leaves.clamp(min=0).unsqueeze(1), share.unsqueeze(1))
        if pseudo is not None:
            rest = torch.where(pseudo >= 0, 1.0 - share, torch.zeros_like(share))
            target.scatter_add_(1, pseudo.clamp(min=0).unsqueeze(1), rest.unsqueeze(1))
        return target
