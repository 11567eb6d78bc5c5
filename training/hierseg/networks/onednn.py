"""Convolutions of single small patches on the CPU, by oneDNN too.

For one patch at a time whose channels times first two edges are at most 20480, torch takes an unoptimized convolution
(``use_mkldnn`` in its ``aten/src/ATen/native/Convolution.cpp``), which at these sizes takes several times as long:
there the operator behind oneDNN is called directly.  Weights, their names and results stay what they are, but for rounding.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import nn

_LEAST = 20480
"""``B · C · X · Y`` from which on torch itself takes oneDNN."""


class OneDnnConv3d(nn.Conv3d):
    """A 3D convolution that takes oneDNN also where torch would not."""

    def _conv_forward(self, input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:  # noqa: A002 -- torch's name
        if self.padding_mode != "zeros" or isinstance(self.padding, str) or not _neglected(input, weight):
            return super()._conv_forward(input, weight, bias)
        result: torch.Tensor = torch.ops.aten.mkldnn_convolution(
            input, weight, bias, self.padding, self.stride, self.dilation, self.groups
        )
        return result


def use_onednn(network: nn.Module) -> None:
    """Let all 3D convolutions of a network be :class:`OneDnnConv3d`, in place."""
    for module in network.modules():
        if type(module) is nn.Conv3d:
            module.__class__ = OneDnnConv3d


def _neglected(patch: torch.Tensor, weight: torch.Tensor) -> bool:
    """Whether torch would take its own convolution although oneDNN's is faster: not so for a 1×1×1 kernel."""
    return (
        patch.device.type == "cpu"
        and patch.dtype == weight.dtype == torch.float32
        and patch.ndim == 5
        and patch.shape[0] == 1
        and 0 < patch.shape[1] * patch.shape[2] * patch.shape[3] <= _LEAST
        and patch.numel() > 0
        and weight[0, 0].numel() > 1
        and not torch.is_autocast_enabled("cpu")
        and torch.backends.mkldnn.is_available()
        and cast("bool", torch.backends.mkldnn.enabled)
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()  # type: ignore[attr-defined]
    )
