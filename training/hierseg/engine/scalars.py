"""Curves for TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class Scalars:
    """Writes curves, from the first value on; nothing where TensorBoard is not installed.

    Args:
        folder: of the event files.
        iteration: from which the run goes on; curves after it, of a run that was cut off, are dropped.
    """

    def __init__(self, folder: Path, iteration: int) -> None:
        self._folder, self._iteration = folder, iteration
        self._writer: SummaryWriter | None = None
        self._missing = False

    def add(self, values: Mapping[str, float], iteration: int) -> None:
        """Add a point to each curve."""
        if self._writer is None and not self._missing:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                self._missing = True
            else:
                self._writer = SummaryWriter(str(self._folder), purge_step=self._iteration or None)
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(name, value, iteration)

    def close(self) -> None:
        """Write what is pending."""
        if self._writer is not None:
            self._writer.close()
