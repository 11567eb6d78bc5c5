"""Trunks: encoder-decoders that yield the *raw* output of their last convolution.

Raw means before that block's own normalization and activation: the heads normalize it themselves, once for each
superclass, and would otherwise normalize it twice (``heads.py``).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from monai.networks.nets import BasicUNet
from torch import nn

from hierseg.errors import ConfigError

DEFAULT_WIDTH = {2: 32, 3: 16}
"""Channels of the first level, by spatial dimensions, as in the published code of paper A."""


class Trunk(nn.Module):
    """An encoder-decoder without its last normalization, activation and output layer.

    Attributes:
        out_channels: channels of the features.
        divisor: the input's sizes must be multiples of it.
    """

    out_channels: int
    divisor: int

    def __init__(self, body: nn.Module, out_channels: int, divisor: int) -> None:
        super().__init__()
        self.body = body
        self.out_channels = out_channels
        self.divisor = divisor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Features ``(B, out_channels, *spatial)`` of an image ``(B, in_channels, *spatial)``."""
        features: torch.Tensor = self.body(x)
        return features


def unet(in_channels: int, spatial_dims: int, width: int, dropout: float = 0.0) -> Trunk:
    """MONAI's BasicUNet with batch normalization and features (w, 2w, 4w, 8w, 16w, w)."""
    body = BasicUNet(
        spatial_dims=spatial_dims,
        in_channels=in_channels,
        out_channels=1,
        features=(width, 2 * width, 4 * width, 8 * width, 16 * width, width),
        act=("relu", {"inplace": True}),
        norm=("batch", {}),
        dropout=dropout,
    )
    body.upcat_1.convs.conv_1.adn = nn.Identity()
    body.final_conv = nn.Identity()
    return Trunk(body, out_channels=width, divisor=16)


TRUNKS: dict[str, Callable[..., Trunk]] = {"unet": unet}


def build_trunk(name: str, in_channels: int, spatial_dims: int, width: int | None = None, **arguments: object) -> Trunk:
    """Build a trunk from the closed list :data:`TRUNKS`.

    Raises:
        ConfigError: the name is not in the list, or the trunk does not exist in that many dimensions.
    """
    if name not in TRUNKS:
        raise ConfigError(f"there is no trunk {name!r}; choose one of {', '.join(TRUNKS)}.")
    if spatial_dims not in DEFAULT_WIDTH:
        raise ConfigError(f"spatial_dims is {spatial_dims}; a network has 2 or 3.")
    return TRUNKS[name](in_channels, spatial_dims, width or DEFAULT_WIDTH[spatial_dims], **arguments)
