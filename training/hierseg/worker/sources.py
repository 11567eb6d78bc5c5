"""The images of a request: in memory or in a file, looked at before they are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hierseg.errors import HiersegError

if TYPE_CHECKING:
    from hierseg.imageheader import Header
    from hierseg.imageio import Volume
    from hierseg.inference import Predictor


@dataclass(frozen=True)
class Source:
    """One image.

    Attributes:
        name: what the user calls it: for a file that was sent, its path on the client's side.
        array: ``(x, y, z)`` or ``(x, y, z, t)``, where it came as one; else None.
        affine: of the array.
        path: the file or DICOM folder on this side, where it is one.
    """

    name: str
    array: np.ndarray | None = None
    affine: np.ndarray | None = None
    path: Path | None = None

    def header(self) -> Header | None:
        """Its size and place; None where there is no image, which reading tells."""
        from hierseg.imageheader import Header, read_header

        if self.array is not None and self.affine is not None:
            return Header.of_array(self.array, self.affine)
        return None if self.path is None else read_header(self.path)

    def read(self) -> Volume:
        """The image.

        Raises:
            ImageError: it cannot be read; the sentence has its name.
        """
        from hierseg.imageio import Volume, read_volume

        if self.path is None:
            return Volume(self.array, self.affine, path=self.name)  # type: ignore[arg-type]
        try:
            volume = read_volume(self.path)
        except HiersegError as error:
            # The user knows the file by the path on the client's side.
            raise error.about(self.path, self.name) from error
        notes = tuple(note.replace(str(self.path), self.name) for note in volume.notes)
        return replace(volume, path=self.name, notes=notes)


def memory_notes(predictor: Predictor, sources: Sequence[Source]) -> list[str]:
    """Sentences where memory will be tight, from the headers alone.

    Raises:
        ResourceError: the images cannot fit into the memory that is free.
    """
    from hierseg.inference.estimate import estimate

    headers = [header for header in (source.header() for source in sources) if header is not None]
    if len(headers) != len(sources):
        return []
    found = estimate(predictor, headers)
    found.refuse(sources[0].name)
    return found.notes(sources[0].name)
