"""From tiles to logits: what every way of running a network looks like from outside.

A network with separate heads (paper A, section 2.2) computes a branch for every top-level node.  Where it is known that
only some of them can be present in a tile, only their branches are computed: the others' probability is 0.

Softmax is left to whoever joins the tiles (:mod:`~hierseg.inference.joining`): probabilities of all classes of a whole tile
would only be written to memory to be read again.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import nn

from hierseg.inference.joining import Piece
from hierseg.labeltree import LabelTree
from hierseg.networks.heads import Part, SeparateHeads
from hierseg.networks.segmenter import HierarchicalSegmenter


class TileLogits(Protocol):
    """Logits of a batch of tiles, asked for piece by piece.

    Attributes:
        classes: number of leaf logits.
        seconds: spent on making logits that were asked for; in the network itself, as it were.
    """

    classes: int
    seconds: float

    def piece(self, index: int, piece: Piece) -> tuple[torch.Tensor | None, torch.Tensor]:
        """Superclass logits ``(R, x, y, Z)``, None of a network that has leaf logits alone, and leaf logits ``(K, x, y, Z)``.

        Args:
            index: of the tile.
            piece: slices of its first two axes.
        """

    def to(self, device: torch.device) -> TileLogits:
        """The same on another device."""


class Forward(Protocol):
    """A network ready to run.

    Attributes:
        selective: whether ``present`` is understood.
        everything: the ``present`` that asks for all at the least cost: all rows where the network would have to sort its leaves.
    """

    selective: bool
    everything: tuple[int, ...] | None

    def __call__(self, tiles: torch.Tensor, present: tuple[int, ...] | None = None) -> TileLogits:
        """Logits of tiles ``(B, C, X, Y, Z)``, with Z = 1 for a 2D network.

        Args:
            tiles: on the network's device.
            present: the rows of ``tree.top_level`` that can be present; None for all.

        Returns:
            With ``present``, of these top-level nodes alone and of the leaves below them as :func:`leaf_columns` orders
            them.  May be overwritten by the next call.
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


class Ready:
    """Logits that a network has made; as :class:`TileLogits`.

    Args:
        top: ``(B, R, X, Y, Z)``, or None.
        leaf: ``(B, K, X, Y, Z)``.
    """

    seconds = 0.0

    def __init__(self, top: torch.Tensor | None, leaf: torch.Tensor) -> None:
        self.top, self.leaf, self.classes = top, leaf, leaf.shape[1]

    def piece(self, index: int, piece: Piece) -> tuple[torch.Tensor | None, torch.Tensor]:
        """As :class:`TileLogits`."""
        at = (index, slice(None), *piece)
        return None if self.top is None else self.top[at], self.leaf[at]

    def to(self, device: torch.device) -> Ready:
        """As :class:`TileLogits`."""
        return Ready(_moved(self.top, device), self.leaf.to(device))


class Late:
    """Logits that are made when a piece of them is asked for; as :class:`TileLogits`.

    Of many classes a tile's logits are the network's largest array by far: made at once, most of the time goes into getting
    fresh memory for them, and for their parts before they are put together.

    Args:
        parts: of which the logits are made, hidden channels ``(B, C, X, Y, Z)``.
        order: of the leaf logits; None: as they come.
    """

    def __init__(self, parts: Sequence[Part], order: torch.Tensor | None = None) -> None:
        self.parts, self.order = parts, order
        self.classes = sum(part.leaves for part in parts)
        self.seconds = 0.0

    def piece(self, index: int, piece: Piece) -> tuple[torch.Tensor | None, torch.Tensor]:
        """As :class:`TileLogits`."""
        began = time.perf_counter()
        with inference():
            shape = self.parts[0].hidden[(index, 0, *piece)].shape
            # Rows of logits, or columns where hidden channels lie voxel by voxel.
            axis = 1 if all(part.hidden.stride(1) == 1 for part in self.parts) else 0
            found = [_affine(part, part.hidden[(index, slice(None), *piece)], axis) for part in self.parts]
            tops = [rows.narrow(axis, 0, part.tops) for rows, part in zip(found, self.parts, strict=True) if part.tops]
            leaves = [
                rows.narrow(axis, rows.shape[axis] - part.leaves, part.leaves)
                for rows, part in zip(found, self.parts, strict=True)
            ]
            leaf = torch.cat(leaves, dim=axis)
            if self.order is not None:
                leaf = leaf.index_select(axis, self.order)
            top = _placed(torch.cat(tops, dim=axis), axis, shape) if tops else None
            result = top, _placed(leaf, axis, shape)
        self.seconds += time.perf_counter() - began
        return result

    def to(self, device: torch.device) -> Late:
        """As :class:`TileLogits`."""
        moved = [
            part._replace(
                hidden=part.hidden.to(device), weight=_moved(part.weight, device), bias=_moved(part.bias, device)
            )
            for part in self.parts
        ]
        return Late(moved, _moved(self.order, device))


def _moved(tensor: torch.Tensor | None, device: torch.device) -> torch.Tensor | None:
    return None if tensor is None else tensor.to(device)


def _affine(part: Part, hidden: torch.Tensor, axis: int) -> torch.Tensor:
    """Logits of hidden channels ``(C, x, y, Z)``: rows ``(rows, voxels)`` along axis 0, or columns along axis 1."""
    seen = hidden.movedim(0, -1).reshape(-1, len(hidden)) if axis == 1 else hidden.reshape(len(hidden), -1)
    if part.weight is None or part.bias is None:
        return seen
    if axis == 1:
        return torch.addmm(part.bias, seen, part.weight.t())
    return torch.addmm(part.bias[:, None], part.weight, seen)


def _placed(logits: torch.Tensor, axis: int, shape: Sequence[int]) -> torch.Tensor:
    """``(channels, x, y, Z)`` of rows or columns, without moving anything."""
    return logits.view(-1, *shape) if axis == 0 else logits.view(*shape, -1).movedim(-1, 0)


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
        # A graphics card's memory is fast, and starting work on it is dear.
        self._late = compiled is None and device.type == "cpu" and _gives_parts(model)
        self._model = model
        self._run: Callable[..., Any] = model if compiled is None else compiled(model)
        self._flat, self._form = spatial_dims == 2, form

    def __call__(self, tiles: torch.Tensor, present: tuple[int, ...] | None = None) -> TileLogits:
        """As :class:`Forward`."""
        with inference(), torch.autocast(tiles.device.type, dtype=torch.float16, enabled=tiles.device.type == "cuda"):
            inputs = (tiles[..., 0] if self._flat else tiles).contiguous(memory_format=self._form)
            if self._late:
                return self._parts(inputs, present)
            top, leaf = logits(self._run(inputs) if present is None else self._run(inputs, present))
        if not self._flat:
            return Ready(top, leaf)
        return Ready(None if top is None else top[..., None], leaf[..., None])

    def _parts(self, inputs: torch.Tensor, present: tuple[int, ...] | None) -> Late:
        model = cast("HierarchicalSegmenter", self._model)
        parts: list[Part] = model.parts(inputs, present)
        if self._flat:
            parts = [part._replace(hidden=part.hidden[..., None]) for part in parts]
        unsorted = self.everything is not None and present is None
        return Late(parts, cast("SeparateHeads", model.heads).channel_order if unsorted else None)


def _gives_parts(model: nn.Module) -> bool:
    """Whether a network's logits can be made late: it is one of this program's, run as it is written."""
    return type(model).forward is HierarchicalSegmenter.forward and hasattr(model.heads, "parts")


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
