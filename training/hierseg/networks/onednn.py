"""Convolutions that torch is slow with on the CPU: of single small patches, and transposed ones.

For one patch at a time whose channels times first two edges are at most 20480, torch takes an unoptimized convolution
(``use_mkldnn`` in its ``aten/src/ATen/native/Convolution.cpp``), which at these sizes takes several times as long:
there the operator behind oneDNN is called directly.  A transposed convolution whose kernel is its stride only spreads each
voxel over a block of its own: a product of matrices for each place in the block, in less than half the time.  Weights, their
names and results stay what they are, but for rounding.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
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


class SpreadingConvTranspose3d(nn.ConvTranspose3d):
    """A transposed 3D convolution that takes products of matrices where its blocks do not overlap."""

    def forward(self, input: torch.Tensor, output_size: Sequence[int] | None = None) -> torch.Tensor:  # noqa: A002 -- torch's name
        """As torch's own."""
        if output_size is not None or not self._spreads(input):
            sizes = None if output_size is None else list(output_size)
            result: torch.Tensor = super().forward(input, sizes)
            return result
        edges = [size * step for size, step in zip(input.shape[2:], self.stride, strict=True)]
        result = input.new_empty((1, self.out_channels, *edges))
        voxels = input.view(self.in_channels, -1)
        a, b, c = self.stride
        for x, y, z in itertools.product(range(a), range(b), range(c)):
            weight = self.weight[..., x, y, z].T
            values = weight @ voxels if self.bias is None else torch.addmm(self.bias[:, None], weight, voxels)
            result[0, :, x::a, y::b, z::c] = values.view(self.out_channels, *input.shape[2:])
        return result

    def _spreads(self, patch: torch.Tensor) -> bool:
        """Whether blocks do not overlap, and it is one patch on the CPU, channels first, without gradients."""
        return (
            tuple(self.kernel_size) == tuple(self.stride)
            and not any((*self.padding, *self.output_padding))
            and set(self.dilation) == {1}
            and self.groups == 1
            and patch.shape[0] == 1
            and patch.is_contiguous()
            and not torch.is_grad_enabled()
            and _plain(patch, self.weight)
        )


def use_onednn(network: nn.Module) -> None:
    """Let all 3D convolutions of a network be :class:`OneDnnConv3d` and :class:`SpreadingConvTranspose3d`, in place."""
    for module in network.modules():
        if type(module) is nn.Conv3d:
            module.__class__ = OneDnnConv3d
        elif type(module) is nn.ConvTranspose3d:
            module.__class__ = SpreadingConvTranspose3d


def _neglected(patch: torch.Tensor, weight: torch.Tensor) -> bool:
    """Whether torch would take its own convolution although oneDNN's is faster: not so for a 1×1×1 kernel."""
    return (
        patch.ndim == 5
        and patch.shape[0] == 1
        and 0 < patch.shape[1] * patch.shape[2] * patch.shape[3] <= _LEAST
        and weight[0, 0].numel() > 1
        and torch.backends.mkldnn.is_available()
        and cast("bool", torch.backends.mkldnn.enabled)
        and _plain(patch, weight)
    )


def _plain(patch: torch.Tensor, weight: torch.Tensor) -> bool:
    """Whether operators run one by one, in float32 on the CPU, on something."""
    return (
        patch.device.type == "cpu"
        and patch.dtype == weight.dtype == torch.float32
        and patch.numel() > 0
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()  # type: ignore[attr-defined]
    )
