"""Trunks: encoder-decoders that yield the *raw* output of their last convolution.

Raw means before that block's own normalization and activation: the heads normalize it themselves, once for each
superclass, and would otherwise normalize it twice (``heads.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from monai.networks.nets import BasicUNet, DynUNet, FlexibleUNet, SegResNet
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
    for up in (body.upcat_1, body.upcat_2, body.upcat_3, body.upcat_4):
        # It pads where an edge was odd on the way down, and copies where none was; multiples of the divisor never are.
        up.is_pad = False
    return Trunk(body, out_channels=width, divisor=16)


def segresnet(
    in_channels: int,
    spatial_dims: int,
    width: int,
    dropout: float = 0.0,
    blocks_down: Sequence[int] = (1, 2, 2, 4),
    blocks_up: Sequence[int] = (1, 1, 1),
) -> Trunk:
    """MONAI's SegResNet with its group normalization.

    Its blocks normalize before they convolve, so that the last block's sum is raw already: only the final
    normalization, activation and 1×1 convolution go.
    """
    if width % 8:
        raise ConfigError(
            f"the trunk 'segresnet' normalizes in 8 groups, and width is {width}; choose a multiple of 8."
        )
    if len(blocks_up) != len(blocks_down) - 1:
        raise ConfigError(
            f"blocks_up has {len(blocks_up)} levels and blocks_down {len(blocks_down)}; the trunk 'segresnet' needs one fewer up than down."
        )
    body = SegResNet(
        spatial_dims=spatial_dims,
        init_filters=width,
        in_channels=in_channels,
        out_channels=1,
        dropout_prob=dropout or None,
        blocks_down=tuple(blocks_down),
        blocks_up=tuple(blocks_up),
    )
    body.conv_final = nn.Identity()
    return Trunk(body, out_channels=width, divisor=2 ** (len(blocks_down) - 1))


class _DynUNetBody(nn.Module):
    """The parts of a DynUNet, joined without its output layer and its last normalization and activation.

    MONAI's own joining registers every block twice, and its block uses one activation layer at two places, of
    which only the second must go: hence the forward pass written out.
    """

    def __init__(self, network: DynUNet) -> None:
        super().__init__()
        self.input_block = network.input_block
        self.downsamples = network.downsamples
        self.bottleneck = network.bottleneck
        self.upsamples = network.upsamples
        self.upsamples[-1].conv_block.norm2 = nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.input_block(x)
        skips = [x]
        for down in self.downsamples:
            x = down(x)
            skips.append(x)
        x = self.bottleneck(x)
        for up in self.upsamples[:-1]:
            x = up(x, skips.pop())
        last = self.upsamples[-1]
        block = last.conv_block
        x = torch.cat([last.transp_conv(x), skips.pop()], dim=1)
        raw: torch.Tensor = block.conv2(block.lrelu(block.norm1(block.conv1(x))))
        return raw


def dynunet(in_channels: int, spatial_dims: int, width: int, dropout: float = 0.0, levels: int = 5) -> Trunk:
    """MONAI's DynUNet, the network of nnU-Net: instance normalization, leaky ReLU, learned up-sampling.

    Channels double from ``width`` at every level, up to nnU-Net's 320 (3D) or 512 (2D).
    """
    if levels < 3:
        raise ConfigError(f"the trunk 'dynunet' has {levels} levels; it needs at least 3.")
    most = 320 if spatial_dims == 3 else 512
    strides = [1] + [2] * (levels - 1)
    network = DynUNet(
        spatial_dims=spatial_dims,
        in_channels=in_channels,
        out_channels=1,
        kernel_size=[3] * levels,
        strides=strides,
        upsample_kernel_size=strides[1:],
        filters=[min(width * 2**level, max(most, width)) for level in range(levels)],
        dropout=dropout or None,
    )
    return Trunk(_DynUNetBody(network), out_channels=width, divisor=2 ** (levels - 1))


def flexible_unet(
    in_channels: int, spatial_dims: int, width: int, dropout: float = 0.0, backbone: str = "efficientnet-b0"
) -> Trunk:
    """MONAI's FlexibleUNet: an EfficientNet encoder (2D, not pretrained) and a decoder that ends in ``width`` channels."""
    if spatial_dims != 2:
        raise ConfigError("the trunk 'flexible_unet' is for 2D images; choose unet, segresnet or dynunet for 3D.")
    if backbone not in BACKBONES:
        raise ConfigError(
            f"the trunk 'flexible_unet' has no backbone {backbone!r}; choose one of {', '.join(BACKBONES)}."
        )
    body = FlexibleUNet(
        in_channels=in_channels,
        out_channels=1,
        backbone=backbone,
        pretrained=False,
        decoder_channels=(16 * width, 8 * width, 4 * width, 2 * width, width),
        spatial_dims=spatial_dims,
        dropout=dropout,
        is_pad=False,
    )
    body.decoder.blocks[-1].convs.conv_1.adn = nn.Identity()
    body.segmentation_head = nn.Identity()
    for unused in ("_conv_head", "_bn1", "_fc"):  # the classifier of the EfficientNet, which segmentation never calls
        setattr(body.encoder, unused, nn.Identity())
    return Trunk(body, out_channels=width, divisor=32)


BACKBONES = tuple(f"efficientnet-b{size}" for size in range(8))
"""The encoders of ``flexible_unet``."""

TRUNKS: dict[str, Callable[..., Trunk]] = {
    "unet": unet,
    "segresnet": segresnet,
    "dynunet": dynunet,
    "flexible_unet": flexible_unet,
}
"""The closed list: a bundle can name these and nothing else."""


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
