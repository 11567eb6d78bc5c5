"""A tile's logits put together again from the pieces in which they are asked for."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from hierseg.inference.forward import TileLogits

LINES = 5
"""So many lines at a time: no piece is a whole plane, and the last one is shorter."""


def whole(logits: TileLogits, shape: Sequence[int]) -> tuple[torch.Tensor | None, torch.Tensor]:
    """Superclass logits ``(B, R, X, Y, Z)``, if there are any, and leaf logits of tiles ``(B, C, X, Y, Z)``."""
    tops: list[torch.Tensor] = []
    leaves: list[torch.Tensor] = []
    for index in range(shape[0]):
        planes = [
            [
                logits.piece(index, (slice(plane, plane + 1), slice(line, line + LINES)))
                for line in range(0, shape[3], LINES)
            ]
            for plane in range(shape[2])
        ]
        leaves.append(torch.cat([torch.cat([leaf for _, leaf in lines], dim=2) for lines in planes], dim=1))
        if planes[0][0][0] is not None:
            tops.append(
                torch.cat([torch.cat([top for top, _ in lines if top is not None], dim=2) for lines in planes], dim=1)
            )
    return torch.stack(tops) if tops else None, torch.stack(leaves)
