"""From tiles to logits: what every way of running a network looks like from outside.

A network with separate heads (paper A, section 2.2) computes a branch for every top-level node.  Where it is known that
only some of them can be present in a tile, only their branches are computed: the others' probability is 0.

Softmax is left to whoever joins the tiles (:mod:`~hierseg.inference.joining`): probabilities of all classes of a whole tile
would only be written to memory to be read again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from hierseg.labeltree import LabelTree
from hierseg.networks.heads import SeparateHeads


class Forward(Protocol):
    """A network ready to run.

    Attributes:
        selective: whether ``present`` is understood.
        everything: the ``present`` that asks for all at the least cost: all rows where the network would have to sort its leaves.
    """

    selective: bool
    everything: tuple[int, ...] | None

    def __call__(
        self, tiles: torch.Tensor, present: tuple[int, ...] | None = None
    ) -> tuple[torch.Tensor | None, torch.Tensor]:
        """Logits of tiles ``(B, C, X, Y, Z)``, with Z = 1 for a 2D network.

        Args:
            tiles: on the network's device.
            present: the rows of ``tree.top_level`` that can be present; None for all.

        Returns:
            Superclass logits ``(B, R, X, Y, Z)``, None of a network that has leaf logits alone, and leaf logits
            ``(B, K, X, Y, Z)``; with ``present``, of these top-level nodes alone and of the leaves below them as
            :func:`leaf_columns` orders them.  May be overwritten by the next call.
        """


def top_membership(tree: LabelTree) -> np.ndarray:
    """Bool ``(R, K)``: which leaves lie under which top-level node."""
    rows = {node.name: index for index, node in enumerate(tree.nodes)}
    matrix: np.ndarray = tree.membership[[rows[node.name] for node in tree.top_level]]
    return matrix


def leaf_columns(tree: LabelTree, present: Sequence[int]) -> list[int]:
    """Index in ``tree.leaves`` of each leaf probability that :class:`Forward` returns for ``present``."""
    column = {leaf.name: index for index, leaf in enumerate(tree.leaves)}
    return [column[leaf.name] for row in present for leaf in tree.leaves_under(tree.top_level[row])]


def logits(output: Any) -> tuple[torch.Tensor | None, torch.Tensor]:
    """Superclass logits, None of a network that gives leaf logits alone, and leaf logits."""
    return getattr(output, "superclass_logits", None), getattr(output, "leaf_logits", output)


class TorchForward:
    """A network run by torch.

    Args:
        model: in evaluation mode while it is called.
        tree: its label tree.
        spatial_dims: 2 or 3.
        device: where the model's weights lie.
        form: how arrays lie in memory.
        compiled: makes of the network one that runs faster; it is then not selective.
    """

    def __init__(
        self,
        model: nn.Module,
        tree: LabelTree,
        spatial_dims: int,
        device: torch.device,
        form: torch.memory_format = torch.contiguous_format,
        compiled: Callable[[nn.Module], Callable[..., Any]] | None = None,
    ) -> None:
        model.to(device)
        self.selective = compiled is None and has_branches(model)
        self.everything = everything(tree) if self.selective else None
        self._run: Callable[..., Any] = model if compiled is None else compiled(model)
        self._flat, self._form = spatial_dims == 2, form

    def __call__(
        self, tiles: torch.Tensor, present: tuple[int, ...] | None = None
    ) -> tuple[torch.Tensor | None, torch.Tensor]:
        """As :class:`Forward`."""
        with inference(), torch.autocast(tiles.device.type, dtype=torch.float16, enabled=tiles.device.type == "cuda"):
            inputs = (tiles[..., 0] if self._flat else tiles).contiguous(memory_format=self._form)
            top, leaf = logits(self._run(inputs) if present is None else self._run(inputs, present))
        if not self._flat:
            return top, leaf
        return None if top is None else top[..., None], leaf[..., None]


def everything(tree: LabelTree) -> tuple[int, ...] | None:
    """All rows of the top level where their leaves, one node's after the other's, are not in the file's order; else None."""
    rows = tuple(range(len(tree.top_level)))
    columns = leaf_columns(tree, rows)
    return None if columns == sorted(columns) else rows


def has_branches(model: nn.Module) -> bool:
    """Whether a network has a branch for each top-level node, so that single ones can be left out."""
    return isinstance(getattr(model, "heads", None), SeparateHeads)


@contextlib.contextmanager
def inference() -> Iterator[None]:
    """No gradients, and the same bits each time."""
    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True):
        yield
