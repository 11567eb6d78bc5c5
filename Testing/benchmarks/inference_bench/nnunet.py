"""nnU-Net v2's own predictor around the benchmark's network: the package as it is installed, no training, no download.

Its plans say nothing but what its predictor asks for: patch, spacing, and how logits are resampled.  The defaults are
those that its planner writes (``nnunetv2/experiment_planning``): order 1, order 0 across thick slices.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Sequence
from importlib import metadata
from typing import Any

import numpy as np
import torch
from torch import nn

from .cases import OVERLAP, Case


def version(package: str = "nnunetv2") -> str | None:
    """Of an installed package; None: not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


class _LeafLogits(nn.Module):
    """nnU-Net's networks return one tensor of logits."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.network(x).leaf_logits
        return logits


_PLANNED = (
    "resample_data_or_seg_to_shape",
    {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None},
)
_BY_TORCH = ("resample_torch_fornnunet", {"is_seg": False, "force_separate_z": False, "num_threads": 1})


def predictor(case: Case, network: nn.Module, order: Sequence[int], device: str, *, torch_resampling: bool) -> Any:
    """An ``nnUNetPredictor`` with the benchmark's tiles.

    Args:
        case: its patch, spacing and leaves.
        network: gives a ``HierarchicalOutput``.
        order: the image's axes in nnU-Net's order, slices first for a 2D network.
        device: where it runs.
        torch_resampling: logits are resampled by torch instead of scikit-image.
    """
    for name in ("raw", "preprocessed", "results"):
        os.environ.setdefault(f"nnUNet_{name}", os.devnull)  # it warns without them, and reads none of them here
    with contextlib.redirect_stdout(io.StringIO()):
        from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
        from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

        made = nnUNetPredictor(
            tile_step_size=1 - OVERLAP, use_gaussian=True, use_mirroring=False, perform_everything_on_device=True,
            device=torch.device(device), allow_tqdm=False,
        )  # fmt: skip
    function, arguments = _BY_TORCH if torch_resampling else _PLANNED
    spacing = [case.grid[axis] for axis in order]
    configuration = {
        "patch_size": list(case.patch),
        "spacing": spacing[-case.dims :],
        "resampling_fn_probabilities": function,
        "resampling_fn_probabilities_kwargs": dict(arguments),
        # The network comes from outside; without this entry the plans are taken for an old version's.
        "architecture": {"network_class_name": "", "arch_kwargs": {}, "_kw_requires_import": []},
    }
    plans = PlansManager(
        {
            "dataset_name": "benchmark",
            "plans_name": "benchmark",
            "transpose_forward": [0, 1, 2],
            "transpose_backward": [0, 1, 2],
            "configurations": {"run": configuration},
        }
    )
    labels = {"background": 0, **{f"leaf {index}": index for index in range(1, case.leaves)}}
    dataset = {"labels": labels, "channel_names": {str(index): "noNorm" for index in range(case.channels)}}
    wrapped = _LeafLogits(network)
    made.manual_initialization(
        wrapped, plans, plans.get_configuration("run"), [wrapped.state_dict()], dataset, "benchmark", None
    )
    return made


def convert(predictor: Any, logits: torch.Tensor, shape: Sequence[int], order: Sequence[int], case: Case) -> np.ndarray:
    """Leaf indices on the grid of ``shape``, from logits on the network's grid, by nnU-Net's own function."""
    from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape

    size = [int(shape[axis]) for axis in order]
    properties = {
        "spacing": [case.spacing[axis] for axis in order],
        "shape_before_cropping": size,
        "shape_after_cropping_and_before_resampling": size,
        "bbox_used_for_cropping": [[0, extent] for extent in size],
    }
    segmentation = convert_predicted_logits_to_segmentation_with_correct_shape(
        logits, predictor.plans_manager, predictor.configuration_manager, predictor.label_manager, properties,
        num_threads_torch=torch.get_num_threads(),
    )  # fmt: skip
    return np.transpose(segmentation, np.argsort(order))
