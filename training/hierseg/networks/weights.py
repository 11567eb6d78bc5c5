"""Weights as safetensors: small, safe to open (no pickle), and strict about what fits.

Floating-point tensors are stored in half precision and computed with in single precision.  The running statistics
of batch normalization stay in single precision: variances of small features would fall below what a half holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from hierseg.atomic import replacing
from hierseg.errors import BundleError
from hierseg.networks.segmenter import HierarchicalSegmenter, build_network

if TYPE_CHECKING:
    from hierseg.bundle import Bundle

_FULL_PRECISION = ("running_mean", "running_var")


def save_weights(state: Mapping[str, torch.Tensor], path: str | Path, half: bool = True) -> None:
    """Write a state dictionary as a safetensors file, atomically.

    Args:
        state: tensors on any device, as ``model.state_dict()`` gives them.
        path: the file to write.
        half: store floating-point tensors in half precision, except running statistics and any tensor with
            values that a half cannot hold.
    """
    stored = {name: _stored(name, tensor.detach().cpu(), half) for name, tensor in state.items()}
    with replacing(path) as temporary:
        save_file(stored, str(temporary))


def load_weights(path: str | Path) -> dict[str, torch.Tensor]:
    """Read a safetensors file; floating-point tensors come back in single precision.

    Raises:
        BundleError: the file is missing or not a safetensors file (for example a pickle).
    """
    path = Path(path)
    if not path.is_file():
        raise BundleError(f"{path}: there is no such weights file; a bundle keeps it as models/model.safetensors.")
    try:
        state = load_file(str(path))
    except (SafetensorError, OSError, ValueError) as error:
        raise BundleError(
            f"{path}: not a readable safetensors file ({error}); get the bundle again, pickles are not opened."
        ) from error
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()}


def load_into(model: torch.nn.Module, state: Mapping[str, torch.Tensor], where: str | Path) -> None:
    """Load a state dictionary that must fit the model exactly.

    Raises:
        BundleError: names ``where`` and the tensors that are missing, left over or of another shape.
    """
    own = model.state_dict()
    missing = [name for name in own if name not in state]
    extra = [name for name in state if name not in own]
    misshapen = [name for name in own if name in state and state[name].shape != own[name].shape]
    problems = []
    if missing:
        problems.append(f"lacks {_names(missing)}")
    if extra:
        problems.append(f"has {_names(extra)} that the network does not know")
    if misshapen:
        name = misshapen[0]
        problems.append(
            f"has {_names(misshapen)} of another shape ({tuple(state[name].shape)} instead of {tuple(own[name].shape)})"
        )
    if problems:
        raise BundleError(
            f"{where}: the weights do not fit the bundle's network and label tree: the file {' and '.join(problems)}; get the bundle again."
        )
    model.load_state_dict(dict(state))


def load_model(bundle: Bundle) -> HierarchicalSegmenter:
    """Build the bundle's network from the closed list and load its weights; in evaluation mode, on the CPU.

    Raises:
        ConfigError: the bundle names an unknown network, trunk or argument.
        BundleError: the weights cannot be read or do not fit.
    """
    model = build_network(bundle.tree, bundle.config["network"])
    load_into(model, load_weights(bundle.weights), bundle.weights)
    return model.eval()


def _stored(name: str, tensor: torch.Tensor, half: bool) -> torch.Tensor:
    if half and tensor.is_floating_point() and not name.endswith(_FULL_PRECISION):
        smaller = tensor.half()
        if torch.equal(torch.isfinite(smaller), torch.isfinite(tensor)):
            return smaller.contiguous()
    # A copy: safetensors refuses tensors that share memory, as shared layers do.
    return tensor.clone().contiguous()


def _names(names: list[str], most: int = 3) -> str:
    listed = ", ".join(f"'{name}'" for name in names[:most])
    return listed + (f" and {len(names) - most} more" if len(names) > most else "")
