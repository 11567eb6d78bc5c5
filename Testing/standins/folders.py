"""Files and folders for tests that need no image library and no network."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

CONFIG: dict[str, Any] = {
    "network": {"name": "HierarchicalSegmenter", "arguments": {"in_channels": 1, "spatial_dims": 3, "width": 4}},
    "channels": [{"name": "MRI", "normalization": {"type": "percentile", "lower": 0.5, "upper": 99.5}}],
    "orientation": "RAS",
    "spacing": None,
    "patch_size": [16, 16, 16],
    "overlap": 0.5,
    "spatial_dims": 3,
    "modality": "MR",
}


def writer(text: str) -> Callable[[Path], None]:
    """A function that writes some bytes as save_case asks for."""

    def write(path: Path) -> None:
        assert path.name.endswith(".nii.gz")
        path.write_bytes(gzip.compress(text.encode(), mtime=0))

    return write


def text_of(path: Path) -> str:
    return gzip.decompress(path.read_bytes()).decode()


def empty_weights(path: Path) -> None:
    """A safetensors file without tensors: eight bytes of length, then the JSON header."""
    path.write_bytes((2).to_bytes(8, "little") + b"{}")


def state_of(folder: Path) -> dict[str, str]:
    """Hashes of all files in a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
