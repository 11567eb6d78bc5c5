"""Train the start bundle on synthetic heads (``hierseg recipe brain-start train``).

The data are endless and made on the fly, so this loop has iterations but no epochs, cases or validation split; the
scans of :mod:`hierseg.recipes.brain_start_evaluate` are never used to choose anything here.  The network, losses
and bundle are the same as for ``hierseg train``.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset

from hierseg.atomic import replacing
from hierseg.labeltree import LabelTree
from hierseg.losses import PartialCrossEntropyDice
from hierseg.networks import HierarchicalOutput, HierarchicalSegmenter
from hierseg.recipes.brain_generator import HeadGenerator

NETWORK: dict[str, Any] = {
    "in_channels": 1,
    "spatial_dims": 3,
    "trunk": "unet",
    "width": 12,
    "prior_concatenation": True,
    "separate_normalization": True,
}
LEARNING_RATE = 2e-3
EMA_DECAY = 0.99
SAVE_EVERY = 100
# A batch is one patch of any contrast: its own statistics differ from the running ones that inference uses.  For the
# last part of training the running ones are kept fixed and used, so that the weights fit what inference will do.
FREEZE_NORM_AFTER = 0.5


class Patches(IterableDataset[tuple[torch.Tensor, torch.Tensor]]):
    """Patches number ``start``, ``start + 1``, ... of a generator: going on after a stop gives the same ones."""

    def __init__(self, generator: HeadGenerator, start: int, stop: int) -> None:
        super().__init__()
        self.generator, self.start, self.stop = generator, start, stop

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for number in range(self.start, self.stop):
            image, leaves = self.generator.draw(number)
            yield torch.from_numpy(image), torch.from_numpy(leaves)


def load_maps(folder: Path) -> tuple[list[np.ndarray], list[float]]:
    """Class maps of ``living.npz`` (half of the draws) and ``atlas_*.npz`` (the other half)."""
    living = list(np.load(folder / "living.npz")["maps"])
    atlas = [one for path in sorted(folder.glob("atlas_*.npz")) for one in np.load(path)["maps"]]
    return living + atlas, [0.4 / len(living)] * len(living) + [0.6 / len(atlas)] * len(atlas)


class Losses(torch.nn.Module):
    """Cross-entropy and Dice on both outputs; the cross-entropy weighs rare leaves up.

    A leaf's weight is its inverse frequency to the power 0.6, of mean 1 over the voxels: an hour of training is too
    short for structures of 200 voxels to be found by Dice alone.
    """

    to_top: torch.Tensor
    leaf_index: torch.Tensor
    weight: torch.Tensor

    def __init__(self, tree: LabelTree, generator: HeadGenerator) -> None:
        super().__init__()
        self.fine = PartialCrossEntropyDice(tree)
        self.top = PartialCrossEntropyDice(tree.top())
        self.register_buffer("to_top", torch.from_numpy(tree.top_value_table))
        self.register_buffer("leaf_index", torch.from_numpy(tree.leaf_index_table))
        counts = torch.ones(len(tree.leaves), dtype=torch.float64)
        for number in range(40):
            index = self.leaf_index[torch.from_numpy(generator.draw(number)[1])]
            counts += torch.bincount(index[index >= 0], minlength=len(tree.leaves))
        share = counts / counts.sum()
        weight = share**-0.6
        self.register_buffer("weight", (weight / (weight * share).sum()).float())

    def forward(self, output: HierarchicalOutput, leaves: torch.Tensor) -> torch.Tensor:
        """Loss of one patch with leaf values ``(1, *spatial)``."""
        index = self.leaf_index[leaves]
        weighted = torch.nn.functional.cross_entropy(
            output.leaf_logits.float(), index, weight=self.weight, ignore_index=-1
        )
        total: torch.Tensor = (
            0.5 * weighted
            + self.fine(output.leaf_logits, leaves)
            + self.top(output.superclass_logits, self.to_top[leaves])
        )
        return total


def freeze_norm(model: torch.nn.Module) -> None:
    """Let batch normalization use its running statistics and leave them as they are."""
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.eval()


def train(
    tree: LabelTree, maps: Path, out: Path, *, iterations: int, patch: int = 64, seed: int = 7, threads: int = 2
) -> Path:
    """Train or go on training; returns the checkpoint with the averaged weights under ``"average"``."""
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = HierarchicalSegmenter(tree, **NETWORK).to(device)
    model = model.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]  # not in torch's annotations
    average = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(EMA_DECAY), use_buffers=True
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=iterations + 1, pct_start=0.05)
    checkpoint = out / "checkpoint.pt"
    start = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        for name, part in (
            ("model", model),
            ("average_model", average),
            ("optimizer", optimizer),
            ("schedule", schedule),
        ):
            part.load_state_dict(state[name])
        start = int(state["iteration"])
    generator = HeadGenerator(*load_maps(maps), patch=patch, seed=seed)
    losses = Losses(tree, generator).to(device)
    loader = DataLoader(Patches(generator, start, iterations), batch_size=1, num_workers=1, prefetch_factor=16)
    half = device.type == "cuda" or torch.cpu._is_avx512_bf16_supported()
    model.train()
    began = time.monotonic()
    mean = 0.0
    for iteration, (image, leaves) in enumerate(loader, start=start + 1):
        if iteration > FREEZE_NORM_AFTER * iterations:
            freeze_norm(model)
        image, leaves = image.to(device, memory_format=torch.channels_last_3d), leaves.to(device)
        with torch.autocast(device.type, torch.bfloat16) if half else contextlib.nullcontext():
            output = model(image)
        loss = losses(output, leaves)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 12.0)
        optimizer.step()
        schedule.step()
        average.update_parameters(model)
        mean += (loss.item() - mean) / min(iteration - start, 50)
        if iteration % 10 == 0:
            rate = (time.monotonic() - began) / (iteration - start)
            line = f"iteration {iteration}/{iterations}  loss {mean:.3f}  {rate:.2f} s each  {rate * (iterations - iteration) / 60:.0f} min left\n"
            with (out / "log.txt").open("a", encoding="utf-8") as log:
                log.write(line)
        if iteration % SAVE_EVERY == 0 or iteration == iterations:
            parts = {"model": model, "average_model": average, "optimizer": optimizer, "schedule": schedule}
            with replacing(checkpoint) as temporary:
                torch.save(
                    {
                        "iteration": iteration,
                        "average": average.module.state_dict(),
                        **{name: part.state_dict() for name, part in parts.items()},
                    },
                    temporary,
                )
    return checkpoint
