"""From tiles to probabilities: what every way of running a network looks like from outside.

A network with separate heads (paper A, section 2.2) computes a branch for every top-level node.  Where it is known that
only some of them can be present in a tile, only their branches are computed: the others' probability is 0.
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
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Probabilities of tiles ``(B, C, X, Y, Z)``, with Z = 1 for a 2D network.

        Args:
            tiles: on the network's device.
            present: the rows of ``tree.top_level`` that can be present; None for all.

        Returns:
            float32 superclass probabilities ``(B, R, X, Y, Z)`` and leaf probabilities ``(B, K, X, Y, Z)``; with
            ``present``, of these top-level nodes alone and of the leaves below them as :func:`leaf_columns` orders them.
            May be overwritten by the next call.
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


class Probable(nn.Module):
    """A network with softmax on both outputs; one that gives leaf logits alone gets their sums as superclasses."""

    sums: torch.Tensor

    def __init__(self, model: nn.Module, tree: LabelTree) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("sums", torch.tensor(top_membership(tree), dtype=torch.float32), persistent=False)

    def forward(self, x: torch.Tensor, present: tuple[int, ...] | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Probabilities ``(B, R, *spatial)`` and ``(B, K, *spatial)`` of an image ``(B, C, *spatial)``."""
        return probabilities(self.model(x) if present is None else self.model(x, present), self.sums)


def probabilities(output: Any, sums: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Softmax of a network's output, in float32."""
    logits = getattr(output, "leaf_logits", output)
    leaf = torch.softmax(logits.float(), dim=1)
    top_logits = getattr(output, "superclass_logits", None)
    if top_logits is None:
        return torch.einsum("rk,bk...->br...", sums, leaf), leaf
    return torch.softmax(top_logits.float(), dim=1), leaf


class TorchForward:
    """A network run by torch.

    Args:
        model: in evaluation mode while it is called.
        tree: its label tree.
        spatial_dims: 2 or 3.
        device: where the model's weights lie.
        form: how arrays lie in memory.
        compiled: makes of the network with softmax one that runs faster; it is then not selective.
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
        network = Probable(model, tree).to(device)
        self.selective = compiled is None and has_branches(model)
        self.everything = everything(tree) if self.selective else None
        self._run: Callable[..., Any] = network if compiled is None else compiled(network)
        self._flat, self._form = spatial_dims == 2, form

    def __call__(
        self, tiles: torch.Tensor, present: tuple[int, ...] | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """As :class:`Forward`."""
        with inference(), torch.autocast(tiles.device.type, dtype=torch.float16, enabled=tiles.device.type == "cuda"):
            inputs = (tiles[..., 0] if self._flat else tiles).contiguous(memory_format=self._form)
            top, leaf = self._run(inputs) if present is None else self._run(inputs, present)
        return (top[..., None], leaf[..., None]) if self._flat else (top, leaf)


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
