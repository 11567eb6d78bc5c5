"""Checkpoints: everything that a run needs to go on as if it had never stopped, in one file, replaced as a whole.

They are opened with ``weights_only=True``: tensors, numbers, texts, lists and dictionaries, no code.
"""

from __future__ import annotations

import io
import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hierseg.atomic import write_bytes
from hierseg.errors import TrainingError

FORMAT_VERSION = 1


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint atomically."""
    # Into memory first: torch reports a full disk as an unspecific error, the operating system as what it is.
    buffer = io.BytesIO()
    torch.save({"format_version": FORMAT_VERSION, **content}, buffer)
    write_bytes(path, buffer.getvalue())


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU.

    Raises:
        TrainingError: it is missing, damaged or of another format.
    """
    if not path.is_file():
        raise TrainingError(f"{path}: there is no checkpoint to go on from; start the training without --resume.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, OSError, ValueError) as error:
        raise TrainingError(
            f"{path}: the checkpoint cannot be read ({str(error).splitlines()[0]}); start the training anew in another folder."
        ) from error
    version = content.get("format_version") if isinstance(content, dict) else None
    if version != FORMAT_VERSION:
        raise TrainingError(
            f"{path}: the checkpoint has the format {version!r}, this program reads {FORMAT_VERSION}; start the training anew."
        )
    return dict(content)


def seed_iteration(seed: int, iteration: int) -> None:
    """Set every global random state to a pure function of seed and iteration.

    A training that resumes therefore meets the same numbers, whatever it drew before, without saving any state.
    """
    words = np.random.SeedSequence([seed, 3, iteration]).generate_state(3)
    random.seed(int(words[0]))
    np.random.seed(int(words[1]))  # noqa: NPY002 -- third-party code may draw from numpy's global state
    torch.manual_seed(int(words[2]))
