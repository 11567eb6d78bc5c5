"""Small patches and transposed convolutions on the CPU: the results of torch's own, in less time."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from hierseg.networks.onednn import OneDnnConv3d, SpreadingConvTranspose3d, use_onednn

SMALL, LARGE = (1, 4, 16, 16, 16), (1, 4, 80, 80, 4)


def converted(plain: nn.Conv3d) -> OneDnnConv3d:
    network = nn.Sequential(copy.deepcopy(plain))
    use_onednn(network)
    assert isinstance(network[0], OneDnnConv3d)
    return network[0]


@pytest.mark.parametrize("shape", [SMALL, LARGE, (2, 4, 9, 8, 7)])
@pytest.mark.parametrize(
    "arguments",
    [
        {"kernel_size": 3, "padding": 1},
        {"kernel_size": 3, "padding": 1, "stride": 2, "bias": False},
        {"kernel_size": (1, 3, 3), "padding": (0, 1, 1)},
        {"kernel_size": 1},
        {"kernel_size": 3, "padding": 2, "dilation": 2, "groups": 2},
        {"kernel_size": 3, "padding": "same"},
        {"kernel_size": 3, "padding": 1, "padding_mode": "replicate"},
    ],
    ids=str,
)
def test_values_and_gradients_are_torchs(shape: tuple[int, ...], arguments: dict[str, object]) -> None:
    torch.manual_seed(0)
    plain = nn.Conv3d(4, 6, **arguments)  # type: ignore[arg-type]
    fast = converted(plain)
    image = torch.randn(shape)
    results = []
    for layer in (plain, fast):
        seen = image.clone().requires_grad_()
        output = layer(seen)
        (output * torch.linspace(0, 1, output.numel()).reshape(output.shape)).sum().backward()
        results.append([output.detach(), seen.grad, *(parameter.grad for parameter in layer.parameters())])
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3)


def test_no_small_patch_takes_the_slow_way() -> None:
    """Also says when torch's own rule changes: then this module can go."""
    plain = nn.Conv3d(4, 6, kernel_size=3, padding=1)
    assert "aten::slow_conv3d_forward" in operators(plain)
    assert "aten::slow_conv3d_forward" not in operators(converted(plain))


def operators(layer: nn.Module) -> set[str]:
    with profile(activities=[ProfilerActivity.CPU]) as watched, torch.inference_mode():
        layer(torch.zeros(SMALL))
    return {event.key for event in watched.key_averages()}


@pytest.mark.filterwarnings("ignore:TF32 acceleration")
def test_it_works_in_half_precision_and_without_onednn() -> None:
    fast = converted(nn.Conv3d(4, 6, kernel_size=3, padding=1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert fast(torch.zeros(SMALL)).dtype == torch.bfloat16
    with torch.backends.mkldnn.flags(enabled=False):
        assert fast(torch.zeros(SMALL)).shape == (1, 6, 16, 16, 16)
    assert fast.double()(torch.zeros(SMALL).double()).dtype == torch.float64


def test_names_of_weights_stay() -> None:
    plain = nn.Conv3d(4, 6, kernel_size=3)
    assert list(converted(plain).state_dict()) == list(plain.state_dict())


@pytest.mark.parametrize("shape", [(1, 4, 5, 6, 7), (2, 4, 5, 6, 7), (1, 4, 2, 2, 2)])
@pytest.mark.parametrize(
    ("arguments", "spreads"),
    [
        ({"kernel_size": 2, "stride": 2}, True),
        ({"kernel_size": (1, 2, 3), "stride": (1, 2, 3), "bias": False}, True),
        ({"kernel_size": 3, "stride": 2}, False),
        ({"kernel_size": 2, "stride": 2, "output_padding": 1}, False),
        ({"kernel_size": 2, "stride": 2, "padding": 1}, False),
        ({"kernel_size": 2, "stride": 2, "groups": 2}, False),
        ({"kernel_size": 2, "stride": 2, "dilation": 2}, False),
    ],
    ids=str,
)
def test_transposed_convolutions_are_torchs(
    shape: tuple[int, ...], arguments: dict[str, object], spreads: bool
) -> None:
    torch.manual_seed(0)
    plain = nn.ConvTranspose3d(4, 6, **arguments)  # type: ignore[arg-type]
    network = nn.Sequential(copy.deepcopy(plain))
    use_onednn(network)
    fast = network[0]
    assert isinstance(fast, SpreadingConvTranspose3d)
    image = torch.randn(shape)
    with torch.inference_mode():
        torch.testing.assert_close(fast(image), plain(image), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(
            fast(image.contiguous(memory_format=torch.channels_last_3d)), plain(image), rtol=1e-4, atol=1e-5
        )
    assert ("aten::conv_transpose3d" not in operators(fast)) == spreads
    gradients = []
    for layer in (plain, fast):
        seen = image.clone().requires_grad_()
        layer(seen).square().sum().backward()
        gradients.append([seen.grad, *(parameter.grad for parameter in layer.parameters())])
    for expected, found in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3)
