"""Every trunk yields the raw output of its last convolution, and leaves its other normalizations in place."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from monai.networks.nets import BasicUNet, DynUNet, FlexibleUNet, SegResNet
from torch import nn

from hierseg.errors import ConfigError
from hierseg.networks.trunks import TRUNKS, build_trunk

NORMS = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm, nn.GroupNorm)
WHERE = [(name, dims) for name in TRUNKS for dims in (2, 3) if (name, dims) != ("flexible_unet", 3)]


def norms(module: nn.Module) -> int:
    return sum(isinstance(layer, NORMS) for layer in module.modules())


def original(name: str, dims: int) -> nn.Module:
    """The MONAI network that the trunk is made of, width 8."""
    common: dict[str, Any] = {"spatial_dims": dims, "in_channels": 2, "out_channels": 1}
    if name == "unet":
        return BasicUNet(features=(8, 16, 32, 64, 128, 8), norm=("batch", {}), **common)
    if name == "segresnet":
        return SegResNet(init_filters=8, **common)
    if name == "dynunet":
        return DynUNet(
            kernel_size=[3] * 5,
            strides=[1, 2, 2, 2, 2],
            upsample_kernel_size=[2] * 4,
            filters=[8, 16, 32, 64, 128],
            **common,
        )
    return FlexibleUNet(backbone="efficientnet-b0", decoder_channels=(128, 64, 32, 16, 8), **common)


@pytest.mark.parametrize(("name", "dims"), WHERE)
def test_features_have_the_input_s_size_at_the_divisor(name: str, dims: int) -> None:
    trunk = build_trunk(name, 2, dims, 8).eval()
    shape = (trunk.divisor, 2 * trunk.divisor, 32)[:dims]
    with torch.no_grad():
        features = trunk(torch.randn(1, 2, *shape))
    assert features.shape == (1, 8, *shape)
    assert trunk.out_channels == 8


@pytest.mark.parametrize(("name", "dims"), WHERE)
def test_every_parameter_is_trained(name: str, dims: int) -> None:
    """An unused parameter would stop distributed training, and travel in every bundle for nothing."""
    trunk = build_trunk(name, 2, dims, 8)
    trunk(torch.randn(2, 2, *[32] * dims)).square().mean().backward()
    assert [key for key, parameter in trunk.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize(("name", "dims"), WHERE)
def test_only_the_last_normalization_is_gone(name: str, dims: int) -> None:
    trunk = build_trunk(name, 2, dims, 8)
    # FlexibleUNet's encoder also has the normalization of a classifier, which no segmentation uses.
    gone = 2 if name == "flexible_unet" else 1
    assert norms(trunk) == norms(original(name, dims)) - gone


@pytest.mark.parametrize(("name", "dims"), WHERE)
def test_features_are_a_convolution_s_raw_output(name: str, dims: int) -> None:
    """Doubling the last convolution doubles the features: no norm, no activation behind it.

    In SegResNet the last block adds its input, which therefore stays.
    """
    torch.manual_seed(0)
    trunk = build_trunk(name, 2, dims, 8).eval()
    convolutions = [module for module in trunk.modules() if isinstance(module, nn.Conv2d | nn.Conv3d)]
    order: list[nn.Module] = []
    for module in convolutions:
        module.register_forward_hook(lambda module, *_: order.append(module))
    image = torch.randn(1, 2, *[32] * dims)
    with torch.no_grad():
        before = trunk(image)
        last = order[-1]
        outputs: list[torch.Tensor] = []
        last.register_forward_hook(lambda _module, _inputs, output: outputs.append(output.clone()))
        trunk(image)
        residual = before - outputs[-1] if name == "segresnet" else torch.zeros_like(before)
        for parameter in last.parameters():
            parameter.mul_(2.0)
        after = trunk(image)
    assert torch.allclose(after, 2.0 * before - residual, atol=1e-4)
    assert before.min() < 0 < before.max()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("resnet", 1, 3), "there is no trunk 'resnet'; choose one of unet, segresnet, dynunet, flexible_unet"),
        (("unet", 1, 4), "spatial_dims is 4; a network has 2 or 3"),
        (("flexible_unet", 1, 3), "is for 2D images; choose unet, segresnet or dynunet"),
        (("segresnet", 1, 3, 12), "choose a multiple of 8"),
    ],
)
def test_what_does_not_exist_is_refused_in_a_sentence(arguments: tuple[Any, ...], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        build_trunk(*arguments)


def test_arguments_of_a_trunk_are_checked() -> None:
    with pytest.raises(ConfigError, match="efficientnet-b0, "):
        build_trunk("flexible_unet", 1, 2, backbone="vgg")
    with pytest.raises(ConfigError, match="at least 3"):
        build_trunk("dynunet", 1, 3, levels=2)
    with pytest.raises(ConfigError, match="one fewer up"):
        build_trunk("segresnet", 1, 3, blocks_down=(1, 2))


def test_trunk_arguments_reach_the_network() -> None:
    assert build_trunk("dynunet", 1, 2, 8, levels=4).divisor == 8
    assert build_trunk("segresnet", 1, 2, 8, blocks_down=[1, 1, 1, 1, 1], blocks_up=[1, 1, 1, 1]).divisor == 16
