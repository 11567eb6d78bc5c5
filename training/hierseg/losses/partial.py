"""Cross-entropy and Dice on the voxels whose leaf is known: the loss of both outputs in paper A."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from hierseg.errors import ConfigError
from hierseg.labeltree import LabelTree
from hierseg.losses.base import TreeLoss

_SMOOTH = 1e-5


class PartialCrossEntropyDice(TreeLoss):
    """Weighted sum of cross-entropy and Dice loss over the leaf-labelled voxels (paper A, section 2.4).

    Voxels that carry an inner node, or nothing, count neither as right nor as wrong.  The paper says "CE + Dice";
    its published code takes half of each, which is the default here.

    Dice is computed over batch and space together, with squared denominators as in the published code, and
    averaged over the leaves that occur in the target: a leaf that nobody drew gives no Dice term.

    Targets may also be soft, ``(B, K, *spatial)``: a voxel of mass m = sum over leaves counts as m of a voxel whose
    label is the normalized target.  Averaging is over the voxels with mass; one-hot targets give what node
    values give.

    Args:
        tree: the label tree; ``tree.top()`` for the superclass output, with targets mapped up.
        cross_entropy: weight of the cross-entropy.
        dice: weight of the Dice loss.
    """

    def __init__(self, tree: LabelTree, *, cross_entropy: float = 0.5, dice: float = 0.5) -> None:
        super().__init__(tree)
        self.cross_entropy = cross_entropy
        self.dice = dice

    def check_target(self, leaf_logits: torch.Tensor, target: torch.Tensor) -> None:
        """Node values, or a soft target of the logits' shape."""
        if not target.is_floating_point():
            super().check_target(leaf_logits, target)
        elif target.shape != leaf_logits.shape:
            raise ConfigError(
                f"the soft target has the shape {tuple(target.shape)}, the logits {tuple(leaf_logits.shape)}; they must be equal."
            )

    def sums(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Cross-entropy and number of the labelled voxels (or of those that have target mass), then Dice's three sums of each leaf."""
        if target.is_floating_point():
            return self._soft(logits, target.to(logits.dtype))
        return self._hard(logits, self.leaves(target))

    def finish(self, sums: torch.Tensor) -> torch.Tensor:
        """Mean over labelled voxels, or over the voxels that have target mass, and Dice."""
        loss = self.cross_entropy * sums[0] / sums[1].clamp(min=1)
        return loss + self.dice * dice_loss(*sums[2:].reshape(3, -1)) if self.dice else loss

    def _hard(self, logits: torch.Tensor, leaves: torch.Tensor) -> torch.Tensor:
        known = leaves >= 0
        log_p = logits.log_softmax(dim=1)
        ce = F.nll_loss(log_p, leaves, ignore_index=-1, reduction="sum")
        start = torch.stack([ce, known.sum().to(ce.dtype)])
        if not self.dice:
            return start
        # Voxels counted by leaf instead of a one-hot map: the sums need no second array of the logits' size.
        p = log_p.exp()
        column = leaves.clamp(min=0)
        own = torch.where(known, p.gather(1, column.unsqueeze(1)).squeeze(1), p.new_zeros(()))
        overlap = p.new_zeros(p.shape[1]).index_add(0, column.flatten(), own.flatten())
        truth = p.new_zeros(p.shape[1]).index_add(0, column.flatten(), known.flatten().to(p.dtype))
        predicted = by_channel(p.square() * known.unsqueeze(1))
        return torch.cat([start, overlap, predicted, truth])

    def _soft(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        mass = target.sum(dim=1, keepdim=True)
        log_p = logits.log_softmax(dim=1)
        start = torch.stack([-(target * log_p).sum(), (mass > 0).sum().to(log_p.dtype)])
        if not self.dice:
            return start
        p = log_p.exp()
        truth = target.square() / mass.clamp(min=torch.finfo(mass.dtype).tiny)
        return torch.cat([start, by_channel(p * target), by_channel(p.square() * mass), by_channel(truth)])


def by_channel(values: torch.Tensor) -> torch.Tensor:
    """The sums of each channel of ``(B, C, *spatial)``."""
    return values.transpose(0, 1).flatten(1).sum(dim=1)


def dice_loss(overlap: torch.Tensor, predicted: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Dice loss averaged over the classes with truth; 0 if there are none.  Each argument is ``(classes,)``."""
    present = truth > 0
    loss = 1.0 - (2.0 * overlap + _SMOOTH) / (predicted + truth + _SMOOTH)
    return torch.where(present, loss, loss.new_zeros(())).sum() / present.sum().clamp(min=1)
